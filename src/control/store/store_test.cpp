#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "control/store/migrations.h"
#include "control/store/sqlite_store.h"
#include "tests/support/temp_dir.h"

namespace patchbay::store {
namespace {

using test::TempDir;

StoredState example() {
  StoredState state;
  state.host.switches["sw1"] = {"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500};
  state.host.switches["sw1"].share_with_host = "mgmt";
  state.host.switches["sw1"].driver = model::UplinkDriver::packet;
  state.host.switches["sw1"].gro = false;
  state.host.switches["pr1"] = {"pr1", model::SwitchType::private_, "", VlanId::from(4094), 9000};
  state.host.vnics["vm1"] = {"vm1",
                             "sw1",
                             model::VnicKind::guest,
                             MacAddr::from_uint64(0x020000000001),
                             model::MacOrigin::static_,
                             model::Access{*VlanId::from(101)},
                             "/run/vm1.sock"};
  state.host.vnics["mgmt"] = {"mgmt",
                              "sw1",
                              model::VnicKind::host,
                              MacAddr::from_uint64(0x00155d010203),
                              model::MacOrigin::dynamic,
                              model::Untagged{},
                              ""};
  state.host.vnics["vm1"].labels = {"storage", "tier=gold"};
  state.mac_pool = model::MacPool{{1, 2}, 255};
  return state;
}

// A copy with policies and settings of the host.
StoredState with_policies(StoredState state) {
  state.host.policies["all"] = {"all",
                                {model::Buffer{4 << 20, true}, 0},
                                {*model::parse_target("host"), *model::parse_target("switch:sw1"),
                                 *model::parse_target("label:tier=gold"), *model::parse_target("label:storage")}};
  state.host.policies["nothing"] = {"nothing", {}, {}};
  state.host.settings.buffer_limit_bytes = std::uint64_t{64} << 30;
  return state;
}

TEST(SqliteStoreModes, every_vlan_mode_and_guard_comes_back_as_it_was_stored) {
  const auto vid = [](std::uint16_t raw) { return *VlanId::from(raw); };
  const auto ids = [](const char* list) { return *VlanSet::parse(list); };
  const std::vector<model::VlanMode> modes = {
      model::Untagged{},
      model::Access{vid(4094)},
      model::Trunk{ids("1,10-19,4094"), ids("12"), std::optional(vid(10))},
      model::Trunk{ids("20"), {}, std::optional<VlanId>()},
      model::Trunk{ids("20"), {}, std::nullopt},
      model::Isolated{vid(100), vid(101)},
      model::Community{vid(100), vid(102)},
      model::Promiscuous{vid(100), ids("101-103")},
  };
  StoredState state;
  state.host.switches["sw1"] = {"sw1", model::SwitchType::internal, "", std::nullopt, 1500};
  for (std::size_t i = 0; i < modes.size(); ++i) {
    model::Vnic vnic;
    vnic.name = "vm" + std::to_string(i);
    vnic.switch_name = "sw1";
    vnic.mac = MacAddr::from_uint64(0x020000000001 + i);
    vnic.vlan = modes[i];
    vnic.mac_spoofing = i % 2 == 0;
    vnic.mac_limit = static_cast<std::uint32_t>(1 + i);
    vnic.trust_priority = i % 3 == 0;
    vnic.vmq_weight = static_cast<std::uint32_t>(i == 0 ? 0 : 101 - i);
    vnic.queues = static_cast<std::uint16_t>(1 + i % 8);
    if (i % 2 == 1) vnic.worker = static_cast<unsigned>(i);
    if (i % 2 == 0) vnic.buffer.size = model::Buffer{(i + 1) << 20, i % 4 == 0};
    if (i % 3 == 0) vnic.buffer.max_age_ms = static_cast<std::uint32_t>(100 * i);
    state.host.vnics[vnic.name] = vnic;
  }
  const TempDir dir;
  {
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE(store);
    ASSERT_TRUE((*store)->save(difference({}, state)));
  }
  auto store = SqliteStore::open(dir.path());
  ASSERT_TRUE(store);
  const auto loaded = (*store)->load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->host, state.host);
}

// Runs `sql` on the state file of `dir`, as somebody with a tool of their own would.
void tamper(const TempDir& dir, const char* sql) {
  auto database = Sqlite::open(dir.path() + "/patchbay.db");
  ASSERT_TRUE(database);
  const auto ok = database->execute(sql);
  ASSERT_TRUE(ok) << ok.error().message;
}

StoredState load_again(const TempDir& dir) {
  auto store = SqliteStore::open(dir.path());
  if (!store) throw std::runtime_error(store.error().message);
  auto state = (*store)->load();
  if (!state) throw std::runtime_error(state.error().message);
  return *state;
}

// Runs `body` in a child that then vanishes without closing anything, as after kill -9.
template <typename Body>
void run_and_vanish(Body body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SqliteStore, starts_empty_with_a_file_only_its_owner_can_read) {
  const TempDir dir;
  EXPECT_EQ(load_again(dir), StoredState{});
  struct stat status {};
  ASSERT_EQ(::stat((dir.path() + "/patchbay.db").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(SqliteStore, gives_back_what_was_saved_after_each_of_a_chain_of_changes) {
  const TempDir dir;
  StoredState changed = example();
  changed.host.switches.at("sw1").force_vlan = VlanId::from(101);
  changed.host.vnics.at("vm1").vlan = model::Untagged{};
  changed.mac_pool->next = 0;
  StoredState fewer = changed;
  fewer.host.vnics.clear();
  fewer.host.switches.erase("sw1");
  StoredState before;
  for (const StoredState& state : {example(), changed, fewer, example()}) {
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE(store);
    const auto saved = (*store)->save(difference(before, state));
    ASSERT_TRUE(saved) << saved.error().message;
    store->reset();
    EXPECT_EQ(load_again(dir), state);
    before = state;
  }
}

TEST(SqliteStore, gives_back_policies_and_settings) {
  const TempDir dir;
  const StoredState all = with_policies(example());
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, all))); }
  EXPECT_EQ(load_again(dir), all);
  StoredState changed = all;
  changed.host.policies.erase("nothing");
  changed.host.policies.at("all").apply_to.clear();
  changed.host.policies.at("all").buffer = {std::nullopt, 7};
  changed.host.settings = {};
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference(all, changed))); }
  EXPECT_EQ(load_again(dir), changed);
}

