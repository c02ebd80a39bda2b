// A receive queue of a NIC that DPDK drives, beside the default one, which is the uplink's (ethdev_port.h).
//
// Threads As of any port; number(), clear(), watch_interrupt(): control, while no worker receives.
#pragma once
#include <sys/epoll.h>

#include "dataplane/ports/ethdev_receiver.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

inline constexpr std::uint32_t ethdev_interrupt_events =
    static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);

class EthdevQueue final : public Port {
 public:
  // The device outlives it.
  EthdevQueue(PortId id, dpdk::EthDevice& device, std::uint16_t number) noexcept : Port(id, -1), receiver_(number) {
    receiver_.set_device(device);
    receiver_.clear();  // what came in here when it was nobody's
  }

  [[nodiscard]] std::uint16_t number() const noexcept { return receiver_.queue(); }
  void clear() noexcept { receiver_.clear(); }
  // Once more, after a start of the device: it has another descriptor then.
  void watch_interrupt() noexcept {
    if (epoll_fd_ < 0 || receiver_.interrupt_fd() < 0) return;
    watch(epoll_fd_, EPOLL_CTL_ADD, receiver_.interrupt_fd(), ethdev_interrupt_events);
  }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override { return receiver_.receive(burst); }
  void complete(std::size_t) noexcept override { receiver_.complete(); }
  [[nodiscard]] bool gives_bare_frames() const noexcept override { return true; }
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override {
    count_drop(DropReason::not_connected, frames.size());  // nothing is ever sent there
    return frames.size();
  }
  [[nodiscard]] bool prepare_sleep() noexcept override { return receiver_.prepare_sleep(); }
  void woke() noexcept override { receiver_.woke(); }
  void attach(int epoll_fd) noexcept override {
    epoll_fd_ = epoll_fd;
    watch_interrupt();
  }
  void detach() noexcept override {
    if (receiver_.interrupt_fd() >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, receiver_.interrupt_fd(), 0);
    epoll_fd_ = -1;
  }

 private:
  EthdevReceiver receiver_;
  int epoll_fd_ = -1;
};

}  // namespace patchbay::dataplane
