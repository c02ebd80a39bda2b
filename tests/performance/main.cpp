// patchbay_loadgen: the load generator of ./bench. Guests without VMs: it attaches vnics to any vhost-user back-end,
// sends frames between pairs of them and measures.
//
// Theory  Its one argument is a JSON file that says which sockets; then it reads commands, one JSON object a line, and
//         answers each with one. So one attached set of vnics serves many measurements, and the driver (tools/bench)
//         reads the switch's own counters in between.
//           {"link": {"limit_s": 20}}               each vnic hears from its peer; the switch learns where they are
//           {"run": {"frame_bytes", "gso_size", "may_be_cut", "flows", "macs", "rate", "seconds", "frames_each",
//                    "burst", "burst_least", "window", "quiet_s", "check_bytes"}}
//           {"endure": {the keys of "run"}}         a run over which back-ends may die and come back, to the next command,
//                                                    which is {"enough": {}}
//           {"wake": {"count": 1000, "sleep_limit_s": 1}}
//                                                    from a kick to the frame in the peer's ring, of a switch that sleeps
//           {"bare_ping": {"count": 1000, "cpu": 1}} the same without a switch: eventfd to epoll
//         With "mirror": "02:…" in the file, an address behind the switch, each vnic sends there and waits for its own
//         frames to come back with their addresses exchanged, instead of sending to a peer.
//         With "isolation": true, the last four vnics are three senders and a receiver (isolation.h), beside the pairs:
//           {"isolate": {the keys of "run"; "frame_bytes" is of all, "flood_rate", "stands_still"}}
//                                                    a run of the pairs, while the three send to a receiver that stands
//                                                    still or does not
//           {"settle": {"quiet_s"}}                  until the switch has given everything back; what came of it
//         With "peer": "02:…", the address of a vnic of another process, the file has one vnic; commands: one_way.h.
//         It ends with its standard input.
// Errors  One line {"error": "…"}, and exit status 1. Exceptions carry it there: this program is not the data path.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/performance/config.h"
#include "tests/performance/endurance.h"
#include "tests/performance/isolation.h"
#include "tests/performance/one_way.h"
#include "tests/performance/traffic.h"
#include "tests/performance/wake.h"

namespace {

using namespace patchbay;
using namespace patchbay::bench;
using Json = nlohmann::json;

void say(const Json& answer) {
  std::cout << answer.dump() << std::endl;
}

Json latency_ns(const Histogram& latency, double cycles_per_ns) {
  const auto ns = [&](double share) {
    return static_cast<std::uint64_t>(static_cast<double>(latency.quantile(share)) / cycles_per_ns);
  };
  return {{"count", latency.count()}, {"p50", ns(0.5)}, {"p99", ns(0.99)}, {"p999", ns(0.999)}, {"max", ns(1)}};
}

template <typename Queue>
class Generator {
 public:
  explicit Generator(const Config& config)
      : ends_(config.vnics), mirror_(config.mirror), cycles_per_ns_(measure_cycles_per_ns()) {
    if (config.listens) {
      for (const auto& end : ends_) listeners_.push_back(listen_on(end.socket));
      say({{"listening", listeners_.size()}});
    }
    const std::size_t paired = ends_.size() - (config.isolation ? isolation_vnics : 0);
    for (std::uint32_t i = 0; i < ends_.size(); ++i) {
      (i < paired ? vnics_ : apart_).emplace_back(i, ends_[i].mac, config.shape);
      attach(i, config.attach_limit_s);
    }
    if (config.peer) one_way_.emplace(vnics_.front(), *config.peer, config.progress, cycles_per_ns_);
    say({{"attached", ends_.size()},
         {"features", fmt::format("{:#x}", vnics_.front().features())},
         {"tsc_mhz", cycles_per_ns_ * 1000}});
  }

  void serve() {
    for (std::string line; next_command(line);) {
      const Json command = Json::parse(line);
      Json answer = obey(command);
      for (std::size_t i = 0; i < ends_.size(); ++i) {
        if (vnic(i).is_detached()) throw std::runtime_error(fmt::format("vnic {}: the back-end hung up", i));
      }
      say(answer);
    }
  }

 private:
  [[nodiscard]] static bool has_input() {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    return std::cin.rdbuf()->in_avail() > 0 || ::poll(&input, 1, 0) != 0;
  }
  // False when there are no more.
  bool next_command(std::string& line) {
    while (one_way_ && one_way_->turn() && !has_input()) {
    }
    return static_cast<bool>(std::getline(std::cin, line));
  }

