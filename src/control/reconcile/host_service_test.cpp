#include "control/reconcile/host_service.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>

#include "model/name.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_host.h"
#include "tests/support/temp_dir.h"

namespace patchbay::reconcile {
namespace {

using Lines = std::vector<std::string>;

class HostServiceTest : public testing::Test {
 protected:
  HostServiceTest() { nics.put("eth1").mac = MacAddr::from_uint64(0x0200000000e1); }

  void start(std::optional<std::array<std::uint8_t, 4>> host_address = {{10, 1, 0xa, 0xb}}) {
    auto made = HostService::create(loop, dataplane, store, nics, sharing, endpoints.factory(),
                                    {run_path, std::nullopt, host_address, std::chrono::milliseconds(1)});
    ASSERT_TRUE(made) << made.error().message;
    service = std::move(*made);
  }
  void stop() {
    service.reset();
    loop.restart();
  }
  // Runs handlers that are ready, for at least `wait`.
  void turn(std::chrono::milliseconds wait = std::chrono::milliseconds(0)) {
    loop.restart();
    if (wait.count() > 0) loop.run_for(wait);
    loop.poll();
  }

  Result<void> create_switch(const std::string& name, model::SwitchType type, const std::string& uplink = "") {
    return service->create_switch({name, type, uplink, std::nullopt, 1500});
  }
  Result<void> create_vnic(const std::string& name, const std::string& on,
                           model::VnicKind kind = model::VnicKind::guest) {
    return service->create_vnic({name, on, kind, std::nullopt, model::Untagged{}, ""});
  }
  // sw1 on eth1 with the guest vm1 and the host vnic mgmt.
  void fill() {
    ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
    ASSERT_TRUE(create_vnic("vm1", "sw1"));
    ASSERT_TRUE(create_vnic("mgmt", "sw1", model::VnicKind::host));
    dataplane.calls.clear();
    endpoints.calls.clear();
    store.saves = 0;
  }
  std::string socket_of(const std::string& vnic) { return run_path + "/vhost/" + vnic + ".sock"; }

  boost::asio::io_context loop;
  test::TempDir run_dir;
  std::string run_path = run_dir.path();
  test::FakeDataplane dataplane;
  test::FakeEndpoints endpoints;
  test::FakeNicWatch nics;
  test::FakeSharing sharing;
  test::MemoryStore store;
  std::unique_ptr<HostService> service;
};

void expect_error(const Result<void>& result, ErrorCode code, std::initializer_list<std::string> parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const auto& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << " in: " << result.error().message;
  }
}

TEST_F(HostServiceTest, applies_each_change_as_it_is_asked_for) {
  start();
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_uplink eth1", "carrier eth1 up", "publish [eth1 1500:]"}));
  ASSERT_TRUE(create_vnic("vm1", "sw1"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_guest vm1", "publish [eth1 1500: vm1/-]"}));
  EXPECT_EQ(endpoints.take_calls(), (Lines{"open vm1 listen " + socket_of("vm1")}));
  ASSERT_TRUE(create_vnic("mgmt", "sw1", model::VnicKind::host));
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"open_host mgmt 00:15:5d:0a:0b:01 1500", "publish [eth1 1500: mgmt/- vm1/-]"}));
  ASSERT_TRUE(service->set_vnic("vm1", {model::VlanMode(model::Access{*VlanId::from(101)}), std::nullopt}));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [eth1 1500: mgmt/- vm1/101]"}));
  ASSERT_TRUE(service->delete_vnic("vm1"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [eth1 1500: mgmt/-]", "close vm1"}));
  EXPECT_EQ(endpoints.take_calls(), (Lines{"close vm1"}));
  ASSERT_TRUE(service->delete_vnic("mgmt"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [eth1 1500:]", "close mgmt remove"}));
  ASSERT_TRUE(service->delete_switch("sw1"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish", "close eth1"}));
  EXPECT_EQ(store.stored.host, model::Host{});
}

TEST_F(HostServiceTest, the_same_value_again_is_no_step) {
  start();
  fill();
  ASSERT_TRUE(service->set_vnic("vm1", {model::VlanMode(model::Untagged{}), std::nullopt}));
  ASSERT_TRUE(service->set_switch("sw1", {std::optional<VlanId>(), 1500}));
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(), Lines{});
}

TEST_F(HostServiceTest, another_mtu_of_a_switch_leaves_its_guests_connected) {
  start();
  fill();
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, 1400}));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"set_mtu mgmt 1400", "publish [eth1 1400: mgmt/- vm1/-]"}));
  EXPECT_EQ(endpoints.take_calls(), (Lines{"mtu vm1 1400"}));
}

