// A worker: one thread that moves the frames of its ports from arrival to delivery, and sleeps when there are none.
//
// Theory  poll_once() is one pass: frames that other workers have lent, then all own ports: receive, classify, learn,
//         forward, send; then the end of the pass at all ports that had a part in it. A pass uses one snapshot. After some
//         passes without a frame the worker asks every port to wake it, looks once more, and sleeps on their descriptors;
//         while it sleeps it is offline for grace periods. No timers. How many passes that are follows from how long the
//         last sleeps lasted: short ones cost more than to look a little longer.
//         Frames of an uplink that coalesces are merged once it is known where they go: not for ways that would have them
//         cut again, and not those that are dropped.
//         A frame that needs more than its way out can do is finished here, in software: for each way out by itself, so
//         that a flooded one is right for all of them.
//         Frames for ports of other workers are lent to those (lane.h). A burst ends with its first frame for an uplink of
//         another worker, or those that follow it to there: an uplink may refuse, and they wait in their ring, in order.
// Limits  burst_max frames a port and pass, and the frames that those are cut into (frames_cut_max a piece).
// Threads start(), show(), pause(), wake(), stats(): control. poll_once() and sleep(): the worker's own.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/dataplane.h"
#include "dataplane/dpdk/rcu.h"
#include "dataplane/frame/frame.h"
#include "dataplane/offload/coalescer.h"
#include "dataplane/offload/segmenter.h"
#include "dataplane/worker/lane.h"
#include "dataplane/worker/snapshot.h"

namespace patchbay::dataplane {

class Worker {
 public:
  struct Config {
    unsigned id = 0;
    std::optional<unsigned> cpu = std::nullopt;
    bool always_polls = false;  // never sleeps
  };
  // The way to another worker and the one back. Null at the worker's own place.
  struct Peer {
    Worker* worker = nullptr;
    Lane* to = nullptr;
    Lane* from = nullptr;
  };

  static constexpr std::uint64_t wake_data = 0;  // of the worker's own descriptor in its epoll; port ids start at 1

  // `rcu` must outlive the worker. Errors: no_resource, invalid (the CPU does not exist or may not be used).
  [[nodiscard]] static Result<std::unique_ptr<Worker>> create(const Config& config, dpdk::Rcu& rcu);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // All workers, by id. Before start().
  void know(std::vector<Peer> peers) { peers_ = std::move(peers); }
  [[nodiscard]] Result<void> start();
  // No more passes from its return on.
  void stop() noexcept;
  // The snapshot that passes use from the next one on. The last one may be in use until a grace period has passed.
  void show(const Snapshot* snapshot) noexcept;
  // Receives nothing, from some pass on; frames that are out come back. paused(): that pass has come.
  void pause(bool on) noexcept;
  [[nodiscard]] bool paused() const noexcept { return paused_.load(std::memory_order_acquire); }
  // Makes a sleeping worker look at its ports.
  void wake() noexcept;
  [[nodiscard]] int epoll_fd() const noexcept { return epoll_fd_.get(); }
  [[nodiscard]] WorkerStats stats() const noexcept;

  // One pass; the number of frames that came in.
  std::size_t poll_once() noexcept;

 private:
  Worker(const Config& config, dpdk::Rcu& rcu, CallSignal calls) noexcept
      : config_(config), rcu_(rcu), calls_(std::move(calls)) {}

  // The pass ends at this port, too.
  void note(Port& port) noexcept {
    if (port.noted) return;
    port.noted = true;
    port.noted_before = noted_;
    noted_ = &port;
  }
  void end_pass() noexcept;
  [[nodiscard]] std::size_t poll_ports(const Snapshot& snapshot) noexcept;
  [[nodiscard]] std::size_t poll_port(const Snapshot& snapshot, forwarding::PortIndex index) noexcept;
  // What waits at the port for the other side goes on, as far as that has room; the number of frames.
  [[nodiscard]] std::size_t drain(Port& port) noexcept;
  // The port's frames wait for an uplink that is still full.
  [[nodiscard]] bool held_up(const Snapshot& snapshot, const Snapshot::Entry& entry) const noexcept;
  // Nothing can be received from the port now.
  [[nodiscard]] bool waits(const Snapshot& snapshot, const Snapshot::Entry& entry) noexcept;

