// patchbay vnic: virtual NICs of guests and of the host.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

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
  std::string trunk;
  std::string prune;
  std::string native;
  std::string pvlan;
  std::string mac_spoofing;
  std::string mac_limit;
  std::string trust_priority;
  std::string queues;
  std::string worker;
  std::string vmq_weight;
  std::string buffer;
  std::string buffer_max_age;
  std::vector<std::string> labels;
  std::string connect;
  std::string format = "qemu";
  std::string memory;
};

std::string path_of(const std::string& name) {
  return "/v1/vnics/" + percent_encode(name);
}

// "1M (built in), 512 of 1048576 bytes used in 8 frames, 4096 at most so far"
std::string buffer_text(const Json& buffer) {
  const auto size = text_of(buffer, "size");
  if (size == "-") return "-";
  const auto from = text_of(buffer, "size_from");
  const std::string set = fmt::format("{} ({})", size == "0" ? "none" : size,
                                      from == "built_in" ? "built in"
                                      : from == "switch" ? "the switch's"
                                      : from == "vnic"   ? "its own"
                                                         : from);
  if (text_of(buffer, "limit_bytes") == "0" && text_of(buffer, "frames") == "0") return set;
  std::string text =
      fmt::format("{}, {} of {} bytes used in {} frames, {} at most so far", set, text_of(buffer, "used_bytes"),
                  text_of(buffer, "limit_bytes"), text_of(buffer, "frames"), text_of(buffer, "peak_bytes"));
  const auto age = text_of(buffer, "max_age_ms");
  if (age != "0") text += fmt::format(", no frame longer than {} ms", age);
  const bool shrinks = number_of(buffer, "used_bytes") > number_of(buffer, "limit_bytes");
  return shrinks ? text + "; it takes nothing in until it has drained to its limit" : text;
}

std::string stalls_text(const Json& buffer) {
  const Json& stalls = member_of(buffer, "stalls");
  const Json& waited = member_of(buffer, "waited");
  if (number_of(stalls, "count") == 0) return "none";
  std::string text =
      fmt::format("{}, the longest {}", text_of(stalls, "count"), duration_text(number_of(stalls, "longest_us")));
  if (const auto now = number_of(stalls, "now_us"); now != 0) text += ", one since " + duration_text(now);
  if (number_of(waited, "frames") == 0) return text;
  return text + fmt::format("; {} frames waited: p50 {}, p99 {}, max {}", text_of(waited, "frames"),
                            duration_text(number_of(waited, "p50_us")), duration_text(number_of(waited, "p99_us")),
                            duration_text(number_of(waited, "max_us")));
}

std::string spoofing_text(const Json& vnic) {
  if (member_of(vnic, "mac_spoofing") != Json(true)) return "off";
  const Json& learned = member_of(vnic, "learned");
  const auto refused = text_of(learned, "refused");
  return fmt::format("on, {} of {} addresses learned{}", text_of(learned, "count"), text_of(learned, "limit"),
                     refused == "0" ? "" : ", no room for more in " + refused + " frames");
}

std::string refused_text(const Json& vnic) {
  const Json& refused = member_of(vnic, "refused_source");
  return refused.is_object() ? text_of(refused, "advice") : "-";
}

std::string queues_text(const Json& vnic) {
  const auto offered = text_of(vnic, "queues");
  const auto used = text_of(vnic, "queues_used");
  if (used == "-") return offered;
  return used == "0" ? offered + ", none used" : fmt::format("{}, {} used", offered, used);
}

std::string worker_text(const Json& vnic) {
  const auto wanted = text_of(vnic, "worker");
  const auto now = text_of(vnic, "on_worker");
  return wanted == now ? now : fmt::format("{} ({})", now, wanted == "auto" ? "auto" : "asked for " + wanted);
}

