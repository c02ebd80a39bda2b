#include "daemon/config_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <fstream>
#include <set>

#include "daemon/options.h"

namespace patchbay::daemon {
namespace {

Result<std::string> read_text(const YAML::Node& value) {
  if (!value.IsScalar() || value.Scalar().empty()) return fail(ErrorCode::invalid, "one word or path is needed");
  return value.Scalar();
}

// "0,1", 0 or [0, 1]
Result<std::vector<unsigned>> read_cpus(const YAML::Node& value) {
  if (value.IsScalar()) return parse_cpus(value.Scalar());
  if (!value.IsSequence()) return fail(ErrorCode::invalid, "a list of CPUs is needed, as in [0, 1]");
  std::vector<unsigned> cpus;
  for (const YAML::Node& entry : value) {
    const auto one = parse_cpus(entry.IsScalar() ? entry.Scalar() : "");
    if (!one) return fail(one.error());
    cpus.insert(cpus.end(), one->begin(), one->end());
  }
  return cpus;
}

template <typename Value>
Result<void> put(std::optional<Value>& option, Result<Value> read) {
  if (!read) return fail(read.error());
  option = std::move(*read);
  return {};
}

Result<void> read_entry(const std::string& key, const YAML::Node& value, FileOptions& options) {
  if (key == "state-dir") return put(options.state_dir, read_text(value));
  if (key == "run-dir") return put(options.run_dir, read_text(value));
  if (key == "worker-cpus") return put(options.worker_cpus, read_cpus(value));
  if (key == "poll") return put(options.always_poll, parse_poll(value.IsScalar() ? value.Scalar() : ""));
  if (key == "socket-group") return put(options.socket_group, read_text(value));
  return fail(ErrorCode::invalid, "unknown key; there are state-dir, run-dir, worker-cpus, poll and socket-group");
}

Error at_line(const std::string& path, int line, const std::string& what) {
  return make_error(ErrorCode::invalid, fmt::format("{}, line {}: {}", path, line, what));
}

Result<FileOptions> read_root(const std::string& path, const YAML::Node& root) {
  FileOptions options;
  if (root.IsNull()) return options;  // an empty file
  if (!root.IsMap()) return fail(at_line(path, root.Mark().line + 1, "lines of the form `key: value` are needed"));
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const int line = entry.first.Mark().line + 1;
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (!seen.insert(key).second) return fail(at_line(path, line, key + ": this key was given already"));
    if (auto ok = read_entry(key, entry.second, options); !ok) {
      return fail(at_line(path, line, key + ": " + ok.error().message));
    }
  }
  return options;
}

}  // namespace

Result<FileOptions> read_config_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(system_error("configuration file " + path, errno));
  try {
    return read_root(path, YAML::Load(file));
  } catch (const YAML::Exception& error) {
    return fail(at_line(path, error.mark.line + 1, error.msg));
  }
}

}  // namespace patchbay::daemon