TEST(SqliteStore, keeps_a_host_of_the_version_without_policies) {
  const TempDir dir;
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
  tamper(dir,
         "DROP TABLE teams; DROP TABLE policies; DROP TABLE host; ALTER TABLE vnics DROP COLUMN labels; ALTER TABLE "
         "vnics DROP COLUMN vmq_weight; "
         "PRAGMA user_version = 9");
  StoredState expected = example();
  expected.host.vnics.at("vm1").labels.clear();
  EXPECT_EQ(load_again(dir), expected);
}

TEST(SqliteStore, difference_of_equal_states_is_empty) {
  EXPECT_TRUE(difference(example(), example()).empty());
  const Change all = difference({}, example());
  EXPECT_EQ(all.put_switches.size() + all.put_vnics.size(), 4U);
  StoredState one = example();
  one.host.vnics.at("vm1").vlan = model::Untagged{};
  const Change single = difference(example(), one);
  EXPECT_EQ(single.put_vnics.size(), 1U);
  EXPECT_TRUE(single.put_switches.empty());
}

TEST(SqliteStore, keeps_a_saved_change_when_the_process_vanishes) {
  const TempDir dir;
  run_and_vanish([&dir] {
    auto store = SqliteStore::open(dir.path());
    return store && (*store)->save(difference({}, example()));
  });
  EXPECT_EQ(load_again(dir), example());
}

TEST(SqliteStore, keeps_the_old_state_when_the_process_vanishes_before_the_commit) {
  const TempDir dir;
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
  run_and_vanish([&dir] {
    auto database = Sqlite::open(dir.path() + "/patchbay.db");
    return database && database->execute("BEGIN IMMEDIATE; DELETE FROM vnics; DELETE FROM switches");
  });
  EXPECT_EQ(load_again(dir), example());
}

TEST(SqliteStore, keeps_the_old_state_when_one_row_of_a_change_fails) {
  const TempDir dir;
  auto store = SqliteStore::open(dir.path());
  ASSERT_TRUE((*store)->save(difference({}, example())));
  Change bad;
  bad.put_switches.push_back({"new", model::SwitchType::internal, "", std::nullopt, 1500});
  bad.put_vnics.push_back(example().host.vnics.at("vm1"));
  bad.put_vnics.back().switch_name = "nope";
  EXPECT_FALSE((*store)->save(bad));
  EXPECT_EQ(*(*store)->load(), example());
  EXPECT_TRUE((*store)->save(difference(example(), {}))) << "and works on";
}