  // ---- forward.cpp: what becomes of a burst
  // Merges what goes to ways that take large pieces. The frames that are left stand first.
  [[nodiscard]] Coalescer::Merged coalesce(const Snapshot& snapshot, Port& from, std::size_t count) noexcept;
  // Hands the burst of the entry at `index` on; the number of its frames that are done with, which is all of them unless an
  // uplink is full.
  [[nodiscard]] std::size_t send(const Snapshot& snapshot, forwarding::PortIndex index, std::size_t count) noexcept;
  [[nodiscard]] std::size_t send_run(const Snapshot& snapshot, Port& from, std::size_t begin,
                                     std::size_t count) noexcept;
  [[nodiscard]] bool send_copy(const Snapshot& snapshot, forwarding::PortIndex target, Frame& frame) noexcept;
  // Counts those of the uplink's frames that a filter would have sorted out.
  static void count_sorted(const Snapshot::Entry& egress, const Port& uplink, std::span<const Frame> frames) noexcept;
  // Sends frames through `to`, finished as far as `to` needs it; the number of those done with. `cut_sent`: frames of the
  // first one, a large piece, that have left already; if it is `resumed`.
  [[nodiscard]] std::size_t finish_and_send(Port& to, std::span<Frame> frames, std::uint32_t& cut_sent,
                                            bool resumed) noexcept;
  [[nodiscard]] bool cut_and_send(Port& to, const Frame& piece, std::uint32_t& cut_sent) noexcept;
  [[nodiscard]] bool flood(const Snapshot& snapshot, forwarding::PortIndex index, std::size_t at) noexcept;
  // Calls what(PortIndex) for all vnics that `frame` is to be flooded to.
  template <typename What>
  void for_each_member(const forwarding::SwitchTable& table, const Frame& frame, What what) const noexcept;

  // ---- lending.cpp: between workers
  [[nodiscard]] std::size_t lend(const Snapshot& snapshot, Port& from, forwarding::PortIndex target,
                                 std::span<const Frame> frames, bool first) noexcept;
  void lend_flood(const Snapshot& snapshot, std::uint32_t switch_index, Port& from, const Frame& frame,
                  std::uint64_t workers) noexcept;
  // All that was lent of the port is back, and what was received is complete. False: not yet.
  [[nodiscard]] bool take_back(Port& port) noexcept;
  [[nodiscard]] bool lent_is_back(const Port& port) const noexcept;
  [[nodiscard]] std::size_t deliver_lent() noexcept;
  [[nodiscard]] std::uint32_t deliver_run(Lane& lane, std::uint32_t at, std::uint32_t waiting) noexcept;
  void deliver_flood(Parcel& parcel) noexcept;
  void give_back_lent() noexcept;
  void wake_peers() noexcept;
  void look_for_room(const Snapshot& snapshot) noexcept;
  // Wakes it if it sleeps, or is about to.
  void nudge() noexcept;

  // ---- sleep.cpp: the thread
  void run() noexcept;
  [[nodiscard]] bool events_due(unsigned passes) const noexcept;
  [[nodiscard]] bool prepare_sleep(const Snapshot& snapshot) noexcept;
  // Waits up to timeout_ms (-1: without an end, offline for grace periods). True if wake() was among the events.
  [[nodiscard]] bool read_events(int timeout_ms) noexcept;

  const Config config_;
  dpdk::Rcu& rcu_;
  CallSignal calls_;
  UniqueFd epoll_fd_;
  UniqueFd wake_fd_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> pause_ = false;
  std::atomic<bool> paused_ = false;
  std::atomic<bool> sleeping_ = false;               // or about to: whoever has something for it wakes it
  std::atomic<const Snapshot*> snapshot_ = nullptr;  // control writes, the worker reads
  std::vector<Peer> peers_;
  Burst burst_;
  Burst cut_;                                                      // frames of the piece that is being cut
  std::array<Frame, burst_max> lent_frames_;                       // that one lane had for one port
  std::array<std::uint32_t, dpdk::Rcu::readers_max> delivered_{};  // parcels of each peer's lane, in this pass
  std::uint64_t posted_ = 0;  // peers that this pass lent something or gave something back to
  std::size_t lent_ = 0;      // frames of this burst
  Segmenter segmenter_;
  Coalescer coalescer_;
  Events events_ = Events::none;  // that the ports of this pass need
  bool held_up_ = false;          // one of them waits for room in an uplink
  forwarding::Seconds now_ = 0;   // of this pass
  std::size_t first_ = 0;         // the port at which the last pass started
  Port* noted_ = nullptr;         // that this pass ends at: a list, through Port::noted_before
  bool patient_ = false;          // the port that is being received from
  std::uint64_t spin_cycles_ = 0;
  Counter busy_cycles_, idle_cycles_, frames_, sleeps_;
};

template <typename What>
void Worker::for_each_member(const forwarding::SwitchTable& table, const Frame& frame, What what) const noexcept {
  if (frame.action == Action::flood) {
    for (const forwarding::PortIndex member : table.members(frame.vid)) what(member);
    for (const auto& member : table.wide_members()) {
      if (member.vlans.hears(frame.vid)) what(member.port);
    }
  } else {
    for (const auto& member : table.spoofing_members()) {
      if (member.vlans.hears(frame.vid)) what(member.port);
    }
  }
}

}  // namespace patchbay::dataplane
