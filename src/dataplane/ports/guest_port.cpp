#include "dataplane/ports/guest_port.h"

#include <sys/epoll.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/monotonic.h"
#include "base/rarp.h"
#include "dataplane/virtqueue/flow.h"

namespace patchbay::dataplane {
namespace {

// Edge-triggered: each write to a kick's eventfd wakes, and nobody has to read it.
constexpr std::uint32_t kick_events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);

constexpr unsigned announcement_count_shift = 48;
constexpr std::uint64_t announcement_one = std::uint64_t{1} << announcement_count_shift;
constexpr std::uint64_t mac_mask = announcement_one - 1;

}  // namespace

void GuestPort::expect(std::chrono::milliseconds patience) noexcept {
  patience_ = patience;
  expected_.store(true, std::memory_order_release);
}

void GuestPort::begin_patience() noexcept {
  if (patience_.count() == 0) return;
  const std::chrono::nanoseconds patience = std::exchange(patience_, {});
  patient_until_ns_.store(monotonic_ns() + static_cast<std::uint64_t>(patience.count()), std::memory_order_relaxed);
}

void GuestPort::note_arrival() noexcept {
  const GuestQueues* const queues = queues_.load(std::memory_order_relaxed);
  if (queues != nullptr && queues->receives()) expected_.store(false, std::memory_order_release);
}

bool GuestPort::is_patient() noexcept {
  const std::uint64_t until = patient_until_ns_.load(std::memory_order_relaxed);
  if (until == 0) return false;
  if (monotonic_ns() < until) return true;
  patient_until_ns_.store(0, std::memory_order_relaxed);
  return false;
}

Kicks Kicks::of(const GuestLink& link) noexcept {
  Kicks kicks;
  for (std::size_t i = 0; i < guest_rings_max; ++i) {
    kicks.fds_[i] = link.rings[i].enabled ? link.rings[i].kick_fd : -1;
  }
  return kicks;
}

bool GuestPort::watch_kicks(const Kicks& kicks, const Kicks& watched) const noexcept {
  if (epoll_fd_ < 0) return true;
  for (const int& fd : kicks) {
    if (fd < 0 || watched.has(fd) || watch(epoll_fd_, EPOLL_CTL_ADD, fd, kick_events)) continue;
    for (const int* done = kicks.begin(); done != &fd; ++done) {
      if (*done >= 0 && !watched.has(*done)) watch(epoll_fd_, EPOLL_CTL_DEL, *done, 0);
    }
    return false;
  }
  return true;
}

void GuestPort::forget_kicks(const Kicks& kicks, const Kicks& wanted) const noexcept {
  if (epoll_fd_ < 0) return;
  for (const int fd : kicks) {
    if (fd >= 0 && !wanted.has(fd)) watch(epoll_fd_, EPOLL_CTL_DEL, fd, 0);
  }
}

bool GuestPort::connect(GuestQueues* queues, const Kicks& kicks) noexcept {
  clear_fault();
  if (!watch_kicks(kicks, {})) return false;
  kicks_ = kicks;
  begin_patience();
  use(queues);
  note_arrival();
  return true;
}

bool GuestPort::offer(GuestQueues* queues, const Kicks& kicks) noexcept {
  if (!watch_kicks(kicks, kicks_)) return false;
  old_kicks_ = std::exchange(kicks_, kicks);
  offered_.store(queues, std::memory_order_release);
  if (epoll_fd_ < 0) take_offered();  // no worker knows this port
  return true;
}

void GuestPort::wait_until_taken() noexcept {
  while (GuestQueues* const offered = offered_.load(std::memory_order_acquire)) offered_.wait(offered);
  note_arrival();
  forget_kicks(std::exchange(old_kicks_, {}), kicks_);
}

void GuestPort::take_offered() noexcept {
  GuestQueues* const next = offered_.load(std::memory_order_acquire);
  if (next == nullptr) return;
  if (const GuestQueues* const old = queues_.load(std::memory_order_relaxed)) {
    next->take_over(*old);
  } else {
    next->catch_up();
  }
  use(next);
  offered_.store(nullptr, std::memory_order_release);
  offered_.notify_one();
}