TEST_F(HostServiceTest, a_guest_that_goes_by_another_mtu_has_to_restart) {
  start();
  fill();
  EXPECT_EQ(endpoints.configs.at("vm1").mtu, 1500);
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "") << "nobody is connected";
  endpoints.statuses["vm1"] = {vhost_user::State::connected, "", 1500};
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "");
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, 1400}));
  const std::string reason = service->show_vnic("vm1")->state_reason;
  for (const char* part : {"guest restart needed", "1500", "1400", "attach-args"}) {
    EXPECT_NE(reason.find(part), std::string::npos) << reason;
  }
  EXPECT_EQ(service->show_vnic("vm1")->state, "connected");
  endpoints.statuses["vm1"].guest_mtu = 1400;  // it did
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "");
}

TEST_F(HostServiceTest, says_what_is_lost_when_somebody_lowers_the_mtu_of_the_nic) {
  start();
  fill();
  const auto uplink = [this] { return *service->show_switch("sw1")->uplink; };
  EXPECT_EQ(uplink().state_reason, "");
  nics.current.at("eth1").mtu = 1499;
  nics.tell();
  EXPECT_EQ(uplink().state, "up");
  for (const char* part :
       {"1499", "1500", "lost", "uplink_refused", "ip link set eth1 mtu 1500", "patchbay switch set sw1 --mtu 1499"}) {
    EXPECT_NE(uplink().state_reason.find(part), std::string::npos) << part << " in: " << uplink().state_reason;
  }
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, 1499}));
  EXPECT_EQ(uplink().state_reason, "");
}

TEST_F(HostServiceTest, clears_away_what_a_killed_daemon_left_and_keeps_what_is_stored) {
  start();
  fill();
  stop();
  dataplane.left_interfaces = {"gone", "mgmt", "vm1"};  // vm1 is the name of a guest's vnic, not of an interface
  const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_of("gone").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  start();
  EXPECT_EQ(dataplane.left_interfaces, (Lines{"mgmt"}));
  EXPECT_FALSE(std::filesystem::exists(socket_of("gone")));
}

TEST_F(HostServiceTest, closes_on_the_way_out_and_leaves_host_interfaces_for_the_next_run) {
  start();
  fill();
  stop();
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish", "close vm1", "close mgmt", "close eth1"}));
  EXPECT_EQ(endpoints.take_calls(), (Lines{"close vm1"}));
  start();
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"open_uplink eth1", "carrier eth1 up", "open_guest vm1", "open_host mgmt 00:15:5d:0a:0b:01 1500",
                   "publish [eth1 1500: mgmt/- vm1/-]"}));
  EXPECT_EQ(store.saves, 0U) << "starting again stores nothing";
}

TEST_F(HostServiceTest, draws_macs_from_a_pool_that_is_fixed_when_the_state_is_new) {
  start();
  fill();
  EXPECT_EQ(service->show_vnic("vm1")->desired.mac.to_string(), "00:15:5d:0a:0b:00");
  EXPECT_EQ(service->show_vnic("vm1")->desired.mac_origin, model::MacOrigin::dynamic);
  stop();
  start({{192, 168, 9, 9}});
  ASSERT_TRUE(service->delete_vnic("vm1"));
  ASSERT_TRUE(create_vnic("vm2", "sw1"));
  EXPECT_EQ(service->show_vnic("vm2")->desired.mac.to_string(), "00:15:5d:0a:0b:02");
  for (int i = 2; i < 256; ++i) ASSERT_TRUE(create_vnic("x" + std::to_string(i), "sw1"));
  const auto before = store.stored;
  expect_error(create_vnic("late", "sw1"), ErrorCode::no_resource, {"late", "00:15:5d:0a:0b:00", "--mac"});
  EXPECT_EQ(store.stored, before);
  EXPECT_TRUE(service->create_vnic(
      {"late", "sw1", model::VnicKind::guest, MacAddr::from_uint64(0x020000000001), model::Untagged{}, ""}));
}

