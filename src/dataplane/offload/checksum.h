// Internet checksums (RFC 1071) in software, for frames whose sender left them to an offload.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

// The running sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero, added to `sum`.
// Parts may be summed one after another as long as all but the last have an even size.
[[nodiscard]] std::uint64_t checksum_add(std::span<const std::uint8_t> bytes, std::uint64_t sum) noexcept;

// The checksum field's value, in host order, for a sum.
[[nodiscard]] std::uint16_t checksum_finish(std::uint64_t sum) noexcept;

// A sum over stretches of any sizes, one after another.
class RunningSum {
 public:
  explicit RunningSum(std::uint64_t start = 0) noexcept : sum_(start) {}
  void add(std::span<const std::uint8_t> bytes) noexcept;
  [[nodiscard]] std::uint64_t get() const noexcept { return sum_; }

 private:
  std::uint64_t sum_;
  bool odd_ = false;  // the bytes so far: the next one is the second of its word
};

// Completes the checksum of which the field at `start` + `offset` holds the pseudo-header's part, over everything from
// `start` to the end of `frame` (virtio-net's VIRTIO_NET_HDR_F_NEEDS_CSUM). False if the field lies outside the frame or in
// its Ethernet header, or is where only SCTP has one: its CRC32c is not this kind of checksum.
[[nodiscard]] bool complete_checksum(std::span<std::uint8_t> frame, std::size_t start, std::size_t offset) noexcept;

// Completes the checksum that `frame` needs, in its head. The frame, no large piece, then needs nothing.
void complete_checksum(Frame& frame) noexcept;

}  // namespace patchbay::dataplane
