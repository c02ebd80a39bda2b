// patchbay switch: virtual switches.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

struct Words {
  std::string name;
  std::string external;
  bool internal = false;
  bool private_ = false;
  std::string force_vlan;
  std::string mtu;
  std::string share_with_host;
  std::string driver;
  std::string gro;
  std::string buffer;
  std::string buffer_max_age;
};

std::string path_of(const std::string& name) {
  return "/v1/switches/" + percent_encode(name);
}

// "xdp, for auto: AF_XDP in driver igb, 4 queues"
std::string driver_text(const Json& found, const Json& uplink) {
  const auto used = text_of(uplink, "driver");
  const auto team = text_of(uplink, "team");
  if (team != "-")
    return fmt::format("{}; `patchbay team show {}` has those of its NICs", text_of(found, "driver"), team);
  if (used == "-") return text_of(found, "driver");
  return fmt::format("{}, for {}: {}", used, text_of(found, "driver"), text_of(uplink, "driver_reason"));
}

std::string uplink_name(const Json& uplink) {
  const auto team = text_of(uplink, "team");
  return team == "-" ? text_of(uplink, "nic") : team;
}

std::string switch_text(const Json& found) {
  std::vector<std::pair<std::string, std::string>> fields = {{"name", text_of(found, "name")},
                                                             {"type", text_of(found, "type")},
                                                             {"mtu", text_of(found, "mtu")},
                                                             {"forced vlan", text_of(found, "force_vlan")},
                                                             {"shared with host by", text_of(found, "share_with_host")},
                                                             {"buffer of vnics", buffer_setting_text(found)},
                                                             {"vnics", list_text(found, "vnics")}};
  const Json& uplink = member_of(found, "uplink");
  if (uplink.is_object()) {
    const Json& counters = member_of(uplink, "counters");
    fields.insert(fields.end(), {{"uplink", (text_of(uplink, "team") == "-" ? "" : "team ") + uplink_name(uplink)},
                                 {"uplink state", state_text(uplink)},
                                 {"driver", driver_text(found, uplink)},
                                 {"gro", member_of(found, "gro") == Json(false) ? "off" : "on"},
                                 {"from wire", traffic_text(counters, "from_wire")},
                                 {"to wire", traffic_text(counters, "to_wire")},
                                 {"flood copies", text_of(counters, "flood_copies")},
                                 {"cut frames", text_of(counters, "cut_frames")},
                                 {"merged frames", text_of(counters, "merged_frames")},
                                 {"drops", drops_text(counters)}});
  }
  return field_list(fields);
}

std::string created_text(const Json& made) {
  const Json& uplink = member_of(made, "uplink");
  return fmt::format("switch {} created: {}{}\n", text_of(made, "name"), text_of(made, "type"),
                     uplink.is_object() ? fmt::format(", uplink {} {}", uplink_name(uplink), state_text(uplink)) : "");
}

Json create_body(const Words& words) {
  Json body = {{"name", words.name}};
  body["type"] = words.internal ? "internal" : words.private_ ? "private" : "external";
  if (!words.internal && !words.private_) body["uplink"] = words.external;
  if (!words.force_vlan.empty()) body["force_vlan"] = number_or_null(words.force_vlan);
  if (!words.mtu.empty()) body["mtu"] = number_or_null(words.mtu);
  if (!words.share_with_host.empty()) body["share_with_host"] = words.share_with_host;
  if (!words.driver.empty()) body["driver"] = words.driver;
  if (!words.gro.empty()) body["gro"] = words.gro == "on";
  put_buffer(body, words.buffer, words.buffer_max_age);
  return body;
}

Json change_body(const Words& words) {
  Json body = Json::object();
  if (!words.force_vlan.empty()) body["force_vlan"] = number_or_null(words.force_vlan);
  if (!words.mtu.empty()) body["mtu"] = number_or_null(words.mtu);
  if (words.share_with_host == "none") {
    body["share_with_host"] = nullptr;
  } else if (!words.share_with_host.empty()) {
    body["share_with_host"] = words.share_with_host;
  }
  if (!words.driver.empty()) body["driver"] = words.driver;
  if (!words.gro.empty()) body["gro"] = words.gro == "on";
  put_buffer(body, words.buffer, words.buffer_max_age);
  return body;
}

void add_driver(CLI::App& to, std::string& driver) {
  to.add_option("--driver", driver,
                "How the NIC's frames are moved: packet sockets, AF_XDP sockets, or auto: what suits the NIC (default)")
      ->type_name("auto|packet|xdp")
      ->check(CLI::IsMember({"auto", "packet", "xdp"}));
}

void add_gro(CLI::App& to, std::string& gro) {
  to.add_option(
        "--gro", gro,
        "on: consecutive TCP segments from the wire are merged for who takes large pieces (default); off: every "
        "frame goes on as it came")
      ->type_name("on|off")
      ->check(CLI::IsMember({"on", "off"}));
}

