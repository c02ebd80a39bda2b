#include "control/store/sqlite_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/store/audit_table.h"
#include "control/store/migrations.h"
#include "control/store/policy_table.h"
#include "control/store/rows.h"
#include "control/store/team_table.h"

namespace patchbay::store {
namespace {

Result<model::Switch> read_switch(const Sqlite& database, const Statement& row) {
  using model::SwitchType;
  model::Switch read;
  read.name = row.text(0);
  const auto type = read_name(row, 1, {SwitchType::external, SwitchType::internal, SwitchType::private_});
  if (!type) return fail(bad_row(database, "switch", read.name, fmt::format("type '{}'", row.text(1))));
  read.type = *type;
  read.uplink = row.text(2);
  if (!row.is_null(3)) {
    read.force_vlan = VlanId::from(row.number(3));
    if (!read.force_vlan) return fail(bad_row(database, "switch", read.name, fmt::format("VLAN {}", row.number(3))));
  }
  const std::int64_t mtu = row.number(4);
  if (mtu < model::mtu_min || mtu > model::mtu_max) {
    return fail(bad_row(database, "switch", read.name, fmt::format("mtu {}", mtu)));
  }
  read.mtu = static_cast<std::uint16_t>(mtu);
  read.share_with_host = row.text(5);
  using model::UplinkDriver;
  const auto driver = read_name(row, 6, {UplinkDriver::auto_, UplinkDriver::packet, UplinkDriver::xdp});
  if (!driver) return fail(bad_row(database, "switch", read.name, fmt::format("driver '{}'", row.text(6))));
  read.driver = *driver;
  read.gro = row.number(7) != 0;
  if (auto ok = read_buffer(row, 8, read.buffer); !ok) {
    return fail(bad_row(database, "switch", read.name, ok.error().message));
  }
  return read;
}

// From the columns vlan_mode, vid, connect, vlan_list, vlan_pruned, the first of which is `column`; nothing if they make no
// mode.
std::optional<model::VlanMode> read_vlan_mode(const Statement& row, int column) {
  const std::string mode = row.text(column);
  const bool has_vid = !row.is_null(column + 1);
  const auto vid = has_vid ? VlanId::from(row.number(column + 1)) : std::nullopt;
  const std::string list_text = row.text(column + 3);
  if (mode == "untagged") return has_vid ? std::nullopt : std::optional<model::VlanMode>(model::Untagged{});
  if (mode == "access") return vid ? std::optional<model::VlanMode>(model::Access{*vid}) : std::nullopt;
  const auto list = VlanSet::parse(list_text);
  if (!list) return std::nullopt;
  if (mode == "trunk") {
    model::Trunk trunk;
    trunk.allowed = *list;
    if (const std::string pruned_text = row.text(column + 4); !pruned_text.empty()) {
      const auto pruned = VlanSet::parse(pruned_text);
      if (!pruned) return std::nullopt;
      trunk.pruned = *pruned;
    }
    if (has_vid && !vid && row.number(column + 1) != 0) return std::nullopt;
    if (has_vid) trunk.native = vid;
    return trunk;
  }
  if (!vid) return std::nullopt;
  if (mode == "promiscuous") return model::Promiscuous{*vid, *list};
  const auto secondary = list->size() == 1 ? VlanId::from(std::stoi(list->to_string())) : std::nullopt;
  if (!secondary) return std::nullopt;
  if (mode == "isolated") return model::Isolated{*vid, *secondary};
  if (mode == "community") return model::Community{*vid, *secondary};
  return std::nullopt;
}

// Binds the same columns; `connect` is not among them.
struct PutVlanMode {
  Statement& statement;

  void bind(const char* mode, std::optional<std::int64_t> vid, const std::string& list, const std::string& pruned) {
    statement.bind(6, std::string(mode)).bind(9, list).bind(10, pruned);
    if (vid) {
      statement.bind(7, *vid);
    } else {
      statement.bind(7, std::nullopt);
    }
  }
  static std::string text(VlanId vid) { return std::to_string(vid.raw()); }

