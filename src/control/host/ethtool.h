// What the kernel tells of a NIC only through ethtool's ioctl.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/unique_fd.h"

namespace patchbay::host {

struct EthtoolFacts {
  std::string driver;                       // empty if unknown
  std::optional<std::uint32_t> speed_mbps;  // nothing if unknown
  bool on_a_bus = false;                    // a device on PCI, virtio, USB, … stands behind it
  std::string bus_address;                  // of that device, as its driver writes it: on PCI its address
};

// Facts of the interface `name`, asked through `socket` (any kind), hence in that socket's network namespace.
[[nodiscard]] EthtoolFacts ask_ethtool(const UniqueFd& socket, const std::string& name);

}  // namespace patchbay::host
