// VLAN modes of a vnic. They exclude each other; each says in which VLAN the vnic's frames are, and which VLANs it hears.
//
//           sends in                     hears                                        sees tags
// Untagged  no VLAN                      no VLAN                                      no
// Access    its VLAN                     its VLAN                                     no
// Trunk     allowed without pruned;      the same                                     yes, but for the native VLAN
//           without a tag: the native
// Private VLANs, always without tags:
// Isolated     its secondary             the primary only: never another isolated vnic
// Community    its secondary             the primary and its own secondary
// Promiscuous  the primary               the primary and the secondaries it lists
//
// Source  IEEE 802.1Q-2018, 6.9 and 8.8 (member set and PVID); RFC 5517 (private VLANs).
#pragma once
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "base/vlan_id.h"
#include "base/vlan_set.h"

namespace patchbay::model {

struct Untagged {
  friend bool operator==(const Untagged&, const Untagged&) = default;
};
struct Access {
  VlanId vid;
  friend bool operator==(const Access&, const Access&) = default;
};
struct Trunk {
  VlanSet allowed;  // not empty
  VlanSet pruned;   // wins over allowed
  // The VLAN of frames without a tag. Outer nothing: they are dropped. Inner nothing: they are in no VLAN.
  std::optional<std::optional<VlanId>> native;
  friend bool operator==(const Trunk&, const Trunk&) = default;

  // allowed without pruned, and the native VLAN.
  [[nodiscard]] VlanSet carried() const;
};
struct Isolated {
  VlanId primary;
  VlanId secondary;
  friend bool operator==(const Isolated&, const Isolated&) = default;
};
struct Community {
  VlanId primary;
  VlanId secondary;
  friend bool operator==(const Community&, const Community&) = default;
};
struct Promiscuous {
  VlanId primary;
  VlanSet secondaries;  // not empty, without the primary
  friend bool operator==(const Promiscuous&, const Promiscuous&) = default;
};
using VlanMode = std::variant<Untagged, Access, Trunk, Isolated, Community, Promiscuous>;

// "untagged", "access", "trunk", "isolated", "community", "promiscuous"
[[nodiscard]] const char* to_string(const VlanMode& mode) noexcept;
// For sentences: "VLAN 101", "trunk 10,20-29", "isolated 100:101", …
[[nodiscard]] std::string describe(const VlanMode& mode);

// What is wrong with `mode` by itself. Errors: invalid.
[[nodiscard]] Result<void> check(const VlanMode& mode);
// Whether two vnics of one switch may have these modes: a secondary VLAN belongs to one primary, and is no primary.
// Errors: invalid, naming the VLAN.
[[nodiscard]] Result<void> check_together(const VlanMode& one, const VlanMode& other);

}  // namespace patchbay::model