TEST_F(HostServiceTest, makes_a_pool_without_any_address_of_the_host) {
  start(std::nullopt);
  ASSERT_TRUE(store.stored.mac_pool);
  ASSERT_TRUE(create_switch("in1", model::SwitchType::internal));
  ASSERT_TRUE(create_vnic("vm1", "in1"));
  EXPECT_EQ(service->show_vnic("vm1")->desired.mac.to_string().substr(0, 9), "00:15:5d:");
}

TEST_F(HostServiceTest, refuses_without_storing_or_touching_anything) {
  start();
  fill();
  nics.put("eth2", 1400);
  const auto before = store.stored;
  expect_error(create_switch("sw2", model::SwitchType::external, "eth9"), ErrorCode::not_found,
               {"nic eth9 does not exist; `patchbay nic list` shows what there is"});
  expect_error(create_switch("sw2", model::SwitchType::external, "eth2"), ErrorCode::invalid, {"1500", "1400", "eth2"});
  expect_error(create_switch("sw2", model::SwitchType::external, "eth1"), ErrorCode::exists, {"eth1", "sw1"});
  expect_error(create_switch("sw2", model::SwitchType::external, "mgmt"), ErrorCode::exists, {"mgmt"});
  expect_error(service->set_switch("sw1", {std::nullopt, 9000}), ErrorCode::invalid, {"9000", "1500", "eth1"});
  expect_error(service->delete_switch("sw1"), ErrorCode::in_use, {"mgmt, vm1"});
  expect_error(create_vnic("vm1", "sw1"), ErrorCode::exists, {"vm1"});
  expect_error(service->set_vnic("nope", {}), ErrorCode::not_found, {"vnic nope"});
  expect_error(service->delete_vnic("nope"), ErrorCode::not_found, {"vnic nope"});
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(store.saves, 0U);
  EXPECT_EQ(dataplane.take_calls(), Lines{});
}

TEST_F(HostServiceTest, refuses_a_guest_whose_socket_path_would_be_too_long) {
  run_path += "/" + std::string(40, 'd');
  std::filesystem::create_directory(run_path);
  start();
  ASSERT_TRUE(create_switch("in1", model::SwitchType::internal));
  const std::size_t rest = model::socket_path_size_max - socket_of("").size();
  ASSERT_LT(rest, model::name_size_max);
  EXPECT_TRUE(create_vnic(std::string(rest, 'x'), "in1"));
  expect_error(create_vnic(std::string(rest + 1, 'x'), "in1"), ErrorCode::invalid, {"108 bytes", run_path});
}

TEST_F(HostServiceTest, a_vnic_connects_to_no_socket_of_the_daemon_itself) {
  start();
  fill();
  const auto create = [&](const std::string& path) {
    return service->create_vnic({"vm2", "sw1", model::VnicKind::guest, std::nullopt, model::Untagged{}, path});
  };
  for (const std::string& path : {socket_of("vm1"), run_path + "/api.sock", "/" + run_path + "/vhost//vm1.sock",
                                  run_path + "/../" + run_path.substr(run_path.rfind('/') + 1) + "/x"}) {
    expect_error(create(path), ErrorCode::invalid, {"vnic vm2", path, "leave --connect out"});
  }
  EXPECT_EQ(endpoints.take_calls(), Lines{});
  EXPECT_TRUE(create(run_path + "2/vm2.sock")) << "a neighbour's socket is not ours";
}

TEST_F(HostServiceTest, a_creation_that_cannot_be_opened_leaves_nothing) {
  start();
  fill();
  nics.put("eth2");
  const auto before = store.stored;
  dataplane.refusals["open_host eth7 00:15:5d:0a:0b:02 1500"] = {ErrorCode::exists, "eth7 is not ours"};
  expect_error(create_vnic("eth7", "sw1", model::VnicKind::host), ErrorCode::exists, {"eth7 is not ours"});
  dataplane.refusals["open_uplink eth2"] = {ErrorCode::invalid, "eth2 is not Ethernet"};
  expect_error(create_switch("sw2", model::SwitchType::external, "eth2"), ErrorCode::invalid, {"eth2 is not Ethernet"});
  endpoints.refusals["vm2"] = {ErrorCode::in_use, "somebody listens there"};
  expect_error(create_vnic("vm2", "sw1"), ErrorCode::in_use, {"somebody listens there"});
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(dataplane.ports_open(), 3U);
  EXPECT_EQ(dataplane.layout.switches.size(), 1U);
  EXPECT_EQ(dataplane.layout.switches[0].vnics.size(), 2U);
  EXPECT_FALSE(service->show_vnic("vm2"));
  dataplane.refusals.clear();
  EXPECT_TRUE(create_vnic("eth7", "sw1", model::VnicKind::host)) << "and it works once the world is different";
}

