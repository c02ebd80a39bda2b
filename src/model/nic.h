// A physical NIC as the kernel shows it now: a network interface, or a PCI device that has none.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/mac_addr.h"

namespace patchbay::model {

// What a NIC, or the kernel for it, does to received frames before we see them: it takes VLAN tags out, and merges frames.
// AF_XDP cannot bear either.
enum class NicOffload : std::uint8_t { rx_vlan, rx_vlan_stag, gro };
inline constexpr std::array nic_offloads = {NicOffload::rx_vlan, NicOffload::rx_vlan_stag, NicOffload::gro};
// As `ethtool -k` names them: "rx-vlan-offload", "rx-vlan-stag-hw-parse", "generic-receive-offload".
[[nodiscard]] const char* to_string(NicOffload offload) noexcept;

enum class OffloadState : std::uint8_t { off_fixed, off, on, on_fixed };  // fixed: the driver cannot change it
[[nodiscard]] const char* to_string(OffloadState state) noexcept;         // "off_fixed", …
// The kernel driver that hands a PCI device to DPDK.
inline constexpr const char* dpdk_driver = "vfio-pci";

struct PciDevice {
  std::string address;                // see pci_address.h
  std::string id;                     // vendor and device: "8086:10c9"
  std::string driver;                 // bound to; empty: none
  std::optional<unsigned> numa_node;  // nothing: unknown, or the host has one

  friend bool operator==(const PciDevice&, const PciDevice&) = default;
};

struct Nic {
  std::string name;  // of the interface; of a PCI device without one, its address
  int index = 0;     // of the interface, in this network namespace; 0: there is none
  MacAddr mac;
  std::uint32_t mtu = 0;  // layer 3 bytes
  bool up = false;        // administratively
  bool carrier = false;
  std::string driver;                       // kernel driver or link kind ("veth"); empty if unknown
  std::optional<std::uint32_t> speed_mbps;  // nothing if unknown
  bool physical = false;                    // backed by a device; false for veth, tap, bridge, …
  std::optional<PciDevice> pci;             // the device behind it, if that is on PCI
  // Only of physical ones with an interface:
  unsigned queues = 0;  // receive queues; 0 if unknown
  std::array<OffloadState, nic_offloads.size()> offloads{};
  bool xdp_multi_buffer = false;  // this kernel takes AF_XDP frames over several buffers

  [[nodiscard]] bool has_interface() const noexcept { return index != 0; }
  [[nodiscard]] OffloadState offload(NicOffload which) const noexcept {
    return offloads[static_cast<std::size_t>(which)];
  }

  friend bool operator==(const Nic&, const Nic&) = default;
};

}  // namespace patchbay::model
