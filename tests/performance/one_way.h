// One end of a stream of numbered frames: a sender, or a receiver that the sender stops (SIGSTOP) while it receives. The
// two are processes of their own, for a process that stands still sends nothing either.
//
// Theory  Commands, as in main.cpp:
//           {"link": {"limit_s": 20}}           at both ends at once: each hears from the other
//           {"expect": {"first", "count"}}      receives numbers from `first` on, until the next command, which is
//           {"enough": {"sent", "quiet_s"}}     so many were sent; ends when the last has come, or nothing for a while
//           {"stream": {"first", "frame_bytes", "rate", "before_s", "stall_s", "after_s", "pid"}}
//                                               sends; after `before_s` process `pid` is stopped, for `stall_s`
//         Both sleep between their turns, so that they can have one CPU together, as a guest's CPU does. The times of
//         stopping and of going on are those of the clock, and what was sent by then is counted: nothing rests on how
//         punctual the scheduler is. backlog.h says what follows from the counts.
// Limits  Frames that fit into one receive buffer. What is due and finds no room in the ring is sent later, not skipped.
// Threads One.
#pragma once
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "tests/performance/backlog.h"
#include "tests/performance/numbers.h"
#include "tests/performance/tsc.h"
#include "tests/performance/vnic.h"

namespace patchbay::bench {

// A process stands still as long as this lives.
class Stopped {
 public:
  // Errors: std::system_error.
  explicit Stopped(pid_t pid) : pid_(pid) {
    if (pid <= 0 || ::kill(pid, SIGSTOP) != 0) {
      throw std::system_error(pid <= 0 ? EINVAL : errno, std::generic_category(), "process " + std::to_string(pid));
    }
  }
  ~Stopped() { ::kill(pid_, SIGCONT); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

 private:
  pid_t pid_;
};

template <typename Queue>
class OneWay {
 public:
  // `progress`: the file that both ends share; empty: the other end has none.
  OneWay(Vnic<Queue>& vnic, MacAddr peer, const std::string& progress, double cycles_per_ns)
      : vnic_(vnic), peer_(peer), cycles_per_ns_(cycles_per_ns) {
    if (!progress.empty()) progress_.emplace(progress);
    ::prctl(PR_SET_TIMERSLACK, 1);  // nanoseconds
  }

  nlohmann::json obey(const nlohmann::json& command) {
    if (command.contains("link")) return link(command.at("link").value("limit_s", 20.0));
    if (command.contains("expect")) return expect(command.at("expect"));
    if (command.contains("enough")) return enough(command.at("enough"));
    if (command.contains("stream")) return stream(command.at("stream"));
    throw std::runtime_error("unknown command " + command.dump());
  }

  // What is to be done while there is no command: true if there was something.
  bool turn() {
    if (!expects_) return false;
    if (receive() == 0) sleep_until(tsc() + turn_cycles());
    return true;
  }

 private:
  static constexpr double turn_s = 50e-6;
  static constexpr std::size_t burst = 64;

  [[nodiscard]] std::uint64_t cycles(double seconds) const {
    return static_cast<std::uint64_t>(seconds * 1e9 * cycles_per_ns_);
  }
  [[nodiscard]] double seconds(std::uint64_t cycles) const {
    return static_cast<double>(cycles) / cycles_per_ns_ / 1e9;
  }
  [[nodiscard]] std::uint64_t turn_cycles() const { return cycles(turn_s); }
  void sleep_until(std::uint64_t at) const {
    const std::uint64_t now = tsc();
    if (at <= now) return;
    const double ns = static_cast<double>(at - now) / cycles_per_ns_;
    std::this_thread::sleep_for(std::chrono::nanoseconds(static_cast<std::int64_t>(ns)));
  }

  nlohmann::json link(double limit_s) {
    vnic_.prepare_numbered({.run = ++run_, .size = 64, .first_number = 0}, peer_);
    const std::uint64_t end = tsc() + cycles(limit_s);
    std::size_t heard = 0;
    while (heard == 0 && tsc() < end) {
      send_one();
      const std::uint64_t again = tsc() + cycles(0.02);
      while (heard == 0 && tsc() < again) {
        vnic_.receive_each([&](std::span<const std::uint8_t> frame) {
          if (frame.size() >= frame_bytes_min && load_be16(frame.data() + 12) == numbered_ether_type) ++heard;
        });
        sleep_until(tsc() + turn_cycles());
      }
    }
    send_one();  // who has not heard us yet is there by now
    return {{"silent", heard == 0 ? 1 : 0}};
  }

  void send_one() {
    vnic_.reclaim();
    vnic_.send(std::min<std::size_t>(vnic_.room(), 1));
  }

  // ---- The receiver ----

  nlohmann::json expect(const nlohmann::json& wanted) {
    first_ = wanted.at("first");
    numbers_.expect(first_, wanted.at("count"));
    expects_ = true;
    show_progress();
    if (progress_) (*progress_)->taken.store(0, std::memory_order_release);
    return {{"expecting", first_}};
  }

  // Takes what has come; how many frames.
  std::size_t receive() {
    const std::uint64_t now = tsc();
    const std::size_t count = vnic_.receive_each([&](std::span<const std::uint8_t> frame) {
      numbers_.see(frame, now);
      show_progress();
    });
    if (progress_) (*progress_)->taken.store(numbers_.next(), std::memory_order_release);
    return count;
  }
  // Before the buffers are offered again.
  void show_progress() {
    if (progress_) (*progress_)->taking.store(numbers_.next(), std::memory_order_release);
  }

