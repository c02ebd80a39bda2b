#include "control/reconcile/host_service.h"

#include <gtest/gtest.h>

#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

// ---- Audit -----------------------------------------------------------------------------------------------------------

// "set vnic vm1", oldest first.
Lines told_by(const test::MemoryStore& store) {
  Lines lines;
  for (const auto& row : store.rows) {
    lines.push_back(row.verb + " " + row.kind + " " + row.name + (row.apply ? " apply" : ""));
  }
  return lines;
}

TEST_F(HostServiceTest, each_change_is_a_row_with_who_before_and_after) {
  start();
  EXPECT_EQ(told_by(store), Lines{}) << "a new MAC pool is nobody's change";
  service->on_behalf_of({0});
  fill();
  service->on_behalf_of({4'000'000'000});
  ASSERT_TRUE(service->set_vnic("vm1", {model::VlanMode(model::Access{*VlanId::from(101)}), std::nullopt}));
  service->on_behalf_of({});
  ASSERT_TRUE(service->delete_vnic("vm1"));
  EXPECT_EQ(told_by(store),
            (Lines{"create switch sw1", "create vnic vm1", "create vnic mgmt", "set vnic vm1", "delete vnic vm1"}));
  EXPECT_EQ(store.rows[0].uid, 0U);
  EXPECT_EQ(store.rows[0].user, "root");
  EXPECT_EQ(store.rows[0].before, "");
  EXPECT_EQ(store.rows[0].after, R"({"type":"external","uplink":"eth1","mtu":1500,"driver":"auto","gro":true})");
  EXPECT_EQ(store.rows[3].uid, 4'000'000'000U);
  EXPECT_EQ(store.rows[3].user, "") << "a uid without a name";
  EXPECT_NE(store.rows[3].before.find(R"("vlan":{"mode":"untagged"})"), std::string::npos) << store.rows[3].before;
  EXPECT_NE(store.rows[3].after.find(R"("vlan":{"mode":"access","vid":101})"), std::string::npos);
  EXPECT_EQ(store.rows[4].uid, std::nullopt);
  EXPECT_EQ(store.rows[4].user, "patchbayd");
  EXPECT_EQ(store.rows[4].before, store.rows[3].after);
  EXPECT_EQ(store.rows[4].after, "");
  const std::string at = store.rows[0].at;
  ASSERT_EQ(at.size(), 24U) << at;
  EXPECT_EQ(at.substr(0, 2) + at[4] + at[7] + at[10] + at[13] + at[16] + at[19] + at[23], "20--T::.Z") << at;
}

TEST_F(HostServiceTest, what_was_refused_taken_back_or_changed_nothing_is_no_row) {
  start();
  fill();
  const auto before = told_by(store);
  EXPECT_FALSE(service->delete_switch("sw1"));
  EXPECT_FALSE(create_vnic("vm1", "sw1"));
  endpoints.refusals["vm2"] = {ErrorCode::in_use, "somebody listens there"};
  EXPECT_FALSE(create_vnic("vm2", "sw1"));
  ASSERT_TRUE(service->set_vnic("vm1", {model::VlanMode(model::Untagged{}), std::nullopt}));
  store.is_full = true;
  EXPECT_FALSE(service->delete_vnic("vm1"));
  EXPECT_EQ(told_by(store), before);
}

// ---- Apply -----------------------------------------------------------------------------------------------------------

// The spec of what is there now.
HostSpec spec_of(const model::Host& host) {
  HostSpec spec;
  for (const auto& [name, on] : host.switches)
    spec.switches.push_back({name, on.type, on.uplink, on.force_vlan, on.mtu, on.share_with_host});
  for (const auto& [name, vnic] : host.vnics) {
    spec.vnics.push_back({name, vnic.switch_name, vnic.kind, vnic.mac, vnic.vlan, vnic.connect, vnic.mac_spoofing,
                          vnic.mac_limit, vnic.trust_priority, vnic.mac_origin, vnic.queues, vnic.worker, vnic.buffer,
                          vnic.labels, vnic.vmq_weight});
  }
  return spec;
}

VnicSpec& vnic_in(HostSpec& spec, const std::string& name) {
  for (VnicSpec& vnic : spec.vnics) {
    if (vnic.name == name) return vnic;
  }
  throw std::runtime_error("no vnic " + name);
}

TEST_F(HostServiceTest, applying_what_is_there_is_no_step_and_no_row) {
  start();
  fill();
  const auto rows = store.rows;
  nics.current.clear();  // even if its NIC has gone
  const auto applied = service->apply(spec_of(service->desired()), false);
  ASSERT_TRUE(applied) << applied.error().error.message;
  EXPECT_TRUE(applied->empty());
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_EQ(store.saves, 0U);
  EXPECT_EQ(store.rows, rows);
}

TEST_F(HostServiceTest, applying_to_an_empty_host_rebuilds_the_same) {
  start();
  fill();
  const model::Host host = service->desired();
  const auto pool = store.stored.mac_pool;
  ASSERT_TRUE(service->apply({}, false));
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_EQ(dataplane.ports_open(), 0U);
  ASSERT_TRUE(service->apply(spec_of(host), false));
  EXPECT_EQ(store.stored.host, host);
  EXPECT_EQ(store.stored.mac_pool, pool);
  EXPECT_EQ(dataplane.ports_open(), 3U);
  const auto rows = told_by(store);
  EXPECT_EQ(Lines(rows.begin() + 3, rows.end()),
            (Lines{"delete vnic mgmt apply", "delete vnic vm1 apply", "delete switch sw1 apply",
                   "create switch sw1 apply", "create vnic mgmt apply", "create vnic vm1 apply"}));
}

TEST_F(HostServiceTest, applying_touches_only_what_differs) {
  start();
  fill();
  HostSpec spec = spec_of(service->desired());
  vnic_in(spec, "vm1").vlan = model::Access{*VlanId::from(101)};
  spec.vnics.push_back({"vm2", "sw1", model::VnicKind::guest, std::nullopt, model::Untagged{}, ""});
  const auto would = service->apply(spec, true);
  ASSERT_TRUE(would);
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_EQ(store.saves, 0U);
  const auto applied = service->apply(spec, false);
  ASSERT_TRUE(applied);
  ASSERT_EQ(applied->size(), 2U);
  EXPECT_EQ(*applied, *would);
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_guest vm2", "publish [eth1 1500: mgmt/- vm1/101 vm2/-]"}));
  EXPECT_EQ(endpoints.take_calls(), Lines{"open vm2 listen " + socket_of("vm2")}) << "vm1 keeps its guest";
  EXPECT_EQ(store.saves, 1U) << "one transaction";
}

TEST_F(HostServiceTest, applying_passes_through_no_invalid_state) {
  start();
  nics.put("eth2");
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
  ASSERT_TRUE(create_switch("sw2", model::SwitchType::external, "eth2"));
  for (const char* name : {"a", "b"}) ASSERT_TRUE(create_vnic(name, "sw1"));
  dataplane.calls.clear();
  endpoints.calls.clear();
  HostSpec spec = spec_of(service->desired());
  std::swap(vnic_in(spec, "a").mac, vnic_in(spec, "b").mac);
  std::swap(spec.switches[0].uplink, spec.switches[1].uplink);
  vnic_in(spec, "b").switch_name = "sw2";
  ASSERT_TRUE(service->apply(spec, false));
  EXPECT_EQ(dataplane.take_calls(), Lines{"publish [eth2 1500: a/-] [eth1 1500: b/-]"});
  EXPECT_EQ(endpoints.take_calls(), Lines{});
  // And what takes the place of what goes: the NIC, the name, the MAC.
  const MacAddr mac = service->desired().vnics.at("a").mac;
  spec.switches = {{"sw3", model::SwitchType::external, "eth1", std::nullopt, 1500}};
  spec.vnics = {{"b", "sw3", model::VnicKind::host, mac, model::Untagged{}, ""}};
  const auto applied = service->apply(spec, false);
  ASSERT_TRUE(applied) << applied.error().error.message;
  EXPECT_EQ(dataplane.take_calls().back(), "publish [eth1 1500: b/-]");
  EXPECT_EQ(dataplane.ports_open(), 2U);
}

TEST_F(HostServiceTest, applying_draws_a_mac_only_for_those_that_have_none) {
  start();
  fill();
  const MacAddr mac = service->desired().vnics.at("vm1").mac;
  HostSpec spec = spec_of(service->desired());
  for (VnicSpec& vnic : spec.vnics) {
    vnic.mac = std::nullopt;
    vnic.mac_origin = std::nullopt;
  }
  const auto same = service->apply(spec, false);
  ASSERT_TRUE(same);
  EXPECT_TRUE(same->empty()) << "those from the pool stay";
  const auto fixed = MacAddr::from_uint64(0x020000000005);
  vnic_in(spec, "vm1").mac = fixed;
  ASSERT_TRUE(service->apply(spec, false));
  EXPECT_EQ(service->desired().vnics.at("vm1").mac_origin, model::MacOrigin::static_);
  vnic_in(spec, "vm1").mac = std::nullopt;
  ASSERT_TRUE(service->apply(spec, false));
  const auto& drawn = service->desired().vnics.at("vm1");
  EXPECT_EQ(drawn.mac_origin, model::MacOrigin::dynamic);
  EXPECT_NE(drawn.mac, fixed);
  EXPECT_NE(drawn.mac, mac) << "the pool goes round";
}

TEST_F(HostServiceTest, applying_refuses_all_for_one_and_names_it) {
  start();
  fill();
  nics.put("eth2", 1400);
  const auto before = store.stored;
  const auto rows = store.rows;
  const auto refused = [&](const HostSpec& spec, const std::string& object, const std::string& part) {
    const auto applied = service->apply(spec, false);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().noun + " " + applied.error().name, object);
    EXPECT_NE(applied.error().error.message.find(part), std::string::npos) << applied.error().error.message;
    EXPECT_EQ(store.stored, before);
    EXPECT_EQ(store.rows, rows);
    EXPECT_EQ(store.saves, 0U);
    EXPECT_EQ(dataplane.take_calls(), Lines{});
  };
  HostSpec good = spec_of(service->desired());
  vnic_in(good, "vm1").vlan = model::Access{*VlanId::from(5)};
  HostSpec spec = good;
  spec.switches.push_back({"sw2", model::SwitchType::external, "eth9", std::nullopt, 1500});
  refused(spec, "switch sw2", "eth9 does not exist");
  spec.switches.back().uplink = "eth2";
  refused(spec, "switch sw2", "larger than the mtu 1400");
  spec = good;
  spec.switches[0].mtu = 9000;
  refused(spec, "switch sw1", "9000");
  spec = good;
  vnic_in(spec, "mgmt").mac = vnic_in(spec, "vm1").mac;
  refused(spec, "vnic vm1", "belongs to vnic mgmt already");
  spec = good;
  vnic_in(spec, "vm1").connect = run_path + "/api.sock";
  refused(spec, "vnic vm1", "patchbayd's own sockets");
  spec = good;
  for (int i = 0; i < 256; ++i) {
    spec.vnics.push_back({"x" + std::to_string(i), "sw1", model::VnicKind::guest, std::nullopt, model::Untagged{}, ""});
  }
  refused(spec, "vnic x254", "MAC pool");
}

TEST_F(HostServiceTest, applying_what_cannot_be_opened_is_taken_back_whole) {
  start();
  fill();
  const auto before = store.stored;
  const auto rows = store.rows;
  HostSpec spec = spec_of(service->desired());
  spec.vnics.erase(spec.vnics.begin());  // mgmt
  spec.vnics.push_back({"vm2", "sw1", model::VnicKind::guest, std::nullopt, model::Untagged{}, ""});
  endpoints.refusals["vm2"] = {ErrorCode::in_use, "somebody listens there"};
  const auto applied = service->apply(spec, false);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().name, "vm2");
  EXPECT_EQ(applied.error().error.message, "somebody listens there");
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(store.rows, rows);
  EXPECT_EQ(dataplane.ports_open(), 3U);
  endpoints.refusals.clear();
  EXPECT_TRUE(service->apply(spec, false)) << "and works once the world is different";
}

TEST_F(HostServiceTest, applies_a_thousand_vnics_that_connect_to_sockets) {
  start();
  HostSpec spec;
  spec.switches.push_back({"sw1", model::SwitchType::private_, "", std::nullopt, 1500});
  for (unsigned i = 0; i < 1000; ++i) {
    spec.vnics.push_back({"vm" + std::to_string(i), "sw1", model::VnicKind::guest,
                          MacAddr::from_uint64(0x020000000000u + i + 1), model::Untagged{},
                          "/run/vms/./vm" + std::to_string(i) + ".sock"});
  }
  const auto started = std::chrono::steady_clock::now();
  ASSERT_TRUE(service->apply(spec, false));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  RecordProperty("seconds", std::to_string(took.count()));
  EXPECT_EQ(dataplane.ports_open(), 1000U);
  EXPECT_TRUE(service->apply(spec, false)->empty());
}

// A host with sw1 on eth1, shared by host0.
HostSpec shared_spec() {
  HostSpec spec;
  spec.switches.push_back({"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"});
  return spec;
}

TEST_F(HostServiceTest, applying_a_shared_nic_moves_what_creating_it_moves) {
  start();
  nics.current.at("eth1").mac = MacAddr::from_uint64(0x0200000000e1);
  sharing.carried["eth1"] = {"192.0.2.1/24"};
  ASSERT_TRUE(service->apply(shared_spec(), false));
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
  const model::Host made = service->desired();
  EXPECT_EQ(made.vnics.at("host0").mac.to_string(), "02:00:00:00:00:e1");
  EXPECT_EQ(made.vnics.at("host0").mac_origin, model::MacOrigin::static_);
  dataplane.calls.clear();
  for (const HostSpec& again : {shared_spec(), spec_of(made)}) {  // with the vnic listed, and without
    const auto applied = service->apply(again, false);
    ASSERT_TRUE(applied) << applied.error().error.message;
    EXPECT_TRUE(applied->empty());
  }
  HostSpec tagged = spec_of(made);
  vnic_in(tagged, "host0").vlan = model::Access{*VlanId::from(101)};
  vnic_in(tagged, "host0").mac = std::nullopt;
  ASSERT_TRUE(service->apply(tagged, false));
  EXPECT_EQ(service->desired().vnics.at("host0").vlan, model::VlanMode(model::Access{*VlanId::from(101)}));
  EXPECT_EQ(service->desired().vnics.at("host0").mac, made.vnics.at("host0").mac);
  EXPECT_EQ(sharing.take_calls(), Lines{}) << "it is the same sharing all the time";
  ASSERT_TRUE(service->apply({}, false));
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0"}));
  EXPECT_EQ(store.stored.host, model::Host{});
  ASSERT_TRUE(service->apply(spec_of(made), false));
  EXPECT_EQ(store.stored.host, made);
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
}

TEST_F(HostServiceTest, applying_ends_and_begins_a_sharing_while_guests_stay) {
  start();
  fill();
  const HostSpec before = spec_of(service->desired());
  HostSpec shared = before;
  shared.switches[0].share_with_host = "host0";
  ASSERT_TRUE(service->apply(shared, false));
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
  ASSERT_TRUE(service->apply(before, false));
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0"}));
  EXPECT_EQ(endpoints.take_calls(), Lines{});
  EXPECT_FALSE(store.stored.host.vnics.contains("host0"));
}

TEST_F(HostServiceTest, applying_a_sharing_that_moves_to_another_nic_gives_back_first) {
  start();
  nics.put("eth2").mac = MacAddr::from_uint64(0x0200000000e2);
  ASSERT_TRUE(service->apply(shared_spec(), false));
  sharing.calls.clear();
  HostSpec moved = shared_spec();
  moved.switches[0].uplink = "eth2";
  ASSERT_TRUE(service->apply(moved, false));
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0", "take eth2 host0"}));
  EXPECT_EQ(service->desired().vnics.at("host0").mac.to_string(), "02:00:00:00:00:e2");
  sharing.refusals["give_back eth2 host0"] = {ErrorCode::in_use, "nic eth2 is gone"};
  const auto stored = store.stored;
  const auto refused = service->apply(shared_spec(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error.message, "switch sw1: nic eth2 is gone");
  EXPECT_EQ(store.stored, stored);
}

TEST_F(HostServiceTest, applying_refuses_what_cannot_be_shared_and_names_the_switch) {
  start();
  nics.current.at("eth1").mac = MacAddr::from_uint64(0x0200000000e1);
  const auto refused = [&](const HostSpec& spec, const std::string& object, const std::string& part) {
    const auto applied = service->apply(spec, false);
    ASSERT_FALSE(applied) << part;
    EXPECT_EQ(applied.error().noun + " " + applied.error().name, object);
    EXPECT_NE(applied.error().error.message.find(part), std::string::npos) << applied.error().error.message;
    EXPECT_EQ(store.stored.host, model::Host{});
    EXPECT_EQ(store.rows.size(), 0U);
    EXPECT_EQ(dataplane.ports_open(), 0U);
  };
  sharing.carried["eth1"] = {"192.0.2.1/24"};
  HostSpec spec = shared_spec();
  spec.switches[0].share_with_host.clear();
  refused(spec, "switch sw1", "the host uses nic eth1 itself (192.0.2.1/24)");
  spec = shared_spec();
  spec.switches[0].uplink = "eth9";
  refused(spec, "switch sw1", "nic eth9 is not there");
  spec = shared_spec();
  spec.switches[0].share_with_host = "eth1";
  refused(spec, "switch sw1", "name of switch sw1's NIC");
  spec.switches[0].share_with_host = "a-name-of-16-byt";
  refused(spec, "switch sw1", "a-name-of-16-byt");
  spec = shared_spec();
  spec.switches[0].type = model::SwitchType::internal;
  spec.switches[0].uplink.clear();
  refused(spec, "switch sw1", "only an external switch has a NIC to share");
  spec = shared_spec();
  spec.switches.push_back({"sw2", model::SwitchType::external, "eth2", std::nullopt, 1500, "host0"});
  refused(spec, "switch sw2", "no host vnic of this switch");
  spec = shared_spec();
  spec.vnics.push_back({"host0", "sw1", model::VnicKind::guest, std::nullopt, model::Untagged{}, ""});
  refused(spec, "switch sw1", "no host vnic of this switch");
  spec.vnics[0].kind = model::VnicKind::host;
  spec.vnics[0].mac = MacAddr::from_uint64(0x020000000005);
  refused(spec, "switch sw1", "has the NIC's MAC 02:00:00:00:00:e1, not 02:00:00:00:00:05; leave the vnic's mac out");
  sharing.refusals["take eth1 host0"] = {ErrorCode::internal, "moving 192.0.2.1/24 failed"};
  refused(shared_spec(), "switch sw1", "moving 192.0.2.1/24 failed");
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0", "give_back eth1 host0"}));
}

}  // namespace
}  // namespace patchbay::reconcile
