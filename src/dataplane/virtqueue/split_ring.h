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

#include "base/prefetch.h"
#include "base/result.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"
#include "dataplane/virtqueue/guest_memory.h"
#include "dataplane/virtqueue/ring.h"

namespace patchbay::dataplane {

class SplitRing {
 public:
  // Errors: invalid (size not a power of two or zero, a part of the ring outside of `memory` or misaligned).
  [[nodiscard]] static Result<SplitRing> create(const GuestMemory& memory, const Vring& ring, std::uint64_t features);

  // Chains that wait, 0 to size. 0 also if the guest's index is impossible: the ring is then broken(). Where they cannot
  // be counted (packed rings) this is a bound, and read_chain() says where they end; it is 0 only if none waits.
  [[nodiscard]] std::uint16_t available() noexcept;
  // The same, but looks at the guest's index only if fewer than `enough` are known of: its line is the guest's, and comes
  // slowly.
  [[nodiscard]] std::uint16_t available(std::uint16_t enough) noexcept {
    const auto known = static_cast<std::uint16_t>(seen_avail_ - next_avail_);
    return known >= enough && !broken_ ? known : available();
  }
  // Hints: available() is about to be called; the next `count` chains are about to be read, and given back; `count` (1 to
  // burst_max) were given back, and as many more will be wanted.
  void prefetch_index() const noexcept { prefetch_to_read(avail_); }
  void prefetch_chains(std::size_t count) const noexcept;
  void look_ahead(std::size_t count) const noexcept;

  // Reads the chain that is `ahead` places (less than available()) behind the next one; callers go through them in order,
  // from 0 on. `segments` holds the result; its size bounds the walk.
  [[nodiscard]] ChainStatus read_chain(std::uint16_t ahead, Access access, std::span<Segment> segments,
                                       Chain& chain) noexcept;

  // Its fast half, for nearly every chain: true if that chain is good and one buffer. False says nothing: read_chain() does.
  [[nodiscard]] bool read_single(std::uint16_t ahead, Access access, Segment& segment, ChainId& id) noexcept;

  // Gives the next chain, which is `id`, back with `written` bytes in it, and moves on. The guest sees it after publish().
  void push_used(ChainId id, std::uint32_t written) noexcept;
  // Shows the guest what was pushed.
  void show() noexcept {
    if (next_avail_ == published_) return;
    published_ = next_avail_;
    store_release(used_ + 2, published_);
  }
  // After show() and a full fence (the guest writes its wish and then reads our index; we write our index and then read
  // its wish): the guest asked to be called for what was shown since this was last asked.
  [[nodiscard]] bool call_wanted() noexcept;

  // Asks for a kick when the guest offers more than what the next `known` chains are. True: it already has, and there may be
  // no kick for it.
  [[nodiscard]] bool enable_kicks(ChainSpan known = {}) noexcept;
  void disable_kicks() noexcept;

  // Before first use: goes on where the ring is by now. What stood there at create() may have moved on since, while
  // another object drove the same ring: take_over() is given that one.
  void catch_up() noexcept;
  void take_over(const SplitRing&) noexcept { catch_up(); }

  [[nodiscard]] bool broken() const noexcept { return broken_; }
  // As GET_VRING_BASE answers it.
  [[nodiscard]] std::uint32_t position() const noexcept { return next_avail_; }
  [[nodiscard]] std::uint16_t size() const noexcept { return static_cast<std::uint16_t>(mask_ + 1); }

 private:
  struct Descriptor {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t flags;
    std::uint16_t next;
  };

  SplitRing() = default;
  // Both rings start with flags and index, 16 bits each; entries follow, then the event field of the other side.
  static constexpr std::size_t ring_header = 4;
  static constexpr std::size_t avail_entry = 2;
  static constexpr std::size_t used_entry = 8;

  [[nodiscard]] static Descriptor read_descriptor(const std::uint8_t* table, std::uint32_t index) noexcept {
    const std::uint8_t* const at = table + std::size_t{index} * desc_size;
    const auto address = load<std::uint64_t>(at);
    const auto rest = load<std::uint64_t>(at + 8);
    return {.address = address,
            .size = static_cast<std::uint32_t>(rest),
            .flags = static_cast<std::uint16_t>(rest >> 32),
            .next = static_cast<std::uint16_t>(rest >> 48)};
  }
  [[nodiscard]] const std::uint8_t* offer_at(std::size_t ahead) const noexcept {
    const std::size_t slot = static_cast<std::uint16_t>(next_avail_ + ahead) & mask_;
    return avail_ + ring_header + slot * avail_entry;
  }
  [[nodiscard]] std::uint16_t id_at(std::size_t ahead) const noexcept { return load<std::uint16_t>(offer_at(ahead)); }
  [[nodiscard]] std::uint8_t* used_at(std::size_t ahead) const noexcept {
    const std::size_t slot = static_cast<std::uint16_t>(next_avail_ + ahead) & mask_;
    return used_ + ring_header + slot * used_entry;
  }
  // Where the guest says whether it wants to be called.
  [[nodiscard]] const std::uint8_t* wish() const noexcept {
    return event_idx_ ? avail_ + ring_header + std::size_t{size()} * avail_entry : avail_;
  }
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
  std::uint16_t published_ = 0;   // used index as the guest sees it,
  std::uint16_t judged_ = 0;      // and as it was when call_wanted() was last asked
  std::uint16_t seen_avail_ = 0;  // the guest's index when it was last read
  bool event_idx_ = false;
  bool indirect_ = false;
  bool broken_ = false;
};

inline bool SplitRing::read_single(std::uint16_t ahead, Access access, Segment& segment, ChainId& id) noexcept {
  const std::uint16_t head = id_at(ahead);
  if (head > mask_) return false;
  const Descriptor only = read_descriptor(desc_, head);
  if (!is_single(only.flags, access) || only.size == 0) return false;
  std::uint8_t* const data = memory_->translate(only.address, only.size);
  if (data == nullptr) return false;
  segment = {data, only.size};
  id = {head, 1};
  return true;
}

inline void SplitRing::push_used(ChainId id, std::uint32_t written) noexcept {
  store<std::uint64_t>(used_at(0), id.id | std::uint64_t{written} << 32);
  ++next_avail_;
}

}  // namespace patchbay::dataplane