TEST_F(HostServiceTest, a_full_disk_leaves_everything_as_it_was) {
  start();
  fill();
  store.is_full = true;
  expect_error(create_vnic("vm2", "sw1"), ErrorCode::no_resource, {"full"});
  expect_error(service->delete_vnic("vm1"), ErrorCode::no_resource, {"full"});
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_TRUE(service->show_vnic("vm1"));
  EXPECT_FALSE(service->show_vnic("vm2"));
}

TEST_F(HostServiceTest, starts_without_the_nic_and_takes_it_when_it_comes) {
  start();
  fill();
  stop();
  nics.current.clear();
  dataplane.calls.clear();
  start();
  auto uplink = *service->show_switch("sw1")->uplink;
  EXPECT_EQ(uplink.state, "down");
  EXPECT_EQ(uplink.state_reason, "no such NIC");
  EXPECT_EQ(dataplane.take_calls().back(), "publish [- 1500: mgmt/- vm1/-]");
  nics.put("eth1").carrier = false;
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"open_uplink eth1", "carrier eth1 down", "publish [eth1 1500: mgmt/- vm1/-]"}));
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "no carrier");
  nics.current.at("eth1").carrier = true;
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(), (Lines{"carrier eth1 up"}));
  uplink = *service->show_switch("sw1")->uplink;
  EXPECT_EQ(uplink.state + uplink.state_reason, "up");
}

TEST_F(HostServiceTest, tries_again_what_failed_and_shows_why_until_then) {
  start();
  fill();
  stop();
  dataplane.refusals["open_uplink eth1"] = {ErrorCode::no_resource, "no memory for rings"};
  endpoints.refusals["vm1"] = {ErrorCode::in_use, "somebody listens there"};
  start();
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "no memory for rings");
  EXPECT_EQ(service->show_vnic("vm1")->state, "failed");
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "somebody listens there");
  dataplane.refusals.clear();
  endpoints.refusals.clear();
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(service->show_switch("sw1")->uplink->state, "up");
  EXPECT_EQ(service->show_vnic("vm1")->state, "waiting_for_guest");
}

TEST_F(HostServiceTest, tells_an_endpoint_each_fault_of_its_port_once) {
  start();
  fill();
  endpoints.statuses["vm1"].state = vhost_user::State::connected;
  dataplane.raise_fault("vm1", dataplane::PortFault::ring_broken);
  turn();
  EXPECT_EQ(endpoints.take_calls(), (Lines{"failed vm1"}));
  endpoints.statuses["vm1"] = {vhost_user::State::failed, "ring broken", std::nullopt};
  dataplane.raise_fault("vm1", dataplane::PortFault::ring_broken);  // another port's event, say
  turn();
  EXPECT_EQ(endpoints.take_calls(), Lines{});
  dataplane.port_faults.clear();  // a new front-end
  endpoints.statuses["vm1"].state = vhost_user::State::connected;
  dataplane.raise_fault("vm1", dataplane::PortFault::ring_broken);
  turn();
  EXPECT_EQ(endpoints.take_calls(), (Lines{"failed vm1"}));
}

TEST_F(HostServiceTest, a_fault_of_the_link_before_is_not_told_to_an_endpoint_that_waits) {
  start();
  fill();
  endpoints.statuses["vm1"].state = vhost_user::State::negotiating;
  dataplane.raise_fault("vm1", dataplane::PortFault::ring_broken);
  turn();
  EXPECT_EQ(endpoints.take_calls(), Lines{});
}

