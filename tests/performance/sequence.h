// Judges numbers that are to arrive upwards, one after the other, where a short row of them may come twice.
//
// Theory  A number below the last one is a step back, from where the row has to go on without a gap. A number beyond all
//         that have come leaves a gap, which nothing that comes later makes up for: late is lost.
// Limits  Numbers have 32 bits and may wrap; steps of less than 2^31.
// Threads One.
#pragma once
#include <algorithm>
#include <cstdint>

namespace patchbay::bench {

class Sequence {
 public:
  void see(std::uint32_t number) noexcept {
    const auto ahead = static_cast<std::int32_t>(number - static_cast<std::uint32_t>(next_));
    if (ahead < 0) {
      ++steps_back_;
      const auto back = static_cast<std::uint64_t>(-std::int64_t{ahead});
      step_back_max_ = std::max(step_back_max_, back);
      repeated_ += back;
    } else {
      skipped_ += static_cast<std::uint64_t>(ahead);
    }
    next_ += static_cast<std::uint64_t>(std::int64_t{ahead}) + 1;
  }

  // The number after the last one.
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }
  // Numbers that were left out, also where they had come before.
  [[nodiscard]] std::uint64_t skipped() const noexcept { return skipped_; }
  [[nodiscard]] std::uint64_t steps_back() const noexcept { return steps_back_; }
  // Numbers that came again, if every step back was a repetition.
  [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
  // How many numbers were repeated at most at once.
  [[nodiscard]] std::uint64_t step_back_max() const noexcept { return step_back_max_; }

 private:
  std::uint64_t next_ = 0;
  std::uint64_t skipped_ = 0;
  std::uint64_t steps_back_ = 0;
  std::uint64_t step_back_max_ = 0;
  std::uint64_t repeated_ = 0;
};

}  // namespace patchbay::bench