void add_create(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "create", "Create a virtual switch",
                        "patchbay switch create lan --external eth1\n  patchbay switch create lab --private");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the new switch");
  auto* type = verb->add_option_group("Type", "Exactly one of");
  type->add_option("--external", words->external,
                   "Links VMs to this NIC (kernel name, or PCI address if bound to vfio-pci) or team, and through it "
                   "to the wire")
      ->type_name("NIC|TEAM");
  type->add_flag("--internal", words->internal, "Links VMs and this host to each other");
  type->add_flag("--private", words->private_, "Links VMs to each other only");
  type->require_option(1);
  check_vlan_id(*verb->add_option("--force-vlan", words->force_vlan, "Puts every vnic of the switch into this VLAN")
                     ->type_name("VID"),
                false);
  check_mtu(
      *verb->add_option("--mtu", words->mtu, "Largest layer 3 packet, 576 to 9000; default 1500")->type_name("BYTES"));
  verb->add_option("--share-with-host", words->share_with_host,
                   "Makes a host vnic of this name and moves the NIC's addresses and routes to it")
      ->type_name("VNIC");
  add_driver(*verb, words->driver);
  add_gro(*verb, words->gro);
  add_buffer(*verb, words->buffer, words->buffer_max_age, "a guest on it");
  verb->callback([&context, words] {
    context.run = [&context, words] {
      return ask_and_print(context, {.method = "POST", .path = "/v1/switches", .body = create_body(*words)},
                           created_text);
    };
  });
}

void add_set(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "set", "Change a virtual switch; what is not named stays",
                        "patchbay switch set lan --force-vlan 101\n  patchbay switch set lan --force-vlan none\n  "
                        "patchbay switch set lan --driver packet");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the switch");
  auto* change = verb->add_option_group("Change", "At least one of");
  check_vlan_id(*change
                     ->add_option("--force-vlan", words->force_vlan,
                                  "Puts every vnic of the switch into this VLAN; none: no longer")
                     ->type_name("VID|none"),
                true);
  check_mtu(*change->add_option("--mtu", words->mtu, "Largest layer 3 packet, 576 to 9000")->type_name("BYTES"));
  change
      ->add_option("--share-with-host", words->share_with_host,
                   "Moves the NIC's addresses and routes to a new host vnic of this name; none: back to the NIC")
      ->type_name("VNIC|none");
  add_driver(*change, words->driver);
  add_gro(*change, words->gro);
  add_buffer(*change, words->buffer, words->buffer_max_age, "a guest on it");
  change->require_option(1, 0);
  verb->callback([&context, words] {
    context.run = [&context, words] {
      return ask_and_print(context, {.method = "PATCH", .path = path_of(words->name), .body = change_body(*words)},
                           switch_text);
    };
  });
}

}  // namespace

std::string switch_table(const Json& switches) {
  Table table(
      {{"SWITCH"}, {"TYPE"}, {"UPLINK"}, {"UPLINK STATE"}, {"MTU", true}, {"FORCED VLAN", true}, {"VNICS", true}});
  for (const Json& found : switches) {
    const Json& uplink = member_of(found, "uplink");
    table.add({text_of(found, "name"), text_of(found, "type"), uplink_name(uplink),
               uplink.is_object() ? state_text(uplink) : "-", text_of(found, "mtu"), text_of(found, "force_vlan"),
               std::to_string(member_of(found, "vnics").size())});
  }
  return table.text("no switches");
}

namespace {

std::string fdb_table(const Json& rows) {
  Table table({{"VLAN"}, {"MAC"}, {"PORT"}, {"AGE S", true}});
  for (const Json& row : rows) {
    table.add({text_of(row, "vid"), text_of(row, "mac"), text_of(row, "port"), text_of(row, "age_s")});
  }
  return table.text("nothing learned; only vnics with --mac-spoofing on learn, and the uplink of their switch");
}

}  // namespace

void add_switch(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("switch", "Virtual switches");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay switch create lan --external eth1");
  add_create(*noun, context);
  add_set(*noun, context);

  auto* list = add_verb(*noun, "list", "List the virtual switches", "patchbay switch list");
  list->callback([&context] {
    context.run = [&context] { return ask_and_print(context, {.path = "/v1/switches"}, switch_table); };
  });

  auto* show =
      add_verb(*noun, "show", "Show one virtual switch and the counters of its uplink", "patchbay switch show lan");
  auto* gone = add_verb(*noun, "delete", "Delete a virtual switch that has no vnics", "patchbay switch delete lan");
  auto* fdb = add_verb(*noun, "fdb", "Show the addresses that a virtual switch has learned", "patchbay switch fdb lan");
  auto name = std::make_shared<std::string>();
  add_name(*show, *name, "Name of the switch");
  add_name(*fdb, *name, "Name of the switch");
  fdb->callback([&context, name] {
    context.run = [&context, name] { return ask_and_print(context, {.path = path_of(*name) + "/fdb"}, fdb_table); };
  });
  add_name(*gone, *name, "Name of the switch");
  show->callback([&context, name] {
    context.run = [&context, name] { return ask_and_print(context, {.path = path_of(*name)}, switch_text); };
  });
  gone->callback([&context, name] {
    context.run = [&context, name] {
      return ask_and_print(context, {.method = "DELETE", .path = path_of(*name)},
                           [&](const Json&) { return fmt::format("switch {} deleted\n", *name); });
    };
  });
}

}  // namespace patchbay::cli
