#include "control/reconcile/pci_nics.h"

#include <fmt/format.h>

#include "model/pci_address.h"

namespace patchbay::reconcile {
namespace {

// The address of the device behind a NIC; empty if it is not on PCI.
std::string device_of(const std::string& nic, const Nics& nics) {
  if (model::is_pci_address(nic)) return nic;
  const auto found = nics.find(nic);
  return found == nics.end() || !found->second.pci ? "" : found->second.pci->address;
}

}  // namespace

const model::Nic* interface_of(const std::string& address, const Nics& nics) {
  for (const auto& [name, nic] : nics) {
    if (nic.has_interface() && nic.pci && nic.pci->address == address) return &nic;
  }
  return nullptr;
}

std::string why_not_for_dpdk(const model::Nic& nic) {
  if (nic.driver == model::dpdk_driver) return "";
  if (nic.driver.empty()) return fmt::format("it has no driver: bind it to {}", model::dpdk_driver);
  return fmt::format("it is bound to {}: bind it to {}", nic.driver, model::dpdk_driver);
}

Error no_such_nic(const std::string& name, const Nics& nics) {
  if (const auto* nic = interface_of(name, nics); nic != nullptr) {
    return make_error(ErrorCode::in_use,
                      fmt::format("nic {} is bound to {} (kernel interface {}): use {}, or bind it to {}", name,
                                  nic->driver, nic->name, nic->name, model::dpdk_driver));
  }
  return make_error(ErrorCode::not_found,
                    fmt::format("nic {} does not exist; `patchbay nic list` shows what there is", name));
}

Error nothing_to_share(const std::string& switch_name, const std::string& nic) {
  return make_error(ErrorCode::invalid,
                    fmt::format("switch {}: the kernel has no interface for nic {}, so the host has nothing there to "
                                "share; leave --share-with-host out, and create a host vnic",
                                switch_name, nic));
}

Result<void> check_other_name(const model::Host& host, const std::string& nic, const Nics& nics) {
  const std::string device = device_of(nic, nics);
  if (device.empty()) return {};
  for (const auto& [name, other] : host.switches) {
    if (other.uplink == nic || device_of(other.uplink, nics) != device) continue;
    return fail(ErrorCode::exists,
                fmt::format("nic {} is the same device as {}, which carries the external switch {} already; a NIC "
                            "carries one: use another NIC, or put the vnics on {}",
                            nic, other.uplink, name, name));
  }
  for (const auto& [name, team] : host.teams) {
    for (const std::string& member : team.nics) {
      if (member == nic || device_of(member, nics) != device) continue;
      return fail(ErrorCode::exists, fmt::format("nic {} is the same device as {}, which is in team {} already; use "
                                                 "another NIC, or take it out of that team first",
                                                 nic, member, name));
    }
  }
  return {};
}

}  // namespace patchbay::reconcile
