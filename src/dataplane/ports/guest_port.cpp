#include "dataplane/ports/guest_port.h"

#include <sys/epoll.h>

namespace patchbay::dataplane {
namespace {

// Edge-triggered: each write to a kick's eventfd wakes, and nobody has to read it.
constexpr std::uint32_t kick_events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);

}  // namespace

bool GuestPort::connect(GuestQueues* queues, int kick_fd) noexcept {
  clear_fault();
  if (epoll_fd_ >= 0 && kick_fd >= 0 && !watch(epoll_fd_, EPOLL_CTL_ADD, kick_fd, kick_events)) return false;
  kick_fd_ = kick_fd;
  queues_.store(queues, std::memory_order_release);
  return true;
}

GuestQueues* GuestPort::disconnect() noexcept {
  if (epoll_fd_ >= 0 && kick_fd_ >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, kick_fd_, 0);
  kick_fd_ = -1;
  return queues_.exchange(nullptr, std::memory_order_acq_rel);
}

void GuestPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  if (kick_fd_ >= 0) watch(epoll_fd_, EPOLL_CTL_ADD, kick_fd_, kick_events);
}

void GuestPort::detach() noexcept {
  if (epoll_fd_ >= 0 && kick_fd_ >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, kick_fd_, 0);
  epoll_fd_ = -1;
}

GuestQueues* GuestPort::usable() const noexcept {
  return fault() == PortFault::none ? queues_.load(std::memory_order_acquire) : nullptr;
}

void GuestPort::check(const GuestQueues& queues) noexcept {
  if (queues.memory_lost()) return set_fault(PortFault::memory_lost);
  if (queues.broken()) set_fault(PortFault::ring_broken);
}

std::size_t GuestPort::receive(Burst& burst) noexcept {
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
  receiving_->give_back(count);
  touched_ = receiving_;
  receiving_ = nullptr;
}

std::size_t GuestPort::send(std::span<const Frame> frames) noexcept {
  GuestQueues* const queues = usable();
  if (queues == nullptr || !queues->receives()) {
    count_drop(DropReason::not_connected, frames.size());
    return frames.size();
  }
  for (const Frame& frame : frames) {
    switch (queues->put(frame)) {
      case Put::delivered:
        count_egress(frame.size);
        break;
      case Put::ring_full:
        count_drop(DropReason::buffer_full);
        break;
      case Put::bad_buffer:
        count_drop(DropReason::guest_buffer);
        break;
    }
  }
  touched_ = queues;
  return frames.size();
}

void GuestPort::flush(CallSignal& calls) noexcept {
  if (touched_ == nullptr) return;
  touched_->publish(calls);
  check(*touched_);
  touched_ = nullptr;
}

bool GuestPort::prepare_sleep() noexcept {
  GuestQueues* const queues = usable();
  return queues != nullptr && (queues->enable_kicks() || queues->greeting_due());
}

void GuestPort::woke() noexcept {
  if (GuestQueues* const queues = usable()) queues->disable_kicks();
}

}  // namespace patchbay::dataplane
