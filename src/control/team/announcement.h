// What is said when an address is to be found at another member: in which VLANs, by which frame.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/mac_addr.h"
#include "model/vlan.h"

namespace patchbay::team {

// Of a trunk, so many of its VLANs are told at most, beside the native one: the lowest.
inline constexpr std::size_t announced_vlans_max = 64;

// Ethernet frame, of 60 bytes or 64 with the tag; `vid` 0: no tag.
[[nodiscard]] std::vector<std::uint8_t> announcement(MacAddr mac, std::uint16_t vid);
// The VLANs in which frames of a vnic of this mode leave; 0: without a tag.
[[nodiscard]] std::vector<std::uint16_t> sending_vlans(const model::VlanMode& mode);

}  // namespace patchbay::team