void GuestPort::use(GuestQueues* queues) noexcept {
  if (const std::uint8_t pairs = queues->receiving_pairs(); pairs != 0) {
    receiving_pairs_.store(pairs, std::memory_order_relaxed);
  }
  queues_.store(queues, std::memory_order_release);
}

void GuestPort::give_up() noexcept {
  receiving_pairs_.store(0, std::memory_order_relaxed);
  forget_waiting();
}

GuestQueues* GuestPort::disconnect() noexcept {
  forget_kicks(std::exchange(kicks_, {}), {});
  return queues_.exchange(nullptr, std::memory_order_acq_rel);
}

void GuestPort::abandon() noexcept {
  receiving_ = nullptr;
  announcing_ = 0;
  loan.open.store(false, std::memory_order_relaxed);
}

void GuestPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  for (const int fd : kicks_) {
    if (fd >= 0) watch(epoll_fd_, EPOLL_CTL_ADD, fd, kick_events);
  }
}

void GuestPort::detach() noexcept {
  forget_kicks(kicks_, {});
  epoll_fd_ = -1;
}

GuestQueues* GuestPort::usable() const noexcept {
  return fault() == PortFault::none ? queues_.load(std::memory_order_acquire) : nullptr;
}

void GuestPort::check(const GuestQueues& queues) noexcept {
  if (queues.memory_lost()) return set_fault(PortFault::memory_lost);
  if (queues.broken()) set_fault(PortFault::ring_broken);
}

// ---- Announcements --------------------------------------------------------------------------------------------------

void GuestPort::announce(MacAddr source) noexcept {
  std::uint64_t slot = announcements_.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    // Another address than those that wait: one of them is not the guest's, and would be dropped anyway.
    const std::uint64_t waiting = (slot & mac_mask) == source.to_uint64() ? slot >> announcement_count_shift : 0;
    if (waiting >= announcements_max) return;
    next = (waiting + 1) << announcement_count_shift | source.to_uint64();
  } while (!announcements_.compare_exchange_weak(slot, next, std::memory_order_release, std::memory_order_relaxed));
}

std::size_t GuestPort::receive_announcement(Burst& burst, std::uint64_t slot) noexcept {
  announcing_ = slot;
  auto& head = burst.heads[0];
  const auto rarp = rarp_announcement(MacAddr::from_uint64(slot & mac_mask));
  std::copy(rarp.begin(), rarp.end(), head.begin());
  Frame& frame = burst.frames[0];
  frame = Frame{};
  frame.head = head.data();
  frame.head_size = rarp_size;
  frame.size = rarp_size;
  return 1;
}

void GuestPort::complete_announcement(std::uint64_t announced) noexcept {
  std::uint64_t slot = announcements_.load(std::memory_order_relaxed);
  while ((slot & mac_mask) == (announced & mac_mask) && slot >= announcement_one &&
         !announcements_.compare_exchange_weak(slot, slot - announcement_one, std::memory_order_relaxed)) {
  }
}

// ---- Frames ---------------------------------------------------------------------------------------------------------

std::size_t GuestPort::receive(Burst& burst) noexcept {
  if (const std::uint64_t slot = announcements_.load(std::memory_order_acquire); slot >= announcement_one) {
    return receive_announcement(burst, slot);
  }
  GuestQueues* const queues = usable();
  if (queues == nullptr) return 0;
  if (queues->greeting_due()) touched_ = queues;
  const std::size_t count = queues->take(burst);
  check(*queues);
  // What came out of memory that vanished meanwhile are zeros: nobody sent them.
  if (count == 0 || queues->memory_lost()) return 0;
  receiving_ = queues;
  return count;
}

void GuestPort::complete(std::size_t count) noexcept {
  if (const std::uint64_t announced = std::exchange(announcing_, 0); announced != 0) {
    if (count != 0) complete_announcement(announced);
    return;
  }
  receiving_->give_back(count);
  touched_ = receiving_;
  receiving_ = nullptr;
}