  void operator()(const model::Untagged&) { bind("untagged", std::nullopt, "", ""); }
  void operator()(const model::Access& mode) { bind("access", mode.vid.raw(), "", ""); }
  void operator()(const model::Trunk& mode) {
    std::optional<std::int64_t> native;
    if (mode.native) native = *mode.native ? (*mode.native)->raw() : 0;
    bind("trunk", native, mode.allowed.to_string(), mode.pruned.to_string());
  }
  void operator()(const model::Isolated& mode) { bind("isolated", mode.primary.raw(), text(mode.secondary), ""); }
  void operator()(const model::Community& mode) { bind("community", mode.primary.raw(), text(mode.secondary), ""); }
  void operator()(const model::Promiscuous& mode) {
    bind("promiscuous", mode.primary.raw(), mode.secondaries.to_string(), "");
  }
};

Result<model::Vnic> read_vnic(const Sqlite& database, const Statement& row) {
  model::Vnic read;
  read.name = row.text(0);
  read.switch_name = row.text(1);
  const auto kind = read_name(row, 2, {model::VnicKind::guest, model::VnicKind::host});
  if (!kind) return fail(bad_row(database, "vnic", read.name, fmt::format("kind '{}'", row.text(2))));
  read.kind = *kind;
  const auto mac = MacAddr::parse(row.text(3));
  if (!mac) return fail(bad_row(database, "vnic", read.name, fmt::format("MAC '{}'", row.text(3))));
  read.mac = *mac;
  const auto origin = read_name(row, 4, {model::MacOrigin::dynamic, model::MacOrigin::static_});
  if (!origin) return fail(bad_row(database, "vnic", read.name, fmt::format("MAC origin '{}'", row.text(4))));
  read.mac_origin = *origin;
  const auto vlan = read_vlan_mode(row, 5);
  if (!vlan) {
    return fail(
        bad_row(database, "vnic", read.name,
                fmt::format("VLAN mode '{}' with id '{}' and list '{}'", row.text(5), row.text(6), row.text(8))));
  }
  read.vlan = *vlan;
  read.connect = row.text(7);
  read.mac_spoofing = row.number(10) != 0;
  const std::int64_t limit = row.number(11);
  if (limit < 1 || limit > model::mac_limit_max) {
    return fail(bad_row(database, "vnic", read.name, fmt::format("mac_limit {}", limit)));
  }
  read.mac_limit = static_cast<std::uint32_t>(limit);
  read.trust_priority = row.number(12) != 0;
  const std::int64_t queues = row.number(13);
  if (queues < 1 || queues > model::queues_max) {
    return fail(bad_row(database, "vnic", read.name, fmt::format("queues {}", queues)));
  }
  read.queues = static_cast<std::uint16_t>(queues);
  if (!row.is_null(14)) {
    const std::int64_t worker = row.number(14);
    if (worker < 0 || worker > model::worker_id_max) {
      return fail(bad_row(database, "vnic", read.name, fmt::format("worker {}", worker)));
    }
    read.worker = static_cast<unsigned>(worker);
  }
  if (auto ok = read_buffer(row, 15, read.buffer); !ok) {
    return fail(bad_row(database, "vnic", read.name, ok.error().message));
  }
  read.labels = words_of(row.text(17));
  const std::int64_t weight = row.number(18);
  if (weight < 0 || weight > model::vmq_weight_max) {
    return fail(bad_row(database, "vnic", read.name, fmt::format("vmq_weight {}", weight)));
  }
  read.vmq_weight = static_cast<std::uint32_t>(weight);
  return read;
}

Result<void> put_switch(Statement& statement, const model::Switch& put) {
  statement.bind(1, put.name).bind(2, std::string(to_string(put.type))).bind(3, put.uplink);
  if (put.force_vlan) {
    statement.bind(4, std::int64_t{put.force_vlan->raw()});
  } else {
    statement.bind(4, std::nullopt);
  }
  bind_buffer(statement, 9, put.buffer);
  return statement.bind(5, std::int64_t{put.mtu})
      .bind(6, put.share_with_host)
      .bind(7, std::string(to_string(put.driver)))
      .bind(8, std::int64_t{put.gro})
      .run();
}

Result<void> put_vnic(Statement& statement, const model::Vnic& put) {
  statement.bind(1, put.name).bind(2, put.switch_name).bind(3, std::string(to_string(put.kind)));
  statement.bind(4, put.mac.to_string()).bind(5, std::string(to_string(put.mac_origin)));
  std::visit(PutVlanMode{statement}, put.vlan);
  statement.bind(11, std::int64_t{put.mac_spoofing}).bind(12, std::int64_t{put.mac_limit});
  statement.bind(13, std::int64_t{put.trust_priority}).bind(14, std::int64_t{put.queues});
  if (put.worker) {
    statement.bind(15, std::int64_t{*put.worker});
  } else {
    statement.bind(15, std::nullopt);
  }
  bind_buffer(statement, 16, put.buffer);
  return statement.bind(8, put.connect).bind(18, joined(put.labels)).bind(19, std::int64_t{put.vmq_weight}).run();
}

Result<void> put_mac_pool(Statement& statement, const model::MacPool& put) {
  return statement.bind(1, std::int64_t{put.host_octets[0]})
      .bind(2, std::int64_t{put.host_octets[1]})
      .bind(3, std::int64_t{put.next})
      .run();
}

Result<void> check_undamaged(Sqlite& database) {
  auto statement = database.prepare("PRAGMA quick_check(1)");
  if (!statement) return fail(statement.error());
  const auto row = statement->step();
  if (!row) return fail(row.error());
  std::string what = statement->text(0);
  if (*row && what == "ok") return {};
  std::replace(what.begin(), what.end(), '\n', ' ');  // SQLite writes a line for the database and one for the page
  return fail(ErrorCode::internal,
              fmt::format("state file {} is damaged ({}); restore a copy of it, or move it away to start with an empty "
                          "host",
                          database.path(), what));
}

}  // namespace

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::string& state_dir) {
  auto lock = DirectoryLock::take(state_dir, "state directory", "--state-dir");
  if (!lock) return fail(lock.error());
  auto database = Sqlite::open(state_dir + "/patchbay.db");
  if (!database) return fail(database.error());
  const char* settings = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON";
  if (auto ok = database->execute(settings); !ok) return fail(ok.error());
  if (auto ok = check_undamaged(*database); !ok) return fail(ok.error());
  if (auto ok = migrate(*database); !ok) return fail(ok.error());
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(*lock), std::move(*database)));
}

