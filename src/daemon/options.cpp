#include "daemon/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "daemon/config_file.h"

namespace patchbay::daemon {
namespace {

constexpr const char* example =
    "Example:\n"
    "  patchbayd --state-dir /var/lib/patchbay --run-dir /run/patchbay --worker-cpus 2\n"
    "The same as a file for --config:\n"
    "  state-dir: /var/lib/patchbay\n"
    "  run-dir: /run/patchbay\n"
    "  worker-cpus: [2]\n";

struct Flags {
  std::string state_dir;
  std::string run_dir;
  std::string worker_cpus;
  std::string poll;
  std::string socket_group;
  std::string config;
};

constexpr const char* poll_words =
    "adaptive: sleep while there is nothing to do; always: never sleep, one whole CPU each";

void describe(CLI::App& app, Flags& flags) {
  app.add_option("--state-dir", flags.state_dir, "where the wanted state of the host is stored")->type_name("DIR");
  app.add_option("--run-dir", flags.run_dir, "where sockets appear: api.sock, and one a guest's vnic")
      ->type_name("DIR");
  app.add_option("--worker-cpus", flags.worker_cpus,
                 "one worker on each of these CPUs; without it one, wherever there is room")
      ->type_name("CPU,...");
  app.add_option("--poll", flags.poll, poll_words)->type_name("adaptive|always");
  app.add_option("--socket-group", flags.socket_group, "group that may use the sockets: a name or a number")
      ->type_name("GROUP");
  app.add_option("--config", flags.config, "YAML file with these words as keys; flags win over it")->type_name("FILE");
  app.footer(example);
}

std::string absolute(const std::string& path) {
  auto result = std::filesystem::absolute(path).lexically_normal().string();
  if (result.size() > 1 && result.back() == '/') result.pop_back();
  return result;
}

CommandLine stop(int code, std::string text) {
  return {std::nullopt, {code, std::move(text)}};
}

// Flags over file; `given` tells which flags there were.
CommandLine combine(const CLI::App& given, const Flags& flags, const FileOptions& file) {
  Options options;
  options.worker_cpus = file.worker_cpus.value_or(std::vector<unsigned>());
  options.always_poll = file.always_poll.value_or(false);
  options.socket_group = file.socket_group;
  if (given.count("--worker-cpus") != 0) {
    auto cpus = parse_cpus(flags.worker_cpus);
    if (!cpus) return stop(2, "--worker-cpus: " + cpus.error().message);
    options.worker_cpus = std::move(*cpus);
  }
  if (given.count("--poll") != 0) {
    const auto always = parse_poll(flags.poll);
    if (!always) return stop(2, "--poll: " + always.error().message);
    options.always_poll = *always;
  }
  if (given.count("--socket-group") != 0) options.socket_group = flags.socket_group;
  const std::string state_dir = given.count("--state-dir") != 0 ? flags.state_dir : file.state_dir.value_or("");
  const std::string run_dir = given.count("--run-dir") != 0 ? flags.run_dir : file.run_dir.value_or("");
  if (state_dir.empty()) return stop(2, "--state-dir is missing: say where the state of the host is stored");
  if (run_dir.empty()) return stop(2, "--run-dir is missing: say where the sockets are to appear");
  options.state_dir = absolute(state_dir);
  options.run_dir = absolute(run_dir);
  return {std::move(options), {}};
}

}  // namespace

Result<bool> parse_poll(const std::string& text) {
  if (text == "always") return true;
  if (text == "adaptive") return false;
  return fail(ErrorCode::invalid, fmt::format("\"{}\" is no way to poll: adaptive or always", text));
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CLI::App app("Patchbay's daemon: a virtual switch for this host's virtual machines.", "patchbayd");
  Flags flags;
  describe(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    if (app.exit(error, out, complaint) == 0) return stop(0, out.str());
    return stop(2, fmt::format("{}; see `patchbayd --help`", error.what()));
  }
  FileOptions file;
  if (!flags.config.empty()) {
    auto read = read_config_file(flags.config);
    if (!read) return stop(1, read.error().message);
    file = std::move(*read);
  }
  return combine(app, flags, file);
}

Result<std::vector<unsigned>> parse_cpus(const std::string& text) {
  std::vector<unsigned> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    unsigned cpu = 0;
    const auto [stop_at, error] = std::from_chars(at, end, cpu);
    if (error != std::errc() || (stop_at != end && *stop_at != ',')) {
      return fail(ErrorCode::invalid,
                  fmt::format("'{}' is no list of CPUs; write numbers with commas, as in 0,1", text));
    }
    cpus.push_back(cpu);
    if (stop_at == end) return cpus;
    at = stop_at + 1;
  }
}

}  // namespace patchbay::daemon
