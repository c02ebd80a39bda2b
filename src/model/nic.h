// A physical NIC as the kernel shows it now.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/mac_addr.h"

namespace patchbay::model {

struct Nic {
  std::string name;
  int index = 0;  // of the interface, in this network namespace
  MacAddr mac;
  std::uint32_t mtu = 0;  // layer 3 bytes
  bool up = false;        // administratively
  bool carrier = false;
  std::string driver;                       // kernel driver or link kind ("veth"); empty if unknown
  std::optional<std::uint32_t> speed_mbps;  // nothing if unknown
  bool physical = false;                    // backed by a device; false for veth, tap, bridge, …

  friend bool operator==(const Nic&, const Nic&) = default;
};

}  // namespace patchbay::model
