// A few short frames from one thread to another, beside the data path.
//
// Limits  letters_max at a time, of letter_size bytes; what is longer is cut, and what is more is refused.
// Threads put(): one. take(): one. empty(): any.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace patchbay::dataplane {

class Mailbox {
 public:
  static constexpr std::size_t letters_max = 64;
  static constexpr std::size_t letter_size = 128;  // an LACPDU has 124

  [[nodiscard]] bool empty() const noexcept {
    return taken_.load(std::memory_order_acquire) == put_.load(std::memory_order_acquire);
  }
  // False: there is no room.
  bool put(std::span<const std::uint8_t> frame) noexcept {
    const std::uint32_t at = put_.load(std::memory_order_relaxed);
    if (at - taken_.load(std::memory_order_acquire) == letters_max) return false;
    Letter& letter = letters_[at % letters_max];
    letter.size = std::min(frame.size(), letter_size);
    std::copy_n(frame.begin(), letter.size, letter.bytes.begin());
    put_.store(at + 1, std::memory_order_release);
    return true;
  }
  // Calls what(frame) for the oldest, and forgets it if the answer is true. False: there was none, or it stays.
  template <typename What>
  bool take(What what) noexcept(noexcept(what(std::span<const std::uint8_t>()))) {
    if (empty()) return false;
    const std::uint32_t at = taken_.load(std::memory_order_relaxed);
    const Letter& letter = letters_[at % letters_max];
    if (!what(std::span<const std::uint8_t>(letter.bytes).first(letter.size))) return false;
    taken_.store(at + 1, std::memory_order_release);
    return true;
  }

 private:
  struct Letter {
    std::size_t size = 0;
    std::array<std::uint8_t, letter_size> bytes;
  };
  std::array<Letter, letters_max> letters_;
  std::atomic<std::uint32_t> put_ = 0;
  std::atomic<std::uint32_t> taken_ = 0;
};

}  // namespace patchbay::dataplane
