// Rules about NICs that are PCI devices: one device has two names, its address and, while a network driver has it, that of
// its interface; only one of them works at a time.
//
// Threads pure functions.
#pragma once
#include <map>
#include <string>

#include "base/result.h"
#include "model/host.h"
#include "model/nic.h"

namespace patchbay::reconcile {

using Nics = std::map<std::string, model::Nic>;  // by name

// Why `nic`, a PCI device without an interface, cannot be driven by DPDK, and the way out; empty: it can.
[[nodiscard]] std::string why_not_for_dpdk(const model::Nic& nic);

// The interface of the PCI device `address`; null if it has none here.
[[nodiscard]] const model::Nic* interface_of(const std::string& address, const Nics& nics);

// What is wrong with `name` as a NIC that is to be used, when `nics` has none of that name. Errors: not_found, in_use (it
// is a PCI address whose device has an interface).
[[nodiscard]] Error no_such_nic(const std::string& name, const Nics& nics);

// That the host is to share `nic`, a PCI device without an interface.
[[nodiscard]] Error nothing_to_share(const std::string& switch_name, const std::string& nic);

// Refuses `nic` if its device is in use under its other name, as the uplink of a switch of `host` or in a team.
// Errors: exists.
[[nodiscard]] Result<void> check_other_name(const model::Host& host, const std::string& nic, const Nics& nics);

}  // namespace patchbay::reconcile
