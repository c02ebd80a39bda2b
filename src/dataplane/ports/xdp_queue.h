// One queue of a NIC through an AF_XDP socket: memory that is shared with the kernel, and the rings that pass it on.
//
// Theory  The memory (UMEM) is cut into chunks. A chunk for receiving lies in the fill ring until the kernel copies a frame
//         into it, then in the receive ring until the frame is done with. A chunk for sending is free, or lies in the
//         transmit ring, or belongs to a frame in the driver, or has come back in the completion ring. So no ring can
//         overflow: each has as many entries as there are chunks that could be in it.
//         Each queue has its own UMEM: whoever polls the queue later takes all of it along, without a lock on free chunks.
//         Two ports can receive from it, one at a time: the uplink, or one that has it for a vnic. Control asks for it; the
//         uplink's worker lets go of it when it has no frame of it. The way back is control's alone.
//         Copy mode is asked for: a driver's zero-copy mode may consume the last chunks without waking the sender, and
//         there is no hardware here to try that on. The kernel then sends when it is told to (kick), 32 frames a call,
//         and poll() on the socket does so too.
// Limits  A frame in one chunk: frame_size_max; with multi_buffer pieces_max chunks. rx_chunks frames between two passes.
// Threads open(), kernel_drops(), ask_for(), give_back(), holds_frames(): control. is_uplinks(): the uplink's worker. The
//         rest: the worker of the port that has it.
// Source  Linux Documentation/networking/af_xdp.rst; libxdp's xsk.h.
#pragma once
#include <xdp/xsk.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

struct XdpQueueConfig {
  std::string nic;
  unsigned queue = 0;
  std::uint32_t rx_chunks = 2048;  // powers of two
  std::uint32_t tx_chunks = 0;     // 0: only receives
  bool multi_buffer = false;
};

class XdpQueue {
 public:
  static constexpr std::uint32_t chunk_size = 4096;
  static constexpr std::size_t pieces_max = 24;  // the kernel makes at most 18: 64 KB in pieces of 3840 bytes

  // Errors: in_use (the queue has a socket of another process), unavailable, no_resource.
  [[nodiscard]] static Result<std::unique_ptr<XdpQueue>> open(const XdpQueueConfig& config);
  ~XdpQueue();
  XdpQueue(const XdpQueue&) = delete;
  XdpQueue& operator=(const XdpQueue&) = delete;

  // It is to be a vnic's, if it is the uplink's; and the uplink's again, when nobody receives from it.
  void ask_for() noexcept { holder_.store(Holder::asked, std::memory_order_release); }
  void give_back() noexcept { holder_.store(Holder::uplink, std::memory_order_release); }
  // The uplink receives from it, and gives back what it has received. Lets go of it if it is asked for.
  [[nodiscard]] bool is_uplinks() noexcept;
  [[nodiscard]] bool is_vnics() const noexcept { return holder_.load(std::memory_order_acquire) == Holder::vnic; }
  // Any thread may look.
  [[nodiscard]] bool holds_frames() const noexcept {
    return __atomic_load_n(rx_.producer, __ATOMIC_ACQUIRE) != __atomic_load_n(rx_.consumer, __ATOMIC_RELAXED);
  }

  [[nodiscard]] int fd() const noexcept { return xsk_socket__fd(socket_); }

  // As Port; frames lie in the UMEM. complete() gives back all that was received.
  [[nodiscard]] std::size_t receive(Burst& burst) noexcept;
  void complete() noexcept;
  [[nodiscard]] bool readable() noexcept { return xsk_cons_nb_avail(&rx_, 1) != 0; }

  enum class Put : std::uint8_t { taken, no_room, too_large };
  // Copies `frame`, with the tag that it is to leave with, to where the kernel sends it from. Without tx_chunks: too_large.
  [[nodiscard]] Put put(const Frame& frame) noexcept;
  // Makes the kernel send what was put. False: it cannot now (interface down, driver's ring full).
  bool kick() noexcept;
  // Takes chunks back whose frames are sent.
  void reclaim() noexcept;
  // What was put and the kernel has not taken yet, and chunks that are free.
  [[nodiscard]] std::uint32_t pending() const noexcept;
  [[nodiscard]] std::size_t free_chunks() const noexcept { return free_.size(); }

  // Frames for which the kernel had no chunk or no room in the ring, or that were larger than chunks.
  [[nodiscard]] std::uint64_t kernel_drops() const noexcept;

 private:
  enum class Holder : std::uint8_t { uplink, asked, vnic };

  explicit XdpQueue(const XdpQueueConfig& config) : config_(config) {}
  // 0, or the errno.
  [[nodiscard]] int open_once();
  void fill_all() noexcept;
  [[nodiscard]] std::uint8_t* at(std::uint64_t address) const noexcept { return umem_bytes_ + address; }

  const XdpQueueConfig config_;
  std::uint8_t* umem_bytes_ = nullptr;
  std::size_t umem_size_ = 0;
  xsk_umem* umem_ = nullptr;
  xsk_socket* socket_ = nullptr;
  xsk_ring_prod fill_{};
  xsk_ring_cons completion_{};
  xsk_ring_cons rx_{};
  xsk_ring_prod tx_{};

  std::atomic<Holder> holder_ = Holder::uplink;
  std::uint32_t rx_first_ = 0;       // of the descriptors in the receive ring that were received,
  std::uint32_t rx_count_ = 0;       // and how many that are
  std::vector<std::uint64_t> free_;  // chunks to send from; capacity for all of them
};

}  // namespace patchbay::dataplane
