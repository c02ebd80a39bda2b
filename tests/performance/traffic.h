// One measurement: all vnics send to their peers, at a rate or as fast as the switch takes it.
//
// Theory  One thread turns round over all vnics: give back, send what is due, take what has come. With a rate, frames
//         are due by the clock, whatever became of those before (open loop). Without, each sender has at most `window`
//         frames on their way (closed loop), or as many as fit into the receiver's buffers, so that no ring overflows
//         by the generator's own doing. Then it waits for what is still on its way, until nothing comes for a while.
// Limits  A sender whose queue is full catches up at most one queue of frames; what it could not send is `not_offered`.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "tests/performance/histogram.h"
#include "tests/performance/tsc.h"
#include "tests/performance/vnic.h"

namespace patchbay::bench {

struct Load {
  double rate = 0;                // frames a second of each vnic; 0: closed loop
  double seconds = 1;             // how long to send
  std::uint64_t frames_each = 0;  // 0: no such limit; then sending may end before `seconds`
  std::size_t burst = 32;         // frames a vnic sends at once, at most
  std::size_t burst_least = 1;    // with a rate: waits until so many are due, as guests do that send in batches
  std::size_t window = 256;       // of a closed loop
  double quiet_s = 0.2;           // what has not come after that much silence is lost
};

struct Measured {
  VnicCounts sum;
  std::uint64_t received_while_sending = 0;
  std::uint64_t not_offered = 0;
  std::uint64_t least_received = 0;  // of any vnic
  double seconds = 0;                // of sending
  Histogram latency;                 // cycles
};

template <typename Queue>
class Traffic {
 public:
  // The peer of vnic n is n ^ 1: there must be an even number. With a `mirror`, an address behind the switch from where
  // each frame comes back, it is n itself.
  Traffic(std::deque<Vnic<Queue>>& vnics, double cycles_per_ns, std::optional<MacAddr> mirror = {})
      : vnics_(vnics), cycles_per_ns_(cycles_per_ns), mirror_(mirror) {}

  // `goes_on`: asked once a round; when it says no, sending ends before its time.
  template <typename GoesOn>
  [[nodiscard]] Measured run(const RunFrames& frames, const Load& load, GoesOn&& goes_on) {
    Measured measured;
    prepare(frames);
    window_ = std::min(load.window, vnics_.front().frames_received_at_once());
    const std::uint64_t begin = tsc();
    const std::uint64_t end = begin + cycles(load.seconds);
    const double rate_per_cycle = load.rate / cycles_per_ns_ / 1e9;
    std::uint64_t now = begin;
    while (now < end && !all_sent(load) && goes_on()) {
      for (std::size_t i = 0; i < vnics_.size(); ++i) turn(i, now - begin, rate_per_cycle, load, measured);
      now = tsc();
      reopen_stuck_windows(now, load);
    }
    measured.seconds = static_cast<double>(now - begin) / cycles_per_ns_ / 1e9;
    for (const auto& vnic : vnics_) measured.received_while_sending += vnic.counts().received;
    drain(measured.latency, load.quiet_s);
    sum_up(measured);
    return measured;
  }
  [[nodiscard]] Measured run(const RunFrames& frames, const Load& load) {
    return run(frames, load, [] { return true; });
  }

  // Sends single frames until each vnic has heard from its peer. How many have not within `limit_s`.
  [[nodiscard]] std::size_t link(std::uint32_t run, double limit_s) {
    prepare({.run = run});
    Histogram ignored;
    const std::uint64_t end = tsc() + cycles(limit_s);
    std::size_t silent = vnics_.size();
    while (silent != 0 && tsc() < end) {
      for (std::size_t i = 0; i < vnics_.size(); ++i) {
        vnics_[i].reclaim();
        if (vnics_[peer(i)].counts().received == 0 && vnics_[i].room() != 0) vnics_[i].send(1);
      }
      const std::uint64_t again = tsc() + cycles(0.05);
      do {
        for (auto& vnic : vnics_) vnic.receive(ignored);
        silent = static_cast<std::size_t>(
            std::ranges::count_if(vnics_, [](const auto& vnic) { return vnic.counts().received == 0; }));
      } while (silent != 0 && tsc() < again);
    }
    drain(ignored, Load{}.quiet_s);
    return silent;
  }

 private:
  struct Pace {
    std::uint64_t given_up = 0;      // frames that were due and are not sent any more
    std::uint64_t acknowledged = 0;  // closed loop: sequence up to which frames have arrived or are given up
  };

  [[nodiscard]] std::size_t peer(std::size_t i) const noexcept { return mirror_ ? i : i ^ 1; }
  [[nodiscard]] std::uint64_t cycles(double seconds) const {
    return static_cast<std::uint64_t>(seconds * 1e9 * cycles_per_ns_);
  }

