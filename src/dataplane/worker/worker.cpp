#include "dataplane/worker/worker.h"

#include <fmt/format.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/byte_order.h"
#include "dataplane/forwarding/classify.h"
#include "dataplane/forwarding/forward.h"
#include "dataplane/offload/checksum.h"

namespace patchbay::dataplane {
namespace {

using forwarding::PortIndex;

constexpr std::uint64_t wake_data = 0;  // port ids start at 1
constexpr unsigned idle_passes_max = 16;
constexpr std::size_t uplink_bursts = 8;
// Descriptors that only epoll can report on (taps, a socket that may send again) are looked at every so many busy
// passes.
constexpr unsigned passes_between_events = 16;
// So many ports ahead are told that their turn comes.
constexpr std::size_t ports_ahead = 4;

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(unsigned id, std::optional<unsigned> cpu, dpdk::Rcu& rcu) {
  auto calls = CallSignal::create();
  if (!calls) return fail(calls.error());
  std::unique_ptr<Worker> worker(new Worker(id, cpu, rcu, std::move(*calls)));
  worker->epoll_fd_.reset(epoll_create1(EPOLL_CLOEXEC));
  worker->wake_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!worker->epoll_fd_ || !worker->wake_fd_) return fail(system_error(fmt::format("worker {}", id), errno));
  epoll_event event = {};
  event.events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);
  event.data.u64 = wake_data;
  if (epoll_ctl(worker->epoll_fd_.get(), EPOLL_CTL_ADD, worker->wake_fd_.get(), &event) != 0) {
    return fail(system_error(fmt::format("worker {}", id), errno));
  }
  return worker;
}

Worker::~Worker() {
  stop_.store(true, std::memory_order_release);
  wake();
  if (thread_.joinable()) thread_.join();
  delete snapshot_.load(std::memory_order_acquire);
}

Result<void> Worker::start() {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), fmt::format("worker-{}", id_).c_str());
  if (!cpu_) return {};
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(*cpu_, &cpus);
  if (const int error = pthread_setaffinity_np(thread_.native_handle(), sizeof cpus, &cpus); error != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("worker CPU {}: this host has no such CPU, or it may not be used; choose "
                            "one that `nproc` and /sys/devices/system/cpu/online show",
                            *cpu_));
  }
  return {};
}

std::unique_ptr<const Snapshot> Worker::publish(std::unique_ptr<const Snapshot> snapshot) {
  std::unique_ptr<const Snapshot> old(snapshot_.exchange(snapshot.release(), std::memory_order_acq_rel));
  wake();
  rcu_.synchronize();
  return old;
}

void Worker::wake() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_fd_.get(), &one, sizeof one));
}

WorkerStats Worker::stats() const noexcept {
  return {.id = id_,
          .cpu = cpu_,
          .busy_cycles = busy_cycles_.get(),
          .idle_cycles = idle_cycles_.get(),
          .frames = frames_.get(),
          .sleeps = sleeps_.get()};
}

void Worker::run() noexcept {
  rcu_.register_reader(id_);
  unsigned idle_passes = 0;
  unsigned passes = 0;
  std::uint64_t before = rte_rdtsc();
  while (!stop_.load(std::memory_order_acquire)) {
    rcu_.quiescent(id_);
    const std::size_t frames = poll_once();
    const std::uint64_t now = rte_rdtsc();
    (frames != 0 ? busy_cycles_ : idle_cycles_).add(now - before);
    before = now;
    // Whoever woke us wants a whole pass after that, also if the event was read here and we did not sleep.
    const bool woken = ++passes % passes_between_events == 0 && read_events(0);
    idle_passes = frames != 0 || woken ? 0 : idle_passes + 1;
    if (idle_passes < idle_passes_max) continue;
    idle_passes = 0;
    const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
    if (snapshot != nullptr && prepare_sleep(*snapshot)) continue;
    // The event that came with it may have been read above already.
    if (stop_.load(std::memory_order_acquire)) break;
    static_cast<void>(read_events(-1));
    before = rte_rdtsc();
  }
  rcu_.unregister_reader(id_);
}

