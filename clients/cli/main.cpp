// patchbay: the command line of Patchbay. Speaks only the REST API of patchbayd, over its unix socket.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "completion.h"

namespace {

using namespace patchbay::cli;

void describe(CLI::App& app, Context& context) {
  app.fallthrough();  // --json and --api may stand anywhere
  app.require_subcommand(1);
  app.set_version_flag("--version", "patchbay " PATCHBAY_VERSION);
  app.add_option("--api", context.socket_path, "Socket of patchbayd")
      ->envname("PATCHBAY_API")
      ->type_name("SOCKET")
      ->capture_default_str();
  app.add_flag("--json", context.json, "Print the API's JSON");
  app.footer(
      "Example:\n"
      "  patchbay switch create lan --external eth1\n"
      "  patchbay vnic create web --switch lan --vlan 101\n"
      "  patchbay vnic attach-args web\n"
      "  patchbay show\n"
      "Exit codes: 0 done; 1 refused or failed, with a sentence on stderr; 2 usage.");
  add_show(app, context);
  add_nic(app, context);
  add_team(app, context);
  add_switch(app, context);
  add_vnic(app, context);
  add_policy(app, context);
  add_host(app, context);
  add_vmq(app, context);
  add_worker(app, context);
  add_stats(app, context);
  add_host_file(app, context);
  add_audit(app, context);
  add_completion(app, context);
}

}  // namespace

int main(int argc, char** argv) {
  Context context;
  CLI::App app("Virtual switches for the virtual machines of this host", "patchbay");
  describe(app, context);
  if (argc > 1 && std::string_view(argv[1]) == complete_word) {  // a shell asks; not a command for people
    return complete(app, context, std::vector<std::string>(argv + 2, argv + argc));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // help, version
    fmt::print(stderr, "patchbay: {}; --help says more\n", error.what());
    return exit_usage;
  }
  try {
    const int code = context.run();
    if (std::fflush(stdout) == 0) return code;
    fmt::print(stderr, "cannot write the answer to standard output; look at where it is redirected\n");
  } catch (const std::exception& thrown) {
    fmt::print(stderr, "cannot print the answer ({}); try --json\n", thrown.what());
  }
  return exit_refused;
}
