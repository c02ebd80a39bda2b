#include "tests/performance/frames.h"

namespace patchbay::bench {
namespace {

constexpr std::size_t ethernet_bytes = 14;
constexpr std::size_t ipv4_bytes = 20;
constexpr std::size_t udp_at = ethernet_bytes + ipv4_bytes;

std::uint16_t ipv4_checksum(const std::uint8_t* header) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < ipv4_bytes; i += 2) sum += load_be16(header + i);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// An IPv4 address in 10.0.0.0/8 that follows from the MAC address.
std::uint32_t address_of(MacAddr mac) {
  return 0x0A000000U | static_cast<std::uint32_t>(mac.to_uint64() & 0xFFFFFF);
}

}  // namespace

std::vector<std::uint8_t> make_frame(MacAddr source, MacAddr destination, std::size_t size) {
  std::vector<std::uint8_t> frame(size);
  std::memcpy(frame.data(), destination.bytes().data(), 6);
  std::memcpy(frame.data() + 6, source.bytes().data(), 6);
  store_be16(frame.data() + 12, 0x0800);
  std::uint8_t* const ip = frame.data() + ethernet_bytes;
  ip[0] = 0x45;
  store_be16(ip + 2, static_cast<std::uint16_t>(size - ethernet_bytes));
  ip[8] = 64;  // time to live
  ip[9] = 17;  // UDP
  store_be32(ip + 12, address_of(source));
  store_be32(ip + 16, address_of(destination));
  store_be16(ip + 10, ipv4_checksum(ip));
  store_be16(frame.data() + udp_at + 4, static_cast<std::uint16_t>(size - udp_at));
  for (std::size_t i = stamp_offset + stamp_bytes; i < size; ++i)
    frame[i] = static_cast<std::uint8_t>(i * 7 + i / 256 + 1);
  return frame;
}

}  // namespace patchbay::bench
