#include "dataplane/virtqueue/split_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t avail_f_no_interrupt = 1;
constexpr std::uint16_t used_f_no_notify = 1;

}  // namespace

Result<SplitRing> SplitRing::create(const GuestMemory& memory, const Vring& ring, std::uint64_t features) {
  if (ring.size == 0 || ring.size > vring_size_max || (ring.size & (ring.size - 1)) != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("a ring of {} entries: it must be a power of two up to {}", ring.size, vring_size_max));
  }
  const std::size_t size = ring.size;
  SplitRing result;
  result.memory_ = &memory;
  result.desc_ = memory.translate_front_end(ring.desc_address, size * desc_size);
  result.avail_ = memory.translate_front_end(ring.avail_address, ring_header + size * avail_entry + 2);
  result.used_ = memory.translate_front_end(ring.used_address, ring_header + size * used_entry + 2);
  if (result.desc_ == nullptr || result.avail_ == nullptr || result.used_ == nullptr) {
    return fail(ErrorCode::invalid, "a part of the ring lies outside of the guest's memory");
  }
  if (!aligned(result.desc_, 16) || !aligned(result.avail_, 2) || !aligned(result.used_, 4)) {
    return fail(ErrorCode::invalid, "a part of the ring is misaligned");
  }
  result.mask_ = static_cast<std::uint16_t>(size - 1);
  result.event_idx_ = (features & virtio_ring_f_event_idx) != 0;
  result.indirect_ = (features & virtio_ring_f_indirect_desc) != 0;
  result.catch_up();
  result.disable_kicks();
  return result;
}

void SplitRing::catch_up() noexcept {
  next_avail_ = load<std::uint16_t>(used_ + 2);
  published_ = judged_ = next_avail_;
  seen_avail_ = next_avail_;
}

std::uint16_t SplitRing::available() noexcept {
  if (broken_) return 0;
  seen_avail_ = load_acquire<std::uint16_t>(avail_ + 2);
  const auto waiting = static_cast<std::uint16_t>(seen_avail_ - next_avail_);
  if (waiting > size()) {
    broken_ = true;
    return 0;
  }
  return waiting;
}

void SplitRing::prefetch_chains(std::size_t count) const noexcept {
  // What the guest writes into the ring meanwhile is checked when it is read.
  for (std::size_t i = 0; i < count; ++i) prefetch_to_read(desc_ + std::size_t{id_at(i)} * desc_size);
  for (std::size_t i = 0; i < count; i += cache_line_size / used_entry) prefetch_to_write(used_at(i));
  prefetch_to_read(wish());
}

void SplitRing::look_ahead(std::size_t count) const noexcept {
  const std::size_t known = static_cast<std::uint16_t>(seen_avail_ - next_avail_);
  for (std::size_t i = burst_max - count; i < std::min(burst_max, known); ++i) {
    prefetch_to_read(desc_ + std::size_t{id_at(i)} * desc_size);
  }
  prefetch_to_read(offer_at(2 * burst_max));
}

ChainStatus SplitRing::read_chain(std::uint16_t ahead, Access access, std::span<Segment> segments,
                                  Chain& chain) noexcept {
  chain = {};
  chain.id.id = id_at(ahead);
  if (chain.id.id > mask_) {
    broken_ = true;
    return ChainStatus::broken;
  }
  return walk(read_descriptor(desc_, chain.id.id), access, segments, chain);
}

bool SplitRing::enter_indirect(const Descriptor& descriptor, const std::uint8_t*& table,
                               std::uint32_t& table_entries) const noexcept {
  const bool nested = table != desc_;
  if (!indirect_ || nested || (descriptor.flags & desc_f_next) != 0) return false;
  if (descriptor.size == 0 || descriptor.size % desc_size != 0) return false;
  const std::uint8_t* const indirect = memory_->translate(descriptor.address, descriptor.size);
  if (indirect == nullptr || !aligned(indirect, 8)) return false;  // words are read whole; drivers align to 16
  table = indirect;
  table_entries = descriptor.size / desc_size;
  return true;
}

ChainStatus SplitRing::walk(const Descriptor& first, Access access, std::span<Segment> segments,
                            Chain& chain) const noexcept {
  const std::uint8_t* table = desc_;
  std::uint32_t table_entries = size();
  const std::uint16_t direction = access == Access::device_writes ? desc_f_write : 0;
  Descriptor descriptor = first;
  if ((descriptor.flags & desc_f_indirect) != 0) {
    if (!enter_indirect(descriptor, table, table_entries)) return ChainStatus::malformed;
    descriptor = read_descriptor(table, 0);
  }
  // One turn a descriptor, at most as many as fit: a loop in the chain ends here.
  for (std::size_t turn = 0; turn < segments.size(); ++turn) {
    if ((descriptor.flags & desc_f_indirect) != 0) return ChainStatus::malformed;
    if ((descriptor.flags & desc_f_write) != direction) return ChainStatus::malformed;
    if (descriptor.size != 0) {
      std::uint8_t* const data = memory_->translate(descriptor.address, descriptor.size);
      if (data == nullptr) return ChainStatus::malformed;
      segments[chain.segment_count++] = {data, descriptor.size};
      chain.size_bytes += descriptor.size;
    }
    if ((descriptor.flags & desc_f_next) == 0) return ChainStatus::good;
    if (descriptor.next >= table_entries) return ChainStatus::malformed;
    descriptor = read_descriptor(table, descriptor.next);
  }
  return ChainStatus::malformed;
}

bool SplitRing::call_wanted() noexcept {
  if (judged_ == published_) return false;
  const std::uint16_t before = judged_;
  judged_ = published_;
  if (event_idx_) {
    const auto passed = static_cast<std::uint16_t>(published_ - load<std::uint16_t>(wish()) - 1);
    return passed < static_cast<std::uint16_t>(published_ - before);
  }
  return (load<std::uint16_t>(wish()) & avail_f_no_interrupt) == 0;
}

bool SplitRing::enable_kicks(ChainSpan known) noexcept {
  if (broken_) return false;
  if (event_idx_) {
    store<std::uint16_t>(used_ + ring_header + std::size_t{size()} * used_entry,
                         static_cast<std::uint16_t>(next_avail_ + known.chains));
  } else {
    store<std::uint16_t>(used_, 0);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return available() > known.chains;
}

void SplitRing::disable_kicks() noexcept {
  if (!event_idx_) store<std::uint16_t>(used_, used_f_no_notify);
}

}  // namespace patchbay::dataplane
