// What differs between two hosts, object by object: for the audit, and as the answer of `apply`.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/store/audit.h"
#include "model/host.h"

namespace patchbay::reconcile {

struct ObjectChange {
  const char* verb;    // "create", "set", "delete"
  const char* kind;    // "switch", "vnic", "team", "policy", "host"
  std::string name;    // of the host: "host"
  std::string before;  // settable() as JSON text; empty: there was none
  std::string after;   // empty: there is none any more

  friend bool operator==(const ObjectChange&, const ObjectChange&) = default;
};

// In an order that could be followed by hand: what goes, policies and vnics before their switches, and those before their
// teams; what comes or changes the other way round, after the host itself. By name within each.
[[nodiscard]] std::vector<ObjectChange> changes_between(const model::Host& from, const model::Host& to);

// Who asks for a change.
struct Actor {
  std::optional<std::uint32_t> uid;  // of the process at the API's socket; nothing: patchbayd itself
};

// The audit rows of `changes`, all of this moment.
[[nodiscard]] std::vector<store::AuditEntry> audit_of(const std::vector<ObjectChange>& changes, const Actor& actor,
                                                      bool apply);

}  // namespace patchbay::reconcile
