// What LACP partners tell each other: one frame of 124 bytes.
//
// Source  IEEE 802.1AX-2020, 6.4.2; the marker protocol is 6.5.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/mac_addr.h"
#include "control/team/status.h"

namespace patchbay::team {

inline constexpr std::size_t slow_frame_size = 124;  // LACPDU or marker, with its Ethernet header, without FCS
inline constexpr std::uint16_t slow_protocols = 0x8809;
inline constexpr MacAddr slow_address({0x01, 0x80, 0xC2, 0x00, 0x00, 0x02});

// Bits of LacpEnd::state.
inline constexpr std::uint8_t lacp_active = 0x01;
inline constexpr std::uint8_t lacp_short_timeout = 0x02;
inline constexpr std::uint8_t lacp_aggregation = 0x04;
inline constexpr std::uint8_t lacp_in_sync = 0x08;
inline constexpr std::uint8_t lacp_collecting = 0x10;
inline constexpr std::uint8_t lacp_distributing = 0x20;
inline constexpr std::uint8_t lacp_defaulted = 0x40;
inline constexpr std::uint8_t lacp_expired = 0x80;

struct Lacpdu {
  LacpEnd actor;    // who sends it
  LacpEnd partner;  // and what he knows of the other end
};

using SlowFrame = std::array<std::uint8_t, slow_frame_size>;

// The frame, sent from `source`.
[[nodiscard]] SlowFrame encode(const Lacpdu& pdu, MacAddr source) noexcept;
// What `frame`, an Ethernet frame, says; nothing if it is no LACPDU, or malformed. Versions above 1 are read as 1, as the
// standard wants it.
[[nodiscard]] std::optional<Lacpdu> decode(std::span<const std::uint8_t> frame) noexcept;
// The answer to a marker, which says that the frames before it have arrived, sent from `source`; nothing if `frame` is none.
[[nodiscard]] std::optional<SlowFrame> marker_response(std::span<const std::uint8_t> frame, MacAddr source) noexcept;

}  // namespace patchbay::team
