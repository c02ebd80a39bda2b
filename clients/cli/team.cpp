// patchbay team: NICs that act as one uplink.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

struct Words {
  std::string name;
  std::vector<std::string> nics;
  std::string mode;
  std::string balance;
  std::string standby;
  std::string lacp_timer;
  std::string failback_delay;
};

std::string path_of(const std::string& name) {
  return "/v1/teams/" + percent_encode(name);
}

std::string list_text(const Json& list) {
  std::string text;
  for (const Json& each : list) text += (text.empty() ? "" : ", ") + (each.is_string() ? each.get<std::string>() : "?");
  return text;
}

std::string speed_text(const Json& member) {
  const auto mbps = text_of(member, "speed_mbps");
  return mbps == "-" ? "" : ", " + mbps + " Mbit/s";
}

// "02:00:00:00:00:01 (32768), key 1, port 2 (255): active aggregation in-sync"
std::string end_text(const Json& end) {
  if (!end.is_object()) return "none speaks";
  std::string words;
  for (const Json& word : member_of(end, "state")) words += " " + (word.is_string() ? word.get<std::string>() : "?");
  return fmt::format("{} ({}), key {}, port {} ({}):{}", text_of(end, "system"), text_of(end, "system_priority"),
                     text_of(end, "key"), text_of(end, "port"), text_of(end, "port_priority"),
                     words.empty() ? " -" : words);
}

using Fields = std::vector<std::pair<std::string, std::string>>;

void add_member(Fields& fields, const Json& member) {
  const Json& counters = member_of(member, "counters");
  const bool primary = member_of(member, "primary") == Json(true);
  fields.insert(fields.end(), {{"member", text_of(member, "nic") + (primary ? " (primary)" : "")},
                               {"  state", state_text(member)},
                               {"  driver", text_of(member, "driver")},
                               {"  carrier", yes_or_no(member, "carrier") + speed_text(member)},
                               {"  from wire", traffic_text(counters, "from_wire")},
                               {"  to wire", traffic_text(counters, "to_wire")},
                               {"  drops", drops_text(counters)}});
  const Json& lacp = member_of(member, "lacp");
  if (!lacp.is_object()) return;
  fields.insert(fields.end(),
                {{"  lacp actor", end_text(member_of(lacp, "actor"))},
                 {"  lacp partner", end_text(member_of(lacp, "partner"))},
                 {"  lacp machines", fmt::format("receive {}, mux {}", text_of(lacp, "receive"), text_of(lacp, "mux"))},
                 {"  lacpdus", fmt::format("{} sent, {} received, {} malformed", text_of(lacp, "sent"),
                                           text_of(lacp, "received"), text_of(lacp, "malformed"))}});
}

std::string team_text(const Json& team) {
  const Json& counters = member_of(team, "counters");
  Fields fields = {{"name", text_of(team, "name")},
                   {"nics", list_text(member_of(team, "nics"))},
                   {"mode", text_of(team, "mode")},
                   {"balance", text_of(team, "balance")},
                   {"standby", text_of(team, "standby")},
                   {"lacp timer", text_of(team, "lacp_timer")},
                   {"failback delay", text_of(team, "failback_delay_ms") + " ms"},
                   {"switch", text_of(team, "switch")},
                   {"state", state_text(team)},
                   {"queue model", text_of(team, "queue_model")},
                   {"failovers", text_of(team, "failovers")},
                   {"announcements", text_of(team, "announcements")},
                   {"from wire", traffic_text(counters, "from_wire")},
                   {"to wire", traffic_text(counters, "to_wire")},
                   {"drops", drops_text(counters)}};
  for (const Json& member : member_of(team, "members")) add_member(fields, member);
  return field_list(fields);
}

std::string created_text(const Json& made) {
  return fmt::format("team {} created: {}, {}, NICs {}\n", text_of(made, "name"), text_of(made, "mode"),
                     text_of(made, "balance"), list_text(member_of(made, "nics")));
}

// What was given; "none" of the standby becomes null.
Json body_of(const Words& words) {
  Json body = Json::object();
  if (!words.nics.empty()) body["nics"] = words.nics;
  if (!words.mode.empty()) body["mode"] = words.mode;
  if (!words.balance.empty()) body["balance"] = words.balance;
  if (!words.standby.empty()) body["standby"] = words.standby == "none" ? Json(nullptr) : Json(words.standby);
  if (!words.lacp_timer.empty()) body["lacp_timer"] = words.lacp_timer;
  if (!words.failback_delay.empty()) body["failback_delay_ms"] = number_or_text(words.failback_delay);
  return body;
}

