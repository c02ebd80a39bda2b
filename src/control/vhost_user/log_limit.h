// Log lines of one endpoint: at most ten at once and one in five seconds after that, so that a front-end in a loop does
// not fill the disk. What was left out is counted and said with the next line.
#pragma once
#include <spdlog/spdlog.h>

#include <chrono>
#include <string>

#include "control/vhost_user/token_bucket.h"

namespace patchbay::vhost_user {

class LogLimit {
 public:
  explicit LogLimit(std::string vnic)
      : vnic_(std::move(vnic)), lines_(lines_per_second, lines_burst, TokenBucket::Clock::now()) {}

  void info(const std::string& text) { write(spdlog::level::info, text); }
  void warn(const std::string& text) { write(spdlog::level::warn, text); }

 private:
  static constexpr double lines_per_second = 0.2;
  static constexpr double lines_burst = 10;

  void write(spdlog::level::level_enum level, const std::string& text) {
    if (!lines_.take(TokenBucket::Clock::now())) {
      ++left_out_;
      return;
    }
    if (left_out_ > 0) spdlog::warn("vnic {}: {} lines left out here", vnic_, left_out_);
    left_out_ = 0;
    spdlog::log(level, "vnic {}: {}", vnic_, text);
  }

  std::string vnic_;
  TokenBucket lines_;
  unsigned long left_out_ = 0;
};

}  // namespace patchbay::vhost_user