std::size_t Worker::poll_once() noexcept {
  const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
  if (snapshot == nullptr) return 0;
  now_ = forwarding::seconds_now();
  std::size_t frames = 0;
  const std::size_t count = snapshot->entries.size();
  // Each pass starts at another port, so that the room in a slow uplink goes round.
  first_ = first_ + 1 < count ? first_ + 1 : 0;
  const auto at = [&](std::size_t i) {
    return static_cast<PortIndex>(first_ + i < count ? first_ + i : first_ + i - count);
  };
  for (std::size_t i = 0; i < std::min(ports_ahead, count); ++i) snapshot->entries[at(i)].port->prepare();
  for (std::size_t i = 0; i < count; ++i) {
    if (i + ports_ahead < count) snapshot->entries[at(i + ports_ahead)].port->prepare();
    const PortIndex index = at(i);
    // An uplink carries the frames of many, so it gets more than one burst.
    std::size_t bursts = snapshot->entries[index].rule.uplink ? uplink_bursts : 1;
    for (std::size_t got = burst_max; bursts != 0 && got == burst_max; --bursts) {
      got = poll_port(*snapshot, index);
      frames += got;
    }
  }
  end_pass();
  frames_.add(frames);
  return frames;
}

void Worker::end_pass() noexcept {
  if (noted_ == nullptr) return;
  for (Port* port = noted_; port != nullptr; port = port->noted_before) port->flush();
  for (Port* port = noted_; port != nullptr; port = port->noted_before) port->settle();
  // Guests write their wish to be called and then look at their rings; we have written the rings and then look for wishes.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (noted_ != nullptr) {
    Port& port = *std::exchange(noted_, noted_->noted_before);
    port.noted = false;
    port.notify(calls_);
  }
}

std::size_t Worker::poll_port(const Snapshot& snapshot, PortIndex index) noexcept {
  const Snapshot::Entry& entry = snapshot.entries[index];
  Port& port = *entry.port;
  if (held_up(snapshot, entry)) return 0;
  const std::size_t count = port.receive(burst_);
  port.stalled = false;
  if (count == 0) {
    port.cut_sent = 0;  // what waited is gone
    if (port.greets()) note(port);
    return 0;
  }
  note(port);
  const std::span frames(burst_.frames.data(), count);
  const forwarding::SwitchTable& table = snapshot.switches[entry.switch_index];
  forwarding::classify(frames, entry.rule, table);
  forwarding::learn(frames, entry.rule, table, now_);
  forwarding::forward(frames, index, table, now_);
  const std::size_t done = send(snapshot, index, count);
  port.stalled = done < count;
  std::uint64_t bytes = 0;
  for (const Frame& frame : frames.first(done)) bytes += frame.size;
  port.count_ingress(done, bytes);
  port.complete(done);
  return done;
}

std::size_t Worker::send(const Snapshot& snapshot, PortIndex ingress, std::size_t count) noexcept {
  Port& from = *snapshot.entries[ingress].port;
  std::size_t at = 0;
  while (at < count) {
    const Frame& frame = burst_.frames[at];
    if (frame.action == Action::unicast) {
      const std::size_t begin = at;
      const PortIndex target = frame.target;
      while (at < count && burst_.frames[at].action == Action::unicast && burst_.frames[at].target == target) ++at;
      const std::size_t sent = send_run(snapshot, from, begin, at - begin);
      if (sent < at - begin) return begin + sent;
    } else if (frame.action == Action::flood || frame.action == Action::flood_unknown) {
      if (!flood(snapshot, ingress, at)) return at;
      ++at;
    } else {
      from.count_drop(frame.reason);
      if (frame.reason == DropReason::source_mac) from.note_refused_source(load_be48(frame.head + 6));
      ++at;
    }
  }
  return count;
}

std::size_t Worker::send_run(const Snapshot& snapshot, Port& from, std::size_t begin, std::size_t count) noexcept {
  const Snapshot::Entry& egress = snapshot.entries[burst_.frames[begin].target];
  const auto frames = std::span(burst_.frames).subspan(begin, count);
  Offloads needed = 0;
  for (Frame& frame : frames) {
    forwarding::set_egress_tag(frame, egress.rule);
    needed |= frame.needs.offloads;
  }
  note(*egress.port);
  return needed == 0 ? egress.port->send(frames) : finish_and_send(from, *egress.port, frames);
}

bool Worker::send_copy(const Snapshot& snapshot, Port& from, PortIndex target, Frame& frame) noexcept {
  const Snapshot::Entry& egress = snapshot.entries[target];
  forwarding::set_egress_tag(frame, egress.rule);
  note(*egress.port);
  return finish_and_send(from, *egress.port, {&frame, 1}) != 0;
}

