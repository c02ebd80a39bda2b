#include "tests/performance/frames.h"

namespace patchbay::bench {
namespace {

constexpr std::size_t ethernet_bytes = 14;
constexpr std::size_t ipv4_bytes = 20;
constexpr std::size_t transport_at = ethernet_bytes + ipv4_bytes;
static_assert(transport_at == ports_offset);
constexpr std::size_t tcp_bytes = piece_header_bytes - transport_at;
constexpr std::uint8_t protocol_udp = 17;
constexpr std::uint8_t protocol_tcp = 6;
constexpr std::uint8_t needs_checksum = 1;     // VIRTIO_NET_HDR_F_NEEDS_CSUM
constexpr std::uint8_t gso_tcp4 = 1;           // VIRTIO_NET_HDR_GSO_TCPV4
constexpr std::uint16_t checksum_offset = 16;  // in a TCP header

std::uint16_t sum_of(const std::uint8_t* words, std::size_t bytes, std::uint32_t sum = 0) noexcept {
  for (std::size_t i = 0; i < bytes; i += 2) sum += load_be16(words + i);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

// An IPv4 address in 10.0.0.0/8 that follows from the MAC address.
std::uint32_t address_of(MacAddr mac) {
  return 0x0A000000U | static_cast<std::uint32_t>(mac.to_uint64() & 0xFFFFFF);
}

std::vector<std::uint8_t> make_ethernet(MacAddr source, MacAddr destination, std::uint16_t type, std::size_t size) {
  std::vector<std::uint8_t> frame(size);
  std::memcpy(frame.data(), destination.bytes().data(), 6);
  std::memcpy(frame.data() + 6, source.bytes().data(), 6);
  store_be16(frame.data() + 12, type);
  return frame;
}

void write_tcp(std::uint8_t* tcp, const std::uint8_t* ip, std::size_t bytes) {
  store_be32(tcp + 4, 1);            // sequence number
  store_be32(tcp + 8, 1);            // acknowledged
  tcp[12] = tcp_bytes / 4 << 4;      // where its data starts
  tcp[13] = 0x18;                    // ACK, PSH
  store_be16(tcp + 14, 0xFFFF);      // window
  store_be32(tcp + 20, 0x0101080A);  // two fillers, then time stamps: RFC 7323, appendix A
  store_be16(tcp + checksum_offset, sum_of(ip + 12, 8, static_cast<std::uint32_t>(protocol_tcp + bytes)));
}

}  // namespace

std::vector<std::uint8_t> make_numbered_frame(MacAddr source, MacAddr destination, std::size_t size) {
  return make_ethernet(source, destination, numbered_ether_type, size);
}

std::vector<std::uint8_t> make_frame(MacAddr source, MacAddr destination, std::size_t size, std::uint16_t gso_size) {
  auto frame = make_ethernet(source, destination, 0x0800, size);
  std::uint8_t* const ip = frame.data() + ethernet_bytes;
  ip[0] = 0x45;
  store_be16(ip + 2, static_cast<std::uint16_t>(size - ethernet_bytes));
  ip[8] = 64;  // time to live
  ip[9] = gso_size != 0 ? protocol_tcp : protocol_udp;
  store_be32(ip + 12, address_of(source));
  store_be32(ip + 16, address_of(destination));
  store_be16(ip + 10, static_cast<std::uint16_t>(~sum_of(ip, ipv4_bytes)));
  std::uint8_t* const transport = frame.data() + transport_at;
  if (gso_size != 0) {
    write_tcp(transport, ip, size - transport_at);
  } else {
    store_be16(transport + 4, static_cast<std::uint16_t>(size - transport_at));
  }
  for (std::size_t i = stamp_offset(gso_size) + stamp_bytes; i < size; ++i)
    frame[i] = static_cast<std::uint8_t>(i * 7 + i / 256 + 1);
  return frame;
}

std::array<std::uint8_t, net_header_bytes> make_net_header(std::uint16_t gso_size) {
  std::array<std::uint8_t, net_header_bytes> header{};
  if (gso_size == 0) return header;
  header[0] = needs_checksum;
  header[1] = gso_tcp4;
  // The header is little-endian, as is every machine that this runs on (tsc.h).
  const std::array<std::uint16_t, 4> words = {piece_header_bytes, gso_size, transport_at, checksum_offset};
  std::memcpy(header.data() + 2, words.data(), sizeof words);
  return header;
}

bool is_net_header_intact(const std::uint8_t* header, std::uint16_t gso_size) noexcept {
  const auto wanted = make_net_header(gso_size);
  constexpr std::size_t gso_size_at = 4;
  constexpr std::size_t checksum_at = 6;
  if (header[1] != wanted[1] || std::memcmp(header + gso_size_at, &wanted[gso_size_at], 2) != 0) return false;
  return (header[0] & needs_checksum) == 0 || std::memcmp(header + checksum_at, &wanted[checksum_at], 4) == 0;
}

bool has_pseudo_checksum(const std::uint8_t* frame, std::size_t size) noexcept {
  const std::uint16_t found = load_be16(frame + piece_checksum_offset);
  const std::uint8_t* const addresses = frame + ethernet_bytes + 12;
  return found == sum_of(addresses, 8, static_cast<std::uint32_t>(protocol_tcp + size - transport_at)) ||
         found == sum_of(addresses, 8, protocol_tcp);
}

}  // namespace patchbay::bench
