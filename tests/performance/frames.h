// Prepared frames: IPv4 with UDP or TCP, complete but for the few bytes that differ from one frame to the next.
//
// Theory  A transmit buffer gets its frame once a run; stamp() then changes UDP ports (the flow), MAC addresses (where
//         asked for) and the stamp. The UDP checksum is 0, which IPv4 allows, so that nothing else follows from that.
//         A TCP piece is what a guest with segmentation offload sends: many segments under one header, its checksum
//         that of the pseudo header only; what is to be done with it stands in the virtio-net header before it.
// Shape   Ethernet 14, IPv4 20, UDP 8 or TCP 32 (with time stamps, as Linux sends), stamp 16, then bytes that differ from
//         each other: frame_bytes_min to frame_bytes_max in all. Sizes are layer 2 bytes without FCS.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/byte_order.h"
#include "base/mac_addr.h"

namespace patchbay::bench {

inline constexpr std::size_t ports_offset = 34;        // of the UDP or TCP ports, from the start of the frame,
inline constexpr std::size_t udp_stamp_offset = 42;    // of the Stamp,
inline constexpr std::size_t piece_header_bytes = 66;  // and of the Stamp of a TCP piece, which follows its headers
inline constexpr std::size_t frame_bytes_min = 60;
inline constexpr std::size_t net_header_bytes = 12;  // virtio-net, with num_buffers in its last two bytes
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
static_assert(udp_stamp_offset + stamp_bytes <= frame_bytes_min);

// The frame from `source` to `destination`, `size` bytes long, with an empty stamp. `gso_size`: 0 for UDP; else a TCP
// piece, to be cut into segments with so much payload each.
[[nodiscard]] std::vector<std::uint8_t> make_frame(MacAddr source, MacAddr destination, std::size_t size,
                                                   std::uint16_t gso_size = 0);

// The virtio-net header that belongs before it.
[[nodiscard]] std::array<std::uint8_t, net_header_bytes> make_net_header(std::uint16_t gso_size);

// Whether a received header still says that: a piece of the same segments, whose checksum is yet to be completed in the
// same place (or was looked at already). The count of buffers is not looked at.
[[nodiscard]] bool is_net_header_intact(const std::uint8_t* header, std::uint16_t gso_size) noexcept;

[[nodiscard]] constexpr std::size_t stamp_offset(std::uint16_t gso_size) noexcept {
  return gso_size != 0 ? piece_header_bytes : udp_stamp_offset;
}
// The fewest bytes of a frame of that kind.
[[nodiscard]] constexpr std::size_t frame_bytes_least(std::uint16_t gso_size) noexcept {
  return gso_size != 0 ? piece_header_bytes + stamp_bytes : frame_bytes_min;
}

// Whether the checksum of a TCP piece of `size` bytes is that of its pseudo header: with the length, as it was sent, or
// without, as DPDK keeps it for NICs that cut. A guest that gets a piece does not look at it.
[[nodiscard]] bool has_pseudo_checksum(const std::uint8_t* frame, std::size_t size) noexcept;
inline constexpr std::size_t piece_checksum_offset = 50;

// Frames with nothing but a number, as tools/lab/guest_numbers.c counts them inside a guest: any size from 62.
[[nodiscard]] std::vector<std::uint8_t> make_numbered_frame(MacAddr source, MacAddr destination, std::size_t size);
inline constexpr std::uint16_t numbered_ether_type = 0x88B5;  // IEEE 802, local experiments
inline constexpr std::size_t number_offset = 14;
inline constexpr std::size_t numbered_bytes_min = 62;

struct Flow {
  std::uint32_t number = 0;
  // The last four bytes of the addresses; 0: they stay as they are.
  std::uint32_t source = 0;
  std::uint32_t destination = 0;
};

// Makes the frame at `frame` (of make_frame()) the one of this flow with this stamp at offset `at`.
inline void stamp(std::uint8_t* frame, std::size_t at, const Stamp& stamp, const Flow& flow) noexcept {
  constexpr std::uint32_t ports = 60000;
  constexpr std::uint16_t port_min = 1024;
  store_be16(frame + ports_offset, static_cast<std::uint16_t>(port_min + flow.number % ports));
  store_be16(frame + ports_offset + 2, static_cast<std::uint16_t>(port_min + flow.number / ports));
  if (flow.source != 0) store_be32(frame + 8, flow.source);
  if (flow.destination != 0) store_be32(frame + 2, flow.destination);
  std::memcpy(frame + at, &stamp, sizeof stamp);
}

[[nodiscard]] inline Stamp stamp_of(const std::uint8_t* frame, std::size_t at) noexcept {
  Stamp result;
  std::memcpy(&result, frame + at, sizeof result);
  return result;
}

}  // namespace patchbay::bench
