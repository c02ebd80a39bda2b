// Which flow a frame belongs to, as a number: frames of one flow have the same one, so whoever chooses by it keeps them
// in order.
//
// Theory  A flow is the addresses of an IP packet, with the ports if it is TCP or UDP and no fragment: of a datagram that
//         was cut only the first fragment has ports, and all of them have to go one way. Anything else is told apart by
//         its MAC addresses and its VLAN. Only the frame's private head is looked at. The number is mixed well, but it is
//         no secret: who sends frames can choose flows that all have the same one, and gets what it asks for.
// Threads any.
#pragma once
#include <cstddef>
#include <cstdint>

#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

[[nodiscard]] std::uint32_t flow_of(const Frame& frame) noexcept;

// One of `count` (not 0) things for a flow: the same one as long as the count stays.
[[nodiscard]] constexpr std::size_t share_of(std::uint32_t flow, std::size_t count) noexcept {
  return static_cast<std::size_t>((std::uint64_t{flow} * count) >> 32);
}

// The pair, of those in `pairs` (a bit for each, not 0), that a frame goes to.
[[nodiscard]] std::size_t pair_of(const Frame& frame, std::uint8_t pairs) noexcept;

}  // namespace patchbay::dataplane
