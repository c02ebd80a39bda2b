// The host's PCI Ethernet devices, which need not have a network interface: those given to DPDK have none.
//
// Theory  sysfs says what there is; the kernel's uevents say when to look again.
// Limits  pci_devices_max devices are read.
// Threads control's only.
// Source  sysfs: Documentation/ABI/testing/sysfs-bus-pci; uevents: NETLINK_KOBJECT_UEVENT, netlink(7).
#pragma once
#include <map>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "model/nic.h"

namespace patchbay::host {

inline constexpr std::size_t pci_devices_max = 65536;

// By address. `devices`: the directory with a link for each device. Devices that go while they are read are left out.
[[nodiscard]] std::map<std::string, model::PciDevice> scan_pci(const std::string& devices = "/sys/bus/pci/devices");

// Whether the kernel has no network driver for `device` at work: DPDK can have it, now or once it is bound to vfio-pci.
[[nodiscard]] bool is_left_to_dpdk(const model::PciDevice& device) noexcept;

// A socket that is readable when a device came, went, or changed its driver. Errors: no_resource, internal.
[[nodiscard]] Result<UniqueFd> open_uevents();
// Reads all that waits. True if something of it was about PCI, or was lost.
[[nodiscard]] bool take_uevents(const UniqueFd& socket);

}  // namespace patchbay::host
