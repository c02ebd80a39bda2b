// What split and packed virtqueues have in common.
//
// Theory  Both kinds have one interface (SplitRing is its description), so that QueuePair is written once, as templates
//         over the kind. Guest memory is read and written through load() and store() only, so that the compiler neither
//         repeats nor splits an access.
// Threads As the rings.
// Source  VIRTIO 1.2, section 2.6 to 2.8.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace patchbay::dataplane {

inline constexpr std::uint64_t feature_bit(unsigned bit) noexcept {
  return std::uint64_t{1} << bit;
}
inline constexpr std::uint64_t virtio_net_f_csum = feature_bit(0);        // the guest may leave checksums to us,
inline constexpr std::uint64_t virtio_net_f_guest_csum = feature_bit(1);  // and takes frames without them
inline constexpr std::uint64_t virtio_net_f_mtu = feature_bit(3);
inline constexpr std::uint64_t virtio_net_f_guest_tso4 = feature_bit(7);
inline constexpr std::uint64_t virtio_net_f_guest_tso6 = feature_bit(8);
inline constexpr std::uint64_t virtio_net_f_guest_ecn = feature_bit(9);
inline constexpr std::uint64_t virtio_net_f_host_tso4 = feature_bit(11);
inline constexpr std::uint64_t virtio_net_f_host_tso6 = feature_bit(12);
inline constexpr std::uint64_t virtio_net_f_host_ecn = feature_bit(13);
inline constexpr std::uint64_t virtio_net_f_mrg_rxbuf = feature_bit(15);
inline constexpr std::uint64_t virtio_ring_f_indirect_desc = feature_bit(28);
inline constexpr std::uint64_t virtio_ring_f_event_idx = feature_bit(29);
inline constexpr std::uint64_t virtio_f_version_1 = feature_bit(32);
inline constexpr std::uint64_t virtio_f_ring_packed = feature_bit(34);
inline constexpr std::uint64_t virtio_f_in_order = feature_bit(35);
inline constexpr std::uint64_t virtio_net_f_guest_uso4 = feature_bit(54);
inline constexpr std::uint64_t virtio_net_f_guest_uso6 = feature_bit(55);
inline constexpr std::uint64_t virtio_net_f_host_uso = feature_bit(56);

// Flags of a descriptor, in both kinds.
inline constexpr std::uint16_t desc_f_next = 1;
inline constexpr std::uint16_t desc_f_write = 2;
inline constexpr std::uint16_t desc_f_indirect = 4;
inline constexpr std::size_t desc_size = 16;

enum class Access : std::uint8_t { device_reads, device_writes };

// Of a chain's first descriptor: there is no other one, and the buffer is for this.
[[nodiscard]] constexpr bool is_single(std::uint16_t flags, Access access) noexcept {
  const std::uint16_t wanted = access == Access::device_writes ? desc_f_write : std::uint16_t{0};
  return (flags & (desc_f_next | desc_f_write | desc_f_indirect)) == wanted;
}

enum class ChainStatus : std::uint8_t {
  good,
  none,       // no chain waits there
  malformed,  // this chain cannot be used; the ring goes on
  broken,     // the ring cannot be trusted any more
};

// What gives a chain back.
struct ChainId {
  std::uint16_t id = 0;     // by which the driver knows it
  std::uint16_t slots = 1;  // entries of the ring that the position moves on by
};

// Chains one behind the other, from the next one on.
struct ChainSpan {
  std::uint16_t chains = 0;
  std::uint32_t slots = 0;
};

struct Chain {
  ChainId id;
  std::uint16_t segment_count = 0;  // none of size zero
  std::uint64_t size_bytes = 0;     // of all segments
};

template <typename T>
T load(const std::uint8_t* at) noexcept {
  return __atomic_load_n(reinterpret_cast<const T*>(at), __ATOMIC_RELAXED);
}
template <typename T>
T load_acquire(const std::uint8_t* at) noexcept {
  return __atomic_load_n(reinterpret_cast<const T*>(at), __ATOMIC_ACQUIRE);
}
template <typename T>
void store(std::uint8_t* at, T value) noexcept {
  __atomic_store_n(reinterpret_cast<T*>(at), value, __ATOMIC_RELAXED);
}
template <typename T>
void store_release(std::uint8_t* at, T value) noexcept {
  __atomic_store_n(reinterpret_cast<T*>(at), value, __ATOMIC_RELEASE);
}

[[nodiscard]] inline bool aligned(const std::uint8_t* pointer, std::uintptr_t alignment) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

// Shows what was pushed to one ring. True: the guest asked to be called for it.
template <typename Kind>
[[nodiscard]] bool publish(Kind& ring) noexcept {
  ring.show();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return ring.call_wanted();
}

}  // namespace patchbay::dataplane
