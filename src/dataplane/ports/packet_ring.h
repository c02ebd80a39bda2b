// Frames of a kernel NIC, through a ring that is shared with the kernel (TPACKET_V2).
//
// Theory  A frame comes with the tag that the kernel took out of band and with a virtio-net header that says what the sender,
//         or the kernel's own coalescing (GRO), left to be done: it goes with the frame. A piece too large for its ring slot
//         arrives as a copy in the socket's queue, in the slots' order; it is taken only if it starts with the bytes in the
//         slot, so that a copy that went missing can never put one frame's bytes under another's tag.
//         TPACKET_V3 was not taken: it hands blocks over on a timer.
// Limits  `slots` frames between two passes; beyond them the kernel drops (kernel_ring_full). copies_max pieces before complete().
// Threads open(), drops(): control. The rest: the worker.
// Source  packet(7); Linux Documentation/networking/packet_mmap.rst.
#pragma once
#include <linux/if_packet.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/frame/frame.h"
#include "dataplane/frame/leaving.h"

namespace patchbay::dataplane {

class PacketRing {
 public:
  explicit PacketRing(std::uint32_t slots) noexcept : slots_(slots) {}
  ~PacketRing();
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;

  // All frames of the interface, which is called `nic`; with `silent` none until PacketSorter lets it take part.
  // Errors: as Dataplane::open_uplink().
  [[nodiscard]] Result<void> open(const std::string& nic, int if_index, std::uint32_t mtu, bool silent);

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept;
  // Frames from the wire never wait for anything, so all that were received go back.
  void complete() noexcept;
  [[nodiscard]] bool has_frames() const noexcept {
    return taken_slots_ < slots_ && slot_ready((next_slot_ + taken_slots_) % slots_);
  }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // What a frame takes in a ring, headers included: a power of two.
  [[nodiscard]] static std::uint32_t slot_bytes(std::uint32_t mtu) noexcept;
  // Frames that the kernel had no room for.
  [[nodiscard]] std::uint64_t drops() noexcept;

 private:
  [[nodiscard]] tpacket2_hdr* slot(std::uint32_t index) const noexcept;
  [[nodiscard]] bool slot_ready(std::uint32_t index) const noexcept;
  // The frame in one slot, to burst.frames[count]. False: it has to wait for the next burst.
  [[nodiscard]] bool take_slot(tpacket2_hdr& header, Burst& burst, std::size_t& count) noexcept;
  // The frame that was too large for `slot`, from the socket's queue into the next place for copies; empty if it is not
  // there.
  [[nodiscard]] std::span<std::uint8_t> read_copy(const tpacket2_hdr& slot, VnetHeader& header) noexcept;

  static constexpr std::size_t copies_max = 8;
  static constexpr std::size_t copy_size = 65536 + 256;

  const std::uint32_t slots_;
  UniqueFd fd_;
  std::uint8_t* ring_ = nullptr;
  std::size_t ring_size_ = 0;
  std::uint32_t slot_size_ = 0;
  std::uint32_t next_slot_ = 0;
  std::uint32_t taken_slots_ = 0;
  std::unique_ptr<std::uint8_t[]> copies_;  // copy_size for each; pages are there once they are used
  std::size_t copy_count_ = 0;              // until complete()
  std::uint64_t drops_ = 0;                 // control's
};

}  // namespace patchbay::dataplane
