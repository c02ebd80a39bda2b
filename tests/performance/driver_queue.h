// The driver's side of one virtqueue, in both layouts: what a guest's kernel would do, without interrupts.
//
// Theory  Every buffer is one descriptor with a number of its owner's, which comes back when the device has used it: of
//         the buffer itself, or of a table of its parts (an indirect descriptor), as Linux sends pieces of 64 KB.
//         The two classes have the same members; what drives them is a template over the layout.
// Limits  No chains in the ring, no event index, no in-order promise: the least that every back-end takes, so that all
//         that are compared do the same work.
// Source  VIRTIO 1.2, sections 2.7 (split) and 2.8 (packed).
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace patchbay::bench {

inline constexpr std::size_t ring_alignment = 64;
[[nodiscard]] constexpr std::size_t ring_aligned(std::size_t size_bytes) noexcept {
  return (size_bytes + ring_alignment - 1) / ring_alignment * ring_alignment;
}

// Of a buffer that the device reads.
struct Part {
  std::uint64_t address = 0;
  std::uint32_t size = 0;
};
inline constexpr std::size_t table_entry_bytes = 16;

struct Used {
  std::uint16_t id = 0;
  std::uint32_t written = 0;  // bytes
};

// Offsets of the three parts of a queue from where it starts.
struct QueueParts {
  std::size_t descriptors = 0;
  std::size_t driver = 0;
  std::size_t device = 0;
};

namespace detail {
template <typename T>
[[nodiscard]] inline T* at(std::uint8_t* base, std::size_t offset) noexcept {
  return reinterpret_cast<T*>(base + offset);
}
struct Descriptor {
  std::uint64_t address;
  std::uint32_t size;
  std::uint16_t flags;  // of a packed ring: the number of the buffer
  std::uint16_t next;   // of a packed ring: the flags
};
static_assert(sizeof(Descriptor) == 16);
inline constexpr std::uint16_t has_next = 1;
inline constexpr std::uint16_t device_writes = 2;
inline constexpr std::uint16_t is_table = 4;
}  // namespace detail

class SplitQueue {
 public:
  static constexpr std::uint64_t feature = 0;

  [[nodiscard]] static QueueParts parts(std::uint16_t entries) noexcept {
    const std::size_t driver = ring_aligned(entries * sizeof(detail::Descriptor));
    return {.descriptors = 0, .driver = driver, .device = driver + ring_aligned(2 * std::size_t{entries} + 6)};
  }
  [[nodiscard]] static std::size_t size_bytes(std::uint16_t entries) noexcept {
    return parts(entries).device + ring_aligned(8 * std::size_t{entries} + 6);
  }

  // `base`: zeroed memory of size_bytes(entries); `entries`: a power of two.
  SplitQueue(std::uint8_t* base, std::uint16_t entries) noexcept : mask_(static_cast<std::uint16_t>(entries - 1)) {
    const QueueParts place = parts(entries);
    descriptors_ = detail::at<detail::Descriptor>(base, place.descriptors);
    avail_ = detail::at<std::uint16_t>(base, place.driver);
    used_ = base + place.device;
    avail_[0] = 1;  // no interrupts: we poll
  }

  // Room is the caller's to know: as many may be offered and not yet reaped as there are entries.
  void offer(std::uint16_t id, std::uint64_t address, std::uint32_t size, bool device_writes) noexcept {
    offer(id, {address, size}, device_writes ? detail::device_writes : std::uint16_t{0});
  }
  // `parts` of a buffer that the device reads become the table at `table`, which is at guest address `address`.
  void offer_table(std::uint16_t id, std::uint8_t* table, std::uint64_t address, std::span<const Part> parts) noexcept {
    auto* const entries = detail::at<detail::Descriptor>(table, 0);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const bool last = i + 1 == parts.size();
      entries[i] = {.address = parts[i].address,
                    .size = parts[i].size,
                    .flags = last ? std::uint16_t{0} : detail::has_next,
                    .next = static_cast<std::uint16_t>(last ? 0 : i + 1)};
    }
    offer(id, {address, static_cast<std::uint32_t>(parts.size() * table_entry_bytes)}, detail::is_table);
  }
  // Shows the device what was offered. True: it wants to be kicked for it.
  [[nodiscard]] bool publish() noexcept {
    if (next_ == published_) return false;
    published_ = next_;
    __atomic_store_n(&avail_[1], next_, __ATOMIC_RELEASE);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return wants_kicks();
  }
  [[nodiscard]] bool wants_kicks() const noexcept {
    return (__atomic_load_n(detail::at<std::uint16_t>(used_, 0), __ATOMIC_RELAXED) & 1) == 0;
  }
  // The next buffer that the device is done with; false if there is none.
  [[nodiscard]] bool reap(Used& used) noexcept {
    if (seen_ == last_) {
      seen_ = __atomic_load_n(detail::at<std::uint16_t>(used_, 2), __ATOMIC_ACQUIRE);
      if (seen_ == last_) return false;
    }
    const auto* const entry =
        detail::at<std::uint32_t>(used_, 4 + 8 * std::size_t{static_cast<std::uint16_t>(last_ & mask_)});
    used = {.id = static_cast<std::uint16_t>(entry[0]), .written = entry[1]};
    ++last_;
    return true;
  }

 private:
  void offer(std::uint16_t id, const Part& part, std::uint16_t flags) noexcept {
    detail::Descriptor& descriptor = descriptors_[id];
    descriptor.address = part.address;
    descriptor.size = part.size;
    descriptor.flags = flags;
    avail_[2 + (next_ & mask_)] = id;
    ++next_;
  }

  detail::Descriptor* descriptors_;
  std::uint16_t* avail_;
  std::uint8_t* used_;
  std::uint16_t mask_;
  std::uint16_t next_ = 0;
  std::uint16_t published_ = 0;
  std::uint16_t seen_ = 0;
  std::uint16_t last_ = 0;
};

