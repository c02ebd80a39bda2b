// The monotonic clock, in nanoseconds: it does not count from any moment in particular, and nobody can set it.
#pragma once
#include <chrono>
#include <cstdint>

namespace patchbay {

[[nodiscard]] inline std::uint64_t monotonic_ns() noexcept {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace patchbay
