// How long a sleeper takes to wake: the least that any switch that sleeps can do, to compare with.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tests/performance/histogram.h"
#include "tests/performance/tsc.h"

namespace patchbay::bench {

inline constexpr double wake_gap_us = 300;  // of silence before each ping, so that the sleeper is asleep for sure

// Turns for so many microseconds; a sleep would cool the CPU down that measures.
inline void spin(double us, double cycles_per_ns) noexcept {
  const std::uint64_t end = tsc() + static_cast<std::uint64_t>(us * 1000 * cycles_per_ns);
  while (tsc() < end) _mm_pause();
}

// `count` times: from a write to an eventfd until a thread on `cpu`, which waits for it in epoll_wait(), has said so in
// memory. Cycles. Errors: std::system_error (`cpu` may not be used, …).
[[nodiscard]] Histogram bare_ping(std::size_t count, unsigned cpu, double cycles_per_ns);

// Keeps the calling thread on `cpu`. Errors: std::system_error.
void stay_on(unsigned cpu);

}  // namespace patchbay::bench