inline void GuestPort::forget_if_told() noexcept {
  if (forget_.load(std::memory_order_acquire)) [[unlikely]]
    forget();
}

void GuestPort::count(const Puts& puts) noexcept {
  count_egress(puts.bytes, puts.delivered);
  if (puts.bad_buffer != 0) count_drop(DropReason::guest_buffer, puts.bad_buffer);
}

std::size_t GuestPort::send(std::span<const Frame> frames) noexcept {
  GuestQueues* const queues = usable();
  forget_if_told();  // after that: told before those queues came
  if (queues == nullptr || !queues->receives()) {
    put_aside(frames);
    return frames.size();
  }
  const Puts puts = queues->put(frames, waiting_);
  count(puts);
  if (puts.ring_full != 0) count_drop(DropReason::buffer_full, puts.ring_full);
  touched_ = queues;
  note_waiting();
  return frames.size();
}

// ---- Frames that wait -----------------------------------------------------------------------------------------------

void GuestPort::note_waiting() noexcept {
  const bool holds = !waiting_.empty();
  if (holds == holds_frames) return;
  holds_frames = holds;
  if (!holds && pool_ != nullptr && pool_->ask_for_release()) tell_control();
}

void GuestPort::put_aside(std::span<const Frame> frames) noexcept {
  const std::uint8_t pairs = receiving_pairs_.load(std::memory_order_relaxed);
  if (pairs == 0 || !waiting_.keeps_any() || fault() != PortFault::none) {
    return count_drop(DropReason::not_connected, frames.size());
  }
  const auto now = monotonic_ns();
  for (const Frame& frame : frames) {
    if (waiting_.keep(pair_of(frame, pairs), {&frame, 1}, now) == 0) count_drop(DropReason::buffer_full);
  }
  note_waiting();
}

void GuestPort::forget() noexcept {
  forget_.store(false, std::memory_order_relaxed);
  const std::size_t forgotten = waiting_.clear(monotonic_ns());
  if (forgotten != 0) count_drop(DropReason::buffer_reset, forgotten);
  note_waiting();
}

std::size_t GuestPort::drain() noexcept {
  GuestQueues* const queues = usable();
  forget_if_told();
  if (queues == nullptr || !queues->receives()) return 0;
  std::size_t too_old = 0;
  const Puts puts = queues->drain(waiting_, too_old);
  count(puts);
  if (too_old != 0) count_drop(DropReason::buffer_expired, too_old);
  touched_ = queues;
  note_waiting();
  return puts.delivered + puts.bad_buffer + too_old;
}

// The queues of this pass: they can be taken away from the worker until it ends, but not become others.
Offloads GuestPort::takes() const noexcept {
  const GuestQueues* const queues = usable();
  return queues != nullptr ? queues->takes() : Offloads{0};
}

void GuestPort::prepare() noexcept {
  if (touched_ == nullptr && receiving_ == nullptr) take_offered();
  if (const GuestQueues* const queues = usable()) queues->prefetch();
}

void GuestPort::flush() noexcept {
  if (touched_ != nullptr) touched_->show_deliveries();
}

void GuestPort::settle() noexcept {
  if (touched_ != nullptr) touched_->show_returns();
}

void GuestPort::notify(CallSignal& calls) noexcept {
  if (touched_ == nullptr) return;
  touched_->call(calls);
  check(*touched_);
  touched_ = nullptr;
  if (receiving_ == nullptr) take_offered();
}

bool GuestPort::prepare_sleep() noexcept {
  if (announcements_.load(std::memory_order_acquire) >= announcement_one) return true;
  GuestQueues* const queues = usable();
  if (queues == nullptr) return false;
  const bool has_room = holds_frames && queues->receives() && queues->enable_room_kicks(waiting_);
  return queues->enable_kicks() || has_room || queues->greeting_due();
}

void GuestPort::woke() noexcept {
  GuestQueues* const queues = usable();
  if (queues == nullptr) return;
  queues->disable_kicks();
  if (holds_frames) queues->disable_room_kicks();
}

}  // namespace patchbay::dataplane
