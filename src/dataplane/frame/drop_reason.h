// Why a frame went no further: the closed list. Each port counts each reason; API and CLI show the same names.
#pragma once
#include <cstddef>
#include <cstdint>

namespace patchbay::dataplane {

enum class DropReason : std::uint8_t {
  // Counted at the port that the frame came from:
  bad_descriptor,       // the guest's descriptor chain is malformed or points outside its memory
  frame_too_short,      // less than an Ethernet header
  oversize,             // longer than the switch's MTU allows
  source_multicast,     // the source address is a group address or zero
  source_mac,           // the source address is not this vnic's own, or is pinned to a vnic and came from elsewhere
  vlan_not_allowed,     // tagged where only untagged frames may enter, or with a kind of tag that is not spoken here
  reserved_address,     // 01-80-C2-00-00-0x, never forwarded
  no_destination,       // nobody in this VLAN has the address, or nobody else is in the VLAN
  same_port,            // the destination is where it came from
  reflected,            // a frame of this switch that came back by another member of the team
  wrong_member,         // came in at a member of the team that takes in nothing now, or not what is for this address
  offload_unsupported,  // a 64 KB piece or checksum request of a kind that cannot be completed
  bad_offload,          // a request for a checksum or segmentation that does not fit the frame, or was not negotiated
  kernel_queue_full,    // a piece larger than a slot of the packet ring, for which the kernel had no room beside it
  kernel_ring_full,     // the kernel, or the NIC itself, had no room in its receive ring (counted there)
  // Counted at the port that the frame should have left through:
  buffer_full,     // the guest offered no receive buffer, and the vnic's buffer or the memory for all of them is full
  buffer_expired,  // waited in the vnic's buffer for longer than it may
  buffer_reset,    // waited in the vnic's buffer when the guest reset its device, or went away for too long
  guest_buffer,    // the guest's receive buffers are malformed or too small for the frame
  not_connected,   // nobody is at the other end: no guest, interface down, no carrier
  uplink_refused,  // kernel or driver did not take the frame: queue discipline full, or not for this NIC
};
inline constexpr std::size_t drop_reason_count = static_cast<std::size_t>(DropReason::uplink_refused) + 1;

// The reason's name as it stands in API and CLI.
[[nodiscard]] constexpr const char* to_string(DropReason reason) noexcept {
  constexpr const char* names[drop_reason_count] = {
      "bad_descriptor",   "frame_too_short",     "oversize",       "source_multicast",  "source_mac",
      "vlan_not_allowed", "reserved_address",    "no_destination", "same_port",         "reflected",
      "wrong_member",     "offload_unsupported", "bad_offload",    "kernel_queue_full", "kernel_ring_full",
      "buffer_full",      "buffer_expired",      "buffer_reset",   "guest_buffer",      "not_connected",
      "uplink_refused"};
  return names[static_cast<std::size_t>(reason)];
}

}  // namespace patchbay::dataplane