TEST_F(HostServiceTest, an_mtu_that_cannot_be_set_leaves_the_port_open_and_is_tried_again) {
  start();
  fill();
  nics.put("mgmt");
  dataplane.refusals["set_mtu mgmt 1400"] = {ErrorCode::unavailable, "vnic mgmt: the kernel refuses mtu 1400"};
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, 1400}));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"set_mtu mgmt 1400", "publish [eth1 1400: mgmt/- vm1/-]"}));
  EXPECT_EQ(service->show_vnic("mgmt")->state, "up");
  EXPECT_EQ(service->show_vnic("mgmt")->state_reason, "vnic mgmt: the kernel refuses mtu 1400");
  dataplane.refusals.clear();
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"set_mtu mgmt 1400"}));
  EXPECT_EQ(service->show_vnic("mgmt")->state_reason, "");
}

TEST_F(HostServiceTest, counters_go_on_when_a_port_is_opened_anew_and_end_with_their_object) {
  start();
  fill();
  const auto uplink_frames = [this] { return service->show_switch("sw1")->uplink->counters.ingress.frames; };
  const auto vnic_frames = [this] { return service->show_vnic("mgmt")->counters.ingress.frames; };
  EXPECT_EQ(uplink_frames(), 1U);  // a fake port has as many as its number
  const model::Nic nic = nics.current.at("eth1");
  nics.current.clear();
  nics.tell();
  EXPECT_EQ(uplink_frames(), 1U);
  nics.current["eth1"] = nic;
  nics.tell();
  EXPECT_EQ(uplink_frames(), 1U + 4U);
  EXPECT_EQ(vnic_frames(), 3U);
  ASSERT_TRUE(service->set_vnic("mgmt", {std::nullopt, MacAddr::from_uint64(0x020000000077)}));
  EXPECT_EQ(vnic_frames(), 3U + 5U);
  dataplane.raise_fault("mgmt", dataplane::PortFault::device_gone);
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(vnic_frames(), 3U + 5U + 6U);
  ASSERT_TRUE(service->delete_vnic("mgmt"));
  ASSERT_TRUE(create_vnic("mgmt", "sw1", model::VnicKind::host));
  EXPECT_EQ(vnic_frames(), 7U);
  nics.current.clear();
  nics.tell();
  ASSERT_TRUE(service->delete_vnic("mgmt"));
  ASSERT_TRUE(service->delete_vnic("vm1"));
  ASSERT_TRUE(service->delete_switch("sw1"));
  nics.current["eth1"] = nic;
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
  EXPECT_EQ(uplink_frames(), 8U);
}

TEST_F(HostServiceTest, closes_a_port_whose_device_is_gone_and_opens_it_again) {
  start();
  fill();
  dataplane.raise_fault("eth1", dataplane::PortFault::device_gone);
  turn();
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [- 1500: mgmt/- vm1/-]", "close eth1"}));
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "nic eth1: the device is gone");
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"open_uplink eth1", "carrier eth1 up", "publish [eth1 1500: mgmt/- vm1/-]"}));
}

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
  EXPECT_EQ(store.rows[0].after, R"({"type":"external","uplink":"eth1","mtu":1500,"driver":"auto"})");
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
                          vnic.mac_limit, vnic.trust_priority, vnic.mac_origin});
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
  EXPECT_LT(took, std::chrono::seconds(20)) << "comparing each path with each takes minutes under sanitizers";
  EXPECT_EQ(dataplane.ports_open(), 1000U);
  EXPECT_TRUE(service->apply(spec, false)->empty());
}

TEST_F(HostServiceTest, shows_desired_and_actual_together) {
  start();
  fill();
  nics.put("mgmt");
  ASSERT_TRUE(service->set_switch("sw1", {std::optional(VlanId::from(7)), std::nullopt}));
  const auto on = *service->show_switch("sw1");
  EXPECT_EQ(on.vnics, (Lines{"mgmt", "vm1"}));
  EXPECT_EQ(on.uplink->counters.ingress.frames, 1U);
  const auto guest = *service->show_vnic("vm1");
  EXPECT_EQ(guest.effective_vlan, model::VlanMode(model::Access{*VlanId::from(7)}));
  EXPECT_TRUE(guest.vlan_forced);
  EXPECT_EQ(guest.vhost_socket, socket_of("vm1"));
  EXPECT_EQ(guest.counters.ingress.frames, 2U);
  EXPECT_EQ(service->show_vnic("mgmt")->state, "up");
  nics.current.at("mgmt").up = false;
  EXPECT_EQ(service->show_vnic("mgmt")->state, "down");
  const auto listed = service->list_nics();
  ASSERT_EQ(listed.size(), 1U) << "host vnics are no NICs";
  EXPECT_EQ(listed[0].switch_name, "sw1");
  EXPECT_FALSE(service->show_nic("mgmt"));
  EXPECT_FALSE(service->show_nic("eth9"));
  EXPECT_EQ(service->list_vnics().size(), 2U);
  EXPECT_EQ(service->list_switches().size(), 1U);
}

