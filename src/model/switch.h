// A virtual switch as the administrator means it: External (exactly one uplink), Internal (VMs and the host) or Private
// (VMs only).
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/vlan_id.h"
#include "model/buffer.h"
#include "model/uplink_driver.h"

namespace patchbay::model {

enum class SwitchType : std::uint8_t { external, internal, private_ };
[[nodiscard]] const char* to_string(SwitchType type) noexcept;  // "external", "internal", "private"

inline constexpr std::uint16_t mtu_min = 576;
inline constexpr std::uint16_t mtu_max = 9000;
inline constexpr std::uint16_t mtu_default = 1500;

struct Switch {
  std::string name;  // see name.h
  SwitchType type = SwitchType::private_;
  std::string uplink;                         // External: a NIC, by kernel name or PCI address; else empty
  std::optional<VlanId> force_vlan;           // every vnic of the switch is in this VLAN
  std::uint16_t mtu = mtu_default;            // layer 3 bytes
  std::string share_with_host = {};           // External: the host vnic that has the NIC's addresses; empty: none
  UplinkDriver driver = UplinkDriver::auto_;  // External: how the uplink moves frames; else auto_
  bool gro = true;                            // External: frames of the wire may be merged to large pieces; else true
  BufferSettings buffer = {};                 // of its guest vnics that do not say otherwise

  friend bool operator==(const Switch&, const Switch&) = default;
};

}  // namespace patchbay::model
