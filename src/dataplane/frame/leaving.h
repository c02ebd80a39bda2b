// A frame as it leaves the switch: its bytes, with the tag that its port puts in.
//
// Theory  The tag stands between the addresses and the type; whoever writes the frame, into a guest's buffers, mbufs, chunks
//         or I/O vectors, gets it in stretches, in order, and need not know of tags.
// Source  IEEE 802.1Q-2018, 9.3.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/byte_order.h"
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

using TagBytes = std::array<std::uint8_t, vlan_tag_size>;
inline constexpr std::size_t stretches_max = 3 + segments_max;  // of a frame: addresses, tag, the head's rest, the rest

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

}  // namespace patchbay::dataplane