CLI::Option* add_nics(CLI::App& to, std::vector<std::string>& nics) {
  return to.add_option("--nics", nics, "Its 1 to 32 NICs, with commas between; of equal ones the first is preferred")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NIC[,NIC...]");
}

void add_settings(CLI::App& to, Words& words) {
  to.add_option(
        "--mode", words.mode,
        "What the physical switch knows of the team: nothing (switch-independent, default), its own configuration "
        "(static), or what LACP tells it (lacp)")
      ->type_name("switch-independent|static|lacp")
      ->check(CLI::IsMember({"switch-independent", "static", "lacp"}));
  to.add_option("--balance", words.balance,
                "What decides by which NIC a frame leaves: its flow (address-hash), its vnic (vnic-port), or its flow "
                "until that pauses, and then the load (dynamic, default)")
      ->type_name("address-hash|vnic-port|dynamic")
      ->check(CLI::IsMember({"address-hash", "vnic-port", "dynamic"}));
  to.add_option("--standby", words.standby, "One of the NICs, that carries frames only when no other does; none: none")
      ->type_name("NIC|none");
  to.add_option("--lacp-timer", words.lacp_timer,
                "lacp: the physical switch is to speak once a second (fast, default), or twice a minute (slow)")
      ->type_name("fast|slow")
      ->check(CLI::IsMember({"fast", "slow"}));
  check_failback_delay(*to.add_option("--failback-delay", words.failback_delay,
                                      "Milliseconds that the link of a NIC has to be good before it carries frames "
                                      "again, 0 to 600000; default 1000")
                            ->type_name("MS"));
}

void add_create(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "create", "Create a team of NICs, for `switch create --external`",
                        "patchbay team create up1 --nics eth1,eth2\n  patchbay team create up1 --nics eth1,eth2 --mode "
                        "lacp --balance address-hash");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the new team");
  add_nics(*verb, words->nics)->required();
  add_settings(*verb, *words);
  verb->callback([&context, words] {
    context.run = [&context, words] {
      Json body = body_of(*words);
      body["name"] = words->name;
      return ask_and_print(context, {.method = "POST", .path = "/v1/teams", .body = body}, created_text);
    };
  });
}

void add_set(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "set", "Change a team while frames flow; what is not named stays",
                        "patchbay team set up1 --nics eth1,eth2,eth3\n  patchbay team set up1 --standby none");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the team");
  auto* change = verb->add_option_group("Change", "At least one of");
  add_nics(*change, words->nics);
  add_settings(*change, *words);
  change->require_option(1, 0);
  verb->callback([&context, words] {
    context.run = [&context, words] {
      return ask_and_print(context, {.method = "PATCH", .path = path_of(words->name), .body = body_of(*words)},
                           team_text);
    };
  });
}

}  // namespace

std::string team_table(const Json& teams) {
  Table table({{"TEAM"}, {"NICS"}, {"MODE"}, {"BALANCE"}, {"SWITCH"}, {"STATE"}});
  for (const Json& team : teams) {
    table.add({text_of(team, "name"), list_text(member_of(team, "nics")), text_of(team, "mode"),
               text_of(team, "balance"), text_of(team, "switch"), state_text(team)});
  }
  return table.text("no teams");
}

void add_team(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("team", "Teams of NICs");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay team create up1 --nics eth1,eth2\n  patchbay switch create lan --external up1");
  add_create(*noun, context);
  add_set(*noun, context);

  auto* list = add_verb(*noun, "list", "List the teams", "patchbay team list");
  list->callback(
      [&context] { context.run = [&context] { return ask_and_print(context, {.path = "/v1/teams"}, team_table); }; });

  auto* show = add_verb(*noun, "show", "Show one team, its members and their counters", "patchbay team show up1");
  auto* gone = add_verb(*noun, "delete", "Delete a team that carries no switch", "patchbay team delete up1");
  auto name = std::make_shared<std::string>();
  add_name(*show, *name, "Name of the team");
  add_name(*gone, *name, "Name of the team");
  show->callback([&context, name] {
    context.run = [&context, name] { return ask_and_print(context, {.path = path_of(*name)}, team_text); };
  });
  gone->callback([&context, name] {
    context.run = [&context, name] {
      return ask_and_print(context, {.method = "DELETE", .path = path_of(*name)},
                           [&](const Json&) { return fmt::format("team {} deleted\n", *name); });
    };
  });
}

}  // namespace patchbay::cli
