#include "dataplane/offload/segmenter.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"
#include "dataplane/offload/checksum.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t ethertype_ipv4 = 0x0800;
constexpr std::uint16_t ethertype_ipv6 = 0x86DD;
constexpr std::uint8_t protocol_tcp = 6;
constexpr std::uint8_t protocol_udp = 17;
constexpr std::size_t ipv4_header_min = 20;
constexpr std::size_t ipv6_header = 40;
constexpr std::size_t tcp_header_min = 20;
constexpr std::size_t udp_header = 8;
constexpr std::uint8_t tcp_fin = 0x01;
constexpr std::uint8_t tcp_psh = 0x08;
constexpr std::uint8_t tcp_cwr = 0x80;

bool is_tag(std::uint16_t type) noexcept {
  return type == tpid_8021q || type == tpid_8021ad || type == tpid_9100;
}

// Walks over IPv6 extension headers; the transport header's offset, or 0 if `wanted` is not found.
std::size_t skip_extensions(std::span<const std::uint8_t> piece, std::size_t at, std::uint8_t next,
                            std::uint8_t wanted) noexcept {
  constexpr std::uint8_t hop_by_hop = 0;
  constexpr std::uint8_t routing = 43;
  constexpr std::uint8_t destination = 60;
  for (int i = 0; i < 8; ++i) {
    if (next == wanted) return at;
    if (next != hop_by_hop && next != routing && next != destination) return 0;
    if (at + 8 > piece.size()) return 0;
    next = piece[at];
    at += 8 + std::size_t{piece[at + 1]} * 8;
  }
  return 0;
}

}  // namespace

bool Segmenter::begin(std::span<std::uint8_t> piece, const VnetHeader& header) noexcept {
  payload_ = {};
  offset_ = 0;
  number_ = 0;
  const auto type = static_cast<std::uint8_t>(header.gso_type & ~vnet_gso_ecn);
  if (type != vnet_gso_tcpv4 && type != vnet_gso_tcpv6 && type != vnet_gso_udp_l4) return false;
  udp_ = type == vnet_gso_udp_l4;
  if (header.gso_size == 0 || !parse(piece)) return false;
  if (!udp_ && ipv6_ != (type == vnet_gso_tcpv6)) return false;
  const std::size_t header_size = transport_ + (udp_ ? udp_header : std::size_t{piece[transport_ + 12U]} >> 4 << 2);
  if (header_size > head_size_max || header_size >= piece.size()) return false;
  if (!udp_ && header_size < transport_ + tcp_header_min) return false;
  piece_ = piece;
  payload_ = piece.subspan(header_size);
  payload_size_max_ = header.gso_size;
  return true;
}

bool Segmenter::parse(std::span<const std::uint8_t> piece) noexcept {
  std::size_t at = ethernet_header_size;
  if (piece.size() < at) return false;
  std::uint16_t type = load_be16(&piece[at - 2]);
  for (int tags = 0; tags < 2 && is_tag(type); ++tags) {
    at += vlan_tag_size;
    if (piece.size() < at) return false;
    type = load_be16(&piece[at - 2]);
  }
  const std::uint8_t wanted = udp_ ? protocol_udp : protocol_tcp;
  network_ = static_cast<std::uint16_t>(at);
  ipv6_ = type == ethertype_ipv6;
  std::size_t transport = 0;
  if (type == ethertype_ipv4) {
    if (piece.size() < at + ipv4_header_min || piece[at + 9] != wanted) return false;
    const std::size_t ihl = std::size_t{piece[at] & 0x0FU} * 4;
    if (ihl < ipv4_header_min) return false;
    transport = at + ihl;
  } else if (ipv6_) {
    if (piece.size() < at + ipv6_header) return false;
    transport = skip_extensions(piece, at + ipv6_header, piece[at + 6], wanted);
  }
  if (transport == 0 || piece.size() < transport + (udp_ ? udp_header : tcp_header_min)) return false;
  transport_ = static_cast<std::uint16_t>(transport);
  return true;
}

void Segmenter::next(Frame& frame, std::span<std::uint8_t, head_size_max> head, Segment& segment) noexcept {
  const std::size_t header_size = piece_.size() - payload_.size();
  const auto size = static_cast<std::uint32_t>(std::min<std::size_t>(payload_size_max_, payload_.size() - offset_));
  segment = {payload_.data() + offset_, size};
  std::memcpy(head.data(), piece_.data(), header_size);
  const auto headers = head.first(header_size);
  fix_network(headers, size);
  fix_transport(headers, segment, offset_ + size == payload_.size());
  frame = Frame{};
  frame.head = head.data();
  frame.head_size = static_cast<std::uint32_t>(header_size);
  frame.size = static_cast<std::uint32_t>(header_size) + size;
  frame.rest = &segment;
  frame.rest_count = 1;
  offset_ += size;
  ++number_;
}

void Segmenter::fix_network(std::span<std::uint8_t> head, std::uint32_t payload_size) const noexcept {
  std::uint8_t* const ip = head.data() + network_;
  const std::size_t size = head.size() - network_ + payload_size;
  if (ipv6_) return store_be16(ip + 4, static_cast<std::uint16_t>(size - ipv6_header));
  store_be16(ip + 2, static_cast<std::uint16_t>(size));
  store_be16(ip + 4, static_cast<std::uint16_t>(load_be16(ip + 4) + number_));
  store_be16(ip + 10, 0);
  store_be16(ip + 10, checksum_finish(checksum_add(head.subspan(network_, std::size_t{ip[0] & 0x0FU} * 4), 0)));
}

void Segmenter::fix_transport(std::span<std::uint8_t> head, const Segment& payload, bool last) const noexcept {
  std::uint8_t* const header = head.data() + transport_;
  const std::size_t size = head.size() - transport_ + payload.size;
  std::uint8_t* checksum_at = nullptr;
  if (udp_) {
    store_be16(header + 4, static_cast<std::uint16_t>(size));
    checksum_at = header + 6;
  } else {
    store_be32(header + 4, load_be32(header + 4) + static_cast<std::uint32_t>(offset_));
    if (!last) header[13] = static_cast<std::uint8_t>(header[13] & ~(tcp_fin | tcp_psh));
    if (number_ != 0) header[13] = static_cast<std::uint8_t>(header[13] & ~tcp_cwr);
    checksum_at = header + 16;
  }
  store_be16(checksum_at, 0);
  // Pseudo-header: addresses, length and protocol. A routing header's final destination is not looked at: kernels do
  // not offload segmentation of such packets.
  const auto addresses = ipv6_ ? head.subspan(network_ + 8U, 32) : head.subspan(network_ + 12U, 8);
  std::uint64_t sum = checksum_add(addresses, size + (udp_ ? protocol_udp : protocol_tcp));
  // The header has an even size, so the payload's sum may simply follow.
  sum = checksum_add(head.subspan(transport_), sum);
  sum = checksum_add({payload.data, payload.size}, sum);
  const std::uint16_t checksum = checksum_finish(sum);
  store_be16(checksum_at, checksum == 0 && udp_ ? 0xFFFF : checksum);
}

}  // namespace patchbay::dataplane
