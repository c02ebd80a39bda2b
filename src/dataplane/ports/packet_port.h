// A kernel NIC as an uplink: packet sockets.
//
// Theory  Frames come in through a ring (packet_ring.h), or through that of a queue: the kernel sorts (packet_sorter.h).
//         Frames go out with one sendmmsg() a burst, straight from where they lie: the kernel makes the only copy, a bad
//         guest address is an error and not a fault, and a full socket buffer says EAGAIN, which is the back pressure
//         that leaves frames in the ring of the guest that sends them. A transmit ring was not taken: frames would be copied
//         into it and wait there for the kernel, and what is in it when the process dies is lost.
//         What frames still need is left to the kernel, which does it or lets the NIC do it, but for veth: there it would
//         reach the other end unfinished, where programs that read whole frames take it for one.
// Limits  ring_slots frames between two passes, the same or queue_ring_bytes in a queue; beyond them the kernel drops (kernel_ring_full).
// Threads open(), set_carrier(), kernel_drops(), queues: control. The rest: the worker.
// Source  packet(7).
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/frame/leaving.h"
#include "dataplane/ports/packet_ring.h"
#include "dataplane/ports/packet_sorter.h"
#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

class PacketPort final : public UplinkPort {
 public:
  // Sets `nic` up and receives everything on it until destroyed. Errors: as Dataplane::open_uplink().
  [[nodiscard]] static Result<std::unique_ptr<PacketPort>> open(PortId id, int fault_event_fd, const std::string& nic);

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override { return ring_.receive(burst); }
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] Offloads takes() const noexcept override { return offloads_; }
  [[nodiscard]] bool prepare_sleep() noexcept override { return ring_.has_frames(); }
  void on_event(std::uint32_t events) noexcept override;
  [[nodiscard]] Events events() const noexcept override { return Events::rare; }
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;
  [[nodiscard]] std::uint64_t kernel_drops() noexcept override;
  [[nodiscard]] QueueAbility queue_ability() const override;
  [[nodiscard]] Result<std::unique_ptr<Port>> open_queue(PortId id) override;
  void close_queue(Port& queue) override;
  [[nodiscard]] Result<void> set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) override;
  [[nodiscard]] std::size_t ring_frames() const noexcept override { return ring_slots; }

 private:
  PacketPort(PortId id, int fault_event_fd) noexcept : UplinkPort(id, fault_event_fd) {}
  [[nodiscard]] std::size_t transmit(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] Result<void> open_transmit();
  void start_sorting();
  void prepare_message(std::size_t i, const Frame& frame) noexcept;
  void set_full(bool full) noexcept;

  static constexpr std::uint32_t ring_slots = 2048;
  static constexpr std::uint32_t queue_ring_bytes = 4U << 20;  // the kernel does not swap rings out

  // The ring of a queue, kept for the next one when that closes.
  struct QueueRing {
    std::unique_ptr<PacketRing> ring;
    std::uint32_t number = 0;    // the sorter's
    const Port* user = nullptr;  // null: nobody
    std::optional<QueueFilter> filter;
  };
  [[nodiscard]] Result<QueueRing*> free_ring();

  PacketRing ring_{ring_slots};
  UniqueFd transmit_fd_;
  std::string nic_;
  std::uint32_t mtu_ = 0;
  int if_index_ = 0;
  int epoll_fd_ = -1;  // -1: no worker has the port
  Offloads offloads_ = 0;
  std::optional<PacketSorter> sorter_;
  std::string no_sorter_;  // why there is none
  std::vector<QueueRing> queues_;

  std::array<mmsghdr, burst_max> messages_{};
  std::array<std::array<iovec, 1 + stretches_max>, burst_max> iovs_{};
  std::array<TagBytes, burst_max> tags_{};
  std::array<VnetHeader, burst_max> headers_{};
};

}  // namespace patchbay::dataplane
