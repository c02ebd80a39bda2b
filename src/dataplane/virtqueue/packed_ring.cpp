#include "dataplane/virtqueue/packed_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

namespace patchbay::dataplane {
namespace {

// A descriptor's second word: length, id, flags.
constexpr unsigned id_shift = 32;
constexpr unsigned flags_shift = 48;
constexpr std::uint16_t desc_f_avail = 1 << 7;
constexpr std::uint16_t desc_f_used = 1 << 15;

// An event structure: position with wrap counter, then flags, 16 bits each.
constexpr std::size_t event_size = 4;
constexpr unsigned event_flags_shift = 16;
constexpr std::uint32_t event_enable = 0;
constexpr std::uint32_t event_disable = 1;
constexpr std::uint32_t event_desc = 2;
constexpr std::uint32_t event_flags_mask = 3;

constexpr std::uint32_t base_of_new_ring = 0x8000;  // index 0, wrap counter 1
constexpr unsigned used_count_shift = 32;

bool bit(std::uint64_t word, std::uint16_t flag) noexcept {
  return (word >> flags_shift & flag) != 0;
}

}  // namespace

Result<PackedRing> PackedRing::create(const GuestMemory& memory, const Vring& ring, std::uint64_t features,
                                      RingRecord& record) {
  if (ring.size == 0 || ring.size > vring_size_max) {
    return fail(ErrorCode::invalid, fmt::format("a packed ring of {} entries: 1 to {}", ring.size, vring_size_max));
  }
  PackedRing result;
  result.memory_ = &memory;
  result.record_ = &record;
  result.size_ = ring.size;
  result.desc_ = memory.translate_front_end(ring.desc_address, std::size_t{ring.size} * desc_size);
  result.driver_event_ = memory.translate_front_end(ring.avail_address, event_size);
  result.device_event_ = memory.translate_front_end(ring.used_address, event_size);
  if (result.desc_ == nullptr || result.driver_event_ == nullptr || result.device_event_ == nullptr) {
    return fail(ErrorCode::invalid, "a part of the ring lies outside of the guest's memory");
  }
  if (!aligned(result.desc_, 16) || !aligned(result.driver_event_, 4) || !aligned(result.device_event_, 4)) {
    return fail(ErrorCode::invalid, "a part of the ring is misaligned");
  }
  result.base_ = ring.base;
  result.position_ = ring.position;
  result.position_known_ = ring.position_known;
  const std::uint16_t start = PackedPosition::from(ring.position_known ? ring.position : ring.base).index;
  if (start >= ring.size) {
    return fail(ErrorCode::invalid,
                fmt::format("it is to go on at {}, and has {} entries (VHOST_USER_SET_VRING_BASE)", start, ring.size));
  }
  result.place_ = memory.place_of(result.desc_);
  result.event_idx_ = (features & virtio_ring_f_event_idx) != 0;
  result.indirect_ = (features & virtio_ring_f_indirect_desc) != 0;
  result.disable_kicks();
  return result;
}

// ---- Where to go on -------------------------------------------------------------------------------------------------

void PackedRing::catch_up() noexcept {
  if (position_known_) return start_at(PackedPosition::from(position_));
  if (record_is_ours() && resume()) return;
  start_at(PackedPosition::from(base_));
}

void PackedRing::take_over(const PackedRing& old) noexcept {
  if (old.shown_.index >= size_) {  // the ring shrank while it ran
    broken_ = true;
    return;
  }
  start_at(old.shown_);
}

bool PackedRing::record_names_us() const noexcept {
  return record_->size == size_ && record_->device == place_.device && record_->inode == place_.inode &&
         record_->offset == place_.offset;
}

bool PackedRing::record_is_ours() const noexcept {
  const PackedPosition before = PackedPosition::from(record_->base);
  if (!record_names_us() || before.index >= size_) return false;
  const std::uint32_t laps = 2U * size_;
  const std::uint32_t moved = (PackedPosition::from(base_).linear(size_) + laps - before.linear(size_)) % laps;
  if (moved != 0 && !front_end_used(before, moved)) return false;
  // A base that some other ring than a new one has was learned from us. That of a new ring is also what front-ends go
  // back to when the daemon died, and what they give when the guest began anew meanwhile.
  return (record_->base & 0xFFFF) != base_of_new_ring || !looks_new(before.index, moved);
}

bool PackedRing::front_end_used(PackedPosition from, std::uint32_t slots) const noexcept {
  // If nothing was done since the ring was started, it went on where we were: what it says is right.
  const bool is_exact = from.raw() == static_cast<std::uint16_t>(record_->progress);
  if (slots > size_ || is_exact) return false;
  for (; slots != 0; --slots) {
    if (!is_used(load<std::uint64_t>(word_of(from.index)), from.wrap)) return false;
    from.advance(1, size_);
  }
  return true;
}

bool PackedRing::looks_new(std::uint32_t apart_from, std::uint32_t slots) const noexcept {
  // Drivers clear a ring before they start it, and while the wrap counter is 1 for the first time only a device sets the
  // flag for used.
  for (std::uint32_t i = 0; i < size_; ++i) {
    if ((i + size_ - apart_from) % size_ < slots) continue;
    if (bit(load<std::uint64_t>(word_of(i)), desc_f_used)) return false;
  }
  // An old ring may be without that flag too, every second time that the counter is 0. Then nothing is on offer, and what
  // we wrote last stands where it was, beside an address, which we never overwrite.
  if (record_->last_slot >= size_) return true;
  const std::uint8_t* const last = desc_ + record_->last_slot * desc_size;
  if (load<std::uint64_t>(last + 8) == record_->last_word && load<std::uint64_t>(last) != 0) return false;
  // Or, when it is 1 again, if all that was shown since is the rest of a chain that began before the end of the ring.
  const auto position = PackedPosition::from(static_cast<std::uint32_t>(record_->progress));
  return !position.wrap || position.index == 0 || record_->last_slot < position.index;
}

bool PackedRing::resume() noexcept {
  const std::uint64_t progress = __atomic_load_n(&record_->progress, __ATOMIC_ACQUIRE);
  const std::uint64_t count = progress >> used_count_shift;
  const PackedPosition position = PackedPosition::from(static_cast<std::uint32_t>(progress));
  if (position.index >= size_ || count > record_used_max) return false;
  std::uint32_t slots = 0;
  for (std::size_t i = 0; i < count; ++i) slots += record_->used[i].slots;
  if (slots > size_) return false;
  shown_ = position;
  next_ = position;
  next_.advance(static_cast<std::uint16_t>(slots), size_);
  used_count_ = count;
  if (count != 0 && bit(load<std::uint64_t>(word_of(position.index)), desc_f_used) != position.wrap) write_used();
  start_at(next_);
  return true;
}

void PackedRing::start_at(PackedPosition position) noexcept {
  next_ = shown_ = position;
  unnotified_slots_ = given_slots_ = 0;
  used_count_ = 0;
  if (!record_names_us() || record_->base != base_) {
    __atomic_store_n(&record_->size, 0U, __ATOMIC_RELEASE);  // nobody's, until it is whole
    std::atomic_thread_fence(std::memory_order_release);
    record_->device = place_.device;
    record_->inode = place_.inode;
    record_->offset = place_.offset;
    record_->base = base_;
    record_->last_word = 0;
    record_->last_slot = 0;
  }
  set_progress(position, 0);
  __atomic_store_n(&record_->size, std::uint32_t{size_}, __ATOMIC_RELEASE);
}

void PackedRing::set_progress(PackedPosition position, std::size_t used) noexcept {
  const std::uint64_t progress = position.raw() | std::uint64_t{used} << used_count_shift;
  __atomic_store_n(&record_->progress, progress, __ATOMIC_RELEASE);
}

// ---- Chains ---------------------------------------------------------------------------------------------------------

bool PackedRing::is_offered(std::uint64_t word, bool wrap) noexcept {
  return bit(word, desc_f_avail) == wrap && bit(word, desc_f_used) != wrap;
}

bool PackedRing::is_used(std::uint64_t word, bool wrap) noexcept {
  return bit(word, desc_f_avail) == wrap && bit(word, desc_f_used) == wrap;
}

std::uint16_t PackedRing::available() noexcept {
  if (broken_ || given_slots_ >= size_) return 0;
  auto word = load_acquire<std::uint64_t>(word_of(next_.index));
  if (is_used(word, next_.wrap) && given_slots_ == 0) word = skip_used();
  return is_offered(word, next_.wrap) ? size_ : 0;
}

std::uint64_t PackedRing::skip_used() noexcept {
  std::uint64_t word = 0;
  for (std::uint32_t slots = 0; slots <= size_; ++slots) {
    word = load_acquire<std::uint64_t>(word_of(next_.index));
    if (slots == size_ || !is_used(word, next_.wrap)) break;
    next_.advance(1, size_);
    ++unnotified_slots_;
  }
  shown_ = next_;
  set_progress(shown_, 0);
  return word;
}

void PackedRing::prefetch_chains(std::size_t count) const noexcept {
  constexpr std::size_t per_line = cache_line_size / desc_size;
  const std::size_t end = std::min<std::size_t>(next_.index + count, size_);
  for (std::size_t index = next_.index + per_line; index < end; index += per_line) {
    prefetch_to_write(desc_ + index * desc_size);
  }
}

PackedRing::Descriptor PackedRing::make_descriptor(const std::uint8_t* at, std::uint64_t word) noexcept {
  return {.address = load<std::uint64_t>(at),
          .size = static_cast<std::uint32_t>(word),
          .id = static_cast<std::uint16_t>(word >> id_shift),
          .flags = static_cast<std::uint16_t>(word >> flags_shift)};
}

bool PackedRing::seek(std::uint16_t ahead, std::uint64_t& word) noexcept {
  if (ahead == 0) {
    if (used_count_ > record_used_max - segments_max) show();  // what one frame needs can be given back at once
    cursor_ = next_;
    cursor_ahead_ = 0;
    cursor_slots_ = given_slots_;
  }
  if (broken_ || ahead != cursor_ahead_ || cursor_slots_ >= size_) return false;
  word = load_acquire<std::uint64_t>(word_of(cursor_.index));
  return is_offered(word, cursor_.wrap);
}

bool PackedRing::read_single(std::uint16_t ahead, Access access, Segment& segment, ChainId& id) noexcept {
  std::uint64_t word = 0;
  if (!seek(ahead, word)) return false;
  const Descriptor only = make_descriptor(desc_ + cursor_.index * desc_size, word);
  if (!is_single(only.flags, access) || only.size == 0 || only.id >= size_) return false;
  std::uint8_t* const data = memory_->translate(only.address, only.size);
  if (data == nullptr) return false;
  segment = {data, only.size};
  id = {only.id, 1};
  cursor_.advance(1, size_);
  ++cursor_slots_;
  ++cursor_ahead_;
  return true;
}

ChainStatus PackedRing::read_chain(std::uint16_t ahead, Access access, std::span<Segment> segments,
                                   Chain& chain) noexcept {
  std::uint64_t word = 0;
  if (!seek(ahead, word)) return ChainStatus::none;
  chain = {};
  const Descriptor first = make_descriptor(desc_ + cursor_.index * desc_size, word);
  const ChainStatus status = walk(first, access, segments, chain);
  if (status == ChainStatus::broken || chain.id.slots > size_ - cursor_slots_) {
    broken_ = true;
    return ChainStatus::broken;
  }
  cursor_.advance(chain.id.slots, size_);
  cursor_slots_ += chain.id.slots;
  ++cursor_ahead_;
  return status;
}

ChainStatus PackedRing::walk(Descriptor descriptor, Access access, std::span<Segment> segments,
                             Chain& chain) const noexcept {
  const std::uint16_t slots_max = std::min(size_, chain_slots_max);
  bool usable = true;
  std::uint32_t index = cursor_.index;
  // To the end, also of a chain that is of no use: there stand its id and the start of the next one.
  for (std::uint16_t slots = 1;; ++slots) {
    if ((descriptor.flags & desc_f_indirect) != 0) {
      usable = slots == 1 && (descriptor.flags & desc_f_next) == 0 && add_indirect(descriptor, access, segments, chain);
    } else {
      const bool writable = (descriptor.flags & desc_f_write) != 0;
      usable = usable && writable == (access == Access::device_writes) && add_segment(descriptor, segments, chain);
    }
    if ((descriptor.flags & desc_f_next) == 0) {
      chain.id = {descriptor.id, slots};
      break;
    }
    if (slots == slots_max) return ChainStatus::broken;
    index = index + 1 < size_ ? index + 1 : 0;
    descriptor = make_descriptor(desc_ + index * desc_size, load<std::uint64_t>(word_of(index)));
  }
  if (chain.id.id >= size_) return ChainStatus::broken;
  return usable ? ChainStatus::good : ChainStatus::malformed;
}

bool PackedRing::add_segment(const Descriptor& descriptor, std::span<Segment> segments, Chain& chain) const noexcept {
  if (descriptor.size == 0) return true;
  if (chain.segment_count == segments.size()) return false;
  std::uint8_t* const data = memory_->translate(descriptor.address, descriptor.size);
  if (data == nullptr) return false;
  segments[chain.segment_count++] = {data, descriptor.size};
  chain.size_bytes += descriptor.size;
  return true;
}

bool PackedRing::add_indirect(const Descriptor& descriptor, Access access, std::span<Segment> segments,
                              Chain& chain) const noexcept {
  if (!indirect_ || descriptor.size == 0 || descriptor.size % desc_size != 0) return false;
  const std::uint32_t entries = descriptor.size / desc_size;
  if (entries > segments.size()) return false;
  const std::uint8_t* const table = memory_->translate(descriptor.address, descriptor.size);
  if (table == nullptr || !aligned(table, 8)) return false;  // words are read whole; drivers align to 16
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::uint8_t* const at = table + i * desc_size;
    const Descriptor entry = make_descriptor(at, load<std::uint64_t>(at + 8));
    if ((entry.flags & desc_f_indirect) != 0) return false;
    // All entries are the chain, in order, whatever their flags say of a next one. DPDK's driver marks the first entry of
    // what the device is to read as writable: there that is no reason to refuse it.
    if (access == Access::device_writes && (entry.flags & desc_f_write) == 0) return false;
    if (!add_segment(entry, segments, chain)) return false;
  }
  return true;
}

