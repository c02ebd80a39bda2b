// The host's pool of dynamic MAC addresses: 00:15:5d:AA:BB:00 to :ff.
//
// Theory  AA:BB are fixed once, when the host's state is first created, so that they stay when its addresses change.
//         `next` goes round: an address given back is drawn again only after all others were, so that neighbours' ARP
//         tables have forgotten it.
// Limits  256 addresses; when all are in use, drawing fails.
// Source  Microsoft KB 2804678: the same format and size as Hyper-V, so that both sort alike in an inventory.
#pragma once
#include <array>
#include <cstdint>
#include <functional>

#include "base/mac_addr.h"
#include "base/result.h"

namespace patchbay::model {

struct MacPool {
  std::array<std::uint8_t, 2> host_octets{};  // AA, BB
  std::uint8_t next = 0;                      // xx of the address to try first

  friend bool operator==(const MacPool&, const MacPool&) = default;
};

inline constexpr unsigned mac_pool_size = 256;

// The pool's address with this last octet.
[[nodiscard]] MacAddr mac_of(const MacPool& pool, std::uint8_t last_octet) noexcept;

// The next address for which `in_use` says no; moves pool.next past it.
// Errors: no_resource (all are in use; the pool stays as it was).
[[nodiscard]] Result<MacAddr> draw(MacPool& pool, const std::function<bool(MacAddr)>& in_use);

}  // namespace patchbay::model
