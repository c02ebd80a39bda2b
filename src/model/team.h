// A NIC team as the administrator means it: 1 to 32 NICs that act as one uplink.
//
// Source  Windows Server 2012 LBFO (modes and algorithms have its names); IEEE 802.1AX-2020 (LACP).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace patchbay::model {

inline constexpr std::size_t team_nics_max = 32;

// What the partner at the other end of the wires knows of the team: nothing, its configuration, or what LACP tells it.
enum class TeamMode : std::uint8_t { switch_independent, static_, lacp };
[[nodiscard]] const char* to_string(TeamMode mode) noexcept;  // "switch-independent", "static", "lacp"

// By what a frame's member is chosen: by its flow, by the address that sends it, or by its flow for as long as that does not
// pause (a flowlet), and then by load.
enum class TeamBalance : std::uint8_t { address_hash, vnic_port, dynamic };
[[nodiscard]] const char* to_string(TeamBalance balance) noexcept;  // "address-hash", "vnic-port", "dynamic"

// How often partners speak: once a second, and silence of 3 s is noticed; or twice a minute, and 90 s.
enum class LacpTimer : std::uint8_t { fast, slow };
[[nodiscard]] const char* to_string(LacpTimer timer) noexcept;  // "fast", "slow"

inline constexpr std::uint32_t failback_delay_max_ms = 600'000;
inline constexpr std::uint32_t failback_delay_default_ms = 1000;

struct Team {
  std::string name;               // see name.h
  std::vector<std::string> nics;  // by kernel name or PCI address; of equal ones the first is preferred
  TeamMode mode = TeamMode::switch_independent;
  TeamBalance balance = TeamBalance::dynamic;
  std::string standby = {};                // one of `nics`, that carries frames only when no other does; empty: none
  LacpTimer lacp_timer = LacpTimer::fast;  // lacp; else fast
  // A NIC that comes back carries frames again when its link has been good for so long, unless no other one carries any.
  std::uint32_t failback_delay_ms = failback_delay_default_ms;

  friend bool operator==(const Team&, const Team&) = default;
};

}  // namespace patchbay::model
