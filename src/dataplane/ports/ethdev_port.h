// A NIC that is bound for DPDK as an uplink: one receive and one transmit queue of an ethdev.
//
// Theory  What arrives lies in mbufs, in memory that no guest can write; frames point into them until complete(). What
//         leaves is copied into mbufs, once, with its tag: the device reads it later, when the guest may have changed or
//         taken away its own memory. The device takes no more when its ring is full: full(), and frames stay in the ring
//         of the guest that sends them. No device tells when there is room again, so the worker does not sleep while
//         the ring is full; a link drains it in milliseconds, and without a link frames are dropped instead.
//         The worker sleeps on the device's receive interrupt: armed, then looked once more. A driver without receive
//         interrupts keeps the worker awake, and control shows that.
//         Carrier comes from the device itself, by its interrupt; where it has none for that, carrier is taken as there.
// Limits  EthDevice::receive_descriptors frames between two passes; beyond them the device drops (kernel_ring_full).
// Threads open(), kernel_drops(), device_state(): control. on_link_changed(), on_device_gone(): DPDK's interrupt thread. The rest: the
//         worker.
#pragma once
#include <array>
#include <memory>
#include <string>

#include "base/result.h"
#include "dataplane/dpdk/eth_device.h"
#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

class EthdevPort final : public UplinkPort, private dpdk::EthDevice::Listener {
 public:
  // Opens the PCI device `address`. Errors: as Dataplane::open_uplink().
  [[nodiscard]] static Result<std::unique_ptr<EthdevPort>> open(PortId id, int fault_event_fd, const dpdk::Eal& eal,
                                                                const std::string& address);
  ~EthdevPort() override;

  void set_carrier(bool) noexcept override {}  // the device tells
  // Frames that the device had no descriptor for.
  [[nodiscard]] std::uint64_t kernel_drops() noexcept override { return device_->missed(); }
  [[nodiscard]] std::optional<DeviceState> device_state() const override;
  [[nodiscard]] Mailbox* to_control() noexcept override { return &to_control_; }
  [[nodiscard]] Mailbox* from_control() noexcept override { return &from_control_; }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] bool gives_bare_frames() const noexcept override { return true; }
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void woke() noexcept override;
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;

 private:
  EthdevPort(PortId id, int fault_event_fd) noexcept : UplinkPort(id, fault_event_fd) {}
  [[nodiscard]] std::size_t transmit(std::span<const Frame> frames) noexcept override;
  void on_link_changed(bool up) noexcept override;
  void on_device_gone() noexcept override;
  void look_for_room() noexcept;
  void take_from_device() noexcept;
  // LACPDUs and the like, to control as well.
  void hand_up(const Frame& frame) noexcept;
  void send_for_control() noexcept;
  // Whether `frame` could be copied into `to`, an empty mbuf; not if the pool is empty.
  [[nodiscard]] bool copy(const Frame& frame, rte_mbuf& to) noexcept;
  [[nodiscard]] std::size_t copy_all(std::span<const Frame> frames) noexcept;

  std::unique_ptr<dpdk::EthDevice> device_;
  std::array<rte_mbuf*, (uplink_bursts + 1) * burst_max> received_{};
  std::size_t received_count_ = 0;  // not completed yet,
  std::size_t given_ = 0;           // and those of them that receive() has given
  std::array<rte_mbuf*, burst_max> sending_{};
  Mailbox to_control_;
  Mailbox from_control_;
  unsigned passes_full_ = 0;
  bool armed_ = false;
  int epoll_fd_ = -1;
};

}  // namespace patchbay::dataplane