  void prepare(const RunFrames& frames) {
    for (std::size_t i = 0; i < vnics_.size(); ++i) {
      if (mirror_) {
        vnics_[i].prepare_mirrored(frames, *mirror_);
      } else {
        vnics_[i].prepare(frames, vnics_[peer(i)]);
      }
    }
    paces_.assign(vnics_.size(), {});
    moved_at_ = tsc();
    moved_ = 0;
  }

  [[nodiscard]] bool all_sent(const Load& load) const {
    return load.frames_each != 0 &&
           std::ranges::all_of(vnics_, [&](const auto& vnic) { return vnic.counts().sent >= load.frames_each; });
  }

  void turn(std::size_t i, std::uint64_t passed, double rate_per_cycle, const Load& load, Measured& measured) {
    Vnic<Queue>& vnic = vnics_[i];
    vnic.reclaim();
    std::size_t wanted = load.rate > 0 ? due(i, passed, rate_per_cycle, load, measured) : window_left(i);
    if (load.frames_each != 0) {
      wanted = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, load.frames_each - vnic.counts().sent));
    }
    vnic.send(std::min({wanted, vnic.room(), load.burst}));
    moved_ += vnic.receive(measured.latency);
  }

  // Vnics start one after the other within the time of one burst, so that they do not send all at once.
  [[nodiscard]] std::size_t due(std::size_t i, std::uint64_t passed, double rate_per_cycle, const Load& load,
                                Measured& measured) {
    const double phase = static_cast<double>(load.burst_least * i) / static_cast<double>(vnics_.size());
    const auto scheduled = static_cast<std::uint64_t>(static_cast<double>(passed) * rate_per_cycle + phase);
    Pace& pace = paces_[i];
    const std::uint64_t done = vnics_[i].counts().sent + pace.given_up;
    const std::uint64_t left = load.frames_each != 0 ? load.frames_each - vnics_[i].counts().sent : UINT64_MAX;
    if (scheduled < done + std::min<std::uint64_t>(load.burst_least, left) || left == 0) return 0;
    if (scheduled - done > backlog_max) {
      measured.not_offered += scheduled - done - backlog_max;
      pace.given_up += scheduled - done - backlog_max;
    }
    return static_cast<std::size_t>(std::min<std::uint64_t>(scheduled - done, backlog_max));
  }

  [[nodiscard]] std::size_t window_left(std::size_t i) {
    Pace& pace = paces_[i];
    pace.acknowledged = std::max(pace.acknowledged, vnics_[peer(i)].next_expected());
    const std::uint64_t under_way = vnics_[i].counts().sent - std::min(pace.acknowledged, vnics_[i].counts().sent);
    return under_way >= window_ ? 0 : static_cast<std::size_t>(window_ - under_way);
  }

  // Windows that are full of frames that were dropped would stay closed.
  void reopen_stuck_windows(std::uint64_t now, const Load& load) {
    if (moved_ != 0 || load.rate > 0) {
      moved_ = 0;
      moved_at_ = now;
    } else if (now - moved_at_ > cycles(load.quiet_s)) {
      for (std::size_t i = 0; i < vnics_.size(); ++i) paces_[i].acknowledged = vnics_[i].counts().sent;
      moved_at_ = now;
    }
  }

  void drain(Histogram& latency, double quiet_s) {
    std::uint64_t quiet_since = tsc();
    while (tsc() - quiet_since < cycles(quiet_s)) {
      std::size_t came = 0;
      std::uint64_t missing = 0;
      for (auto& vnic : vnics_) {
        vnic.reclaim();
        came += vnic.receive(latency);
        // What a switch that was killed delivered twice does not stand for what is still on its way. (Several queues
        // overtake each other: there a step back is no repetition.)
        const std::uint64_t repeated = vnic.shape().pairs == 1 ? vnic.sequence().repeated() : 0;
        missing += vnic.counts().sent + repeated - vnic.counts().received;
      }
      if (missing == 0) return;
      if (came != 0) quiet_since = tsc();
    }
  }

  void sum_up(Measured& measured) const {
    measured.least_received = UINT64_MAX;
    for (const auto& vnic : vnics_) {
      const VnicCounts& counts = vnic.counts();
      measured.sum.sent += counts.sent;
      measured.sum.received += counts.received;
      measured.sum.misdelivered += counts.misdelivered;
      measured.sum.damaged += counts.damaged;
      if (counts.damaged != 0) measured.sum.first_damage = counts.first_damage;
      measured.sum.reordered += counts.reordered;
      measured.sum.stray += counts.stray;
      measured.sum.kicks += counts.kicks;
      measured.least_received = std::min(measured.least_received, counts.received);
    }
  }

  static constexpr std::uint64_t backlog_max = 1024;

  std::deque<Vnic<Queue>>& vnics_;
  const double cycles_per_ns_;
  const std::optional<MacAddr> mirror_;
  std::vector<Pace> paces_;
  std::size_t window_ = 0;
  std::size_t moved_ = 0;  // frames received since moved_at_ was looked at
  std::uint64_t moved_at_ = 0;
};

}  // namespace patchbay::bench
