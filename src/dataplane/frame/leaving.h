// A frame as it leaves the switch: its bytes, with the tag that its port puts in.
//
// Theory  The tag stands between the addresses and the type; whoever writes the frame, into a guest's buffers, mbufs, chunks
//         or I/O vectors, gets it in stretches, in order, and need not know of tags.
//         What is still to be done to it goes along in a virtio-net header, in which the tag counts.
// Source  IEEE 802.1Q-2018, 9.3; VIRTIO 1.2, section 5.1.6.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/byte_order.h"
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

using TagBytes = std::array<std::uint8_t, vlan_tag_size>;
inline constexpr std::size_t stretches_max =
    4 + segments_max;  // of a frame: addresses, tag, the head's rest, the rest (Parcel: one more)

// Calls stretch(const std::uint8_t* data, std::uint32_t size) for each stretch of `frame`: tagged_size(frame) bytes in all,
// in at most stretches_max. The tag is written to `tag`, which has to live as long as the stretches are looked at.
template <typename Stretch>
void for_each_stretch(const Frame& frame, TagBytes& tag, Stretch stretch) noexcept {
  if (frame.tag_tpid != 0) {
    store_be16(tag.data(), frame.tag_tpid);
    store_be16(tag.data() + 2, frame.tag_tci);
    stretch(frame.head, static_cast<std::uint32_t>(addresses_size));
    stretch(tag.data(), static_cast<std::uint32_t>(tag.size()));
    stretch(frame.head + addresses_size, frame.head_size - static_cast<std::uint32_t>(addresses_size));
  } else {
    stretch(frame.head, frame.head_size);
  }
  for (std::size_t i = 0; i < frame.rest_count; ++i) stretch(frame.rest[i].data, frame.rest[i].size);
}

// The virtio-net header that says what `frame` still needs, as it leaves. num_buffers is left to the caller.
[[nodiscard]] inline VnetHeader leaving_header(const Frame& frame) noexcept {
  VnetHeader header;
  const Needs& needs = frame.needs;
  if (needs.offloads == 0) return header;
  const auto tag = static_cast<std::uint16_t>(frame.tag_tpid != 0 ? vlan_tag_size : 0);
  header.flags = vnet_needs_csum;
  header.csum_start = static_cast<std::uint16_t>(needs.csum_start + tag);
  header.csum_offset = needs.csum_offset;
  if (needs.gso_size == 0) return header;
  header.gso_size = needs.gso_size;
  header.hdr_len = static_cast<std::uint16_t>(needs.header_size + tag);
  if ((needs.offloads & offload_tso4) != 0) header.gso_type = vnet_gso_tcpv4;
  if ((needs.offloads & offload_tso6) != 0) header.gso_type = vnet_gso_tcpv6;
  if ((needs.offloads & (offload_uso4 | offload_uso6)) != 0) header.gso_type = vnet_gso_udp_l4;
  if ((needs.offloads & offload_ecn) != 0) header.gso_type |= vnet_gso_ecn;
  return header;
}

}  // namespace patchbay::dataplane
