// patchbay show: the picture of the host, and its tables.
#include <cstdlib>
#include <string>

#include "command.h"
#include "format.h"
#include "picture.h"

namespace patchbay::cli {
namespace {

// As the C library decides it: the first of the three that is set and not empty.
bool terminal_takes_utf8() {
  for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(variable);
    if (value == nullptr || *value == '\0') continue;
    const std::string locale(value);
    return locale.find("UTF-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  }
  return false;
}

std::string host_text(const Json& host) {
  const Json& policies = member_of(host, "policies");
  const Json& teams = member_of(host, "teams");
  return picture(host, terminal_takes_utf8()) + "\n" + switch_table(member_of(host, "switches")) + "\n" +
         (teams.empty() ? "" : team_table(teams) + "\n") + (policies.empty() ? "" : policy_table(policies) + "\n") +
         vnic_table(member_of(host, "vnics")) + "\n" + nic_table(member_of(host, "nics")) + "\n" +
         worker_table(member_of(host, "workers"));
}

}  // namespace

void add_show(CLI::App& app, Context& context) {
  auto* verb = add_verb(app, "show", "Show the whole host: a picture of uplinks, switches and vnics, then tables",
                        "patchbay show");
  verb->callback(
      [&context] { context.run = [&context] { return ask_and_print(context, {.path = "/v1/show"}, host_text); }; });
}

}  // namespace patchbay::cli
