#include "dataplane/offload/checksum.h"

#include <cstring>

#include "base/byte_order.h"

namespace patchbay::dataplane {
namespace {

// Zero would say "no checksum" in UDP; its other form says the same everywhere else.
void store_checksum(std::uint8_t* at, std::uint64_t sum) noexcept {
  const std::uint16_t checksum = checksum_finish(sum);
  store_be16(at, checksum == 0 ? 0xFFFF : checksum);
}

}  // namespace

std::uint64_t checksum_add(std::span<const std::uint8_t> bytes, std::uint64_t sum) noexcept {
  // Summed in memory order, four bytes at a time: the ones' complement sum does not care about the order of bytes as
  // long as it is swapped back at the end (RFC 1071, section 2 B). Four sums that do not wait for each other.
  std::uint64_t words[4] = {};
  std::size_t i = 0;
  for (; i + 16 <= bytes.size(); i += 16) {
    std::uint32_t group[4];
    std::memcpy(group, bytes.data() + i, sizeof group);
    for (std::size_t k = 0; k < 4; ++k) words[k] += group[k];
  }
  for (; i + 4 <= bytes.size(); i += 4) {
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    words[0] += word;
  }
  if (i < bytes.size()) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes.data() + i, bytes.size() - i);
    words[0] += word;
  }
  std::uint64_t total = words[0] + words[1] + words[2] + words[3];
  while (total >> 16 != 0) total = (total & 0xFFFF) + (total >> 16);
  return sum + __builtin_bswap16(static_cast<std::uint16_t>(total));
}

std::uint16_t checksum_finish(std::uint64_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

void RunningSum::add(std::span<const std::uint8_t> bytes) noexcept {
  const std::uint64_t part = checksum_add(bytes, 0);  // 16 bits
  sum_ += odd_ ? __builtin_bswap16(static_cast<std::uint16_t>(part)) : part;
  odd_ = odd_ != (bytes.size() % 2 != 0);
}

bool complete_checksum(std::span<std::uint8_t> frame, std::size_t start, std::size_t offset) noexcept {
  constexpr std::size_t sctp_checksum_offset = 8;  // TCP: 16, UDP and DCCP: 6, ICMP and GRE: 2 or 4
  if (start < ethernet_header_size || offset == sctp_checksum_offset) return false;
  if (start > frame.size() || offset > frame.size() - start || frame.size() - start - offset < 2) return false;
  store_checksum(frame.data() + start + offset, checksum_add(frame.subspan(start), 0));
  return true;
}

void complete_checksum(Frame& frame) noexcept {
  const Needs& needs = frame.needs;
  RunningSum sum;
  sum.add({frame.head + needs.csum_start, frame.head_size - needs.csum_start});
  for (std::size_t i = 0; i < frame.rest_count; ++i) sum.add({frame.rest[i].data, frame.rest[i].size});
  store_checksum(frame.head + needs.csum_start + needs.csum_offset, sum.get());
  frame.needs = {};
}

}  // namespace patchbay::dataplane
