// patchbay vnic: virtual NICs of guests and of the host.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

struct Words {
  std::string name;
  std::string on;  // the switch
  bool host = false;
  std::string mac;
  std::string vlan;
  std::string connect;
  std::string format = "qemu";
  std::string memory;
};

std::string path_of(const std::string& name) {
  return "/v1/vnics/" + percent_encode(name);
}

std::string buffer_text(const Json& buffer) {
  if (text_of(buffer, "limit_bytes") == "0") return "none";
  return fmt::format("{} of {} bytes used, {} at most so far", text_of(buffer, "used_bytes"),
                     text_of(buffer, "limit_bytes"), text_of(buffer, "peak_bytes"));
}

std::string vnic_text(const Json& vnic) {
  const Json& counters = member_of(vnic, "counters");
  const auto role = text_of(vnic, "vhost_role");
  std::string socket = text_of(vnic, "vhost_socket");
  if (role != "-") socket += fmt::format(" (Patchbay {}s)", role);
  return field_list({{"name", text_of(vnic, "name")},
                     {"switch", text_of(vnic, "switch")},
                     {"kind", text_of(vnic, "kind")},
                     {"mac", fmt::format("{} ({})", text_of(vnic, "mac"), text_of(vnic, "mac_origin"))},
                     {"vlan", vlan_text(vnic)},
                     {"state", state_text(vnic)},
                     {"vhost socket", socket},
                     {"mtu", text_of(vnic, "mtu")},
                     {"buffer", buffer_text(member_of(vnic, "buffer"))},
                     {"from guest", traffic_text(counters, "from_guest")},
                     {"to guest", traffic_text(counters, "to_guest")},
                     {"flood copies", text_of(counters, "flood_copies")},
                     {"drops", drops_text(counters)}});
}

std::string created_text(const Json& made) {
  const auto name = text_of(made, "name");
  std::string text = fmt::format("vnic {} created on switch {}: MAC {}, {}, {}\n", name, text_of(made, "switch"),
                                 text_of(made, "mac"), vlan_phrase(made), state_text(made));
  if (text_of(made, "kind") == "guest") text += fmt::format("attach a guest: patchbay vnic attach-args {}\n", name);
  if (text_of(made, "kind") == "host") text += fmt::format("give it an address: ip addr add ADDRESS dev {}\n", name);
  return text;
}

// `text`: a VLAN id or "none".
Json vlan_body(const std::string& text) {
  const Json vid = number_or_null(text);
  if (vid.is_null()) return {{"mode", "untagged"}};
  return {{"mode", "access"}, {"vid", vid}};
}

Json create_body(const Words& words, const CLI::App& verb) {
  Json body = {{"name", words.name}, {"switch", words.on}, {"kind", words.host ? "host" : "guest"}};
  if (verb.count("--mac") > 0) body["mac"] = words.mac;
  if (verb.count("--vlan") > 0) body["vlan"] = vlan_body(words.vlan);
  if (verb.count("--connect") > 0) body["connect"] = words.connect;
  return body;
}

void add_create(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "create", "Create a virtual NIC on a switch",
                        "patchbay vnic create web --switch lan --vlan 101\n"
                        "  patchbay vnic create mgmt --switch lan --host --vlan 101");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name,
           "Name of the new vnic; with --host also of its network interface, then at most 15 characters");
  verb->add_option("--switch", words->on, "Switch to put it on")->required()->type_name("SWITCH");
  auto* host = verb->add_flag("--host", words->host, "A network interface of this host, instead of a guest's");
  verb->add_option("--mac", words->mac, "MAC address; default: one from the host's pool")->type_name("MAC");
  check_vlan_id(
      *verb->add_option("--vlan", words->vlan, "VLAN of the vnic, 1 to 4094; default: untagged")->type_name("VID"),
      false);
  verb->add_option("--connect", words->connect,
                   "Socket that the guest's QEMU listens on; default: Patchbay listens on its own")
      ->type_name("PATH")
      ->excludes(host);
  verb->callback([&context, words, verb] {
    context.run = [&context, words, verb] {
      return ask_and_print(context, {.method = "POST", .path = "/v1/vnics", .body = create_body(*words, *verb)},
                           created_text);
    };
  });
}