// ---- Drivers of uplinks ---------------------------------------------------------------------------------------------

constexpr const char* open_native = "open_uplink eth1 xdp 4 native";

TEST_F(HostServiceTest, takes_af_xdp_where_it_suits_and_packet_sockets_elsewhere_and_says_why) {
  nics.put_for_xdp("eth1", 4);
  nics.put("eth2");
  start();
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
  ASSERT_TRUE(create_switch("sw2", model::SwitchType::external, "eth2"));
  EXPECT_EQ(dataplane.take_calls(), (Lines{open_native, "carrier eth1 up", "publish [eth1 1500:]", "open_uplink eth2",
                                           "carrier eth2 up", "publish [eth1 1500:] [eth2 1500:]"}));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 rx-vlan-offload off", "eth1 generic-receive-offload off"}));
  const auto first = *service->show_switch("sw1")->uplink;
  EXPECT_EQ(first.driver + ": " + first.driver_reason, "xdp: AF_XDP in driver igb, 4 queues");
  EXPECT_EQ(service->show_switch("sw2")->uplink->driver, "packet");
  EXPECT_NE(service->show_switch("sw2")->uplink->driver_reason, "");
  EXPECT_EQ(service->show_nic("eth1")->driver.plan.driver, model::UplinkDriver::xdp);
  EXPECT_EQ(service->show_nic("eth2")->driver.plan.driver, model::UplinkDriver::packet);
}

TEST_F(HostServiceTest, changes_the_driver_of_a_running_switch_and_gives_the_offloads_back) {
  nics.put_for_xdp("eth1", 4);
  start();
  fill();
  nics.offload_calls.clear();
  const auto set = [&](model::UplinkDriver driver) { return service->set_switch("sw1", {{}, {}, {}, driver}); };
  ASSERT_TRUE(set(model::UplinkDriver::packet));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [- 1500: mgmt/- vm1/-]", "close eth1", "open_uplink eth1",
                                           "carrier eth1 up", "publish [eth1 1500: mgmt/- vm1/-]"}));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 rx-vlan-offload on", "eth1 generic-receive-offload on"}));
  EXPECT_TRUE(store.switched_off.empty());
  EXPECT_EQ(service->show_switch("sw1")->uplink->driver_reason, "asked for with --driver packet");
  ASSERT_TRUE(set(model::UplinkDriver::packet)) << "once more changes nothing";
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  ASSERT_TRUE(set(model::UplinkDriver::xdp));
  EXPECT_EQ(service->show_switch("sw1")->uplink->driver, "xdp");
  ASSERT_TRUE(set(model::UplinkDriver::auto_));
  EXPECT_EQ(service->show_switch("sw1")->uplink->driver, "xdp");
}

TEST_F(HostServiceTest, falls_back_to_packet_sockets_or_refuses_what_was_asked_for) {
  nics.put_for_xdp("eth1", 4);
  start();
  dataplane.refusals[open_native] = {ErrorCode::in_use, "nic eth1: a program of somebody else"};
  dataplane.refusals["open_uplink eth1 xdp 4 generic"] = dataplane.refusals[open_native];
  fill();
  const auto uplink = *service->show_switch("sw1")->uplink;
  EXPECT_EQ(uplink.driver, "packet");
  EXPECT_NE(uplink.driver_reason.find("a program of somebody else"), std::string::npos) << uplink.driver_reason;
  EXPECT_TRUE(store.switched_off.empty()) << "offloads are as they were";
  EXPECT_EQ(nics.current.at("eth1").offload(model::NicOffload::rx_vlan), model::OffloadState::on);
  const auto before = store.stored;
  expect_error(service->set_switch("sw1", {{}, {}, {}, model::UplinkDriver::xdp}), ErrorCode::in_use,
               {"somebody else"});
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(service->show_switch("sw1")->uplink->driver, "packet") << "and it is open again";
  EXPECT_EQ(service->show_switch("sw1")->uplink->state, "up");
  // A driver that does not take the program: generic mode, where AF_XDP was asked for.
  dataplane.refusals.erase("open_uplink eth1 xdp 4 generic");
  ASSERT_TRUE(service->set_switch("sw1", {{}, {}, {}, model::UplinkDriver::xdp}));
  EXPECT_NE(service->show_switch("sw1")->uplink->driver_reason.find("AF_XDP in generic mode"), std::string::npos);
}