TEST(SqliteStore, keeps_the_old_state_when_the_disk_is_full) {
  const TempDir dir;
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
  run_and_vanish([&dir] {
    auto store = SqliteStore::open(dir.path());
    if (!store) return false;
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit none{4096, 4096};  // no file may grow beyond this
    ::setrlimit(RLIMIT_FSIZE, &none);
    StoredState more = example();
    for (int i = 0; i < 200; ++i) {
      const std::string name = "sw" + std::to_string(i + 10);
      more.host.switches[name] = {name, model::SwitchType::internal, "", std::nullopt, 1500};
    }
    const auto saved = (*store)->save(difference(example(), more));
    const auto state = (*store)->load();
    return !saved && state && *state == example();
  });
  EXPECT_EQ(load_again(dir), example());
}

// ---- Audit -----------------------------------------------------------------------------------------------------------

AuditEntry row(const std::string& name, const std::string& before = "", const std::string& after = "{}") {
  return {
      0,    "2026-01-31T23:59:59.999Z", 1000, "alice", before.empty() ? "create" : "set", "vnic", name, false, before,
      after};
}

// A change of the MAC pool, with `rows`.
Change change_with(std::uint8_t next, std::vector<AuditEntry> rows) {
  Change change;
  change.mac_pool = model::MacPool{{1, 2}, next};
  change.audit = std::move(rows);
  return change;
}

std::vector<std::string> names_of(const Result<std::vector<AuditEntry>>& rows) {
  std::vector<std::string> names;
  if (!rows) return {rows.error().message};
  for (const auto& entry : *rows) names.push_back(entry.name);
  return names;
}

using Names = std::vector<std::string>;

TEST(Audit, gives_back_what_was_written_newest_first) {
  const TempDir dir;
  AuditEntry ours = row("lan", R"({"mtu":1500})", "");
  ours.uid.reset();
  ours.user = "patchbayd";
  ours.apply = true;
  {
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE((*store)->save(change_with(1, {row("web")})));
    ASSERT_TRUE((*store)->save(change_with(2, {ours, row("db")})));
  }
  auto store = SqliteStore::open(dir.path());
  auto rows = (*store)->audit(10, "");
  ASSERT_EQ(names_of(rows), (Names{"db", "lan", "web"}));
  ours.id = 2;
  EXPECT_EQ((*rows)[1], ours);
  EXPECT_EQ((*rows)[2].id, 1);
  EXPECT_EQ(names_of((*store)->audit(2, "")), (Names{"db", "lan"}));
  EXPECT_EQ(names_of((*store)->audit(10, "web")), Names{"web"});
  EXPECT_EQ(names_of((*store)->audit(10, "nobody")), Names{});
}

TEST(Audit, is_written_with_its_change_or_not_at_all) {
  const TempDir dir;
  auto store = SqliteStore::open(dir.path());
  Change bad = change_with(1, {row("web")});
  bad.put_vnics.push_back(example().host.vnics.at("vm1"));  // without its switch
  EXPECT_FALSE((*store)->save(bad));
  EXPECT_EQ(names_of((*store)->audit(10, "")), Names{});
  store->reset();
  run_and_vanish([&dir] {
    auto database = Sqlite::open(dir.path() + "/patchbay.db");
    return database && database->execute(
                           "BEGIN IMMEDIATE; INSERT INTO audit (at, user, verb, kind, name, apply) VALUES "
                           "('', '', 'set', 'vnic', 'web', 0)");
  });
  EXPECT_EQ(names_of((*SqliteStore::open(dir.path()))->audit(10, "")), Names{});
}

TEST(Audit, takes_back_the_newest_rows_with_their_change) {
  const TempDir dir;
  auto store = SqliteStore::open(dir.path());
  ASSERT_TRUE((*store)->save(change_with(1, {row("web")})));
  ASSERT_TRUE((*store)->save(change_with(2, {row("a"), row("b")})));
  Change back = change_with(1, {});
  back.audit_taken_back = 2;
  ASSERT_TRUE((*store)->save(back));
  EXPECT_EQ(names_of((*store)->audit(10, "")), Names{"web"});
}