void PackedRing::push_used(ChainId id, std::uint32_t written) noexcept {
  if (used_count_ == record_used_max) show();
  record_->used[used_count_++] = {.written = written, .id = id.id, .slots = id.slots};
  given_slots_ += id.slots;
  next_.advance(id.slots, size_);
}

// ---- What the guest sees --------------------------------------------------------------------------------------------

void PackedRing::write_used() noexcept {
  PackedPosition at = shown_;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint32_t last_slot = 0;
  for (std::size_t i = 0; i < used_count_; ++i) {
    const RingRecord::Used& used = record_->used[i];
    const auto flags =
        static_cast<std::uint16_t>((at.wrap ? desc_f_avail | desc_f_used : 0) | (used.written != 0 ? desc_f_write : 0));
    const std::uint64_t word = used.written | std::uint64_t{used.id} << id_shift | std::uint64_t{flags} << flags_shift;
    if (i == 0) {
      first = word;
    } else {
      store(word_of(at.index), word);
    }
    last = word;
    last_slot = at.index;
    at.advance(used.slots, size_);
  }
  // The guest looks at the ring in order: until it sees the first it sees none.
  store_release(word_of(shown_.index), first);
  record_->last_word = last;
  record_->last_slot = last_slot;
}

void PackedRing::show() noexcept {
  if (used_count_ == 0) return;
  set_progress(shown_, used_count_);
  std::atomic_thread_fence(std::memory_order_release);
  write_used();
  shown_ = next_;
  set_progress(shown_, 0);
  unnotified_slots_ += given_slots_;
  given_slots_ = 0;
  used_count_ = 0;
}

