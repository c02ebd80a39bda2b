// How many frames wait between a sender and a receiver in two processes: bounds that hold whatever the scheduler does.
//
// Theory  The receiver writes how far it is into memory that both have, before it offers buffers again (`taking`) and
//         after that (`taken`). The switch is done with `done` of `sent` frames. All counts are of one row of numbers. So
//         what the switch had to keep, or has dropped, is at least done - taking, and what it had to find room for is at
//         most sent - taken. Where C frames have room, some must be lost if the first is above C, and none may be lost if
//         the second never was.
// Threads Receiver writes, sender reads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace patchbay::bench {

struct ReceiverProgress {
  std::atomic<std::uint64_t> taking = 0;
  std::atomic<std::uint64_t> taken = 0;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// The memory of one: a file that both processes map.
class SharedProgress {
 public:
  // Makes the file if it is not there. Errors: std::system_error.
  explicit SharedProgress(const std::string& path);
  ~SharedProgress();
  SharedProgress(const SharedProgress&) = delete;
  SharedProgress& operator=(const SharedProgress&) = delete;

  [[nodiscard]] ReceiverProgress& operator*() const noexcept { return *progress_; }
  [[nodiscard]] ReceiverProgress* operator->() const noexcept { return progress_; }

 private:
  ReceiverProgress* progress_ = nullptr;
};

// What the sender sees of it.
class Backlog {
 public:
  // `progress` may be missing: then nothing is known of it.
  explicit Backlog(const ReceiverProgress* progress) noexcept : progress_(progress) {}

  // Before frames are sent, with `sent` as it will be then.
  void before_sending(std::uint64_t sent) noexcept {
    if (progress_ == nullptr) return;
    most_ = std::max(most_, less(sent, progress_->taken.load(std::memory_order_acquire)));
  }
  // While the receiver stands still.
  void standing_still(std::uint64_t done) noexcept {
    if (progress_ == nullptr) return;
    least_ = std::max(least_, less(done, progress_->taking.load(std::memory_order_acquire)));
  }

  // The most frames that ever waited: at least so many,
  [[nodiscard]] std::uint64_t least() const noexcept { return least_; }
  // and at most.
  [[nodiscard]] std::uint64_t most() const noexcept { return most_; }

 private:
  [[nodiscard]] static std::uint64_t less(std::uint64_t all, std::uint64_t some) noexcept {
    return all > some ? all - some : 0;
  }

  const ReceiverProgress* progress_;
  std::uint64_t least_ = 0;
  std::uint64_t most_ = 0;
};

}  // namespace patchbay::bench
