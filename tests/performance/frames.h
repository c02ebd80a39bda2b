// Prepared frames: IPv4 and UDP, complete but for the few bytes that differ from one frame to the next.
//
// Theory  A transmit buffer gets its frame once a run; stamp() then changes UDP ports (the flow), MAC addresses (where
//         asked for) and the stamp. The UDP checksum is 0, which IPv4 allows, so that nothing else follows from that.
// Shape   Ethernet 14, IPv4 20, UDP 8, stamp 16, then bytes that differ from each other: frame_bytes_min to
//         frame_bytes_max in all. Sizes are layer 2 bytes without FCS.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/byte_order.h"
#include "base/mac_addr.h"

namespace patchbay::bench {

inline constexpr std::size_t stamp_offset = 42;  // of the Stamp, from the start of the frame
inline constexpr std::size_t frame_bytes_min = 60;
inline constexpr std::size_t frame_bytes_max = 65535;

// What a receiver judges a frame by. In host byte order: both ends are one program.
struct Stamp {
  std::uint32_t run = 0;       // number of the measurement, so that stragglers are told apart,
  std::uint32_t target = 0;    // and of the vnic that the frame is for
  std::uint32_t sequence = 0;  // per sender, from 0
  std::uint32_t cycles = 0;    // TSC when sent, its low 32 bits: about 1.6 s until they are the same again
};
inline constexpr std::size_t stamp_bytes = 16;
static_assert(sizeof(Stamp) == stamp_bytes);
static_assert(stamp_offset + stamp_bytes <= frame_bytes_min);

// The frame from `source` to `destination`, `size` bytes long, with an empty stamp.
[[nodiscard]] std::vector<std::uint8_t> make_frame(MacAddr source, MacAddr destination, std::size_t size);

struct Flow {
  std::uint32_t number = 0;
  // The last four bytes of the addresses; 0: they stay as they are.
  std::uint32_t source = 0;
  std::uint32_t destination = 0;
};

// Makes the frame at `frame` (of make_frame()) the one of this flow with this stamp.
inline void stamp(std::uint8_t* frame, const Stamp& stamp, const Flow& flow) noexcept {
  constexpr std::uint32_t ports = 60000;
  constexpr std::uint16_t port_min = 1024;
  store_be16(frame + 34, static_cast<std::uint16_t>(port_min + flow.number % ports));
  store_be16(frame + 36, static_cast<std::uint16_t>(port_min + flow.number / ports));
  if (flow.source != 0) store_be32(frame + 8, flow.source);
  if (flow.destination != 0) store_be32(frame + 2, flow.destination);
  std::memcpy(frame + stamp_offset, &stamp, sizeof stamp);
}

[[nodiscard]] inline Stamp stamp_of(const std::uint8_t* frame) noexcept {
  Stamp result;
  std::memcpy(&result, frame + stamp_offset, sizeof result);
  return result;
}

}  // namespace patchbay::bench
