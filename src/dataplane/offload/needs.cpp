#include "dataplane/offload/needs.h"

#include <algorithm>
#include <optional>
#include <span>

#include "dataplane/offload/checksum.h"
#include "dataplane/offload/headers.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t tcp_checksum_at = 16;
constexpr std::uint16_t udp_checksum_at = 6;
constexpr std::size_t tcp_flags_at = 13;
constexpr std::uint8_t tcp_never_cut = 0x02 | 0x04 | 0x20;  // SYN, RST, URG
constexpr std::uint8_t tcp_cwr = 0x80;

std::optional<Offloads> offload_of(std::uint8_t gso_type, bool ipv6) noexcept {
  switch (gso_type) {
    case vnet_gso_none:
      return Offloads{0};
    case vnet_gso_tcpv4:
      return offload_tso4;
    case vnet_gso_tcpv6:
      return offload_tso6;
    case vnet_gso_udp_l4:
      return ipv6 ? offload_uso6 : offload_uso4;
    default:
      return std::nullopt;
  }
}

// Whether the checksum can be where the header says: at its place in TCP or UDP, or further in where these are not what
// IP carries, or are a tunnel. Never in what stands before that.
bool checksum_fits(const Headers& headers, const VnetHeader& header) noexcept {
  constexpr std::uint8_t protocol_sctp = 132;  // has another kind of checksum
  if (headers.fragment) return false;
  switch (headers.protocol) {
    case protocol_tcp:
      return header.csum_start == headers.transport && header.csum_offset == tcp_checksum_at;
    case protocol_udp:
      return (header.csum_start == headers.transport && header.csum_offset == udp_checksum_at) ||
             header.csum_start >= headers.transport + udp_header;
    case protocol_sctp:
      return false;
    default:
      return header.csum_start >= headers.transport;
  }
}

// A piece to be cut. What fits one frame is none, and needs only its checksum.
void take_piece(Frame& frame, const Headers& headers, std::uint16_t gso_size) noexcept {
  Needs& needs = frame.needs;
  const std::uint8_t* const transport = frame.head + headers.transport;
  const bool udp = (needs.offloads & (offload_uso4 | offload_uso6)) != 0;
  const bool ipv6 = (needs.offloads & (offload_tso6 | offload_uso6)) != 0;
  const bool right_kind = headers.protocol == (udp ? protocol_udp : protocol_tcp) && headers.ipv6 == ipv6;
  if (!right_kind || needs.csum_start != headers.transport || gso_size == 0)
    return drop(frame, DropReason::bad_offload);
  // That the checksum's field lies in the head means that the TCP header's length and flags do.
  const std::size_t transport_size = udp ? udp_header : std::size_t{transport[12]} >> 4 << 2;
  if (!udp && (transport_size < tcp_header_min || (transport[tcp_flags_at] & tcp_never_cut) != 0)) {
    return drop(frame, DropReason::bad_offload);
  }
  const std::size_t header_size = headers.transport + transport_size;
  if (header_size > frame.size) return drop(frame, DropReason::bad_offload);
  const std::size_t payload = frame.size - header_size;
  if (payload <= gso_size) {
    needs.offloads = offload_checksum;
    return;
  }
  const bool in_head = header_size <= std::min<std::size_t>(frame.head_size, head_size_max);
  const std::size_t frames = (payload + gso_size - 1) / gso_size;
  if (!in_head || frames > frames_cut_max || frame.rest_count >= segments_max) {
    return drop(frame, DropReason::offload_unsupported);
  }
  needs.gso_size = gso_size;
  needs.header_size = static_cast<std::uint16_t>(header_size);
  if (!udp && (transport[tcp_flags_at] & tcp_cwr) != 0) needs.offloads |= offload_ecn;
}

}  // namespace

void take_needs(Frame& frame, const VnetHeader& header, Offloads allowed) noexcept {
  const bool checksum = (header.flags & vnet_needs_csum) != 0;
  if (!checksum && header.gso_type == vnet_gso_none) return;
  if (!checksum) return drop(frame, DropReason::bad_offload);
  const auto headers = parse_headers({frame.head, frame.head_size});
  if (!headers || !checksum_fits(*headers, header)) return drop(frame, DropReason::bad_offload);
  const bool ecn = (header.gso_type & vnet_gso_ecn) != 0;
  const auto cut = offload_of(static_cast<std::uint8_t>(header.gso_type & ~vnet_gso_ecn), headers->ipv6);
  if (!cut) return drop(frame, DropReason::offload_unsupported);
  const auto wanted = static_cast<Offloads>(offload_checksum | *cut | (ecn ? offload_ecn : 0));
  if ((wanted & ~allowed) != 0) return drop(frame, DropReason::bad_offload);

  const std::uint32_t field_end = std::uint32_t{header.csum_start} + header.csum_offset + 2;
  if (field_end > frame.size) return drop(frame, DropReason::bad_offload);
  if (field_end > std::min<std::size_t>(frame.head_size, head_size_max)) {
    return drop(frame, DropReason::offload_unsupported);
  }
  frame.needs.offloads = static_cast<Offloads>(offload_checksum | *cut);
  frame.needs.csum_start = header.csum_start;
  frame.needs.csum_offset = header.csum_offset;
  if (*cut != 0) take_piece(frame, *headers, header.gso_size);
}

void take_needs_of_kernel(Frame& frame, const VnetHeader& header) noexcept {
  take_needs(frame, header, offload_all);
  if (frame.action != Action::drop || header.gso_type != vnet_gso_none) return;
  if (!complete_checksum({frame.head, frame.size}, header.csum_start, header.csum_offset)) {
    return drop(frame, DropReason::offload_unsupported);
  }
  frame.action = Action::undecided;
  frame.needs = {};
}

bool has_plain_headers(const Frame& frame) noexcept {
  const auto headers = parse_headers({frame.head, frame.head_size});
  if (!headers || headers->network != ethernet_header_size || frame.needs.csum_start != headers->transport)
    return false;
  if (headers->protocol != protocol_tcp && headers->protocol != protocol_udp) return false;
  return !headers->ipv6 || headers->transport == headers->network + ipv6_header;
}

}  // namespace patchbay::dataplane
