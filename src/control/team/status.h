// How the members of a team are, as shown to people.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/mac_addr.h"

namespace patchbay::team {

enum class MemberState : std::uint8_t {
  active,    // carries frames
  standby,   // could, and is kept for when no other does
  holding,   // its link is good again, but not for long enough yet
  inactive,  // LACP: the partner does not take part, or in another aggregate than the one that is used
  down,      // no carrier, or not open
};
[[nodiscard]] const char* to_string(MemberState state) noexcept;  // "active", "standby", …

// One end of a link, as LACP speaks of it (IEEE 802.1AX-2020, 6.4.2.3).
struct LacpEnd {
  std::uint16_t system_priority = 0;
  MacAddr system;
  std::uint16_t key = 0;
  std::uint16_t port_priority = 0;
  std::uint16_t port = 0;
  std::uint8_t state = 0;  // lacp_state bits
};
struct LacpStatus {
  LacpEnd actor;
  std::optional<LacpEnd> partner;  // nothing: none has spoken, or none speaks any more
  std::string receive;             // state of the receive machine: "current", "expired", "defaulted", …
  std::string mux;                 // and of the mux machine: "detached", "waiting", "attached", …
  std::uint64_t sent = 0;          // LACPDUs
  std::uint64_t received = 0;      // that were good
  std::uint64_t malformed = 0;     // that were not
};
struct MemberStatus {
  std::string nic;
  MemberState state = MemberState::down;
  std::string reason;  // a phrase for people; empty when all is well
  bool primary = false;
  std::optional<LacpStatus> lacp;
};
struct Status {
  std::vector<MemberStatus> members;  // in the order of model::Team::nics
  std::uint64_t failovers = 0;        // members that stopped to carry frames, and others went on
  std::uint64_t announcements = 0;    // RARP frames that said where an address is now
};

}  // namespace patchbay::team