void add_set(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "set", "Change a virtual NIC while it runs; what is not named stays",
                        "patchbay vnic set web --vlan 102\n  patchbay vnic set web --vlan none");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the vnic");
  auto* change = verb->add_option_group("Change", "At least one of");
  auto* vlan = change->add_option("--vlan", words->vlan, "VLAN of the vnic, 1 to 4094; none: untagged");
  check_vlan_id(*vlan->type_name("VID|none"), true);
  auto* mac = change->add_option("--mac", words->mac, "MAC address")->type_name("MAC");
  change->require_option(1, 0);
  verb->callback([&context, words, vlan, mac] {
    context.run = [&context, words, vlan, mac] {
      Json body = Json::object();
      if (vlan->count() > 0) body["vlan"] = vlan_body(words->vlan);
      if (mac->count() > 0) body["mac"] = words->mac;
      return ask_and_print(context, {.method = "PATCH", .path = path_of(words->name), .body = body}, vnic_text);
    };
  });
}

void add_attach_args(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "attach-args", "Print what to paste into QEMU or a libvirt domain to attach a guest",
                        "patchbay vnic attach-args web --memory 2G\n"
                        "  patchbay vnic attach-args web --format libvirt");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the vnic");
  verb->add_option("--format", words->format, "qemu or libvirt; default qemu")
      ->check(CLI::IsMember({"qemu", "libvirt"}))
      ->type_name("FORMAT");
  verb->add_option("--memory", words->memory, "Memory of the guest, like 256M or 2G; default 1G")->type_name("SIZE");
  verb->callback([&context, words, verb] {
    context.run = [&context, words, verb] {
      std::string path = path_of(words->name) + "/attach-args?format=" + percent_encode(words->format);
      if (verb->count("--memory") > 0) path += "&memory=" + percent_encode(words->memory);
      return ask_and_print(context, {.path = path}, [](const Json& answer) { return text_of(answer, "text"); });
    };
  });
}

}  // namespace

std::string vnic_table(const Json& vnics) {
  Table table({{"VNIC"},
               {"SWITCH"},
               {"KIND"},
               {"MAC"},
               {"VLAN"},
               {"FROM GUEST", true},
               {"TO GUEST", true},
               {"DROPS", true},
               {"STATE"}});
  for (const Json& vnic : vnics) {
    const Json& counters = member_of(vnic, "counters");
    table.add({text_of(vnic, "name"), text_of(vnic, "switch"), text_of(vnic, "kind"), text_of(vnic, "mac"),
               vlan_text(vnic), text_of(member_of(counters, "from_guest"), "frames"),
               text_of(member_of(counters, "to_guest"), "frames"), drops_total(counters), state_text(vnic)});
  }
  return table.text("no vnics");
}

void add_vnic(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("vnic", "Virtual NICs of guests and of the host");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay vnic create web --switch lan --vlan 101");
  add_create(*noun, context);
  add_set(*noun, context);
  add_attach_args(*noun, context);

  auto* list = add_verb(*noun, "list", "List the virtual NICs", "patchbay vnic list");
  list->callback(
      [&context] { context.run = [&context] { return ask_and_print(context, {.path = "/v1/vnics"}, vnic_table); }; });

  auto* show = add_verb(*noun, "show", "Show one virtual NIC and its counters", "patchbay vnic show web --json");
  auto* gone = add_verb(*noun, "delete", "Delete a virtual NIC; its guest loses the link", "patchbay vnic delete web");
  auto name = std::make_shared<std::string>();
  add_name(*show, *name, "Name of the vnic");
  add_name(*gone, *name, "Name of the vnic");
  show->callback([&context, name] {
    context.run = [&context, name] { return ask_and_print(context, {.path = path_of(*name)}, vnic_text); };
  });
  gone->callback([&context, name] {
    context.run = [&context, name] {
      return ask_and_print(context, {.method = "DELETE", .path = path_of(*name)},
                           [&](const Json&) { return fmt::format("vnic {} deleted\n", *name); });
    };
  });
}

}  // namespace patchbay::cli
