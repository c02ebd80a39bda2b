#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>

#include "daemon/options.h"
#include "daemon/run.h"

int main(int argc, char** argv) {
  // The log goes to standard output, line by line; standard error has the one sentence of a failure.
  spdlog::flush_on(spdlog::level::trace);
  try {
    const auto command_line = patchbay::daemon::parse_command_line(argc, argv);
    if (!command_line.options) {
      const auto& [code, text] = command_line.exit;
      std::fprintf(code == 0 ? stdout : stderr, "%s%s\n", code == 0 ? "" : "patchbayd: ", text.c_str());
      return code;
    }
    const auto ended = patchbay::daemon::run(*command_line.options);
    if (ended) return 0;
    std::fprintf(stderr, "patchbayd: %s\n", ended.error().message.c_str());
  } catch (const std::exception& defect) {
    std::fprintf(stderr, "patchbayd: %s\n", defect.what());
  }
  return 1;
}