// "queue 3 of eth1, running; weight 100"
std::string vmq_text(const Json& vnic) {
  const Json& vmq = member_of(vnic, "vmq");
  if (!vmq.is_object()) return "-";
  std::string text;
  for (const Json& queue : member_of(vmq, "queues")) {
    text += fmt::format("{}queue {} of {}, {}", text.empty() ? "" : "; ", text_of(queue, "queue"),
                        text_of(queue, "nic"), text_of(queue, "state"));
  }
  const auto reason = text_of(vmq, "reason");
  if (reason == "-") return text;
  return text.empty() ? "default queue: " + reason : text + "; " + reason;
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
                     {"labels", list_text(vnic, "labels")},
                     {"mac spoofing", spoofing_text(vnic)},
                     {"priorities", yes_or_no(vnic, "trust_priority") == "yes" ? "kept" : "become 0"},
                     {"queues", queues_text(vnic)},
                     {"worker", worker_text(vnic)},
                     {"vmq weight", text_of(vnic, "vmq_weight")},
                     {"vmq", vmq_text(vnic)},
                     {"state", state_text(vnic)},
                     {"vhost socket", socket},
                     {"mtu", text_of(vnic, "mtu")},
                     {"buffer", buffer_text(member_of(vnic, "buffer"))},
                     {"stalls", stalls_text(member_of(vnic, "buffer"))},
                     {"buffer advice", text_of(member_of(vnic, "buffer"), "advice")},
                     {"from guest", traffic_text(counters, "from_guest")},
                     {"to guest", traffic_text(counters, "to_guest")},
                     {"flood copies", text_of(counters, "flood_copies")},
                     {"cut frames", text_of(counters, "cut_frames")},
                     {"drops", drops_text(counters)},
                     {"refused source", refused_text(vnic)}});
}

std::string created_text(const Json& made) {
  const auto name = text_of(made, "name");
  std::string text = fmt::format("vnic {} created on switch {}: MAC {}, {}, {}\n", name, text_of(made, "switch"),
                                 text_of(made, "mac"), vlan_phrase(made), state_text(made));
  if (text_of(made, "kind") == "guest") text += fmt::format("attach a guest: patchbay vnic attach-args {}\n", name);
  if (text_of(made, "kind") == "host") text += fmt::format("give it an address: ip addr add ADDRESS dev {}\n", name);
  return text;
}

// Empty if `text` has the form of --pvlan, else what is wrong.
std::string check_pvlan(const std::string& text) {
  const bool has_kind =
      text.rfind("isolated:", 0) == 0 || text.rfind("community:", 0) == 0 || text.rfind("promiscuous:", 0) == 0;
  if (has_kind && std::count(text.begin(), text.end(), ':') == 2) return {};
  return fmt::format(
      "\"{}\" is not a private VLAN; write isolated:100:101, community:100:102 or "
      "promiscuous:100:101-109",
      text);
}

// `text`: a VLAN id or "none".
Json vlan_body(const std::string& text) {
  const Json vid = number_or_null(text);
  if (vid.is_null()) return {{"mode", "untagged"}};
  return {{"mode", "access"}, {"vid", vid}};
}

// KIND:PRIMARY:SECONDARY, checked as far as its form goes: what the ids mean, the server says.
Json pvlan_body(const std::string& text) {
  const auto first = text.find(':');
  const auto second = text.find(':', first + 1);
  const std::string kind = text.substr(0, first);
  const std::string secondary = text.substr(second + 1);
  Json body = {{"mode", kind}, {"primary", number_or_text(text.substr(first + 1, second - first - 1))}};
  if (kind == "promiscuous") {
    body["secondaries"] = secondary;
  } else {
    body["secondary"] = number_or_text(secondary);
  }
  return body;
}

// What create and set have in common; `given` tells which options there were.
void put_settings(Json& body, const Words& words, const CLI::App& given) {
  const auto has = [&given](const char* option) { return given.count(option) > 0; };
  if (has("--vlan")) body["vlan"] = vlan_body(words.vlan);
  if (has("--trunk")) {
    Json trunk = {{"mode", "trunk"}, {"allowed", words.trunk}};
    if (has("--prune")) trunk["pruned"] = words.prune;
    if (has("--native")) trunk["native"] = number_or_text(words.native);
    body["vlan"] = trunk;
  }
  if (has("--pvlan")) body["vlan"] = pvlan_body(words.pvlan);
  if (has("--mac")) body["mac"] = words.mac;
  if (has("--mac-spoofing")) body["mac_spoofing"] = words.mac_spoofing == "on";
  if (has("--mac-limit")) body["mac_limit"] = number_or_null(words.mac_limit);
  if (has("--trust-priority")) body["trust_priority"] = words.trust_priority == "on";
  if (has("--queues")) body["queues"] = number_or_text(words.queues);
  if (has("--worker")) body["worker"] = number_or_text(words.worker);
  if (has("--vmq-weight")) body["vmq_weight"] = number_or_text(words.vmq_weight);
  put_buffer(body, words.buffer, words.buffer_max_age);
  if (has("--label")) body["labels"] = list_or_none(words.labels);
}

