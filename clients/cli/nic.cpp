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
