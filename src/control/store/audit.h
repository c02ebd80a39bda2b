// The audit: who changed what, when, from what to what.
//
// Theory  A row is written in the transaction of the change that it tells of, so that neither is there without the
//         other. A change that was refused, or that changed nothing, is no row.
// Limits  The newest audit_rows_max rows are kept; older ones go in the transaction that writes a new one. A row takes
//         some 500 bytes, so all of them some 50 MB.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace patchbay::store {

inline constexpr std::int64_t audit_rows_max = 100'000;

struct AuditEntry {
  std::int64_t id = 0;               // of the row, from 1 on, in the order of the changes; 0: not stored yet
  std::string at;                    // UTC, RFC 3339: "2026-01-31T23:59:59.999Z"
  std::optional<std::uint32_t> uid;  // of the process that asked through the API; nothing: patchbayd itself
  std::string user;                  // the name of that uid at that time, or "patchbayd"; empty: the uid had no name
  std::string verb;                  // "create", "set", "delete"
  std::string kind;                  // "switch", "vnic", "team", "policy", "host"
  std::string name;                  // of the object
  bool apply = false;                // it was part of `apply`
  std::string before;                // the object's fields as JSON; empty: there was none
  std::string after;

  friend bool operator==(const AuditEntry&, const AuditEntry&) = default;
};

}  // namespace patchbay::store
