// How patchbayd was told to run: flags, and a YAML file with the same words; flags win.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace patchbay::daemon {

struct Options {
  std::string state_dir;              // absolute
  std::string run_dir;                // absolute
  std::vector<unsigned> worker_cpus;  // empty: one worker, not pinned
  bool always_poll = false;           // workers never sleep
  std::optional<std::string> socket_group;
};

// What ends the program before it starts: help, or a complaint. Codes: 0 help, 1 bad configuration file, 2 usage.
struct Exit {
  int code = 0;
  std::string text;
};

// Exactly one of the two is there.
struct CommandLine {
  std::optional<Options> options;
  Exit exit;
};
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

// "0,1" as numbers. Errors: invalid.
[[nodiscard]] Result<std::vector<unsigned>> parse_cpus(const std::string& text);

// Of "adaptive" and "always": whether it is the latter. Errors: invalid.
[[nodiscard]] Result<bool> parse_poll(const std::string& text);

}  // namespace patchbay::daemon
