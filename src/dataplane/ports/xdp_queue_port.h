// A queue of a NIC that AF_XDP sockets receive from, with the frames of one vnic: its driver sorts (ntuple_rules.h).
//
// Theory  Until the uplink's worker has let go of the queue, nothing comes in here.
// Threads As of any port.
#pragma once
#include <sys/epoll.h>

#include "dataplane/ports/port.h"
#include "dataplane/ports/xdp_queue.h"

namespace patchbay::dataplane {

class XdpQueuePort final : public Port {
 public:
  // `queue` outlives it.
  XdpQueuePort(PortId id, XdpQueue& queue) noexcept : Port(id, -1), queue_(queue) {}

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override {
    return queue_.is_vnics() ? queue_.receive(burst) : 0;
  }
  void complete(std::size_t) noexcept override {
    if (queue_.is_vnics()) queue_.complete();
  }
  [[nodiscard]] bool gives_bare_frames() const noexcept override { return true; }
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override {
    count_drop(DropReason::not_connected, frames.size());  // nothing is ever sent there
    return frames.size();
  }
  // What waits for the uplink to let go of it is work, too.
  [[nodiscard]] bool prepare_sleep() noexcept override { return queue_.holds_frames(); }
  void attach(int epoll_fd) noexcept override {
    epoll_fd_ = epoll_fd;
    watch(epoll_fd_, EPOLL_CTL_ADD, queue_.fd(),
          static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET));
  }
  void detach() noexcept override { watch(epoll_fd_, EPOLL_CTL_DEL, queue_.fd(), 0); }

 private:
  XdpQueue& queue_;
  int epoll_fd_ = -1;
};

}  // namespace patchbay::dataplane
