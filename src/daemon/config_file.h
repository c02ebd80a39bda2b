// The file given with --config: YAML, the daemon's long flags as keys.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace patchbay::daemon {

struct FileOptions {
  std::optional<std::string> state_dir;
  std::optional<std::string> run_dir;
  std::optional<std::vector<unsigned>> worker_cpus;
  std::optional<bool> always_poll;
  std::optional<std::string> socket_group;
};

// Errors: invalid (not YAML, an unknown key, a bad value: names file, line and key), not_found.
[[nodiscard]] Result<FileOptions> read_config_file(const std::string& path);

}  // namespace patchbay::daemon