  [[nodiscard]] Vnic<Queue>& vnic(std::size_t i) { return i < vnics_.size() ? vnics_[i] : apart_[i - vnics_.size()]; }
  void attach(std::size_t i, int limit_s) {
    vnic(i).attach(listeners_.empty() ? FrontEnd::connect(ends_[i].socket)
                                      : FrontEnd::accept(listeners_[i].get(), ends_[i].socket, limit_s));
  }

  [[nodiscard]] Traffic<Queue> traffic() { return Traffic<Queue>(vnics_, cycles_per_ns_, mirror_); }

  Json obey(const Json& command) {
    if (one_way_) return one_way_->obey(command);
    if (command.contains("link")) {
      const double limit_s = command.at("link").value("limit_s", 20.0);
      return {{"silent", traffic().link(++run_, limit_s)}};
    }
    if (command.contains("run")) return run(command.at("run"));
    if (command.contains("endure")) return endure(command.at("endure"));
    if (command.contains("isolate")) return isolate(command.at("isolate"));
    if (command.contains("settle")) return settle(command.at("settle"));
    if (command.contains("wake")) {
      if (mirror_) throw std::runtime_error("wake needs two vnics and no mirror");
      return wake(command.at("wake"));
    }
    if (command.contains("bare_ping")) {
      const Json& ping = command.at("bare_ping");
      return latency_ns(bare_ping(ping.value("count", std::size_t{1000}), ping.at("cpu"), cycles_per_ns_),
                        cycles_per_ns_);
    }
    throw std::runtime_error(fmt::format("unknown command {}", command.dump()));
  }

  // What to send, of the values of a command.
  std::pair<RunFrames, Load> read_run(const Json& wanted) {
    RunFrames frames;
    frames.run = ++run_;
    frames.size = wanted.value("frame_bytes", frames.size);
    frames.gso_size = wanted.value("gso_size", frames.gso_size);
    frames.may_be_cut = wanted.value("may_be_cut", frames.may_be_cut);
    frames.flows = wanted.value("flows", frames.flows);
    frames.macs = wanted.value("macs", frames.macs);
    frames.check_bytes = wanted.value("check_bytes", frames.check_bytes);
    Load load;
    load.rate = wanted.value("rate", load.rate);
    load.seconds = wanted.value("seconds", load.seconds);
    load.frames_each = wanted.value("frames_each", load.frames_each);
    load.burst = wanted.value("burst", load.burst);
    load.burst_least = wanted.value("burst_least", load.burst_least);
    load.window = wanted.value("window", load.window);
    load.quiet_s = wanted.value("quiet_s", load.quiet_s);
    const VnicShape& shape = vnics_.front().shape();
    const std::size_t least = frame_bytes_least(frames.gso_size);
    if (frames.size < least || frames.size > shape.frame_bytes_max) {
      throw std::runtime_error(fmt::format("frame_bytes {}: from {} to frame_bytes_max of the file, {}", frames.size,
                                           least, shape.frame_bytes_max));
    }
    if (frames.gso_size != 0 && !shape.offloads) throw std::runtime_error("gso_size needs \"offloads\" in the file");
    return {frames, load};
  }

  Json run(const Json& wanted) {
    const auto [frames, load] = read_run(wanted);
    return answer_of(traffic().run(frames, load));
  }

  [[nodiscard]] Json answer_of(const Measured& measured) const {
    const VnicCounts& sum = measured.sum;
    return {{"sent", sum.sent},
            {"received", sum.received},
            {"lost", sum.sent - std::min(sum.sent, sum.received)},
            {"misdelivered", sum.misdelivered},
            {"damaged", sum.damaged},
            {"first_damage", sum.first_damage},
            {"reordered", sum.reordered},
            {"stray", sum.stray},
            {"not_offered", measured.not_offered},
            {"least_received", measured.least_received},
            {"kicks", sum.kicks},
            {"seconds", measured.seconds},
            {"frames_per_s", static_cast<double>(measured.received_while_sending) / measured.seconds},
            {"latency_ns", latency_ns(measured.latency, cycles_per_ns_)}};
  }

  Json isolate(const Json& wanted) {
    if (apart_.empty()) throw std::runtime_error("isolate needs \"isolation\" in the file");
    const auto [frames, load] = read_run(wanted);
    if (!isolation_) {
      std::vector<MacAddr> addresses;
      for (std::size_t i = vnics_.size(); i < ends_.size(); ++i) addresses.push_back(ends_[i].mac);
      isolation_.emplace(apart_, addresses, frames.size, cycles_per_ns_);
    }
    isolation_->begin(wanted.at("stands_still"), wanted.value("flood_rate", 0.0));
    Json answer = answer_of(traffic().run(frames, load, [&] {
      isolation_->turn();
      return true;
    }));
    answer["flood"] = answer_of(isolation_->counts());
    return answer;
  }

