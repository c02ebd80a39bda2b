#include "control/store/migrations.h"

#include <fmt/format.h>

#include <array>

namespace patchbay::store {
namespace {

constexpr std::array steps{
    // 0 -> 1
    R"sql(
CREATE TABLE switches (
  name       TEXT PRIMARY KEY NOT NULL,
  type       TEXT NOT NULL,             -- external, internal, private
  uplink     TEXT NOT NULL DEFAULT '',  -- name of a NIC; external only
  force_vlan INTEGER,
  mtu        INTEGER NOT NULL
) STRICT;
CREATE TABLE vnics (
  name       TEXT PRIMARY KEY NOT NULL,
  switch     TEXT NOT NULL REFERENCES switches(name),
  kind       TEXT NOT NULL,             -- guest, host
  mac        TEXT NOT NULL,             -- 02:00:00:00:00:01
  mac_origin TEXT NOT NULL,             -- dynamic, static
  vlan_mode  TEXT NOT NULL,             -- untagged, access
  vid        INTEGER,                   -- access only
  connect    TEXT NOT NULL DEFAULT ''   -- path of a socket; guest only
) STRICT;
CREATE TABLE mac_pool (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  octet_a    INTEGER NOT NULL,
  octet_b    INTEGER NOT NULL,
  next       INTEGER NOT NULL           -- last octet of the address to try first
) STRICT;
)sql",
    // 1 -> 2: trunks, private VLANs, MAC spoofing, priorities. vlan_mode: trunk, isolated, community, promiscuous as
    // well; vid is then the native VLAN of a trunk (0: frames without a tag are in none) or the primary of the others.
    R"sql(
ALTER TABLE vnics ADD COLUMN vlan_list TEXT NOT NULL DEFAULT '';   -- 10,20-29: allowed, or the secondary VLANs
ALTER TABLE vnics ADD COLUMN vlan_pruned TEXT NOT NULL DEFAULT ''; -- of a trunk
ALTER TABLE vnics ADD COLUMN mac_spoofing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vnics ADD COLUMN mac_limit INTEGER NOT NULL DEFAULT 1024;
ALTER TABLE vnics ADD COLUMN trust_priority INTEGER NOT NULL DEFAULT 0;
)sql",
    // 2 -> 3
    R"sql(
ALTER TABLE switches ADD COLUMN share_with_host TEXT NOT NULL DEFAULT '';  -- name of a host vnic; external only
)sql",
    // 3 -> 4: the audit
    R"sql(
CREATE TABLE audit (
  id         INTEGER PRIMARY KEY,       -- in the order of the changes
  at         TEXT NOT NULL,             -- UTC, RFC 3339
  uid        INTEGER,                   -- of the process that asked; NULL: patchbayd itself
  user       TEXT NOT NULL,             -- its name at that time; '': it had none
  verb       TEXT NOT NULL,             -- create, set, delete
  kind       TEXT NOT NULL,             -- switch, vnic
  name       TEXT NOT NULL,
  apply      INTEGER NOT NULL,          -- 1: part of an apply
  before     TEXT,                      -- JSON; NULL: there was no such object
  after      TEXT
) STRICT;
CREATE INDEX audit_name ON audit (name, id);
)sql",
    // 4 -> 5: drivers of uplinks
    R"sql(
ALTER TABLE switches ADD COLUMN driver TEXT NOT NULL DEFAULT 'auto';  -- auto, packet, xdp
CREATE TABLE switched_off (             -- offloads to be switched on again when the NIC is not used by AF_XDP
  nic        TEXT NOT NULL,
  offload    TEXT NOT NULL,             -- rx-vlan-offload, rx-vlan-stag-hw-parse, generic-receive-offload
  PRIMARY KEY (nic, offload)
) STRICT;
)sql",
    // 5 -> 6
    R"sql(
ALTER TABLE vnics ADD COLUMN queues INTEGER NOT NULL DEFAULT 1;  -- queue pairs
)sql",
    // 6 -> 7
    R"sql(
ALTER TABLE vnics ADD COLUMN worker INTEGER;  -- NULL: any
)sql",
    // 7 -> 8
    R"sql(
ALTER TABLE switches ADD COLUMN gro INTEGER NOT NULL DEFAULT 1;  -- 0: frames of the wire are not merged; external only
)sql",
    // 8 -> 9: buffers; NULL: the next level says
    R"sql(
ALTER TABLE switches ADD COLUMN buffer TEXT;  -- 0, 1M, auto, auto:4M
ALTER TABLE switches ADD COLUMN buffer_max_age_ms INTEGER;  -- 0: none
ALTER TABLE vnics ADD COLUMN buffer TEXT;
ALTER TABLE vnics ADD COLUMN buffer_max_age_ms INTEGER;
)sql",
    // 9 -> 10: policies, labels, what is set for the host
    R"sql(
CREATE TABLE policies (
  name       TEXT PRIMARY KEY NOT NULL,
  apply_to   TEXT NOT NULL,             -- host,switch:lan,label:storage,label:tier=gold
  buffer     TEXT,                      -- as in vnics
  buffer_max_age_ms INTEGER
) STRICT;
ALTER TABLE vnics ADD COLUMN labels TEXT NOT NULL DEFAULT '';  -- storage,tier=gold
CREATE TABLE host (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  buffer_limit INTEGER                  -- bytes; NULL: the built-in one
) STRICT;
)sql",
    // 10 -> 11: teams
    R"sql(
CREATE TABLE teams (
  name       TEXT PRIMARY KEY NOT NULL,
  nics       TEXT NOT NULL,             -- eth1,eth2
  mode       TEXT NOT NULL,             -- switch-independent, static, lacp
  balance    TEXT NOT NULL,             -- address-hash, vnic-port, dynamic
  standby    TEXT NOT NULL DEFAULT '',  -- one of nics
  lacp_timer TEXT NOT NULL,             -- fast, slow
  failback_delay_ms INTEGER NOT NULL
) STRICT;
)sql",
    // 11 -> 12
    R"sql(
ALTER TABLE vnics ADD COLUMN vmq_weight INTEGER NOT NULL DEFAULT 100;  -- 0: never a receive queue of the uplink
)sql",
};

Result<int> version_of(Sqlite& database) {
  auto statement = database.prepare("PRAGMA user_version");
  if (!statement) return fail(statement.error());
  const auto row = statement->step();
  if (!row) return fail(row.error());
  return static_cast<int>(statement->number(0));
}

}  // namespace

int schema_version() noexcept {
  return static_cast<int>(steps.size());
}

Result<void> migrate(Sqlite& database) {
  const auto version = version_of(database);
  if (!version) return fail(version.error());
  if (*version < 0 || *version > schema_version()) {
    return fail(ErrorCode::invalid,
                fmt::format("state file {} has schema version {}, this patchbayd knows versions up to {}; start the "
                            "release that wrote it",
                            database.path(), *version, schema_version()));
  }
  for (int from = *version; from < schema_version(); ++from) {
    auto transaction = Transaction::begin(database);
    if (!transaction) return fail(transaction.error());
    if (auto ok = database.execute(steps[static_cast<std::size_t>(from)]); !ok) return ok;
    if (auto ok = database.execute(fmt::format("PRAGMA user_version = {}", from + 1).c_str()); !ok) return ok;
    if (auto ok = transaction->commit(); !ok) return ok;
  }
  return {};
}

}  // namespace patchbay::store
