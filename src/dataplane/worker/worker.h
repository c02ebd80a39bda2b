// A worker: one thread that moves the frames of its ports from arrival to delivery, and sleeps when there are none.
//
// Theory  poll_once() is one pass over all ports: receive, classify, learn, forward, send; then flush. A pass uses one
//         snapshot. After a few passes without a frame the worker asks every port to wake it, looks once more, and
//         sleeps on their descriptors; while it sleeps it is offline for grace periods. No timers.
//         A frame that needs more than its way out can do is finished here, in software: for each way out by itself, so
//         that a flooded one is right for all of them.
// Limits  burst_max frames a port and pass, and the frames that those are cut into (frames_cut_max a piece).
// Threads start(), stop(), publish(), wake(), stats(): control. poll_once() and sleep(): the worker's own.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/dataplane.h"
#include "dataplane/dpdk/rcu.h"
#include "dataplane/frame/frame.h"
#include "dataplane/offload/segmenter.h"
#include "dataplane/worker/snapshot.h"

namespace patchbay::dataplane {

class Worker {
 public:
  // `rcu` must outlive the worker. Errors: no_resource, invalid (the CPU does not exist or may not be used).
  [[nodiscard]] static Result<std::unique_ptr<Worker>> create(unsigned id, std::optional<unsigned> cpu, dpdk::Rcu& rcu);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] Result<void> start();
  // Shows the worker a new snapshot and gives the old one back once the worker cannot use it any more.
  [[nodiscard]] std::unique_ptr<const Snapshot> publish(std::unique_ptr<const Snapshot> snapshot);
  // Makes a sleeping worker look at its ports.
  void wake() noexcept;
  [[nodiscard]] int epoll_fd() const noexcept { return epoll_fd_.get(); }
  [[nodiscard]] WorkerStats stats() const noexcept;

  // One pass over all ports; the number of frames that came in.
  std::size_t poll_once() noexcept;

 private:
  Worker(unsigned id, std::optional<unsigned> cpu, dpdk::Rcu& rcu, CallSignal calls) noexcept
      : id_(id), cpu_(cpu), rcu_(rcu), calls_(std::move(calls)) {}

  void run() noexcept;
  // The pass ends at this port, too.
  void note(Port& port) noexcept {
    if (port.noted) return;
    port.noted = true;
    port.noted_before = noted_;
    noted_ = &port;
  }
  void end_pass() noexcept;
  [[nodiscard]] std::size_t poll_port(const Snapshot& snapshot, forwarding::PortIndex index) noexcept;
  // Hands the burst on; the number of its frames that are done with, which is all of them unless the uplink is full.
  [[nodiscard]] std::size_t send(const Snapshot& snapshot, forwarding::PortIndex ingress, std::size_t count) noexcept;
  [[nodiscard]] std::size_t send_run(const Snapshot& snapshot, Port& from, std::size_t begin,
                                     std::size_t count) noexcept;
  [[nodiscard]] bool send_copy(const Snapshot& snapshot, Port& from, forwarding::PortIndex target,
                               Frame& frame) noexcept;
  // Sends frames that came from `from` through `to`, finished as far as `to` needs it; the number of those done with.
  [[nodiscard]] std::size_t finish_and_send(Port& from, Port& to, std::span<Frame> frames) noexcept;
  [[nodiscard]] bool cut_and_send(Port& from, Port& to, const Frame& piece) noexcept;
  [[nodiscard]] bool flood(const Snapshot& snapshot, forwarding::PortIndex ingress, std::size_t at) noexcept;
  // The port's frames wait for an uplink that is still full.
  [[nodiscard]] static bool held_up(const Snapshot& snapshot, const Snapshot::Entry& entry) noexcept;
  [[nodiscard]] bool prepare_sleep(const Snapshot& snapshot) noexcept;
  // Waits up to timeout_ms (-1: without an end, offline for grace periods). True if wake() was among the events.
  [[nodiscard]] bool read_events(int timeout_ms) noexcept;

  const unsigned id_;
  const std::optional<unsigned> cpu_;
  dpdk::Rcu& rcu_;
  CallSignal calls_;
  UniqueFd epoll_fd_;
  UniqueFd wake_fd_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::atomic<const Snapshot*> snapshot_ = nullptr;  // control writes, the worker reads
  Burst burst_;
  Burst cut_;  // frames of the piece that is being cut
  Segmenter segmenter_;
  forwarding::Seconds now_ = 0;  // of this pass
  std::size_t first_ = 0;        // the port at which the last pass started
  Port* noted_ = nullptr;        // that this pass ends at: a list, through Port::noted_before
  Counter busy_cycles_, idle_cycles_, frames_, sleeps_;
};

}  // namespace patchbay::dataplane