TEST(Audit, keeps_the_newest_rows_up_to_its_limit) {
  const TempDir dir;
  auto store = SqliteStore::open(dir.path());
  const auto count = static_cast<std::size_t>(audit_rows_max);
  ASSERT_TRUE((*store)->save(change_with(1, {row("oldest"), row("second")})));
  ASSERT_TRUE((*store)->save(change_with(2, std::vector<AuditEntry>(count - 2, row("many")))));
  EXPECT_EQ(names_of((*store)->audit(10, "oldest")), Names{"oldest"}) << "so many are kept";
  ASSERT_TRUE((*store)->save(change_with(3, {row("newest")})));
  EXPECT_EQ(names_of((*store)->audit(10, "oldest")), Names{}) << "and one more is too many";
  EXPECT_EQ(names_of((*store)->audit(10, "second")), Names{"second"});
  EXPECT_EQ((*store)->audit(count + 10, "")->size(), count);
}

TEST(SqliteStore, keeps_what_is_stored_when_an_older_file_is_opened) {
  const TempDir dir;
  { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
  tamper(dir,
         "DROP TABLE teams; DROP TABLE audit; ALTER TABLE switches DROP COLUMN driver; ALTER TABLE switches DROP "
         "COLUMN gro; DROP TABLE "
         "switched_off; "
         "ALTER TABLE vnics DROP COLUMN queues; ALTER TABLE vnics DROP COLUMN worker; "
         "ALTER TABLE vnics DROP COLUMN buffer; ALTER TABLE vnics DROP COLUMN buffer_max_age_ms; "
         "ALTER TABLE switches DROP COLUMN buffer; ALTER TABLE switches DROP COLUMN buffer_max_age_ms; "
         "DROP TABLE policies; DROP TABLE host; ALTER TABLE vnics DROP COLUMN labels; ALTER TABLE vnics DROP COLUMN "
         "vmq_weight; "
         "PRAGMA user_version = 3");
  auto store = SqliteStore::open(dir.path());
  ASSERT_TRUE(store) << store.error().message;
  StoredState expected = example();
  expected.host.switches.at("sw1").driver = model::UplinkDriver::auto_;  // the older file had no such column
  expected.host.switches.at("sw1").gro = true;                           // nor this one
  expected.host.vnics.at("vm1").labels.clear();                          // nor that
  EXPECT_EQ(*(*store)->load(), expected);
  EXPECT_EQ(names_of((*store)->audit(10, "")), Names{});
}

TEST(SqliteStore, migrates_an_empty_file_of_version_0) {
  const TempDir dir;
  { std::ofstream empty(dir.path() + "/patchbay.db"); }
  EXPECT_EQ(load_again(dir), StoredState{});
  auto database = Sqlite::open(dir.path() + "/patchbay.db");
  auto version = database->prepare("PRAGMA user_version");
  ASSERT_TRUE(*version->step());
  EXPECT_EQ(version->number(0), schema_version());
}

TEST(SqliteStore, refuses_a_newer_schema_and_leaves_it_alone) {
  const TempDir dir;
  load_again(dir);
  tamper(dir, "PRAGMA user_version = 99");
  const auto store = SqliteStore::open(dir.path());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::invalid);
  EXPECT_NE(store.error().message.find("patchbay.db has schema version 99"), std::string::npos)
      << store.error().message;
}

