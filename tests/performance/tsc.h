// The CPU's time stamp counter, which all candidates measure by, too. Needs one that is constant and the same on all
// cores, as x86 CPUs have had for long.
#pragma once
#include <x86intrin.h>

#include <chrono>
#include <cstdint>

namespace patchbay::bench {

[[nodiscard]] inline std::uint64_t tsc() noexcept {
  return __rdtsc();
}

// Its rate, in cycles a nanosecond, measured for 20 ms.
[[nodiscard]] inline double measure_cycles_per_ns() noexcept {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const std::uint64_t cycles = tsc();
  while (Clock::now() - begin < std::chrono::milliseconds(20)) _mm_pause();
  const std::uint64_t passed = tsc() - cycles;
  return static_cast<double>(passed) / static_cast<double>((Clock::now() - begin).count());
}

}  // namespace patchbay::bench