// `verb` or a group of it.
void add_settings(CLI::App& verb, Words& words, bool may_be_none) {
  auto* vlan = verb.add_option(
      "--vlan", words.vlan,
      may_be_none ? "VLAN of the vnic, 1 to 4094; none: untagged" : "VLAN of the vnic, 1 to 4094; default: untagged");
  check_vlan_id(*vlan->type_name(may_be_none ? "VID|none" : "VID"), may_be_none);
  auto* trunk = verb.add_option("--trunk", words.trunk, "Carry these VLANs with their tags, like 10,20-29")
                    ->type_name("VIDS")
                    ->excludes(vlan);
  verb.add_option("--prune", words.prune, "VLANs that the trunk does not carry, whatever --trunk says")
      ->type_name("VIDS")
      ->needs(trunk);
  verb.add_option("--native", words.native,
                  "VLAN of the trunk's frames without a tag; untagged: in none; default: they are dropped")
      ->type_name("VID|untagged")
      ->needs(trunk);
  verb.add_option("--pvlan", words.pvlan,
                  "Private VLAN: isolated:PRIMARY:SECONDARY, community:PRIMARY:SECONDARY or "
                  "promiscuous:PRIMARY:SECONDARIES")
      ->type_name("MODE:PRI:SEC")
      ->check(check_pvlan)
      ->excludes(vlan)
      ->excludes(trunk);
  verb.add_option("--mac", words.mac, may_be_none ? "MAC address" : "MAC address; default: one from the host's pool")
      ->type_name("MAC");
  const CLI::IsMember on_off({"on", "off"});
  verb.add_option("--mac-spoofing", words.mac_spoofing,
                  "on: it may send from addresses that are nobody's, and receives frames for unknown ones; default off")
      ->check(on_off)
      ->type_name("on|off");
  check_count(
      *verb.add_option("--mac-limit", words.mac_limit, "Addresses learned behind it at most, 1 to 65536; default 1024")
           ->type_name("COUNT"));
  verb.add_option("--trust-priority", words.trust_priority,
                  "on: its 802.1p priorities are kept; default off: they become 0")
      ->check(on_off)
      ->type_name("on|off");
  check_queues(
      *verb.add_option("--queues", words.queues,
                       "Queue pairs that the guest may use, 1 to 8; default 1. A guest that is connected takes "
                       "more or fewer with its next start")
           ->type_name("COUNT"));
  check_worker(*verb.add_option("--worker", words.worker,
                                "Worker that moves its frames: a number that `patchbay worker list` shows, or auto; "
                                "default auto")
                    ->type_name("ID|auto"));
  check_vmq_weight(*verb.add_option("--vmq-weight", words.vmq_weight,
                                    "Of those that wait for a receive queue of the NIC, who gets a free one first: 0 "
                                    "(never one) to 100; default 100")
                        ->type_name("0-100"));
  add_buffer(verb, words.buffer, words.buffer_max_age, "the guest");
  add_list(verb, "--label", words.labels,
           may_be_none
               ? "Label by which policies find it, KEY or KEY=VALUE; once for each, in place of those that it has; "
                 "none: without any"
               : "Label by which policies find it, KEY or KEY=VALUE; once for each",
           may_be_none ? "LABEL|none" : "LABEL");
}

Json create_body(const Words& words, const CLI::App& verb) {
  Json body = {{"name", words.name}, {"switch", words.on}, {"kind", words.host ? "host" : "guest"}};
  put_settings(body, words, verb);
  if (verb.count("--connect") > 0) body["connect"] = words.connect;
  return body;
}

void add_create(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "create", "Create a virtual NIC on a switch",
                        "patchbay vnic create web --switch lan --vlan 101\n"
                        "  patchbay vnic create router --switch lan --trunk 10,20-29 --native 10\n"
                        "  patchbay vnic create db --switch lan --label storage --label tier=gold\n"
                        "  patchbay vnic create guest7 --switch lan --pvlan isolated:100:101\n"
                        "  patchbay vnic create mgmt --switch lan --host --vlan 101");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name,
           "Name of the new vnic; with --host also of its network interface, then at most 15 characters");
  verb->add_option("--switch", words->on, "Switch to put it on")->required()->type_name("SWITCH");
  auto* host = verb->add_flag("--host", words->host, "A network interface of this host, instead of a guest's");
  add_settings(*verb, *words, false);
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
                        "patchbay vnic set web --vlan 102\n  patchbay vnic set web --vlan none\n"
                        "  patchbay vnic set web --mac-spoofing on");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the vnic");
  auto* change = verb->add_option_group("Change", "At least one of");
  add_settings(*change, *words, true);
  change->require_option(1, 0);
  verb->callback([&context, words, change] {
    context.run = [&context, words, change] {
      Json body = Json::object();
      put_settings(body, *words, *change);
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