class PackedQueue {
 public:
  static constexpr std::uint64_t feature = std::uint64_t{1} << 34;  // VIRTIO_F_RING_PACKED

  [[nodiscard]] static QueueParts parts(std::uint16_t entries) noexcept {
    const std::size_t driver = ring_aligned(entries * sizeof(detail::Descriptor));
    return {.descriptors = 0, .driver = driver, .device = driver + ring_alignment};
  }
  [[nodiscard]] static std::size_t size_bytes(std::uint16_t entries) noexcept {
    return parts(entries).device + ring_alignment;
  }

  PackedQueue(std::uint8_t* base, std::uint16_t entries) noexcept : entries_(entries) {
    const QueueParts place = parts(entries);
    descriptors_ = detail::at<detail::Descriptor>(base, place.descriptors);
    device_ = detail::at<std::uint16_t>(base, place.device);
    detail::at<std::uint16_t>(base, place.driver)[1] = 1;  // no interrupts
  }

  void offer(std::uint16_t id, std::uint64_t address, std::uint32_t size, bool device_writes) noexcept {
    offer(id, {address, size}, device_writes ? detail::device_writes : std::uint16_t{0});
  }
  void offer_table(std::uint16_t id, std::uint8_t* table, std::uint64_t address, std::span<const Part> parts) noexcept {
    auto* const entries = detail::at<detail::Descriptor>(table, 0);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      entries[i] = {.address = parts[i].address, .size = parts[i].size, .flags = 0, .next = 0};
    }
    offer(id, {address, static_cast<std::uint32_t>(parts.size() * table_entry_bytes)}, detail::is_table);
  }
  [[nodiscard]] bool publish() noexcept {
    if (!has_first_) return false;
    has_first_ = false;
    __atomic_store_n(&descriptors_[first_].next, first_flags_, __ATOMIC_RELEASE);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return wants_kicks();
  }
  [[nodiscard]] bool wants_kicks() const noexcept { return (__atomic_load_n(&device_[1], __ATOMIC_RELAXED) & 3) != 1; }
  [[nodiscard]] bool reap(Used& used) noexcept {
    const std::uint16_t flags = __atomic_load_n(&descriptors_[last_].next, __ATOMIC_ACQUIRE);
    const bool is_avail = (flags & avail_flag) != 0;
    const bool is_used = (flags & used_flag) != 0;
    if (is_avail != is_used || is_used != last_wrap_) return false;
    used = {.id = descriptors_[last_].flags, .written = descriptors_[last_].size};
    if (++last_ == entries_) {
      last_ = 0;
      last_wrap_ = !last_wrap_;
    }
    return true;
  }

 private:
  static constexpr std::uint16_t avail_flag = 1 << 7;
  static constexpr std::uint16_t used_flag = 1 << 15;

  void offer(std::uint16_t id, const Part& part, std::uint16_t more_flags) noexcept {
    detail::Descriptor& descriptor = descriptors_[next_];
    descriptor.address = part.address;
    descriptor.size = part.size;
    descriptor.flags = id;
    const auto flags = static_cast<std::uint16_t>((next_wrap_ ? avail_flag : used_flag) | more_flags);
    // The first of a batch becomes available last, so that the device sees all of it or nothing.
    if (!has_first_) {
      has_first_ = true;
      first_ = next_;
      first_flags_ = flags;
    } else {
      descriptor.next = flags;
    }
    if (++next_ == entries_) {
      next_ = 0;
      next_wrap_ = !next_wrap_;
    }
  }

  detail::Descriptor* descriptors_;
  std::uint16_t* device_;
  std::uint16_t entries_;
  std::uint16_t next_ = 0;
  std::uint16_t last_ = 0;
  std::uint16_t first_ = 0;
  std::uint16_t first_flags_ = 0;
  bool has_first_ = false;
  bool next_wrap_ = true;
  bool last_wrap_ = true;
};

}  // namespace patchbay::bench
