// A worker's thread: passes while there is work, sleep when there is none.
#include <rte_cycles.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "dataplane/worker/worker.h"

namespace patchbay::dataplane {
namespace {

using forwarding::PortIndex;

constexpr unsigned idle_passes_min = 16;  // before a sleep
// And so long at most: about what a sleep and a wake-up cost.
constexpr std::uint64_t spins_max_per_second = 50'000;
// Descriptors that only epoll can report on are looked at every so many passes: taps, and a socket that is waited for; and
// sockets that nobody waits for. Where there are none nobody asks: that call costs as much as some dozen frames.
constexpr unsigned passes_between_events = 16;
constexpr unsigned passes_between_rare_events = 512;

}  // namespace

void Worker::run() noexcept {
  rcu_.register_reader(config_.id);
  const std::uint64_t spin_max = rte_get_tsc_hz() / spins_max_per_second;
  unsigned idle_passes = 0;
  unsigned passes = 0;
  std::uint64_t before = rte_rdtsc();
  std::uint64_t idle_since = before;
  while (!stop_.load(std::memory_order_acquire)) {
    rcu_.quiescent(config_.id);
    const std::size_t frames = poll_once();
    const std::uint64_t now = rte_rdtsc();
    (frames != 0 ? busy_cycles_ : idle_cycles_).add(now - before);
    before = now;
    // Whoever woke us wants a whole pass after that, also if the event was read here and we did not sleep.
    const bool woken = events_due(++passes) && read_events(0);
    if (frames != 0 || woken || pause_.load(std::memory_order_relaxed)) {
      idle_passes = 0;
      idle_since = now;
      continue;
    }
    ++idle_passes;
    if (config_.always_polls || idle_passes < idle_passes_min || now - idle_since < spin_cycles_) continue;
    idle_passes = 0;
    // Kicks from before they were switched off would end the sleep at once.
    const bool called = read_events(0);
    const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
    if (called || (snapshot != nullptr && prepare_sleep(*snapshot))) {
      idle_since = now;
      continue;
    }
    // The event that came with it may have been read above already.
    if (stop_.load(std::memory_order_acquire)) break;
    static_cast<void>(read_events(-1));
    before = rte_rdtsc();
    idle_since = before;
    const bool was_short = before - now < spin_max;
    spin_cycles_ = was_short ? std::min(spin_max, 2 * spin_cycles_ + spin_max / 8) : spin_cycles_ / 2;
  }
  rcu_.unregister_reader(config_.id);
}

bool Worker::events_due(unsigned passes) const noexcept {
  if (events_ == Events::none) return false;
  return passes % (events_ == Events::work || held_up_ ? passes_between_events : passes_between_rare_events) == 0;
}

bool Worker::prepare_sleep(const Snapshot& snapshot) noexcept {
  // Peers give us work and then look whether we sleep; we say that we do and then look for work.
  sleeping_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool work = pause_.load(std::memory_order_acquire);
  for (const Peer& peer : peers_) work = work || (peer.from != nullptr && peer.from->waiting() != 0);
  for (const PortIndex index : snapshot.owned[config_.id]) {
    const Snapshot::Entry& entry = snapshot.entries[index];
    if (entry.port->loan.open.load(std::memory_order_relaxed) && lent_is_back(*entry.port)) {
      work = true;
    } else if (!waits(snapshot, entry) && entry.port->prepare_sleep()) {
      work = true;
    }
  }
  if (work) {
    sleeping_.store(false, std::memory_order_relaxed);
    for (const PortIndex index : snapshot.owned[config_.id]) snapshot.entries[index].port->woke();
  }
  return work;
}

bool Worker::read_events(int timeout_ms) noexcept {
  std::array<epoll_event, 64> events;
  const bool sleeps = timeout_ms != 0;
  if (sleeps) {
    sleeps_.add(1);
    rcu_.offline(config_.id);
  }
  const int count = epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  if (sleeps) {
    rcu_.online(config_.id);
    sleeping_.store(false, std::memory_order_relaxed);
  }
  // Looked up by id: a port may have been closed, or be another worker's, by now.
  const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
  bool woken = false;
  for (int i = 0; i < count; ++i) {
    if (events[static_cast<std::size_t>(i)].data.u64 == wake_data) {
      woken = true;
      continue;
    }
    if (snapshot == nullptr) continue;
    const PortId id{static_cast<std::uint32_t>(events[static_cast<std::size_t>(i)].data.u64)};
    if (Port* const port = snapshot->find(id, config_.id)) port->on_event(events[static_cast<std::size_t>(i)].events);
  }
  if (sleeps && snapshot != nullptr) {
    for (const PortIndex index : snapshot->owned[config_.id]) snapshot->entries[index].port->woke();
  }
  return woken;
}

}  // namespace patchbay::dataplane
