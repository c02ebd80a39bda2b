#include "dataplane/worker/worker.h"

#include <fmt/format.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dataplane/forwarding/classify.h"
#include "dataplane/forwarding/forward.h"

namespace patchbay::dataplane {
namespace {

using forwarding::PortIndex;

// So many ports ahead are told that their turn comes.
constexpr std::size_t ports_ahead = 4;

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(const Config& config, dpdk::Rcu& rcu) {
  auto calls = CallSignal::create();
  if (!calls) return fail(calls.error());
  std::unique_ptr<Worker> worker(new Worker(config, rcu, std::move(*calls)));
  worker->epoll_fd_.reset(epoll_create1(EPOLL_CLOEXEC));
  worker->wake_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!worker->epoll_fd_ || !worker->wake_fd_) return fail(system_error(fmt::format("worker {}", config.id), errno));
  epoll_event event = {};
  event.events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);
  event.data.u64 = wake_data;
  if (epoll_ctl(worker->epoll_fd_.get(), EPOLL_CTL_ADD, worker->wake_fd_.get(), &event) != 0) {
    return fail(system_error(fmt::format("worker {}", config.id), errno));
  }
  return worker;
}

Worker::~Worker() {
  stop();
}

void Worker::stop() noexcept {
  stop_.store(true, std::memory_order_release);
  wake();
  if (thread_.joinable()) thread_.join();
}

Result<void> Worker::start() {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), fmt::format("worker-{}", config_.id).c_str());
  if (!config_.cpu) return {};
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(*config_.cpu, &cpus);
  if (const int error = pthread_setaffinity_np(thread_.native_handle(), sizeof cpus, &cpus); error != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("worker CPU {}: this host has no such CPU, or it may not be used; choose "
                            "one that `nproc` and /sys/devices/system/cpu/online show",
                            *config_.cpu));
  }
  return {};
}

void Worker::show(const Snapshot* snapshot) noexcept {
  snapshot_.store(snapshot, std::memory_order_release);
  wake();
}

void Worker::pause(bool on) noexcept {
  paused_.store(false, std::memory_order_relaxed);
  pause_.store(on, std::memory_order_release);
  wake();
}

void Worker::wake() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_fd_.get(), &one, sizeof one));
}

WorkerStats Worker::stats() const noexcept {
  return {.id = config_.id,
          .cpu = config_.cpu,
          .busy_cycles = busy_cycles_.get(),
          .idle_cycles = idle_cycles_.get(),
          .frames = frames_.get(),
          .sleeps = sleeps_.get()};
}

std::size_t Worker::poll_once() noexcept {
  const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
  const bool pausing = pause_.load(std::memory_order_acquire);
  if (snapshot == nullptr) {
    if (pausing) paused_.store(true, std::memory_order_release);
    return 0;
  }
  events_ = snapshot->events[config_.id];
  held_up_ = false;
  now_ = forwarding::seconds_now();
  std::size_t moved = peers_.empty() ? 0 : deliver_lent();
  if (pausing) {
    for (const PortIndex index : snapshot->owned[config_.id]) {
      Port& port = *snapshot->entries[index].port;
      if (port.loan.open.load(std::memory_order_relaxed)) static_cast<void>(take_back(port));
    }
  } else {
    const std::size_t frames = poll_ports(*snapshot);
    frames_.add(frames);
    moved += frames;
  }
  if (!peers_.empty()) look_for_room(*snapshot);
  end_pass();
  if (pausing) paused_.store(true, std::memory_order_release);
  return moved;
}

std::size_t Worker::poll_ports(const Snapshot& snapshot) noexcept {
  const auto& owned = snapshot.owned[config_.id];
  const std::size_t count = owned.size();
  std::size_t frames = 0;
  // Each pass starts at another port, so that the room in a slow uplink goes round.
  first_ = first_ + 1 < count ? first_ + 1 : 0;
  const auto at = [&](std::size_t i) { return owned[first_ + i < count ? first_ + i : first_ + i - count]; };
  for (std::size_t i = 0; i < std::min(ports_ahead, count); ++i) snapshot.entries[at(i)].port->prepare();
  for (std::size_t i = 0; i < count; ++i) {
    if (i + ports_ahead < count) snapshot.entries[at(i + ports_ahead)].port->prepare();
    const PortIndex index = at(i);
    frames += drain(*snapshot.entries[index].port);
    std::size_t bursts = snapshot.entries[index].rule.uplink ? uplink_bursts : 1;
    for (std::size_t got = burst_max; bursts != 0 && got == burst_max; --bursts) {
      got = poll_port(snapshot, index);
      frames += got;
    }
  }
  return frames;
}