TEST_F(HostServiceTest, does_not_use_af_xdp_where_stripping_stays_on) {
  nics.put_for_xdp("eth1", 4);
  nics.offloads_change = false;
  start();
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
  EXPECT_EQ(dataplane.take_calls().front(), "open_uplink eth1");
  EXPECT_NE(service->show_switch("sw1")->uplink->driver_reason.find("keeps it"), std::string::npos);
  nics.put("eth2").driver = "veth";
  nics.current.at("eth2").physical = false;
  expect_error(
      service->create_switch({"sw2", model::SwitchType::external, "eth2", {}, 1500, "", model::UplinkDriver::xdp}),
      ErrorCode::invalid, {"eth2", "veth is a virtual device", "--driver packet"});
  expect_error(service->create_switch({"sw2", model::SwitchType::internal, "", {}, 1500, "", model::UplinkDriver::xdp}),
               ErrorCode::invalid, {"sw2", "external"});
}

TEST_F(HostServiceTest, puts_offloads_right_that_a_killed_run_left_switched_off) {
  using model::NicOffload;
  const std::set<NicOffload> both = {NicOffload::rx_vlan, NicOffload::gro};
  nics.put_for_xdp("eth1", 4).offloads = {};  // as the killed run left them
  nics.put_for_xdp("eth2", 4).offloads = {};
  store.switched_off = {{"eth1", both}, {"eth2", both}, {"eth9", both}};
  start();
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 rx-vlan-offload on", "eth1 generic-receive-offload on",
                                       "eth2 rx-vlan-offload on", "eth2 generic-receive-offload on"}));
  EXPECT_TRUE(store.switched_off.empty()) << "also of a NIC that is gone";
  fill();
  EXPECT_EQ(store.switched_off, (store::SwitchedOff{{"eth1", both}}));
  stop();
  EXPECT_TRUE(store.switched_off.empty()) << "and at a proper end";
  // Killed while the switch is there: the next run uses the NIC on, and still knows what was on.
  nics.current.at("eth1").offloads = {};
  store.switched_off = {{"eth1", both}};
  nics.offload_calls.clear();
  start();
  EXPECT_EQ(service->show_switch("sw1")->uplink->driver, "xdp");
  EXPECT_EQ(nics.offload_calls, Lines{});
  ASSERT_TRUE(service->set_switch("sw1", {{}, {}, {}, model::UplinkDriver::packet}));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 rx-vlan-offload on", "eth1 generic-receive-offload on"}));
}

TEST_F(HostServiceTest, switches_stripping_off_again_when_somebody_switches_it_on) {
  nics.put_for_xdp("eth1", 4);
  start();
  fill();
  nics.offload_calls.clear();
  nics.current.at("eth1").offloads[0] = model::OffloadState::on;
  nics.tell();
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 rx-vlan-offload off"}));
  EXPECT_EQ(dataplane.take_calls(), Lines{});
}

TEST_F(HostServiceTest, opens_the_uplink_anew_when_the_nic_has_other_queues_or_a_large_mtu) {
  nics.put_for_xdp("eth1", 4);
  start();
  fill();
  nics.current.at("eth1").queues = 2;
  nics.tell();
  EXPECT_EQ(dataplane.take_calls()[2], "open_uplink eth1 xdp 2 native");
  nics.current.at("eth1").mtu = 9000;
  nics.tell();
  EXPECT_EQ(dataplane.take_calls()[2], "open_uplink eth1");
  EXPECT_NE(service->show_switch("sw1")->uplink->driver_reason.find("mtu 9000"), std::string::npos);
}