  nlohmann::json enough(const nlohmann::json& wanted) {
    const std::uint32_t sent = wanted.at("sent");
    const std::uint64_t patience = cycles(wanted.value("quiet_s", 0.3));
    std::uint64_t quiet_since = tsc();
    while (numbers_.next() < sent && tsc() - quiet_since < patience) {
      if (receive() != 0) {
        quiet_since = tsc();
      } else {
        sleep_until(tsc() + turn_cycles());
      }
    }
    receive();
    expects_ = false;
    return {{"received", numbers_.received()},
            {"repeated", numbers_.repeated()},
            {"reordered", numbers_.reordered()},
            {"strays", numbers_.strays()},
            {"gap_s", seconds(numbers_.gap_max())}};
  }

  // ---- The sender ----

  nlohmann::json stream(const nlohmann::json& wanted) {
    const RunFrames frames{.run = ++run_,
                           .size = wanted.at("frame_bytes").get<std::size_t>(),
                           .first_number = wanted.at("first").get<std::uint32_t>()};
    if (frames.size < numbered_bytes_min || frames.size > vnic_.shape().frame_bytes_max) {
      throw std::runtime_error("frame_bytes " + std::to_string(frames.size) + ": from " +
                               std::to_string(numbered_bytes_min) + " to frame_bytes_max of the file");
    }
    vnic_.prepare_numbered(frames, peer_);
    Pace pace{.begin = tsc(),
              .per_cycle = wanted.at("rate").get<double>() / cycles_per_ns_ / 1e9,
              .backlog = Backlog(progress_ ? &**progress_ : nullptr)};
    send_until(pace.begin + cycles(wanted.at("before_s")), pace);
    StallCounts stall;
    if (const double stall_s = wanted.value("stall_s", 0.0); stall_s > 0) {
      stall = send_while_stopped(wanted.at("pid").get<pid_t>(), cycles(stall_s), pace);
    }
    send_until(tsc() + cycles(wanted.at("after_s")), pace);
    const double lasted = seconds(tsc() - pace.begin);
    wait_until_done(2.0);
    return {{"sent", vnic_.counts().sent},
            {"not_taken", vnic_.under_way()},
            {"seconds", lasted},
            {"behind_max", pace.behind_max},
            {"offered_in_stall", stall.sent},
            {"not_taken_in_stall", stall.not_taken},
            {"stall_s", seconds(stall.cycles)},
            {"waiting_least", pace.backlog.least()},
            {"waiting_most", pace.backlog.most()}};
  }

  struct Pace {
    std::uint64_t begin = 0;
    double per_cycle = 0;  // frames
    Backlog backlog;
    std::uint64_t behind_max = 0;  // frames that were due and not yet sent, at most
  };
  // What was while the other end stood still, and how long.
  struct StallCounts {
    std::uint64_t sent = 0;
    std::uint64_t not_taken = 0;  // by the switch, at the end of it
    std::uint64_t cycles = 0;
  };

  StallCounts send_while_stopped(pid_t pid, std::uint64_t how_long, Pace& pace) {
    const std::uint64_t sent_before = vnic_.counts().sent;
    const Stopped stopped(pid);
    const std::uint64_t begin = tsc();
    send_until(begin + how_long, pace);
    vnic_.reclaim();
    const std::uint64_t sent = vnic_.counts().sent;
    pace.backlog.standing_still(sent - vnic_.under_way());
    return {.sent = sent - sent_before, .not_taken = vnic_.under_way(), .cycles = tsc() - begin};
  }

  // Sends what is due, and sleeps in between.
  void send_until(std::uint64_t end, Pace& pace) {
    for (std::uint64_t now = tsc(); now < end; now = tsc()) {
      const auto due = static_cast<std::uint64_t>(static_cast<double>(now - pace.begin) * pace.per_cycle);
      pace.behind_max = std::max(pace.behind_max, due - std::min(due, vnic_.counts().sent));
      send_up_to(due, pace.backlog);
      sleep_until(std::min(tsc() + turn_cycles(), end));
    }
  }

  void send_up_to(std::uint64_t due, Backlog& backlog) {
    while (true) {
      vnic_.reclaim();
      const std::uint64_t sent = vnic_.counts().sent;
      const auto count = std::min<std::uint64_t>({due - std::min(due, sent), vnic_.room(), burst});
      if (count == 0) return;
      backlog.before_sending(sent + count);
      vnic_.send(static_cast<std::size_t>(count));
    }
  }

  // Until the switch has given all back.
  void wait_until_done(double limit_s) {
    const std::uint64_t end = tsc() + cycles(limit_s);
    for (vnic_.reclaim(); vnic_.under_way() != 0 && tsc() < end; vnic_.reclaim()) sleep_until(tsc() + turn_cycles());
  }

  Vnic<Queue>& vnic_;
  const MacAddr peer_;
  const double cycles_per_ns_;
  std::optional<SharedProgress> progress_;
  std::uint32_t run_ = 0;
  bool expects_ = false;
  std::uint32_t first_ = 0;
  Numbers numbers_;
};

}  // namespace patchbay::bench