std::size_t Worker::poll_port(const Snapshot& snapshot, PortIndex index) noexcept {
  const Snapshot::Entry& entry = snapshot.entries[index];
  Port& port = *entry.port;
  Loan& loan = port.loan;
  if (loan.open.load(std::memory_order_relaxed)) static_cast<void>(take_back(port));
  if (waits(snapshot, entry)) return 0;
  const std::size_t count = port.receive(burst_);
  port.stalled = false;
  if (entry.rule.uplink) port.note_look(count == 0);
  if (count == 0) {
    port.cut_sent = 0;  // what waited is gone
    loan.uplink_has_it = false;
    if (port.greets()) note(port);
    return 0;
  }
  note(port);
  patient_ = port.is_patient();
  const std::span frames(burst_.frames.data(), count);
  if (entry.team != nullptr) entry.team->judge(frames, *entry.member);
  const forwarding::SwitchTable& table = snapshot.switches[entry.switch_index];
  forwarding::classify(frames, entry.rule, table);
  forwarding::learn(frames, entry.rule, table, now_);
  forwarding::forward(frames, entry.ingress, table, now_);
  lent_ = 0;
  const auto merged = entry.coalesces ? coalesce(snapshot, port, count) : Coalescer::Merged{};
  const std::size_t sent = send(snapshot, index, count - merged.frames);
  const std::size_t done = sent + merged.frames;
  port.stalled = done < count;
  std::uint64_t bytes = merged.bytes;
  for (const Frame& frame : frames.first(sent)) bytes += frame.size;
  const bool more = loan.open.load(std::memory_order_relaxed);
  if (more || lent_ != 0) {
    loan.bursts = more ? loan.bursts + 1 : 1;
    loan.done = more ? loan.done + done : done;
    loan.bytes = more ? loan.bytes + bytes : bytes;
    loan.open.store(true, std::memory_order_release);
    return done != 0 ? done : lent_;
  }
  port.count_ingress(done, bytes);
  port.complete(done);
  return done;
}

bool Worker::held_up(const Snapshot& snapshot, const Snapshot::Entry& entry) const noexcept {
  if (!entry.port->stalled) return false;
  const auto uplink = snapshot.switches[entry.switch_index].uplink();
  if (!uplink) return false;
  const Snapshot::Entry& way_out = snapshot.entries[*uplink];
  return way_out.worker == config_.id ? way_out.port->full() : way_out.port->congested.load(std::memory_order_relaxed);
}

std::size_t Worker::drain(Port& port) noexcept {
  if (!port.holds_frames) return 0;
  note(port);
  return port.drain();
}

bool Worker::waits(const Snapshot& snapshot, const Snapshot::Entry& entry) noexcept {
  if (entry.rule.uplink && entry.port->held.load(std::memory_order_acquire)) return true;
  const Loan& loan = entry.port->loan;
  const std::size_t bursts = entry.rule.uplink ? uplink_bursts : 1;
  if (loan.open.load(std::memory_order_relaxed) && loan.bursts == bursts) return true;
  if (held_up(snapshot, entry)) return held_up_ = true;
  // What comes in from the wire cannot be left there.
  return entry.rule.uplink && std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
           return peer.to != nullptr && peer.to->room(burst_max) < burst_max;
         });
}

void Worker::end_pass() noexcept {
  for (Port* port = noted_; port != nullptr; port = port->noted_before) port->flush();
  if (!peers_.empty()) give_back_lent();
  for (Port* port = noted_; port != nullptr; port = port->noted_before) port->settle();
  if (noted_ == nullptr && posted_ == 0) return;
  // Guests write their wish to be called and then look at their rings; we have written the rings and then look for wishes.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (noted_ != nullptr) {
    Port& port = *std::exchange(noted_, noted_->noted_before);
    port.noted = false;
    port.notify(calls_);
  }
  wake_peers();
}

}  // namespace patchbay::dataplane
