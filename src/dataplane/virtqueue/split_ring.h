// The device's side of one split virtqueue over hostile guest memory.
//
// Theory  Indices and descriptors are read once, into private memory, and judged there. Chains are used in the order in
//         which the guest offered them, which is all that VIRTIO_F_IN_ORDER asks of a device. The position in the ring
//         is the used index in guest memory: since nothing is in flight when a back-end stops, a new one goes on from
//         there, whoever the old one was and however it ended.
// States  running -> broken (the guest's indices are impossible; nothing more is taken or given). No way back: the
//         front-end sets the ring up anew.
// Limits  segments_max descriptors a chain, indirect ones included.
// Threads The worker that polls the queue; control while the queue is taken from it.
// Source  VIRTIO 1.2, section 2.7.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"
#include "dataplane/virtqueue/guest_memory.h"

namespace patchbay::dataplane {

inline constexpr std::uint64_t feature_bit(unsigned bit) noexcept {
  return std::uint64_t{1} << bit;
}
inline constexpr std::uint64_t virtio_net_f_mtu = feature_bit(3);
inline constexpr std::uint64_t virtio_net_f_mrg_rxbuf = feature_bit(15);
inline constexpr std::uint64_t virtio_ring_f_indirect_desc = feature_bit(28);
inline constexpr std::uint64_t virtio_ring_f_event_idx = feature_bit(29);
inline constexpr std::uint64_t virtio_f_version_1 = feature_bit(32);
inline constexpr std::uint64_t virtio_f_in_order = feature_bit(35);

enum class Access : std::uint8_t { device_reads, device_writes };

enum class ChainStatus : std::uint8_t {
  good,
  malformed,  // this chain cannot be used; the ring goes on
  broken,     // the ring cannot be trusted any more
};

struct Chain {
  std::uint16_t id = 0;             // of its first descriptor, for push_used()
  std::uint16_t segment_count = 0;  // none of size zero
  std::uint64_t size_bytes = 0;     // of all segments
};

class SplitRing {
 public:
  // Errors: invalid (size not a power of two or zero, a part of the ring outside of `memory` or misaligned).
  [[nodiscard]] static Result<SplitRing> create(const GuestMemory& memory, const Vring& ring, std::uint64_t features);

  // Chains that wait, 0 to size. 0 also if the guest's index is impossible: the ring is then broken().
  [[nodiscard]] std::uint16_t available() noexcept;

  // Reads the chain that is `ahead` places (less than available()) behind the next one. `segments` holds the result;
  // its size bounds the walk.
  [[nodiscard]] ChainStatus read_chain(std::uint16_t ahead, Access access, std::span<Segment> segments,
                                       Chain& chain) noexcept;

  // Gives the chain `id` back with `written` bytes in it, and moves on by one. The guest sees it after publish().
  void push_used(std::uint16_t id, std::uint32_t written) noexcept;
  // Shows the guest what was pushed. True: the guest asked to be called for it.
  [[nodiscard]] bool publish() noexcept;

  // Asks for a kick when the guest offers more. True: it already has, and there may be no kick for it.
  [[nodiscard]] bool enable_kicks() noexcept;
  void disable_kicks() noexcept;

  // Goes on where the guest's memory says by now: what stood there at create() may have moved on since, while another
  // object drove the same ring.
  void catch_up() noexcept;

  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] std::uint16_t next_avail() const noexcept { return next_avail_; }
  [[nodiscard]] std::uint16_t size() const noexcept { return static_cast<std::uint16_t>(mask_ + 1); }

 private:
  struct Descriptor {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t flags;
    std::uint16_t next;
  };

  SplitRing() = default;
  [[nodiscard]] static Descriptor read_descriptor(const std::uint8_t* table, std::uint32_t index) noexcept;
  [[nodiscard]] ChainStatus walk(const Descriptor& first, Access access, std::span<Segment> segments,
                                 Chain& chain) const noexcept;
  // Moves to an indirect table; false if the descriptor names none that may be used.
  [[nodiscard]] bool enter_indirect(const Descriptor& descriptor, const std::uint8_t*& table,
                                    std::uint32_t& table_entries) const noexcept;

  const GuestMemory* memory_ = nullptr;
  std::uint8_t* desc_ = nullptr;
  std::uint8_t* avail_ = nullptr;
  std::uint8_t* used_ = nullptr;
  std::uint16_t mask_ = 0;
  std::uint16_t next_avail_ = 0;  // also the next used index: chains are given back in order
  std::uint16_t published_ = 0;   // used index as the guest sees it
  std::uint16_t seen_avail_ = 0;  // the guest's index when it was last read
  bool event_idx_ = false;
  bool indirect_ = false;
  bool broken_ = false;
};

}  // namespace patchbay::dataplane
