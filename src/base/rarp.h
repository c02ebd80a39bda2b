// The frame that tells switches behind which of their ports an address is: a RARP broadcast that asks for the sender's own
// address. QEMU announces a migrated guest by the same frame.
//
// Source  RFC 903.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/mac_addr.h"

namespace patchbay {

inline constexpr std::size_t rarp_size = 60;  // the shortest frame, without FCS

[[nodiscard]] constexpr std::array<std::uint8_t, rarp_size> rarp_announcement(MacAddr mac) noexcept {
  std::array<std::uint8_t, rarp_size> frame = {
      0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0x80, 0x35,  // destination, source, type
      0,    1,    0x08, 0,    6,    4,    0, 3};  // Ethernet, IPv4, lengths of both addresses, reverse request; the rest is zero
  constexpr std::size_t source = 6;
  constexpr std::size_t sender = 22;  // hardware address, then 4 bytes of protocol address
  constexpr std::size_t target = 32;
  for (const std::size_t at : {source, sender, target}) {
    std::copy_n(mac.bytes().begin(), mac.bytes().size(), frame.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return frame;
}

}  // namespace patchbay
