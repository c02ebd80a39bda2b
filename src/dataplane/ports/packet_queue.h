// A queue of a kernel NIC: a packet ring of its own, into which the kernel sorts (packet_sorter.h).
//
// Threads receive() to on_event(): the worker that owns it.
#pragma once
#include <sys/epoll.h>

#include "dataplane/ports/packet_ring.h"
#include "dataplane/ports/packet_socket.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class PacketQueue final : public Port {
 public:
  // `ring` outlives it.
  PacketQueue(PortId id, PacketRing& ring) noexcept : Port(id, -1), ring_(ring) {}

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override { return ring_.receive(burst); }
  void complete(std::size_t) noexcept override { ring_.complete(); }
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override {
    count_drop(DropReason::not_connected, frames.size());  // nothing is ever sent there
    return frames.size();
  }
  [[nodiscard]] bool prepare_sleep() noexcept override { return ring_.has_frames(); }
  void on_event(std::uint32_t events) noexcept override {
    if ((events & static_cast<std::uint32_t>(EPOLLERR)) != 0) clear_error(ring_.fd());  // the uplink notices itself
  }
  void attach(int epoll_fd) noexcept override { watch(epoll_fd_ = epoll_fd, EPOLL_CTL_ADD, ring_.fd(), EPOLLIN); }
  void detach() noexcept override { watch(epoll_fd_, EPOLL_CTL_DEL, ring_.fd(), 0); }

 private:
  PacketRing& ring_;
  int epoll_fd_ = -1;
};

}  // namespace patchbay::dataplane