Result<StoredState> SqliteStore::load() {
  StoredState state;
  auto switches = load_switches();
  if (!switches) return fail(switches.error());
  auto vnics = load_vnics();
  if (!vnics) return fail(vnics.error());
  const auto teams = load_teams(database_);
  if (!teams) return fail(teams.error());
  const auto policies = load_policies(database_);
  if (!policies) return fail(policies.error());
  const auto settings = load_settings(database_);
  if (!settings) return fail(settings.error());
  auto host = model::make_host(*switches, *vnics, *teams, *policies, *settings);
  if (!host) {
    const model::Misfit& misfit = host.error();
    return fail(bad_row(database_, misfit.noun, misfit.name, misfit.error.message));
  }
  state.host = std::move(*host);
  if (auto ok = load_mac_pool(state); !ok) return fail(ok.error());
  return state;
}

Result<std::vector<model::Switch>> SqliteStore::load_switches() {
  std::vector<model::Switch> switches;
  auto rows = database_.prepare(
      "SELECT name, type, uplink, force_vlan, mtu, share_with_host, driver, gro, buffer, buffer_max_age_ms FROM "
      "switches "
      "ORDER BY name");
  if (!rows) return fail(rows.error());
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return switches;
    auto read = read_switch(database_, *rows);
    if (!read) return fail(read.error());
    switches.push_back(std::move(*read));
  }
}

Result<std::vector<model::Vnic>> SqliteStore::load_vnics() {
  std::vector<model::Vnic> vnics;
  auto rows = database_.prepare(
      "SELECT name, switch, kind, mac, mac_origin, vlan_mode, vid, connect, vlan_list, vlan_pruned, mac_spoofing, "
      "mac_limit, trust_priority, queues, worker, buffer, buffer_max_age_ms, labels, vmq_weight FROM vnics "
      "ORDER BY name");
  if (!rows) return fail(rows.error());
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return vnics;
    auto read = read_vnic(database_, *rows);
    if (!read) return fail(read.error());
    vnics.push_back(std::move(*read));
  }
}