// A checksum is completed in the frame itself, which is then whole for everybody; a piece is cut beside it.
std::size_t Worker::finish_and_send(Port& from, Port& to, std::span<Frame> frames) noexcept {
  const auto left = static_cast<Offloads>(~to.takes());
  for (Frame& frame : frames) {
    if ((frame.needs.offloads & left) != 0 && frame.needs.gso_size == 0) complete_checksum(frame);
  }
  const auto is_cut = [left](const Frame& frame) { return (frame.needs.offloads & left) != 0; };
  std::size_t done = 0;
  while (done < frames.size()) {
    std::size_t end = done;
    while (end < frames.size() && !is_cut(frames[end])) ++end;
    if (end != done) {
      done += to.send(frames.subspan(done, end - done));
      if (done < end) return done;
    }
    if (end == frames.size()) break;
    if (!cut_and_send(from, to, frames[done])) return done;
    ++done;
  }
  return done;
}

bool Worker::cut_and_send(Port& from, Port& to, const Frame& piece) noexcept {
  // Only what waits first can have left in part.
  if (&piece != burst_.frames.data()) from.cut_sent = 0;
  segmenter_.begin(piece, from.cut_sent);
  while (!segmenter_.done()) {
    std::size_t count = 0;
    for (; count < burst_max && !segmenter_.done(); ++count) {
      segmenter_.next(cut_.frames[count], cut_.heads[count], cut_.segments_of(count));
    }
    const std::size_t sent = to.send(std::span(cut_.frames).first(count));
    const bool whole = sent == count && segmenter_.done();
    to.count_cut_frames(whole ? sent - 1 : sent);
    from.cut_sent += static_cast<std::uint32_t>(sent);
    if (sent < count) return false;
  }
  from.cut_sent = 0;
  return true;
}

bool Worker::flood(const Snapshot& snapshot, PortIndex ingress, std::size_t at) noexcept {
  const forwarding::SwitchTable& table = snapshot.switches[snapshot.entries[ingress].switch_index];
  Port& from = *snapshot.entries[ingress].port;
  Frame& frame = burst_.frames[at];
  std::uint64_t deliveries = 0;
  // The uplink first: if it is full the frame waits as a whole, and no vnic gets it twice.
  if (const auto uplink = table.uplink(); uplink && *uplink != ingress) {
    if (!send_copy(snapshot, from, *uplink, frame)) return false;
    ++deliveries;
  }
  const auto deliver = [&](PortIndex member) {
    if (member == ingress) return;
    static_cast<void>(send_copy(snapshot, from, member, frame));  // vnics take or drop, they never hold up
    ++deliveries;
  };
  if (frame.action == Action::flood) {
    for (const PortIndex member : table.members(frame.vid)) deliver(member);
    for (const auto& member : table.wide_members()) {
      if (member.vlans.hears(frame.vid)) deliver(member.port);
    }
  } else {
    for (const auto& member : table.spoofing_members()) {
      if (member.vlans.hears(frame.vid)) deliver(member.port);
    }
  }
  if (deliveries == 0) {
    from.count_drop(DropReason::no_destination);
  } else {
    from.count_flood_copies(deliveries - 1);
  }
  return true;
}

bool Worker::held_up(const Snapshot& snapshot, const Snapshot::Entry& entry) noexcept {
  if (!entry.port->stalled) return false;
  const auto uplink = snapshot.switches[entry.switch_index].uplink();
  return uplink && snapshot.entries[*uplink].port->full();
}

bool Worker::prepare_sleep(const Snapshot& snapshot) noexcept {
  bool work = false;
  for (const Snapshot::Entry& entry : snapshot.entries) {
    if (!held_up(snapshot, entry) && entry.port->prepare_sleep()) work = true;
  }
  if (work) {
    for (const Snapshot::Entry& entry : snapshot.entries) entry.port->woke();
  }
  return work;
}

bool Worker::read_events(int timeout_ms) noexcept {
  std::array<epoll_event, 64> events;
  const bool sleeps = timeout_ms != 0;
  if (sleeps) {
    sleeps_.add(1);
    rcu_.offline(id_);
  }
  const int count = epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  if (sleeps) rcu_.online(id_);
  // Looked up by id: a port may have been closed while we slept.
  const Snapshot* const snapshot = snapshot_.load(std::memory_order_acquire);
  bool woken = false;
  for (int i = 0; i < count; ++i) {
    if (events[static_cast<std::size_t>(i)].data.u64 == wake_data) {
      woken = true;
      continue;
    }
    if (snapshot == nullptr) continue;
    const PortId id{static_cast<std::uint32_t>(events[static_cast<std::size_t>(i)].data.u64)};
    if (Port* const port = snapshot->find(id)) port->on_event(events[static_cast<std::size_t>(i)].events);
  }
  if (sleeps && snapshot != nullptr) {
    for (const Snapshot::Entry& entry : snapshot->entries) entry.port->woke();
  }
  return woken;
}

}  // namespace patchbay::dataplane
