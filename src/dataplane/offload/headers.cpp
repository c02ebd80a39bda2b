#include "dataplane/offload/headers.h"

#include "base/byte_order.h"
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t ethertype_ipv4 = 0x0800;
constexpr std::uint16_t ethertype_ipv6 = 0x86DD;
constexpr std::uint16_t ipv4_fragment_bits = 0x3FFF;  // more fragments, and the offset

bool is_tag(std::uint16_t type) noexcept {
  return type == tpid_8021q || type == tpid_8021ad || type == tpid_9100;
}

bool parse_ipv4(std::span<const std::uint8_t> head, Headers& headers) noexcept {
  const std::size_t at = headers.network;
  if (head.size() < at + ipv4_header_min || head[at] >> 4 != 4) return false;
  const std::size_t size = std::size_t{head[at] & 0x0FU} * 4;
  if (size < ipv4_header_min || head.size() < at + size) return false;
  headers.protocol = head[at + 9];
  headers.fragment = (load_be16(&head[at + 6]) & ipv4_fragment_bits) != 0;
  headers.transport = static_cast<std::uint16_t>(at + size);
  return true;
}

// Walks over extension headers up to what is none, or is a fragment's.
bool parse_ipv6(std::span<const std::uint8_t> head, Headers& headers) noexcept {
  constexpr std::uint8_t hop_by_hop = 0;
  constexpr std::uint8_t routing = 43;
  constexpr std::uint8_t fragment = 44;
  constexpr std::uint8_t destination = 60;
  constexpr int extensions_max = 8;
  std::size_t at = headers.network;
  if (head.size() < at + ipv6_header || head[at] >> 4 != 6) return false;
  std::uint8_t next = head[at + 6];
  at += ipv6_header;
  for (int i = 0; next == hop_by_hop || next == routing || next == destination; ++i) {
    if (i == extensions_max || head.size() < at + 8) return false;
    next = head[at];
    at += 8 + std::size_t{head[at + 1]} * 8;
  }
  if (at > head.size()) return false;
  headers.protocol = next;
  headers.fragment = next == fragment;
  headers.transport = static_cast<std::uint16_t>(at);
  return true;
}

}  // namespace

std::optional<Headers> parse_headers(std::span<const std::uint8_t> head) noexcept {
  std::size_t at = ethernet_header_size;
  if (head.size() < at) return std::nullopt;
  std::uint16_t type = load_be16(&head[at - 2]);
  for (int tags = 0; tags < 2 && is_tag(type); ++tags) {
    at += vlan_tag_size;
    if (head.size() < at) return std::nullopt;
    type = load_be16(&head[at - 2]);
  }
  Headers headers;
  headers.network = static_cast<std::uint16_t>(at);
  headers.ipv6 = type == ethertype_ipv6;
  const bool parsed = headers.ipv6 ? parse_ipv6(head, headers) : type == ethertype_ipv4 && parse_ipv4(head, headers);
  if (!parsed) return std::nullopt;
  return headers;
}

}  // namespace patchbay::dataplane
