// Judges numbered frames one by one: which came, which came twice, which came after a later one, and how long nothing came.
//
// Theory  A bit for each number that may come says whether it came. So a frame that is late is told from one that comes
//         twice, and what is lost is what was sent less what came, not a guess from gaps.
// Limits  So many numbers from `first` on as expect() was told; others, and what is no numbered frame, count as strays.
// Threads One.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/byte_order.h"
#include "tests/performance/frames.h"

namespace patchbay::bench {

class Numbers {
 public:
  // From here on `count` numbers from `first` on may come.
  void expect(std::uint32_t first, std::uint32_t count) {
    *this = {};
    first_ = first;
    came_.resize(count);
  }

  // A frame that came at `now`, in cycles. Frames that are taken at once have come at once.
  void see(std::span<const std::uint8_t> frame, std::uint64_t now) noexcept {
    if (frame.size() < frame_bytes_min || load_be16(frame.data() + 12) != numbered_ether_type) {
      ++strays_;
    } else {
      see(load_be32(frame.data() + number_offset), now);
    }
  }
  void see(std::uint32_t number, std::uint64_t now) noexcept {
    const std::uint32_t index = number - first_;
    if (index >= came_.size()) {
      ++strays_;
      return;
    }
    if (last_at_ != 0) gap_max_ = std::max(gap_max_, now - last_at_);
    last_at_ = now;
    if (came_[index]) {
      ++repeated_;
      return;
    }
    came_[index] = true;
    ++received_;
    if (index < next_) {
      ++reordered_;
    } else {
      next_ = index + 1;
    }
  }

  // How many numbers there are up to the highest that came.
  [[nodiscard]] std::uint32_t next() const noexcept { return next_; }
  // Different numbers that came.
  [[nodiscard]] std::uint32_t received() const noexcept { return received_; }
  // Frames whose number had come before,
  [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
  // frames that came after one with a higher number,
  [[nodiscard]] std::uint64_t reordered() const noexcept { return reordered_; }
  // and frames that are none of those expected.
  [[nodiscard]] std::uint64_t strays() const noexcept { return strays_; }
  // The longest time from one frame to the next, in cycles.
  [[nodiscard]] std::uint64_t gap_max() const noexcept { return gap_max_; }
  // When the last one came; 0: none did.
  [[nodiscard]] std::uint64_t last_at() const noexcept { return last_at_; }

 private:
  std::vector<bool> came_;
  std::uint32_t first_ = 0;
  std::uint32_t next_ = 0;
  std::uint32_t received_ = 0;
  std::uint64_t repeated_ = 0;
  std::uint64_t reordered_ = 0;
  std::uint64_t strays_ = 0;
  std::uint64_t gap_max_ = 0;
  std::uint64_t last_at_ = 0;
};

}  // namespace patchbay::bench
