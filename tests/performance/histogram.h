// Counts of durations, from which quantiles are read: what is kept of millions of latencies.
//
// Theory  Values below 64 have a bucket each; above, each power of two is cut into 32, so that a quantile is at most
//         1/32 (3.2 %) above the value that it stands for. add() is a shift and an increment.
// Limits  Any 64-bit value; no overflow bucket is needed.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace patchbay::bench {

class Histogram {
 public:
  void add(std::uint64_t value) noexcept {
    ++counts_[bucket(value)];
    ++total_;
    max_ = std::max(max_, value);
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return total_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }

  // The smallest bucket's end that at least `share` (0 to 1) of all values do not exceed; 0 if there are none.
  [[nodiscard]] std::uint64_t quantile(double share) const noexcept {
    const auto wanted =
        std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total_))));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size() && total_ != 0; ++i) {
      seen += counts_[i];
      if (seen >= wanted) return std::min(last_of(i), max_);
    }
    return 0;
  }

 private:
  static constexpr unsigned exact_bits = 6;              // values below 2^6 are exact
  static constexpr unsigned step_bits = exact_bits - 1;  // steps of each power of two above
  static constexpr std::size_t steps = std::size_t{1} << step_bits;

  [[nodiscard]] static std::size_t bucket(std::uint64_t value) noexcept {
    if (value < 2 * steps) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - exact_bits;
    return (shift + 1) * steps + static_cast<std::size_t>((value >> shift) - steps);
  }
  // The largest value of a bucket.
  [[nodiscard]] static std::uint64_t last_of(std::size_t index) noexcept {
    if (index < 2 * steps) return index;
    const std::size_t shift = index / steps - 1;
    return ((std::uint64_t{index % steps + steps} + 1) << shift) - 1;
  }

  std::array<std::uint64_t, (64 - exact_bits + 2) * steps> counts_{};
  std::uint64_t total_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace patchbay::bench