TEST(SqliteStore, names_a_row_that_breaks_a_rule) {
  struct Case {
    const char* sql;
    const char* part;
  };
  for (const Case& c :
       {Case{"UPDATE vnics SET mac = 'nonsense' WHERE name = 'vm1'", "vnic 'vm1' is not valid (MAC 'nonsense')"},
        Case{"UPDATE vnics SET mac = '01:00:5e:00:00:01' WHERE name = 'vm1'", "multicast"},
        Case{"UPDATE vnics SET mac = '00:15:5d:01:02:03'", "vnic 'vm1'"},
        Case{"UPDATE vnics SET vid = 4095 WHERE name = 'vm1'", "VLAN mode 'access' with id '4095'"},
        Case{"UPDATE vnics SET vid = NULL WHERE name = 'vm1'", "VLAN mode 'access' with id ''"},
        Case{"UPDATE vnics SET vid = 7 WHERE name = 'mgmt'", "VLAN mode 'untagged' with id '7'"},
        Case{"UPDATE vnics SET kind = 'ghost' WHERE name = 'vm1'", "kind 'ghost'"},
        Case{"UPDATE vnics SET mac_origin = '' WHERE name = 'vm1'", "MAC origin ''"},
        Case{"UPDATE vnics SET connect = 'relative' WHERE name = 'vm1'", "absolute path"},
        Case{"UPDATE vnics SET queues = 0 WHERE name = 'vm1'", "queues 0"},
        Case{"UPDATE vnics SET queues = 9 WHERE name = 'vm1'", "queues 9"},
        Case{"UPDATE vnics SET queues = 65538 WHERE name = 'vm1'", "queues 65538"},
        Case{"UPDATE vnics SET queues = 2 WHERE name = 'mgmt'", "a host vnic has one queue pair"},
        Case{"UPDATE vnics SET worker = 256 WHERE name = 'vm1'", "worker 256"},
        Case{"UPDATE vnics SET worker = -1 WHERE name = 'vm1'", "worker -1"},
        Case{"UPDATE vnics SET vmq_weight = 101 WHERE name = 'vm1'", "vmq_weight 101"},
        Case{"UPDATE vnics SET vmq_weight = -1 WHERE name = 'vm1'", "vmq_weight -1"},
        Case{"UPDATE vnics SET buffer = '3G' WHERE name = 'vm1'", "\"3G\" is not a size"},
        Case{"UPDATE vnics SET buffer = '17M' WHERE name = 'vm1'", "buffer 17M is out of range"},
        Case{"UPDATE vnics SET buffer = '1M' WHERE name = 'mgmt'", "a host vnic has no buffer"},
        Case{"UPDATE vnics SET buffer_max_age_ms = -1 WHERE name = 'vm1'", "buffer_max_age_ms -1"},
        Case{"UPDATE switches SET buffer = '' WHERE name = 'sw1'", "\"\" is not a size"},
        Case{"UPDATE vnics SET name = 'a/b' WHERE name = 'vm1'", "vnic 'a/b'"},
        Case{"PRAGMA foreign_keys=OFF; UPDATE vnics SET switch = 'nope' WHERE name = 'vm1'", "switch nope"},
        Case{"UPDATE switches SET type = 'hub' WHERE name = 'sw1'", "switch 'sw1' is not valid (type 'hub')"},
        Case{"UPDATE switches SET uplink = '' WHERE name = 'sw1'", "switch 'sw1'"},
        Case{"UPDATE switches SET force_vlan = 0 WHERE name = 'sw1'", "VLAN 0"},
        Case{"UPDATE switches SET mtu = 70000 WHERE name = 'sw1'", "mtu 70000"},
        Case{"UPDATE switches SET driver = 'magic' WHERE name = 'sw1'", "driver 'magic'"},
        Case{"UPDATE switches SET driver = 'xdp' WHERE name = 'pr1'", "only an external switch has a driver"},
        Case{"UPDATE switches SET gro = 0 WHERE name = 'pr1'", "only an external switch has frames of the wire"},
        Case{"UPDATE vnics SET labels = 'a b' WHERE name = 'vm1'", "label name 'a b'"},
        Case{"UPDATE vnics SET labels = 'a=1,a=2' WHERE name = 'vm1'", "label a is there twice"},
        Case{"UPDATE policies SET apply_to = 'hosts' WHERE name = 'all'", "policy 'all'"},
        Case{"UPDATE policies SET apply_to = 'switch:wan' WHERE name = 'all'", "switch wan does not exist"},
        Case{"UPDATE policies SET buffer = '17M' WHERE name = 'all'", "17M is out of range"},
        Case{"UPDATE policies SET buffer_max_age_ms = -1 WHERE name = 'all'", "buffer_max_age_ms -1"},
        Case{"UPDATE policies SET name = 'a/b' WHERE name = 'nothing'", "policy name 'a/b'"},
        Case{"UPDATE policies SET buffer = '1M', apply_to = 'host' WHERE name = 'nothing'", "all and nothing give"},
        Case{"UPDATE host SET buffer_limit = 5", "buffer limit 5 is out of range"},
        Case{"UPDATE host SET buffer_limit = -1", "buffer limit -1"},
        Case{"UPDATE mac_pool SET next = 256", "octet 256"}}) {
    const TempDir dir;
    { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, with_policies(example())))); }
    tamper(dir, c.sql);
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE(store) << c.sql;
    const auto state = (*store)->load();
    ASSERT_FALSE(state) << c.sql;
    EXPECT_NE(state.error().message.find(c.part), std::string::npos) << c.sql << ": " << state.error().message;
    EXPECT_NE(state.error().message.find(dir.path()), std::string::npos) << state.error().message;
  }
}

