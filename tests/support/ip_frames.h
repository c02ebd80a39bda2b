// TCP and UDP over IP for tests: frames as bytes, written field by field, with checksums by the plain definition.
#pragma once
#include <cstdint>
#include <string>

#include "dataplane/frame/frame.h"
#include "tests/support/frames.h"

namespace patchbay::test {

// RFC 1071, word by word: the sum, not yet inverted.
inline std::uint16_t plain_sum(const std::string& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    sum += static_cast<std::uint32_t>(static_cast<std::uint8_t>(bytes[i])) << (i % 2 == 0 ? 8 : 0);
    sum = (sum & 0xFFFF) + (sum >> 16);
  }
  return static_cast<std::uint16_t>(sum);
}

// One packet, or a large piece of several; each field may be changed.
struct IpFrame {
  bool ipv6 = false;
  bool udp = false;
  std::string destination = "02:00:00:00:00:02";
  std::string source = "02:00:00:00:00:01";
  std::string tags = {};
  std::string ip_options = {};   // IPv4: a multiple of 4 bytes
  std::string tcp_options = {};  // a multiple of 4 bytes
  std::string extension = {};    // IPv6: destination options, a multiple of 8 bytes, from its second byte on
  std::uint16_t id = 0x1234;
  std::uint32_t sequence = 0xFFFFFE00;  // wraps
  std::uint8_t flags = 0x10;            // ACK
  std::string payload = {};

  [[nodiscard]] std::size_t network_at() const { return 14 + tags.size(); }
  [[nodiscard]] std::size_t transport_at() const {
    return network_at() + (ipv6 ? 40 + extension.size() : 20 + ip_options.size());
  }
  [[nodiscard]] std::size_t header_size() const { return transport_at() + (udp ? 8 : 20 + tcp_options.size()); }
  [[nodiscard]] std::size_t checksum_offset() const { return udp ? 6 : 16; }

  // The header of virtio-net that goes with bytes(false).
  [[nodiscard]] dataplane::VnetHeader header(std::uint16_t gso_size = 0) const {
    dataplane::VnetHeader header;
    header.flags = dataplane::vnet_needs_csum;
    header.csum_start = static_cast<std::uint16_t>(transport_at());
    header.csum_offset = static_cast<std::uint16_t>(checksum_offset());
    if (gso_size == 0) return header;
    header.gso_type = udp ? dataplane::vnet_gso_udp_l4 : ipv6 ? dataplane::vnet_gso_tcpv6 : dataplane::vnet_gso_tcpv4;
    header.gso_size = gso_size;
    header.hdr_len = static_cast<std::uint16_t>(header_size());
    return header;
  }

  // The frame; `finished`: with its checksum, else with the sum of the pseudo-header in its place.
  [[nodiscard]] std::string bytes(bool finished = true) const {
    std::string transport = transport_header() + payload;
    const auto length = static_cast<std::uint16_t>(transport.size());
    const std::string addresses = ipv6 ? ipv6_addresses() : ipv4_addresses();
    const std::uint16_t pseudo = plain_sum(addresses + be16(udp ? 17 : 6) + be16(length));
    put(transport, checksum_offset(), pseudo);
    if (finished) {
      const auto checksum = static_cast<std::uint16_t>(~plain_sum(transport));
      put(transport, checksum_offset(), checksum == 0 && udp ? 0xFFFF : checksum);
    }
    return mac_bytes(destination.c_str()) + mac_bytes(source.c_str()) + tags +
           (ipv6 ? ipv6_header(length) : ipv4_header(length)) + transport;
  }

  // Frame `number` of those that this, a large piece, is cut into with `gso_size`.
  [[nodiscard]] IpFrame part(std::size_t number, std::size_t gso_size) const {
    IpFrame part = *this;
    const std::size_t at = number * gso_size;
    part.payload = payload.substr(at, gso_size);
    part.id = static_cast<std::uint16_t>(id + number);
    part.sequence = static_cast<std::uint32_t>(sequence + at);
    const bool last = at + gso_size >= payload.size();
    if (!last) part.flags &= 0xF6;        // FIN and PSH only in the last one
    if (number != 0) part.flags &= 0x7F;  // CWR only in the first one
    return part;
  }
  [[nodiscard]] std::size_t parts(std::size_t gso_size) const { return (payload.size() + gso_size - 1) / gso_size; }

 private:
  static void put(std::string& bytes, std::size_t at, std::uint16_t value) { bytes.replace(at, 2, be16(value)); }
  static std::string ipv4_addresses() { return {10, 77, 0, 1, 10, 77, 0, 2}; }
  static std::string ipv6_addresses() {
    std::string addresses;
    for (char i = 0; i < 32; ++i) addresses.push_back(static_cast<char>(0x20 + i));
    return addresses;
  }
  [[nodiscard]] std::string ipv4_header(std::uint16_t length) const {
    const std::size_t size = 20 + ip_options.size();
    std::string header = {static_cast<char>(0x40 | size / 4), 0};
    header += be16(static_cast<std::uint16_t>(size + length)) + be16(id) + be16(0x4000);
    header += {64, static_cast<char>(udp ? 17 : 6), 0, 0};
    header += ipv4_addresses() + ip_options;
    put(header, 10, static_cast<std::uint16_t>(~plain_sum(header)));
    return be16(0x0800) + header;
  }
  [[nodiscard]] std::string ipv6_header(std::uint16_t length) const {
    std::string header = {0x60, 0, 0, 0};
    const auto protocol = static_cast<char>(udp ? 17 : 6);
    header += be16(static_cast<std::uint16_t>(extension.size() + length));
    header += {extension.empty() ? protocol : char{60}, 64};
    header += ipv6_addresses();
    if (!extension.empty()) header += std::string(1, protocol) + extension.substr(1);
    return be16(0x86DD) + header;
  }
  [[nodiscard]] std::string transport_header() const {
    std::string header = be16(40000) + be16(5201);
    if (udp) return header + be16(static_cast<std::uint16_t>(8 + payload.size())) + be16(0);
    header += be16(static_cast<std::uint16_t>(sequence >> 16)) + be16(static_cast<std::uint16_t>(sequence)) + be16(0) +
              be16(1);
    header += {static_cast<char>((20 + tcp_options.size()) / 4 << 4), static_cast<char>(flags)};
    return header + be16(512) + be16(0) + be16(0) + tcp_options;
  }
};

inline std::string pattern(std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(i * 7 + i / 256));
  return bytes;
}

}  // namespace patchbay::test
