// patchbay nic: the physical NICs of the host.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

std::string speed_text(const Json& nic) {
  const auto mbps = text_of(nic, "speed_mbps");
  return mbps == "-" ? mbps : mbps + " Mbit/s";
}

// As ethtool writes it: "on [fixed]".
std::string offload_text(const Json& nic) {
  const auto state = text_of(nic, "rx_vlan_offload");
  const auto fixed = state.find("_fixed");
  return fixed == std::string::npos ? state : state.substr(0, fixed) + " [fixed]";
}

std::string pci_text(const Json& nic) {
  const Json& pci = member_of(nic, "pci");
  if (!pci.is_object()) return "-";
  const auto node = text_of(pci, "numa_node");
  return fmt::format("{} ({}, {}{})", text_of(pci, "address"), text_of(pci, "id"),
                     text_of(pci, "driver") == "-" ? "no driver" : text_of(pci, "driver"),
                     node == "-" ? "" : ", NUMA node " + node);
}

// "16 queues, 8 VMDq pools, 24 MAC filters, 32 VLAN filters"
std::string hardware_text(const Json& hardware) {
  if (!hardware.is_object()) return "-";
  std::string text = text_of(hardware, "name");
  const std::pair<const char*, const char*> counts[] = {{"queues", "receive queues"},
                                                        {"vmdq_pools", "VMDq pools"},
                                                        {"mac_filters", "MAC filters"},
                                                        {"vlan_filters", "VLAN filters"}};
  for (const auto& [field, what] : counts) {
    const auto count = text_of(hardware, field);
    if (count != "-") text += fmt::format(", {} {}", count == "0" ? "no" : count, what);
  }
  const auto dpdk = text_of(hardware, "dpdk_driver");
  return text + (dpdk == "-" ? ", no driver of DPDK's" : ", DPDK's " + dpdk);
}

std::string sorting_text(const Json& sorting) {
  if (!sorting.is_object()) return "-";
  std::string text = fmt::format("{}, {} queues for vnics", text_of(sorting, "by"), text_of(sorting, "queues_max"));
  if (member_of(sorting, "vlan_only") == Json(true)) text += ", by VLAN alone";
  if (member_of(sorting, "restarts") == Json(true)) text += ", stops for a moment when a queue comes or goes";
  const auto reason = text_of(sorting, "reason");
  return reason == "-" ? text : text + ": " + reason;
}

std::string nic_text(const Json& nic) {
  return field_list({{"name", text_of(nic, "name")},
                     {"mac", text_of(nic, "mac")},
                     {"mtu", text_of(nic, "mtu")},
                     {"up", yes_or_no(nic, "up")},
                     {"carrier", yes_or_no(nic, "carrier")},
                     {"driver", text_of(nic, "driver")},
                     {"speed", speed_text(nic)},
                     {"physical", yes_or_no(nic, "physical")},
                     {"pci", pci_text(nic)},
                     {"receive queues", text_of(nic, "queues")},
                     {"hardware", hardware_text(member_of(nic, "hardware"))},
                     {"hardware note", text_of(member_of(nic, "hardware"), "note")},
                     {"sorting", sorting_text(member_of(nic, "sorting"))},
                     {"rx-vlan-offload", offload_text(nic)},
                     {"AF_XDP multi-buffer", yes_or_no(nic, "xdp_multi_buffer")},
                     {"driver auto takes", text_of(nic, "uplink_driver") + ": " + text_of(nic, "uplink_driver_reason")},
                     {"team", text_of(nic, "team")},
                     {"switch", text_of(nic, "switch")},
                     {"state", text_of(nic, "state_reason")}});
}

}  // namespace

std::string nic_table(const Json& nics) {
  Table table(
      {{"NIC"}, {"MAC"}, {"MTU", true}, {"UP"}, {"CARRIER"}, {"SPEED"}, {"DRIVER"}, {"TEAM"}, {"SWITCH"}, {"STATE"}});
  for (const Json& nic : nics) {
    table.add({text_of(nic, "name"), text_of(nic, "mac"), text_of(nic, "mtu"), yes_or_no(nic, "up"),
               yes_or_no(nic, "carrier"), speed_text(nic), text_of(nic, "driver"), text_of(nic, "team"),
               text_of(nic, "switch"), text_of(nic, "state_reason")});
  }
  return table.text("no NICs");
}

void add_nic(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("nic", "Physical NICs");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay nic list");

  auto* list = add_verb(*noun, "list", "List the NICs of this host", "patchbay nic list");
  list->callback(
      [&context] { context.run = [&context] { return ask_and_print(context, {.path = "/v1/nics"}, nic_table); }; });

  auto* show = add_verb(*noun, "show", "Show one NIC", "patchbay nic show eth1");
  auto name = std::make_shared<std::string>();
  add_name(*show, *name, "Kernel name of the NIC, or PCI address of one that the kernel does not drive");
  show->callback([&context, name] {
    context.run = [&context, name] {
      return ask_and_print(context, {.path = "/v1/nics/" + percent_encode(*name)}, nic_text);
    };
  });
}

}  // namespace patchbay::cli
