#include "dataplane/ports/xdp_port.h"

#include <sys/epoll.h>

namespace patchbay::dataplane {

std::uint64_t XdpPort::kernel_drops() noexcept {
  std::uint64_t sum = 0;
  for (const auto& queue : queues_) sum += queue->kernel_drops();
  return sum;
}

std::size_t XdpPort::receive(Burst& burst) noexcept {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    XdpQueue& queue = *queues_[next_queue_];
    next_queue_ = next_queue_ + 1 < queues_.size() ? next_queue_ + 1 : 0;
    if (!queue.is_uplinks()) continue;
    if (const std::size_t count = queue.receive(burst); count != 0) return count;
  }
  return 0;
}

// Frames from the wire never wait for anything, so all chunks go back, whatever `count` is.
void XdpPort::complete(std::size_t) noexcept {
  for (const auto& queue : queues_) {
    if (queue->is_uplinks()) queue->complete();
  }
}

std::size_t XdpPort::transmit(std::span<const Frame> frames) noexcept {
  std::size_t done = 0;
  bool tried = false;
  while (done < frames.size()) {
    const auto put = sender().put(frames[done]);
    if (put == XdpQueue::Put::no_room) {
      if (tried) {
        full_ = true;
        wait_for_room(true);
        break;
      }
      tried = true;
      push();
      continue;
    }
    if (put == XdpQueue::Put::taken) {
      count_egress(frames[done].size);
    } else {
      count_drop(DropReason::uplink_refused);
    }
    ++done;
  }
  return done;
}

void XdpPort::flush() noexcept {
  if (sender().pending() != 0) push();
}

void XdpPort::push() noexcept {
  static_cast<void>(sender().kick());
  sender().reclaim();
  wait_for_room(full_ || sender().pending() != 0);
}

// Edge-triggered: each frame that the driver is done with reports room, and asking anew reports it at once if it is there
// already. The report itself makes the kernel go on sending.
void XdpPort::wait_for_room(bool wanted) noexcept {
  if (waits_for_room_ == wanted || epoll_fd_ < 0) return;
  waits_for_room_ = wanted;
  const auto events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET) |
                      (wanted ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
  watch(epoll_fd_, EPOLL_CTL_MOD, sender().fd(), events);
}

bool XdpPort::prepare_sleep() noexcept {
  for (const auto& queue : queues_) {
    if (queue->is_uplinks() && queue->readable()) return true;
  }
  return false;
}

void XdpPort::on_event(std::uint32_t events) noexcept {
  if ((events & static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
  static_cast<void>(sender().kick());
  sender().reclaim();
  if (sender().free_chunks() >= tx_chunks / 4) full_ = false;
  wait_for_room(full_ || sender().pending() != 0);
}

void XdpPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  waits_for_room_ = full_;
  for (std::size_t number = 0; number < queues_.size(); ++number) {
    if (users_[number] == nullptr) watch_queue(*queues_[number]);
  }
}

// Edge-triggered, for level-triggered EPOLLOUT would report room for as long as the kernel still has our chunks.
void XdpPort::watch_queue(const XdpQueue& queue) const noexcept {
  // Control calls this for the others only, and waits_for_room_ is the worker's.
  const bool room = &queue == queues_.front().get() && waits_for_room_;
  watch(epoll_fd_, EPOLL_CTL_ADD, queue.fd(),
        static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET) |
            (room ? static_cast<std::uint32_t>(EPOLLOUT) : 0U));
}

void XdpPort::detach() noexcept {
  for (std::size_t number = 0; number < queues_.size(); ++number) {
    if (users_[number] == nullptr) watch(epoll_fd_, EPOLL_CTL_DEL, queues_[number]->fd(), 0);
  }
  epoll_fd_ = -1;
}

}  // namespace patchbay::dataplane