TEST(SqliteStore, remembers_what_was_switched_off_on_which_nic) {
  using model::NicOffload;
  const TempDir dir;
  const SwitchedOff all = {{"eth1", {NicOffload::rx_vlan, NicOffload::gro}}, {"eth2", {NicOffload::gro}}};
  run_and_vanish([&] {
    auto store = SqliteStore::open(dir.path());
    return (*store)->save_switched_off("eth1", {NicOffload::rx_vlan_stag}) &&
           (*store)->save_switched_off("eth1", all.at("eth1")) && (*store)->save_switched_off("eth2", all.at("eth2"));
  });
  {
    auto store = SqliteStore::open(dir.path());
    EXPECT_EQ(*(*store)->load_switched_off(), all);
    ASSERT_TRUE((*store)->save_switched_off("eth1", {}));
    EXPECT_EQ(*(*store)->load_switched_off(), (SwitchedOff{{"eth2", {NicOffload::gro}}}));
  }
  tamper(dir, "UPDATE switched_off SET offload = 'warp'");
  auto store = SqliteStore::open(dir.path());
  const auto loaded = (*store)->load_switched_off();
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("warp"), std::string::npos) << loaded.error().message;
}

TEST(SqliteStore, says_that_a_file_is_damaged) {
  for (const bool whole : {true, false}) {
    const TempDir dir;
    { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
    {
      std::fstream file(dir.path() + "/patchbay.db", std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(whole ? 0 : 4096);
      for (int i = 0; i < 4096; ++i) file.put('x');
    }
    const auto store = SqliteStore::open(dir.path());
    ASSERT_FALSE(store);
    EXPECT_NE(store.error().message.find("is damaged"), std::string::npos) << store.error().message;
  }
}

TEST(SqliteStore, refuses_a_second_daemon_on_the_same_directory) {
  const TempDir dir;
  auto first = SqliteStore::open(dir.path());
  ASSERT_TRUE(first);
  const auto second = SqliteStore::open(dir.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::in_use);
  EXPECT_NE(second.error().message.find(dir.path()), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find(std::to_string(::getpid())), std::string::npos) << second.error().message;
  first->reset();
  EXPECT_TRUE(SqliteStore::open(dir.path()));
}

TEST(SqliteStore, names_a_directory_that_is_not_there) {
  const auto store = SqliteStore::open("/nonexistent/state");
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message.find("/nonexistent/state"), std::string::npos);
}

TEST(SqliteStore, keeps_a_host_of_the_version_that_shared_no_nic) {
  TempDir dir;
  {
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE(store);
    ASSERT_TRUE((*store)->save(difference({}, example())));
  }
  tamper(dir,
         "DROP TABLE teams; DROP TABLE audit; ALTER TABLE switches DROP COLUMN share_with_host; ALTER TABLE switches "
         "DROP COLUMN driver; "
         "ALTER TABLE switches DROP COLUMN gro; DROP TABLE switched_off; ALTER TABLE vnics DROP COLUMN queues; ALTER "
         "TABLE vnics DROP COLUMN worker; "
         "ALTER TABLE vnics DROP COLUMN buffer; ALTER TABLE vnics DROP COLUMN buffer_max_age_ms; "
         "ALTER TABLE switches DROP COLUMN buffer; ALTER TABLE switches DROP COLUMN buffer_max_age_ms; "
         "DROP TABLE policies; DROP TABLE host; ALTER TABLE vnics DROP COLUMN labels; ALTER TABLE vnics DROP COLUMN "
         "vmq_weight; "
         "PRAGMA user_version = 2");
  StoredState expected = example();
  expected.host.switches.at("sw1").share_with_host.clear();
  expected.host.switches.at("sw1").driver = model::UplinkDriver::auto_;
  expected.host.switches.at("sw1").gro = true;
  expected.host.vnics.at("vm1").labels.clear();
  EXPECT_EQ(load_again(dir), expected);
}

TEST(SqliteStore, names_a_switch_that_shares_its_nic_by_a_vnic_that_is_not_there) {
  TempDir dir;
  {
    auto store = SqliteStore::open(dir.path());
    ASSERT_TRUE(store);
    ASSERT_TRUE((*store)->save(difference({}, example())));
  }
  tamper(dir, "UPDATE switches SET share_with_host = 'lost' WHERE name = 'sw1'");
  auto store = SqliteStore::open(dir.path());
  ASSERT_TRUE(store);
  const auto loaded = (*store)->load();
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::invalid);
  EXPECT_NE(loaded.error().message.find("switch sw1"), std::string::npos) << loaded.error().message;
  EXPECT_NE(loaded.error().message.find("lost"), std::string::npos) << loaded.error().message;
}

}  // namespace
}  // namespace patchbay::store
