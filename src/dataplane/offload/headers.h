// Where the headers of a frame are: what offloads have to know of it.
//
// Theory  Reads bytes that nobody can change meanwhile, and says nothing that is not inside them.
// Limits  Two VLAN tags; eight IPv6 extension headers. Anything but IP has no headers here.
// Source  RFC 791; RFC 8200, section 4.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

namespace patchbay::dataplane {

inline constexpr std::uint8_t protocol_tcp = 6;
inline constexpr std::uint8_t protocol_udp = 17;
inline constexpr std::size_t ipv4_header_min = 20;
inline constexpr std::size_t ipv6_header = 40;
inline constexpr std::size_t tcp_header_min = 20;
inline constexpr std::size_t udp_header = 8;

struct Headers {
  std::uint16_t network = 0;    // where the IP header starts
  std::uint16_t transport = 0;  // where what follows it, and its extensions, starts; inside the bytes, or at their end
  std::uint8_t protocol = 0;    // of that
  bool ipv6 = false;
  bool fragment = false;  // of an IP packet that was cut: no transport header, or not all of it
};

// The headers of the frame that starts with `head`; nothing if it is not IP, or `head` ends within the IP header.
[[nodiscard]] std::optional<Headers> parse_headers(std::span<const std::uint8_t> head) noexcept;

}  // namespace patchbay::dataplane