bool PackedRing::call_wanted() noexcept {
  const std::uint32_t slots = unnotified_slots_;
  if (slots == 0) return false;
  unnotified_slots_ = 0;
  const auto wish = load<std::uint32_t>(driver_event_);
  const std::uint32_t flags = wish >> event_flags_shift & event_flags_mask;
  if (flags == event_disable) return false;
  if (flags != event_desc || !event_idx_) return true;
  const PackedPosition at = PackedPosition::from(wish);
  if (at.index >= size_) return true;
  // How far back the place is where it wants to be called, of all the places of two laps.
  const std::uint32_t laps = 2U * size_;
  const std::uint32_t back = (shown_.linear(size_) + laps - at.linear(size_)) % laps;
  return back != 0 && back <= slots;
}

bool PackedRing::enable_kicks(ChainSpan known) noexcept {
  if (broken_ || known.slots >= size_) return false;
  PackedPosition place = next_;
  place.advance(static_cast<std::uint16_t>(known.slots), size_);
  store<std::uint32_t>(device_event_,
                       event_idx_ ? place.raw() | event_desc << event_flags_shift : event_enable << event_flags_shift);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return known.slots == 0 ? available() != 0
                          : is_offered(load_acquire<std::uint64_t>(word_of(place.index)), place.wrap);
}

void PackedRing::disable_kicks() noexcept {
  store<std::uint32_t>(device_event_, event_disable << event_flags_shift);
}

}  // namespace patchbay::dataplane
