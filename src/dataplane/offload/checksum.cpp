#include "dataplane/offload/checksum.h"

#include <cstring>

#include "base/byte_order.h"

namespace patchbay::dataplane {

std::uint64_t checksum_add(std::span<const std::uint8_t> bytes, std::uint64_t sum) noexcept {
  // Summed in memory order, four bytes at a time: the ones' complement sum does not care about the order of bytes as
  // long as it is swapped back at the end (RFC 1071, section 2 B).
  std::uint64_t words = 0;
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    words += word;
  }
  if (i < bytes.size()) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes.data() + i, bytes.size() - i);
    words += word;
  }
  while (words >> 16 != 0) words = (words & 0xFFFF) + (words >> 16);
  return sum + __builtin_bswap16(static_cast<std::uint16_t>(words));
}

std::uint16_t checksum_finish(std::uint64_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

bool complete_checksum(std::span<std::uint8_t> frame, std::size_t start, std::size_t offset) noexcept {
  constexpr std::size_t sctp_checksum_offset = 8;  // TCP: 16, UDP and DCCP: 6, ICMP and GRE: 2 or 4
  if (offset == sctp_checksum_offset) return false;
  if (start > frame.size() || offset > frame.size() - start || frame.size() - start - offset < 2) return false;
  const std::uint16_t checksum = checksum_finish(checksum_add(frame.subspan(start), 0));
  // Zero would say "no checksum" in UDP; its other form says the same everywhere else.
  store_be16(frame.data() + start + offset, checksum == 0 ? 0xFFFF : checksum);
  return true;
}

}  // namespace patchbay::dataplane
