// What comes in at one receive queue of an ethdev, for the port that receives from it.
//
// Theory  What arrives lies in mbufs, in memory that no guest can write; frames point into them until complete(). Where the
//         device puts frames for groups of stations into every queue, they count in the default one, and are passed over
//         here in the others: those are copies, and not frames of the switch.
//         The worker sleeps on the queue's interrupt: armed, then looked once more. A driver without receive interrupts keeps
//         the worker awake.
// Threads set_device(), clear(): control, while no worker receives. The rest: the worker.
#pragma once
#include <array>
#include <cstdint>

#include "dataplane/dpdk/eth_device.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class EthdevReceiver {
 public:
  explicit EthdevReceiver(std::uint16_t queue) noexcept : queue_(queue) {}
  ~EthdevReceiver();
  EthdevReceiver(const EthdevReceiver&) = delete;
  EthdevReceiver& operator=(const EthdevReceiver&) = delete;

  // It outlives the receiver.
  void set_device(dpdk::EthDevice& device) noexcept { device_ = &device; }
  [[nodiscard]] std::uint16_t queue() const noexcept { return queue_; }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept;
  // Frames from the wire never wait for anything: all mbufs that were given go back.
  void complete() noexcept;
  // Whether there is something to receive, or may be.
  [[nodiscard]] bool prepare_sleep() noexcept;
  void woke() noexcept;
  // Gives everything back that was taken or waits.
  void clear() noexcept;
  // -1: none.
  [[nodiscard]] int interrupt_fd() const noexcept { return device_->interrupt_fd(queue_); }

 private:
  // From the device; how many, copies included.
  std::size_t take() noexcept;

  const std::uint16_t queue_;
  dpdk::EthDevice* device_ = nullptr;
  std::array<rte_mbuf*, (uplink_bursts + 1) * burst_max> received_{};
  std::size_t received_count_ = 0;  // not completed yet,
  std::size_t given_ = 0;           // and those of them that receive() has given
  bool armed_ = false;
};

}  // namespace patchbay::dataplane