TEST_F(HostServiceTest, makes_the_directory_of_sockets_that_others_may_pass) {
  start();
  struct stat status {};
  ASSERT_EQ(::stat((run_path + "/vhost").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755U);
}

// ---- A NIC that the host uses ---------------------------------------------------------------------------------------

TEST_F(HostServiceTest, refuses_a_nic_that_the_host_uses_and_names_what_it_would_lose) {
  start();
  sharing.carried["eth1"] = {"192.0.2.1/24", "the default route"};
  expect_error(create_switch("sw1", model::SwitchType::external, "eth1"), ErrorCode::in_use,
               {"sw1", "eth1", "192.0.2.1/24, the default route", "--share-with-host"});
  sharing.carried["eth1"].assign(300, "10.0.0.1/8");
  expect_error(create_switch("sw1", model::SwitchType::external, "eth1"), ErrorCode::in_use, {"and 294 more"});
  sharing.refusals["eth1"] = {ErrorCode::in_use, "nic eth1 is a port of br0"};
  expect_error(create_switch("sw1", model::SwitchType::external, "eth1"), ErrorCode::in_use, {"sw1", "port of br0"});
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_EQ(store.stored.host, model::Host{});
}

TEST_F(HostServiceTest, shares_a_nic_by_a_vnic_with_its_mac_and_gives_all_back_on_delete) {
  start();
  sharing.carried["eth1"] = {"192.0.2.1/24"};
  ASSERT_TRUE(service->create_switch({"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"}));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_uplink eth1", "carrier eth1 up",
                                           "open_host host0 02:00:00:00:00:e1 1500", "publish [eth1 1500: host0/-]"}));
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
  EXPECT_EQ(service->show_switch("sw1")->desired.share_with_host, "host0");
  EXPECT_EQ(store.stored.host.vnics.at("host0").mac.to_string(), "02:00:00:00:00:e1");
  nics.tell();
  EXPECT_EQ(sharing.take_calls(), Lines{}) << "a second time nothing";
  ASSERT_TRUE(service->delete_switch("sw1"));
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0"}));
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish", "close host0 remove", "close eth1"}));
  EXPECT_EQ(store.stored.host, model::Host{});
}

TEST_F(HostServiceTest, sharing_is_switched_on_and_off_while_guests_stay) {
  start();
  fill();
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, std::nullopt, "host0"}));
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, std::nullopt, "host0"}));
  EXPECT_EQ(sharing.take_calls(), Lines{});
  expect_error(service->set_switch("sw1", {std::nullopt, std::nullopt, "more"}), ErrorCode::exists, {"host0"});
  ASSERT_TRUE(service->set_switch("sw1", {std::nullopt, std::nullopt, ""}));
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0"}));
  EXPECT_EQ(endpoints.take_calls(), Lines{});
  EXPECT_FALSE(store.stored.host.vnics.contains("host0"));
}

TEST_F(HostServiceTest, a_share_that_fails_leaves_nothing) {
  start();
  sharing.refusals["take eth1 host0"] = {ErrorCode::internal, "moving 192.0.2.1/24 failed"};
  expect_error(service->create_switch({"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"}),
               ErrorCode::internal, {"moving 192.0.2.1/24 failed"});
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_EQ(dataplane.ports_open(), 0U);
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0", "give_back eth1 host0"}));
}

TEST_F(HostServiceTest, what_cannot_go_back_to_the_nic_keeps_switch_and_vnic) {
  start();
  ASSERT_TRUE(service->create_switch({"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"}));
  const auto before = store.stored;
  dataplane.calls.clear();
  sharing.refusals["give_back eth1 host0"] = {ErrorCode::in_use, "nic eth1 is gone"};
  expect_error(service->delete_switch("sw1"), ErrorCode::in_use, {"sw1", "nic eth1 is gone"});
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  sharing.refusals.clear();
  sharing.calls.clear();
  store.is_full = true;
  expect_error(service->delete_switch("sw1"), ErrorCode::no_resource, {"full"});
  EXPECT_EQ(sharing.take_calls(), (Lines{"give_back eth1 host0", "take eth1 host0"})) << "and taken again";
}

TEST_F(HostServiceTest, a_stop_leaves_the_addresses_on_the_vnic_and_a_start_takes_what_the_nic_has_since) {
  start();
  ASSERT_TRUE(service->create_switch({"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"}));
  sharing.calls.clear();
  stop();
  EXPECT_EQ(sharing.take_calls(), Lines{});
  sharing.taken.clear();
  start();
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
  sharing.taken.clear();  // a DHCP client was at it
  sharing.tell();
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
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
