// All workers, and which of them owns a port.
//
// Theory  A snapshot is for all workers; each polls the ports that it owns in it, and lends to the others what is to leave
//         through theirs. A new port goes to the worker with the fewest. A port changes its worker only while all of them
//         pause: they receive nothing, what they have lent comes back, then the port is handed over. That takes some passes,
//         no frame is lost (they wait in their rings), and none overtakes another.
//         Before anything that parcels may point to is given up (an old snapshot, a port that no snapshot has any more) all
//         lanes have been emptied once: drain().
// Limits  dpdk::Rcu::readers_max workers.
// Threads control's.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "dataplane/worker/worker.h"

namespace patchbay::dataplane {

class Workers {
 public:
  // One for each CPU, pinned to it; one that is pinned to none if `cpus` is empty. `rcu` must outlive them.
  // Errors: as Worker::create().
  [[nodiscard]] static Result<std::unique_ptr<Workers>> create(std::span<const unsigned> cpus, bool always_poll,
                                                               dpdk::Rcu& rcu);
  // The same, none pinned.
  [[nodiscard]] static Result<std::unique_ptr<Workers>> create(unsigned count, dpdk::Rcu& rcu);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Errors: as Worker::start().
  [[nodiscard]] Result<void> start();
  [[nodiscard]] unsigned count() const noexcept { return static_cast<unsigned>(workers_.size()); }
  [[nodiscard]] Worker& at(unsigned worker) noexcept { return *workers_[worker]; }
  [[nodiscard]] const Worker& at(unsigned worker) const noexcept { return *workers_[worker]; }
  void wake() noexcept;

  // The worker with the fewest ports of the published snapshot and `more` (by worker) beside them.
  [[nodiscard]] unsigned least_used(std::span<const std::size_t> more) const;
  // Replaces the snapshot. From its return on nothing that only the old one names is in use.
  void publish(std::unique_ptr<Snapshot> snapshot);
  // Returns when all parcels that are on their way now have arrived. No worker may pause.
  void drain() noexcept;
  // Makes all workers pause, and calls `act` when nothing is lent; then they go on.
  template <typename Act>
  void at_rest(Act act) {
    pause();
    act();
    for (const auto& worker : workers_) worker->pause(false);
  }

 private:
  explicit Workers(dpdk::Rcu& rcu) noexcept : rcu_(rcu) {}
  [[nodiscard]] Result<void> add(const Worker::Config& config);
  void introduce();
  void pause() noexcept;
  [[nodiscard]] bool rests() const noexcept;

  dpdk::Rcu& rcu_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::unique_ptr<const Snapshot> snapshot_;
  std::vector<std::unique_ptr<Worker>> workers_;  // last: they stop before what they use goes
};

}  // namespace patchbay::dataplane
