// patchbay vmq: the receive queues of NICs, and which vnics have them.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

// "eth1: kernel, 3 of 7 queues used (team up1, sum-of-queues): why"
std::string nic_text(const Json& nic) {
  std::string text = text_of(nic, "nic") + ": ";
  const auto sorting = text_of(nic, "sorting");
  text += sorting == "-" ? "not open"
                         : fmt::format("{}, {} of {} queues used", sorting, text_of(nic, "queues_used"),
                                       text_of(nic, "queues_max"));
  if (text_of(nic, "team") != "-") {
    text += fmt::format(" (team {}, {})", text_of(nic, "team"), text_of(nic, "queue_model"));
  }
  if (member_of(nic, "vlan_only") == Json(true)) text += ", sorts by VLAN alone";
  if (member_of(nic, "restarts") == Json(true)) text += ", stops for a moment when a queue comes or goes";
  const auto reason = text_of(nic, "sorting_reason");
  return text + (reason.empty() || reason == "-" ? "" : ": " + reason) + "\n";
}

std::string queue_vlan_text(const Json& queue) {
  const auto vlan = text_of(queue, "vlan");
  return vlan == "0" ? "untagged" : vlan;
}

std::string vmq_text(const Json& vmq) {
  const Json& nics = member_of(vmq, "nics");
  if (nics.empty()) return "no NIC carries a switch\n";
  std::string text;
  for (const Json& nic : nics) text += nic_text(nic);
  Table queues({{"NIC"},
                {"QUEUE", true},
                {"VNIC"},
                {"MAC"},
                {"VLAN"},
                {"STATE"},
                {"WORKER", true},
                {"FRAMES", true},
                {"BYTES", true},
                {"DROPS", true},
                {"SORTING"}});
  for (const Json& queue : member_of(vmq, "queues")) {
    const bool is_default = number_of(queue, "queue") == 0;
    queues.add({text_of(queue, "nic"), text_of(queue, "queue"), is_default ? "" : text_of(queue, "vnic"),
                is_default ? "" : text_of(queue, "mac"), is_default ? "" : queue_vlan_text(queue),
                text_of(queue, "state"), text_of(queue, "worker"), text_of(queue, "frames"), text_of(queue, "bytes"),
                text_of(queue, "drops"), text_of(queue, "sorting")});
  }
  text += "\n" + queues.text("no queues");
  const Json& without = member_of(vmq, "without_queue");
  if (without.empty()) return text;
  Table waiting({{"VNIC"}, {"SWITCH"}, {"UPLINK"}, {"WHY BY THE DEFAULT QUEUE"}});
  for (const Json& vnic : without) {
    waiting.add({text_of(vnic, "vnic"), text_of(vnic, "switch"), text_of(vnic, "uplink"), text_of(vnic, "reason")});
  }
  return text + "\n" + waiting.text("");
}

}  // namespace

void add_vmq(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("vmq", "Receive queues of NICs, and which vnics have them");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay vmq list");
  auto* list = add_verb(*noun, "list", "List the queues of NICs that carry switches, and the vnics that have none",
                        "patchbay vmq list\n  patchbay vmq list --nic eth1 --json");
  auto nic = std::make_shared<std::string>();
  list->add_option("--nic", *nic, "Only of this NIC, or this team")->type_name("NIC|TEAM");
  list->callback([&context, nic, list] {
    context.run = [&context, nic, list] {
      std::string path = "/v1/vmq";
      if (list->count("--nic") > 0) path += "?nic=" + percent_encode(*nic);
      return ask_and_print(context, {.path = path}, vmq_text);
    };
  });
}

}  // namespace patchbay::cli
