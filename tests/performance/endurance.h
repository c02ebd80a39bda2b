// Vnics that outlive their back-end: which one hears it hang up attaches anew, with the memory and the rings it has.
//
// Theory  What a guest notices of a switch that died is nothing: frames stay offered in its rings, and so do buffers. So
//         traffic goes on beside this, round after round; what it offers meanwhile waits for the next back-end.
// Threads One.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

#include "tests/performance/vnic.h"

namespace patchbay::bench {

// One vnic's way back. Seconds of the monotonic clock, which all processes of the machine share.
struct Return {
  std::size_t vnic = 0;
  double attached_at = 0;
  double first_frame_at = 0;  // 0: none came
};

template <typename Queue>
class Endurance {
 public:
  // `attach`: attaches the vnic of that number, or throws if there is nobody yet.
  Endurance(std::deque<Vnic<Queue>>& vnics, std::function<void(std::size_t)> attach)
      : vnics_(vnics), attach_(std::move(attach)), ways_(vnics.size()) {}

  // Once a round of traffic.
  void turn() {
    if (++turns_ % turns_between_looks != 0) return;
    const double now = seconds_now();
    for (std::size_t i = 0; i < vnics_.size(); ++i) {
      Way& way = ways_[i];
      if (way.is_back) note_first_frame(i, now);
      if (vnics_[i].is_detached() && now >= way.next_try) try_to_attach(i);
    }
  }

  // The returns so far, those that are still without a frame included.
  [[nodiscard]] const std::vector<Return>& returns() const noexcept { return returns_; }

 private:
  struct Way {
    double next_try = 0;
    std::uint64_t received = 0;  // when it came back
    std::size_t at = 0;          // in returns_
    bool is_back = false;        // and has heard nothing yet
  };

  static constexpr unsigned turns_between_looks = 16;
  static constexpr double pause_s = 0.002;

  [[nodiscard]] static double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  void try_to_attach(std::size_t i) {
    Way& way = ways_[i];
    try {
      attach_(i);
    } catch (const std::exception&) {  // whoever waits for us to come back sees that we do not
      way.next_try = seconds_now() + pause_s;
      return;
    }
    way.received = vnics_[i].counts().received;
    way.at = returns_.size();
    way.is_back = true;
    returns_.push_back({.vnic = i, .attached_at = seconds_now()});
  }

  void note_first_frame(std::size_t i, double now) {
    Way& way = ways_[i];
    if (vnics_[i].counts().received == way.received) return;
    returns_[way.at].first_frame_at = now;
    way.is_back = false;
  }

  std::deque<Vnic<Queue>>& vnics_;
  const std::function<void(std::size_t)> attach_;
  std::vector<Way> ways_;
  std::vector<Return> returns_;
  unsigned turns_ = 0;
};

}  // namespace patchbay::bench
