// A NIC that is bound for DPDK as an uplink: the transmit queue and the default receive queue of an ethdev. Its other
// receive queues are ports of their own (ethdev_queue.h).
//
// Theory  What arrives: ethdev_receiver.h. What leaves is copied into mbufs, once, with its tag: the device reads it later,
//         when the guest may have changed or taken away its own memory. The device takes no more when its ring is full:
//         full(), and frames stay in the ring of the guest that sends them. No device tells when there is room again, so
//         the worker does not sleep while the ring is full; a link drains it in milliseconds, and without a link frames
//         are dropped instead.
//         What a frame leaves to the device (checksums, cutting) is said in its mbuf; a frame that the driver then refuses is
//         dropped (uplink_refused).
//         Carrier comes from the device itself, by its interrupt; where it has none for that, carrier is taken as there.
// Limits  EthDevice::receive_descriptors frames between two passes; beyond them the device drops (kernel_ring_full).
// Threads open(), kernel_drops(), device_state(), queues: control. on_link_changed(), on_device_gone(): DPDK's interrupt
//         thread. The rest: the worker.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "dataplane/dpdk/eth_device.h"
#include "dataplane/ports/ethdev_queue.h"
#include "dataplane/ports/ethdev_receiver.h"
#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

// Says in `mbuf`, a copy of `frame`, what of it is left to the device: frame.needs, which are not nothing, behind plain headers.
// Source: DPDK programmer's guide 22.11, "Mbuf Library", meta information; rte_mbuf_core.h.
void leave_to_device(const Frame& frame, rte_mbuf& mbuf) noexcept;

class EthdevPort final : public UplinkPort, private dpdk::EthDevice::Listener {
 public:
  // Opens the device `address` (EthDevice::create()). Errors: as Dataplane::open_uplink().
  [[nodiscard]] static Result<std::unique_ptr<EthdevPort>> open(PortId id, int fault_event_fd, const dpdk::Eal& eal,
                                                                const std::string& address);
  ~EthdevPort() override;

  void set_carrier(bool) noexcept override {}  // the device tells
  // Frames that the device had no descriptor for.
  [[nodiscard]] std::uint64_t kernel_drops() noexcept override { return device_->missed(); }
  [[nodiscard]] std::optional<DeviceState> device_state() const override;
  [[nodiscard]] Mailbox* to_control() noexcept override { return &to_control_; }
  [[nodiscard]] Mailbox* from_control() noexcept override { return &from_control_; }

  [[nodiscard]] QueueAbility queue_ability() const override { return device_->queue_ability(); }
  [[nodiscard]] Result<std::unique_ptr<Port>> open_queue(PortId id) override;
  void close_queue(Port& queue) override;
  [[nodiscard]] Result<void> set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) override;
  [[nodiscard]] std::size_t ring_frames() const noexcept override { return dpdk::EthDevice::receive_descriptors; }
  void set_switch_mtu(std::uint16_t mtu) override;

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t) noexcept override { receiver_.complete(); }
  [[nodiscard]] bool gives_bare_frames() const noexcept override { return true; }
  [[nodiscard]] Offloads takes() const noexcept override { return takes_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void woke() noexcept override { receiver_.woke(); }
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;

 private:
  EthdevPort(PortId id, int fault_event_fd) noexcept : UplinkPort(id, fault_event_fd) {}
  [[nodiscard]] std::size_t transmit(std::span<const Frame> frames) noexcept override;
  void on_link_changed(bool up) noexcept override;
  void on_device_gone() noexcept override;
  void look_for_room() noexcept;
  void watch_interrupt() noexcept;
  void note_link() noexcept;
  void note_offloads() noexcept;
  // Of the device, if it started since it had started so often.
  void note_restart(unsigned starts) noexcept;
  // LACPDUs and the like, to control as well.
  void hand_up(const Frame& frame) noexcept;
  void send_for_control() noexcept;
  // Whether `frame` could be copied into `to`, an empty mbuf; not if the pool is empty.
  [[nodiscard]] bool copy(const Frame& frame, rte_mbuf& to) noexcept;
  [[nodiscard]] std::size_t copy_all(std::span<const Frame> frames) noexcept;
  // For the device's MTU.
  [[nodiscard]] bool is_too_large(const Frame& frame) const noexcept;

  std::unique_ptr<dpdk::EthDevice> device_;
  EthdevReceiver receiver_{dpdk::EthDevice::default_queue};
  std::array<EthdevQueue*, dpdk::EthDevice::queues_max> queues_{};  // that are open, by number
  std::array<rte_mbuf*, burst_max> sending_{};
  std::atomic<Offloads> takes_ = 0;  // control writes while no worker has a frame
  Mailbox to_control_;
  Mailbox from_control_;
  unsigned passes_full_ = 0;
  unsigned trials_ = 0;  // in a row in which a device with room took nothing
  int epoll_fd_ = -1;
};

}  // namespace patchbay::dataplane
