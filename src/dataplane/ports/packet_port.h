// A kernel NIC as an uplink: packet sockets.
//
// Theory  Frames come in through a ring that is shared with the kernel (TPACKET_V2), with the tag that the kernel took
//         out of band and with a virtio-net header that says what the sender, or the kernel's own coalescing (GRO), left
//         to be done: it goes with the frame. A piece too large for its ring slot arrives as a copy in the socket's
//         queue, in the slots' order; it is taken only if it starts with the bytes in the slot, so that a copy that went
//         missing can never put one frame's bytes under another's tag.
//         Frames go out with one sendmmsg() a burst, straight from where they lie: the kernel makes the only copy, a bad
//         guest address is an error and not a fault, and a full socket buffer says EAGAIN, which is the back pressure
//         that leaves frames in the ring of the guest that sends them. TPACKET_V3 was not taken: it hands blocks over on
//         a timer. A transmit ring was not: frames would be copied into it and wait there for the kernel, and what is in
//         it when the process dies is lost.
//         What frames still need is left to the kernel, which does it or lets the NIC do it, but for veth: there it would
//         reach the other end unfinished, where programs that read whole frames take it for one.
// Limits  ring_slots frames between two passes; beyond them the kernel drops (kernel_ring_full). copies_max pieces before complete().
// Threads open(), set_carrier(), kernel_drops(): control. The rest: the worker.
// Source  packet(7); Linux Documentation/networking/packet_mmap.rst.
#pragma once
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/frame/leaving.h"
#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

class PacketPort final : public UplinkPort {
 public:
  // Sets `nic` up and receives everything on it until destroyed. Errors: as Dataplane::open_uplink().
  [[nodiscard]] static Result<std::unique_ptr<PacketPort>> open(PortId id, int fault_event_fd, const std::string& nic);
  ~PacketPort() override;

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] Offloads takes() const noexcept override { return offloads_; }
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void on_event(std::uint32_t events) noexcept override;
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;
  // Frames that the kernel had no room for. Control's.
  [[nodiscard]] std::uint64_t kernel_drops() noexcept override;

 private:
  PacketPort(PortId id, int fault_event_fd) noexcept : UplinkPort(id, fault_event_fd) {}
  [[nodiscard]] std::size_t transmit(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] Result<void> open_receive(const std::string& nic, std::uint32_t mtu);
  [[nodiscard]] Result<void> open_transmit(const std::string& nic);

  [[nodiscard]] tpacket2_hdr* slot(std::uint32_t index) const noexcept;
  [[nodiscard]] bool slot_ready(std::uint32_t index) const noexcept;
  // The frame in one slot, to burst.frames[count]. False: it has to wait for the next burst.
  [[nodiscard]] bool take_slot(tpacket2_hdr& header, Burst& burst, std::size_t& count) noexcept;
  // The frame that was too large for `slot`, from the socket's queue into the next place for copies; empty if it is not
  // there.
  [[nodiscard]] std::span<std::uint8_t> read_copy(const tpacket2_hdr& slot, VnetHeader& header) noexcept;
  void prepare_message(std::size_t i, const Frame& frame) noexcept;
  void set_full(bool full) noexcept;

  static constexpr std::uint32_t ring_slots = 2048;
  static constexpr std::size_t copies_max = 8;
  static constexpr std::size_t copy_size = 65536 + 256;

  UniqueFd receive_fd_;
  UniqueFd transmit_fd_;
  std::uint8_t* ring_ = nullptr;
  std::size_t ring_size_ = 0;
  std::uint32_t slot_size_ = 0;
  std::uint32_t next_slot_ = 0;
  std::uint32_t taken_slots_ = 0;
  int if_index_ = 0;
  int epoll_fd_ = -1;               // set while no worker has the port
  std::uint64_t kernel_drops_ = 0;  // control's

  Offloads offloads_ = 0;
  std::unique_ptr<std::uint8_t[]> copies_;  // copy_size for each; pages are there once they are used
  std::size_t copy_count_ = 0;              // until complete()

  std::array<mmsghdr, burst_max> messages_{};
  std::array<std::array<iovec, 1 + stretches_max>, burst_max> iovs_{};
  std::array<TagBytes, burst_max> tags_{};
  std::array<VnetHeader, burst_max> headers_{};
};

}  // namespace patchbay::dataplane
