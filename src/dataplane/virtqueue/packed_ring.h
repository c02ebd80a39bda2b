// The device's side of one packed virtqueue over hostile guest memory.
//
// Theory  Offers and returns share one ring of descriptors; two flags in each, read against the wrap counters, say whose
//         it is. Each descriptor is read once, into private memory, its second half, with length, id and flags, as one
//         word. Chains are used in the order in which the guest offered them, so the place where the next chain is taken
//         is also the place where it is given back, and one position is all there is to know. It lives in a RingRecord.
//         publish() writes the chains that were given back into the ring, all but the first, then shows the first.
//         Chains have no number and are not counted by the guest: read_chain() goes from each to the one behind it.
// States  running -> broken (nothing more is taken or given), no way back. A guest's ring is broken by: an id outside of
//         the ring; a chain longer than the ring or than chain_slots_max, for then nobody knows where the next one
//         starts; more chains than the ring has room for. An id that is used twice is not noticed: only the guest's own
//         driver looks anything up by it.
// Limits  segments_max descriptors a chain, indirect ones included; longer ones are malformed.
// Threads The worker that polls the queue; control while the queue is taken from it.
// Source  VIRTIO 1.2, section 2.8. What front-ends give as base: QEMU, hw/virtio/virtio.c; DPDK, lib/vhost/vhost_user.c.
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
#include "dataplane/virtqueue/ring_record.h"

namespace patchbay::dataplane {

// A place in the ring and the wrap counter there.
struct PackedPosition {
  std::uint16_t index = 0;
  bool wrap = true;

  [[nodiscard]] static PackedPosition from(std::uint32_t raw) noexcept {
    return {static_cast<std::uint16_t>(raw & 0x7FFF), (raw & 0x8000) != 0};
  }
  [[nodiscard]] std::uint16_t raw() const noexcept { return static_cast<std::uint16_t>(index | (wrap ? 0x8000U : 0U)); }
  void advance(std::uint16_t slots, std::uint16_t size) noexcept {  // slots: at most size
    const std::uint32_t next = std::uint32_t{index} + slots;
    wrap = next >= size ? !wrap : wrap;
    index = static_cast<std::uint16_t>(next >= size ? next - size : next);
  }
  // Over the two laps after which everything repeats.
  [[nodiscard]] std::uint32_t linear(std::uint16_t size) const noexcept { return index + (wrap ? 0U : size); }
};

class PackedRing {
 public:
  static constexpr std::uint16_t chain_slots_max = 256;

  // `record` must outlive the ring; nothing is read from it or written to it before catch_up() or take_over().
  // Errors: invalid (no size, more than vring_size_max, a part of the ring outside of `memory` or misaligned, a position
  // outside of the ring).
  [[nodiscard]] static Result<PackedRing> create(const GuestMemory& memory, const Vring& ring, std::uint64_t features,
                                                 RingRecord& record);

  // The same as SplitRing's.
  [[nodiscard]] std::uint16_t available() noexcept;
  [[nodiscard]] std::uint16_t available(std::uint16_t) noexcept { return available(); }
  void prefetch_index() const noexcept { prefetch_to_read(word_of(next_.index)); }
  void prefetch_chains(std::size_t count) const noexcept;
  void look_ahead(std::size_t) const noexcept {}
  [[nodiscard]] ChainStatus read_chain(std::uint16_t ahead, Access access, std::span<Segment> segments,
                                       Chain& chain) noexcept;
  [[nodiscard]] bool read_single(std::uint16_t ahead, Access access, Segment& segment, ChainId& id) noexcept;
  void push_used(ChainId id, std::uint32_t written) noexcept;
  void show() noexcept;
  [[nodiscard]] bool call_wanted() noexcept;
  [[nodiscard]] bool enable_kicks(ChainSpan known = {}) noexcept;
  void disable_kicks() noexcept;
  void catch_up() noexcept;
  void take_over(const PackedRing& old) noexcept;

  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] std::uint16_t size() const noexcept { return size_; }
  // As GET_VRING_BASE answers it: the place of the next chain to take, and above it that of the next to give back.
  [[nodiscard]] std::uint32_t position() const noexcept {
    return shown_.raw() | static_cast<std::uint32_t>(shown_.raw()) << 16;
  }

 private:
  struct Descriptor {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t id;
    std::uint16_t flags;
  };

  PackedRing() = default;
  [[nodiscard]] std::uint8_t* word_of(std::uint32_t index) const noexcept { return desc_ + index * desc_size + 8; }
  [[nodiscard]] static Descriptor make_descriptor(const std::uint8_t* at, std::uint64_t word) noexcept;
  [[nodiscard]] static bool is_offered(std::uint64_t word, bool wrap) noexcept;
  [[nodiscard]] static bool is_used(std::uint64_t word, bool wrap) noexcept;
  // Passes over what somebody else used in this lap, of one descriptor each. The second word of what stands behind.
  [[nodiscard]] std::uint64_t skip_used() noexcept;
  // Moves the cursor to the chain `ahead`; false if it is not there, or does not wait.
  [[nodiscard]] bool seek(std::uint16_t ahead, std::uint64_t& word) noexcept;
  // False: this chain cannot be used.
  [[nodiscard]] bool add_segment(const Descriptor& descriptor, std::span<Segment> segments,
                                 Chain& chain) const noexcept;
  [[nodiscard]] bool add_indirect(const Descriptor& descriptor, Access access, std::span<Segment> segments,
                                  Chain& chain) const noexcept;
  [[nodiscard]] ChainStatus walk(Descriptor descriptor, Access access, std::span<Segment> segments,
                                 Chain& chain) const noexcept;
  void write_used() noexcept;

  [[nodiscard]] bool record_names_us() const noexcept;
  [[nodiscard]] bool record_is_ours() const noexcept;
  // The base moved by `slots` from where it was, since the front-end itself used what was on offer there.
  [[nodiscard]] bool front_end_used(PackedPosition from, std::uint32_t slots) const noexcept;
  // Apart from `slots` entries from `apart_from` on, nothing in it was ever used.
  [[nodiscard]] bool looks_new(std::uint32_t apart_from, std::uint32_t slots) const noexcept;
  // Goes on where the record says, and finishes what it says was being shown.
  [[nodiscard]] bool resume() noexcept;
  void start_at(PackedPosition position) noexcept;
  void set_progress(PackedPosition position, std::size_t used) noexcept;

  const GuestMemory* memory_ = nullptr;
  RingRecord* record_ = nullptr;
  std::uint8_t* desc_ = nullptr;
  std::uint8_t* driver_event_ = nullptr;
  std::uint8_t* device_event_ = nullptr;
  std::uint16_t size_ = 0;
  PackedPosition next_;                 // behind the last chain that was given back
  PackedPosition shown_;                // behind the last one that the guest can see
  PackedPosition cursor_;               // where read_chain() goes on,
  std::uint16_t cursor_ahead_ = 0;      // and which chain that is
  std::uint32_t cursor_slots_ = 0;      // between shown_ and cursor_: at most size_
  std::uint32_t given_slots_ = 0;       // between shown_ and next_
  std::uint32_t unnotified_slots_ = 0;  // shown since the last publish()
  std::size_t used_count_ = 0;          // entries of record_->used
  FilePlace place_;
  std::uint32_t base_ = 0;
  std::uint32_t position_ = 0;
  bool position_known_ = false;
  bool event_idx_ = false;
  bool indirect_ = false;
  bool broken_ = false;
};

}  // namespace patchbay::dataplane