  Json settle(const Json& wanted) {
    if (!isolation_) throw std::runtime_error("settle comes after isolate");
    if (!isolation_->settle(20.0, wanted.value("quiet_s", Load{}.quiet_s))) {
      throw std::runtime_error("the switch does not give back what was sent");
    }
    return answer_of(isolation_->counts());
  }

  [[nodiscard]] static Json answer_of(const IsolationCounts& counts) {
    return {{"sent", counts.sent},       {"received", counts.received},
            {"skipped", counts.skipped}, {"steps_back", counts.steps_back},
            {"strays", counts.strays},   {"before_gap", counts.before_gap}};
  }

  // Until the next line of input, which is taken, too.
  Json endure(const Json& wanted) {
    const auto [frames, load] = read_run(wanted);
    Endurance<Queue> endurance(vnics_, [this](std::size_t i) { attach(i, 0); });
    const Measured measured = traffic().run(frames, load, [&] {
      endurance.turn();
      return !has_input();
    });
    std::string enough;
    std::getline(std::cin, enough);
    Json receivers = Json::array();
    for (std::size_t i = 0; i < vnics_.size(); ++i) {
      const Sequence& sequence = vnics_[i].sequence();
      receivers.push_back({{"sent_to_it", vnics_[i ^ 1].counts().sent},
                           {"next", sequence.next()},
                           {"skipped", sequence.skipped()},
                           {"steps_back", sequence.steps_back()},
                           {"step_back_max", sequence.step_back_max()}});
    }
    Json returns = Json::array();
    for (const Return& one : endurance.returns()) {
      returns.push_back({{"vnic", one.vnic}, {"attached_at", one.attached_at}, {"first_frame_at", one.first_frame_at}});
    }
    return {{"receivers", receivers},
            {"returns", returns},
            {"misdelivered", measured.sum.misdelivered},
            {"damaged", measured.sum.damaged},
            {"stray", measured.sum.stray}};
  }

  // Single frames from vnic 0 to vnic 1, each after a silence. Waits up to `sleep_limit_s` for the switch to ask for
  // kicks, which is how it says that it goes to sleep; what polls never does.
  Json wake(const Json& wanted) {
    const std::size_t count = wanted.value("count", std::size_t{1000});
    const double sleep_limit_s = wanted.value("sleep_limit_s", 1.0);
    vnics_[0].prepare({.run = ++run_}, vnics_[1]);
    vnics_[1].prepare({.run = run_}, vnics_[0]);
    Histogram latency;
    std::size_t asleep = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t patience = deadline(sleep_limit_s);
      bool sleeps = vnics_[0].back_end_wants_kicks();
      while (!sleeps && tsc() < patience) sleeps = vnics_[0].back_end_wants_kicks();
      if (sleeps) ++asleep;
      spin(wake_gap_us, cycles_per_ns_);
      vnics_[0].reclaim();
      vnics_[0].send(1);
      const std::uint64_t limit = deadline(10);
      while (vnics_[1].receive(latency) == 0) {
        if (tsc() > limit) throw std::runtime_error(fmt::format("frame {} did not come within 10 s", i));
      }
    }
    Json answer = latency_ns(latency, cycles_per_ns_);
    answer["asleep"] = asleep;
    return answer;
  }

  [[nodiscard]] std::uint64_t deadline(double seconds) const {
    return tsc() + static_cast<std::uint64_t>(seconds * 1e9 * cycles_per_ns_);
  }

  const std::vector<Config::End> ends_;
  std::vector<UniqueFd> listeners_;  // where we listen: one a vnic
  std::deque<Vnic<Queue>> vnics_;    // in pairs
  std::deque<Vnic<Queue>> apart_;    // those of isolation_, whose numbers follow
  const std::optional<MacAddr> mirror_;
  const double cycles_per_ns_;
  std::uint32_t run_ = 0;
  std::optional<OneWay<Queue>> one_way_;
  std::optional<Isolation<Queue>> isolation_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr,
               "usage: patchbay_loadgen CONFIG.json; commands on standard input, as tests/performance/main.cpp says\n");
    return 2;
  }
  try {
    const Config config = read_config(argv[1]);
    if (config.packed) {
      Generator<PackedQueue>(config).serve();
    } else {
      Generator<SplitQueue>(config).serve();
    }
  } catch (const std::exception& thrown) {
    say({{"error", thrown.what()}});
    return 1;
  }
  return 0;
}
