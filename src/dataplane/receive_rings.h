// Receive rings that a guest had: whether one that comes is the one that went, so that what waits is for it.
//
// Theory  The one that went comes back with the same features, and the same rings at the same places and positions, as
//         QEMU's `cont` and its reconnect do. Whoever starts anew starts where rings start.
// Threads control's.
#pragma once
#include <array>
#include <cstdint>

#include "dataplane/dataplane.h"
#include "dataplane/virtqueue/queue_pair.h"

namespace patchbay::dataplane {

class ReceiveRings {
 public:
  // Every receive ring of `link` runs already, or stands where it stopped; so that what waits is for this guest.
  [[nodiscard]] bool go_on(const GuestLink& link) const noexcept {
    for (std::size_t pair = 0; pair < queue_pairs_max; ++pair) {
      const Vring& ring = link.rings[2 * pair];
      if (!QueuePair::is_complete(ring)) continue;
      const Known& known = known_[pair];
      if (known.features != link.features || !known.is(ring)) return false;
      if (!known.runs && (known.position != ring.position || is_start(link, ring.position))) return false;
    }
    return true;
  }
  // `link` runs now. `positions`: where the rings of the link before it stood.
  void note(const GuestLink& link, const RingPositions& positions) noexcept {
    stop(positions);
    for (std::size_t pair = 0; pair < queue_pairs_max; ++pair) {
      const Vring& ring = link.rings[2 * pair];
      if (QueuePair::is_complete(ring)) {
        known_[pair] = {link.features, ring.desc_address, ring.avail_address, ring.used_address, ring.size, 0, true};
      }
    }
  }
  void stop(const RingPositions& positions) noexcept {
    for (std::size_t pair = 0; pair < queue_pairs_max; ++pair) {
      if (!known_[pair].runs) continue;
      known_[pair].position = positions[2 * pair];
      known_[pair].runs = false;
    }
  }

 private:
  // Whoever starts a ring anew starts it there, and may well have it at the same address.
  [[nodiscard]] static bool is_start(const GuestLink& link, std::uint32_t position) noexcept {
    constexpr std::uint32_t packed_start = 0x80008000;
    return position == ((link.features & virtio_f_ring_packed) != 0 ? packed_start : 0);
  }
  struct Known {
    std::uint64_t features = 0;
    std::uint64_t desc = 0;
    std::uint64_t avail = 0;
    std::uint64_t used = 0;
    std::uint32_t size = 0;
    std::uint32_t position = 0;
    bool runs = false;
    [[nodiscard]] bool is(const Vring& ring) const noexcept {
      return desc == ring.desc_address && avail == ring.avail_address && used == ring.used_address && size == ring.size;
    }
  };
  std::array<Known, queue_pairs_max> known_;
};

}  // namespace patchbay::dataplane
