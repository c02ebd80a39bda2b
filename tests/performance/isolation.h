// A guest that stands still under the full load of three senders, beside two others that talk: the four vnics of that.
//
// Theory  turn() is a part of a round of the traffic of the others (traffic.h): the senders send numbered frames to the
//         one, as many as the switch takes, or at a rate; it takes what has come, unless it stands still. To the switch a
//         guest without a CPU is just this: rings that nobody touches. The numbers go on over stops, so what the first
//         frames after one are can be told.
// Limits  Frames of one size. Order is judged for each sender.
// Threads One.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "base/byte_order.h"
#include "tests/performance/tsc.h"
#include "tests/performance/vnic.h"

namespace patchbay::bench {

inline constexpr std::size_t isolation_senders = 3;
inline constexpr std::size_t isolation_vnics = isolation_senders + 1;  // the last is the one that they send to

struct IsolationCounts {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t skipped = 0;     // numbers that were left out
  std::uint64_t steps_back = 0;  // out of order or twice
  std::uint64_t strays = 0;
  std::uint64_t before_gap = 0;  // frames that came since it last went on, before the first one with a number left out
};

template <typename Queue>
class Isolation {
 public:
  // `vnics`: the three senders and the receiver.
  Isolation(std::deque<Vnic<Queue>>& vnics, std::span<const MacAddr> addresses, std::size_t frame_bytes,
            double cycles_per_ns)
      : vnics_(vnics), cycles_per_ns_(cycles_per_ns) {
    for (std::size_t i = 0; i < isolation_senders; ++i) {
      sources_[i] = addresses[i].to_uint64();
      vnics_[i].prepare_numbered({.run = 1, .size = frame_bytes, .first_number = 0}, addresses[isolation_senders]);
    }
    receiver().prepare_numbered({.run = 1, .size = frame_bytes_min, .first_number = 0}, addresses[0]);
    receiver().send(1);  // the switch learns where it is
  }

  // From here on the receiver stands still, or takes what comes. `rate`: frames a second of each sender; 0: as many as
  // the switch takes.
  void begin(bool stands_still, double rate) {
    if (stands_still_ && !stands_still) {
      counts_.before_gap = 0;
      had_gap_ = false;
    }
    stands_still_ = stands_still;
    rate_per_cycle_ = rate / cycles_per_ns_ / 1e9;
    begun_ = tsc();
    for (std::size_t i = 0; i < isolation_senders; ++i) sent_before_[i] = vnics_[i].counts().sent;
  }

  void turn() noexcept {
    for (std::size_t i = 0; i < isolation_senders; ++i) {
      Vnic<Queue>& sender = vnics_[i];
      sender.reclaim();
      sender.send(std::min({sender.room(), burst, due(i)}));
    }
    receiver().reclaim();
    for (std::size_t turns = 0; !stands_still_ && turns < receive_turns_max && receive() != 0; ++turns) {
    }
  }

  // Waits until the switch has given everything back that was sent and, if the receiver runs, until nothing comes any
  // more: what has not come then was left out. False if it takes longer than `limit_s`.
  bool settle(double limit_s, double quiet_s) {
    const std::uint64_t end = tsc() + cycles(limit_s);
    std::uint64_t quiet_since = tsc();
    while (tsc() < end) {
      bool all_back = true;
      for (std::size_t i = 0; i < isolation_senders; ++i) {
        vnics_[i].reclaim();
        all_back = all_back && vnics_[i].under_way() == 0;
      }
      if (!all_back || (!stands_still_ && receive() != 0)) quiet_since = tsc();
      if (!all_back || (!stands_still_ && tsc() - quiet_since <= cycles(quiet_s))) continue;
      if (!stands_still_) give_up_rest();
      return true;
    }
    return false;
  }

  [[nodiscard]] IsolationCounts counts() const noexcept {
    IsolationCounts all = counts_;
    for (std::size_t i = 0; i < isolation_senders; ++i) all.sent += vnics_[i].counts().sent;
    return all;
  }

 private:
  static constexpr std::size_t burst = 32;
  static constexpr std::size_t receive_turns_max = 4;

  [[nodiscard]] Vnic<Queue>& receiver() noexcept { return vnics_[isolation_senders]; }
  [[nodiscard]] std::uint64_t cycles(double seconds) const {
    return static_cast<std::uint64_t>(seconds * 1e9 * cycles_per_ns_);
  }
  // How many frames sender `i` is to send now.
  [[nodiscard]] std::size_t due(std::size_t i) const noexcept {
    if (rate_per_cycle_ <= 0) return burst;
    const auto scheduled = static_cast<std::uint64_t>(static_cast<double>(tsc() - begun_) * rate_per_cycle_);
    const std::uint64_t sent = vnics_[i].counts().sent - sent_before_[i];
    return static_cast<std::size_t>(scheduled - std::min(scheduled, sent));
  }

  // What has not come by now never will: so the next frame leaves no gap.
  void give_up_rest() noexcept {
    for (std::size_t i = 0; i < isolation_senders; ++i) {
      const auto sent = static_cast<std::uint32_t>(vnics_[i].counts().sent);
      counts_.skipped += sent - next_[i];
      next_[i] = sent;
    }
  }

  std::size_t receive() noexcept {
    return receiver().receive_each([&](std::span<const std::uint8_t> frame) { see(frame); });
  }
  void see(std::span<const std::uint8_t> frame) noexcept {
    const auto source = frame.size() < numbered_bytes_min || load_be16(frame.data() + 12) != numbered_ether_type
                            ? isolation_senders
                            : source_of(MacAddr::from_wire(frame.data() + 6));
    if (source == isolation_senders) {
      ++counts_.strays;
      return;
    }
    const std::uint32_t number = load_be32(frame.data() + number_offset);
    const auto ahead = static_cast<std::int32_t>(number - next_[source]);
    next_[source] = number + 1;
    if (ahead < 0) {
      ++counts_.steps_back;
    } else if (ahead > 0) {
      counts_.skipped += static_cast<std::uint64_t>(ahead);
      had_gap_ = true;
    }
    if (!had_gap_) ++counts_.before_gap;
    ++counts_.received;
  }
  [[nodiscard]] std::size_t source_of(MacAddr mac) const noexcept {
    return static_cast<std::size_t>(std::ranges::find(sources_, mac.to_uint64()) - sources_.begin());
  }

  std::deque<Vnic<Queue>>& vnics_;
  const double cycles_per_ns_;
  std::array<std::uint64_t, isolation_senders> sources_{};
  std::array<std::uint32_t, isolation_senders> next_{};  // number that a sender's next frame has, if none is lost
  std::array<std::uint64_t, isolation_senders> sent_before_{};
  IsolationCounts counts_;
  bool stands_still_ = false;
  bool had_gap_ = false;
  double rate_per_cycle_ = 0;
  std::uint64_t begun_ = 0;
};

}  // namespace patchbay::bench
