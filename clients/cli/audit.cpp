// patchbay audit: who changed what and when.
#include <fmt/format.h>

#include <memory>

#include "changes.h"
#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

struct Words {
  std::string name;
  std::string limit;
};

std::string who(const Json& row) {
  const auto uid = text_of(row, "uid");
  const auto user = text_of(row, "user");
  if (uid == "-") return user;
  return user == "-" ? "uid " + uid : fmt::format("{} ({})", user, uid);
}

}  // namespace

std::string audit_table(const Json& rows) {
  Table table({{"TIME"}, {"WHO"}, {"VERB"}, {"KIND"}, {"NAME"}, {"WHAT"}});
  for (const Json& row : rows) {
    const bool apply = member_of(row, "apply") == Json(true);
    table.add({text_of(row, "at"), who(row), text_of(row, "verb") + (apply ? " (apply)" : ""), text_of(row, "kind"),
               text_of(row, "name"), what_changed(row)});
  }
  return table.text("no changes");
}

void add_audit(CLI::App& app, Context& context) {
  auto* verb = add_verb(app, "audit", "Show who changed what and when, newest first",
                        "patchbay audit\n  patchbay audit web --limit 5");
  auto words = std::make_shared<Words>();
  verb->add_option("NAME", words->name, "Only changes of the switch, team, vnic or policy of this name")->type_name("");
  check_limit(*verb->add_option("--limit", words->limit, "At most so many changes, 1 to 10000; default 100")
                   ->type_name("COUNT"));
  verb->callback([&context, words, verb] {
    context.run = [&context, words, verb] {
      std::string path = "/v1/audit";
      if (verb->count("--limit") > 0) path += "?limit=" + percent_encode(words->limit);
      if (verb->count("NAME") > 0) {
        path += (verb->count("--limit") > 0 ? "&object=" : "?object=") + percent_encode(words->name);
      }
      return ask_and_print(context, {.path = path}, audit_table);
    };
  });
}

}  // namespace patchbay::cli