Result<void> SqliteStore::load_mac_pool(StoredState& state) {
  auto rows = database_.prepare("SELECT octet_a, octet_b, next FROM mac_pool");
  if (!rows) return fail(rows.error());
  const auto row = rows->step();
  if (!row) return fail(row.error());
  if (!*row) return {};
  for (int column = 0; column < 3; ++column) {
    if (rows->number(column) < 0 || rows->number(column) > 255) {
      return fail(bad_row(database_, "MAC pool", "1", fmt::format("octet {}", rows->number(column))));
    }
  }
  const auto octet = [&rows](int column) { return static_cast<std::uint8_t>(rows->number(column)); };
  state.mac_pool = model::MacPool{{octet(0), octet(1)}, octet(2)};
  return {};
}

Result<void> SqliteStore::save(const Change& change) {
  if (change.empty()) return {};
  auto transaction = Transaction::begin(database_);
  if (!transaction) return fail(transaction.error());
  // Foreign keys are checked at once: switches come before their vnics and go after them.
  if (auto ok =
          for_each(database_,
                   "INSERT INTO switches (name, type, uplink, force_vlan, mtu, share_with_host, driver, gro, buffer, "
                   "buffer_max_age_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                   "ON CONFLICT (name) DO UPDATE SET type = excluded.type, uplink = excluded.uplink, "
                   "force_vlan = excluded.force_vlan, mtu = excluded.mtu, "
                   "share_with_host = excluded.share_with_host, driver = excluded.driver, gro = excluded.gro, "
                   "buffer = excluded.buffer, buffer_max_age_ms = excluded.buffer_max_age_ms",
                   change.put_switches, put_switch);
      !ok) {
    return ok;
  }
  if (auto ok = for_each(database_, "DELETE FROM vnics WHERE name = ?", change.removed_vnics, remove_row); !ok) {
    return ok;
  }
  if (auto ok = for_each(
          database_,
          "INSERT OR REPLACE INTO vnics (name, switch, kind, mac, mac_origin, vlan_mode, vid, connect, "
          "vlan_list, vlan_pruned, mac_spoofing, mac_limit, trust_priority, queues, worker, buffer, "
          "buffer_max_age_ms, labels, vmq_weight) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          change.put_vnics, put_vnic);
      !ok) {
    return ok;
  }
  if (auto ok = for_each(database_, "DELETE FROM switches WHERE name = ?", change.removed_switches, remove_row); !ok) {
    return ok;
  }
  if (change.mac_pool) {
    const std::vector<model::MacPool> pool{*change.mac_pool};
    if (auto ok =
            for_each(database_, "INSERT OR REPLACE INTO mac_pool (id, octet_a, octet_b, next) VALUES (1, ?, ?, ?)",
                     pool, put_mac_pool);
        !ok) {
      return ok;
    }
  }
  if (auto ok = save_teams(database_, change); !ok) return ok;
  if (auto ok = save_policies(database_, change); !ok) return ok;
  if (auto ok = save_audit(database_, change); !ok) return ok;
  return transaction->commit();
}

Result<std::vector<AuditEntry>> SqliteStore::audit(std::size_t count_max, const std::string& name) {
  return load_audit(database_, count_max, name);
}

Result<SwitchedOff> SqliteStore::load_switched_off() {
  SwitchedOff read;
  auto rows = database_.prepare("SELECT nic, offload FROM switched_off");
  if (!rows) return fail(rows.error());
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return read;
    using model::NicOffload;
    const auto offload = read_name(*rows, 1, {NicOffload::rx_vlan, NicOffload::rx_vlan_stag, NicOffload::gro});
    if (!offload) return fail(bad_row(database_, "offload of nic", rows->text(0), rows->text(1)));
    read[rows->text(0)].insert(*offload);
  }
}

Result<void> SqliteStore::save_switched_off(const std::string& nic, const std::set<model::NicOffload>& offloads) {
  auto transaction = Transaction::begin(database_);
  if (!transaction) return fail(transaction.error());
  const std::vector<std::string> nics{nic};
  if (auto ok = for_each(database_, "DELETE FROM switched_off WHERE nic = ?", nics, remove_row); !ok) return ok;
  const std::vector<model::NicOffload> rows(offloads.begin(), offloads.end());
  const auto put = [&nic](Statement& statement, model::NicOffload offload) {
    return statement.bind(1, nic).bind(2, std::string(to_string(offload))).run();
  };
  if (auto ok = for_each(database_, "INSERT INTO switched_off (nic, offload) VALUES (?, ?)", rows, put); !ok) return ok;
  return transaction->commit();
}

}  // namespace patchbay::store
