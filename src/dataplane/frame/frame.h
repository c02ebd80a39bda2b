// A frame on its way through the switch, and a burst of them.
//
// Theory  A frame is its first bytes, contiguous and safe to decide on, and where the rest of it lies. It does not own
//         its bytes and does not say who does: they may be guest memory, a packet ring or a buffer, and stay valid
//         until the port that received them is told complete(). What lies in guest memory may change at any time:
//         decisions look only at `head`, which is a private copy (or lies in memory that no guest can write), and
//         `head` is what is delivered.
// Limits  frame_size_max bytes; burst_max frames; segments_max pieces after the head.
// Threads The worker that received it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/frame/drop_reason.h"

namespace patchbay::dataplane {

inline constexpr std::size_t ethernet_header_size = 14;
inline constexpr std::size_t addresses_size = 12;  // destination and source, before the tag
inline constexpr std::size_t vlan_tag_size = 4;
inline constexpr std::size_t frame_size_max = 65536;  // one piece of TCP segmentation offload with its headers
inline constexpr std::size_t burst_max = 32;
inline constexpr std::size_t head_size_max = 128;  // Ethernet, tag, IPv6 and the longest TCP header: 118 bytes
inline constexpr std::size_t segments_max = 64;    // a Linux guest sends at most 19

inline constexpr std::uint16_t tpid_8021q = 0x8100;
inline constexpr std::uint16_t tpid_8021ad = 0x88A8;
inline constexpr std::uint16_t tpid_9100 = 0x9100;  // double tags before 802.1ad

// struct virtio_net_hdr_v1 (VIRTIO 1.2, 5.1.6). Little endian, as the hosts this is built for. Packet sockets and taps
// use its first vnet_header_size_legacy bytes.
struct VnetHeader {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t hdr_len = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t num_buffers = 0;
};
inline constexpr std::size_t vnet_header_size = 12;
inline constexpr std::size_t vnet_header_size_legacy = 10;
static_assert(sizeof(VnetHeader) == vnet_header_size);

static_assert(alignof(VnetHeader) == 2, "it is copied from and to bytes");

inline constexpr std::uint8_t vnet_needs_csum = 1;
inline constexpr std::uint8_t vnet_gso_none = 0;
inline constexpr std::uint8_t vnet_gso_tcpv4 = 1;
inline constexpr std::uint8_t vnet_gso_tcpv6 = 4;
inline constexpr std::uint8_t vnet_gso_udp_l4 = 5;
inline constexpr std::uint8_t vnet_gso_ecn = 0x80;

// Work that a sender may leave to others, one bit each: what a frame still needs, what the other side of a port does by
// itself, what a guest may ask for.
using Offloads = std::uint8_t;
inline constexpr Offloads offload_checksum = 1;  // of TCP or UDP, or the innermost one of a tunnel
inline constexpr Offloads offload_tso4 = 2;      // cutting of a large piece into frames: TCP over IPv4,
inline constexpr Offloads offload_tso6 = 4;      // TCP over IPv6,
inline constexpr Offloads offload_ecn = 8;       // where the TCP header says CWR,
inline constexpr Offloads offload_uso4 = 16;     // UDP over IPv4, without fragments (USO),
inline constexpr Offloads offload_uso6 = 32;     // UDP over IPv6
// Of a port: it does these behind any headers. Without it behind Ethernet and IP alone (has_plain_headers()), as devices do.
inline constexpr Offloads offload_any_headers = 64;
inline constexpr Offloads offload_all = 127;

// What a frame still needs, judged (offload/needs.h): every number here was held against the frame's own head. Offsets
// count from `head`. They move with it when a tag is taken out.
struct Needs {
  Offloads offloads = 0;          // 0: nothing, the frame is whole
  bool one_id = false;            // of a large piece: all of its frames have its IPv4 id; else they count up from there
  std::uint16_t gso_size = 0;     // of a large piece: payload bytes in each of its frames but the last; else 0
  std::uint16_t header_size = 0;  // of a large piece: bytes before the payload, all in the head
  std::uint16_t csum_start = 0;   // where the checksum's sum starts, and where from there its field is, in the head
  std::uint16_t csum_offset = 0;
};

struct Segment {
  std::uint8_t* data = nullptr;
  std::uint32_t size = 0;
};

// What is to become of a frame; set once, by the first stage that decides.
// flood: to all who hear the VLAN, and the uplink. flood_unknown: to those of them that take in unknown addresses.
enum class Action : std::uint8_t { undecided, drop, unicast, flood, flood_unknown };

struct Frame {
  std::uint8_t* head = nullptr;   // first bytes of the frame, from the destination address on
  std::uint32_t head_size = 0;    // at most `size`
  std::uint32_t size = 0;         // of the whole frame, without FCS
  const Segment* rest = nullptr;  // where the bytes after the head lie: exactly size - head_size of them
  std::uint16_t rest_count = 0;
  std::uint16_t vid = 0;      // VLAN inside the switch; 0: untagged. Valid once the ingress policy has run
  std::uint8_t priority = 0;  // 802.1p, 0 to 7; likewise
  // A tag beside the bytes; tpid 0: none. On the way in: one that the kernel took out. On the way out: one that the port
  // has to put in.
  std::uint16_t tag_tpid = 0;
  std::uint16_t tag_tci = 0;
  Needs needs;
  Action action = Action::undecided;
  DropReason reason = {};    // with Action::drop. All defaults are zeros: a frame is made with a few wide stores
  std::uint32_t target = 0;  // unicast: index of the port in the snapshot
};

inline void drop(Frame& frame, DropReason reason) noexcept {
  frame.action = Action::drop;
  frame.reason = reason;
}

// Bytes of the longest frame that this becomes: of a large piece, what the first frame cut of it will have.
[[nodiscard]] inline std::uint32_t frame_size_of(const Frame& frame) noexcept {
  const Needs& needs = frame.needs;
  return needs.gso_size != 0 ? std::uint32_t{needs.header_size} + needs.gso_size : frame.size;
}

// Bytes on the way out, the tag included.
[[nodiscard]] inline std::uint32_t tagged_size(const Frame& frame) noexcept {
  return frame.size + (frame.tag_tpid != 0 ? static_cast<std::uint32_t>(vlan_tag_size) : 0U);
}

// Room for one burst: the frames, private heads and segment lists for ports that need them. Lists may lie anywhere in
// `segments`, one behind the other.
struct Burst {
  std::array<Frame, burst_max> frames;
  alignas(64) std::array<std::array<std::uint8_t, head_size_max>, burst_max> heads;
  std::array<Segment, segments_max * burst_max> segments;

  [[nodiscard]] std::span<Segment, segments_max> segments_of(std::size_t i) noexcept {
    return std::span<Segment, segments_max>(segments.data() + i * segments_max, segments_max);
  }
};

}  // namespace patchbay::dataplane
