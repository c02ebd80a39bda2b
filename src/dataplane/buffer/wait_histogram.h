// How long frames waited: counts by duration, from microseconds to hours, each bucket an eighth wider than the last power
// of two.
//
// Limits  Quantiles are at most an eighth too large; the largest wait is exact.
// Threads note(): one. summary(): any.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "base/counter.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

class WaitHistogram {
 public:
  void note(std::uint64_t wait_ns) noexcept {
    counts_[bucket_of(wait_ns)].add(1);
    if (wait_ns > max_.get()) max_.set(wait_ns);
  }
  [[nodiscard]] BufferWaits summary() const noexcept;

 private:
  static constexpr unsigned unit_shift = 10;  // about a microsecond
  static constexpr unsigned part_shift = 3;
  static constexpr std::size_t parts = 1 << part_shift;
  static constexpr std::size_t buckets = 35 * parts;

  [[nodiscard]] static std::size_t bucket_of(std::uint64_t wait_ns) noexcept {
    const std::uint64_t units = wait_ns >> unit_shift;
    if (units < parts) return static_cast<std::size_t>(units);
    const auto power = static_cast<unsigned>(std::bit_width(units)) - 1;  // at least part_shift
    const std::size_t bucket = (power - part_shift + 1) * parts + ((units >> (power - part_shift)) & (parts - 1));
    return bucket < buckets ? bucket : buckets - 1;
  }
  // The first duration that is too long for the bucket.
  [[nodiscard]] static std::uint64_t end_of(std::size_t bucket) noexcept {
    if (bucket < parts) return std::uint64_t{bucket + 1} << unit_shift;
    const auto power = static_cast<unsigned>(bucket / parts) + part_shift - 1;
    return (std::uint64_t{parts + bucket % parts + 1} << (power - part_shift)) << unit_shift;
  }
  [[nodiscard]] std::uint64_t quantile(std::uint64_t total, unsigned percent) const noexcept;

  std::array<Counter, buckets> counts_;
  Counter max_;
};

}  // namespace patchbay::dataplane
