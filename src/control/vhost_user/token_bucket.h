// A limit on how often something may happen: `rate` times a second, and `burst` times at once after a quiet time.
#pragma once
#include <algorithm>
#include <chrono>

namespace patchbay::vhost_user {

class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  // `per_second` and `burst`: at least 1.
  TokenBucket(double per_second, double burst, Clock::time_point now) noexcept
      : per_second_(per_second), burst_(burst), tokens_(burst), filled_(now) {}

  // Takes one token; false if there is none at `now`.
  [[nodiscard]] bool take(Clock::time_point now) noexcept {
    const double elapsed_s = std::chrono::duration<double>(now - filled_).count();
    tokens_ = std::min(burst_, tokens_ + std::max(0.0, elapsed_s) * per_second_);
    filled_ = now;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  double per_second_;
  double burst_;
  double tokens_;
  Clock::time_point filled_;
};

}  // namespace patchbay::vhost_user
