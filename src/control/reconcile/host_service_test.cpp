#include "control/reconcile/host_service.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>

#include "model/name.h"
#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

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
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish [eth1 1500: mgmt/-]", "close vm1 remove"}));
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

TEST_F(HostServiceTest, another_number_of_queue_pairs_waits_for_the_guests_restart) {
  start();
  ASSERT_TRUE(create_switch("sw1", model::SwitchType::private_));
  VnicSpec spec;
  spec.name = "vm1";
  spec.switch_name = "sw1";
  spec.queues = 2;
  ASSERT_TRUE(service->create_vnic(spec));
  EXPECT_EQ(endpoints.configs.at("vm1").queues, 2);
  endpoints.calls.clear();
  EXPECT_EQ(service->show_vnic("vm1")->queues_used, 0);
  endpoints.statuses["vm1"] = {vhost_user::State::connected, "", 1500, 2, 1};
  EXPECT_EQ(service->show_vnic("vm1")->queues_used, 1);
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "") << "a guest may use fewer";
  VnicChange change;
  change.queues = 4;
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(endpoints.take_calls(), (Lines{"queues vm1 4"})) << "it stays connected";
  const std::string reason = service->show_vnic("vm1")->state_reason;
  for (const char* part : {"guest restart needed", "offered 2 queue pairs", "has 4 now", "attach-args"}) {
    EXPECT_NE(reason.find(part), std::string::npos) << reason;
  }
  endpoints.statuses["vm1"] = {vhost_user::State::connected, "", 1500, 4, 4};  // it did
  EXPECT_EQ(service->show_vnic("vm1")->state_reason, "");
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(endpoints.take_calls(), Lines{}) << "the same again";
  change.queues = 9;
  expect_error(service->set_vnic("vm1", change), ErrorCode::invalid, {"vnic vm1", "1 to 8"});
  stop();
  endpoints.configs.clear();
  start();
  EXPECT_EQ(endpoints.configs.at("vm1").queues, 4);
}

TEST_F(HostServiceTest, a_buffer_is_the_vnics_or_the_switchs_and_changes_while_the_guest_runs) {
  start();
  SwitchSpec on;
  on.name = "sw1";
  on.buffer = {model::Buffer{2 << 20, false}, 50};
  ASSERT_TRUE(service->create_switch(on));
  VnicSpec spec;
  spec.name = "vm1";
  spec.switch_name = "sw1";
  ASSERT_TRUE(service->create_vnic(spec));
  EXPECT_EQ(dataplane.buffers.at("vm1").limit_bytes, 2U << 20);
  EXPECT_EQ(dataplane.buffers.at("vm1").max_age, std::chrono::milliseconds(50));
  EXPECT_EQ(service->show_vnic("vm1")->buffer.size_from.level, model::Level::switch_);
  VnicChange change;
  change.buffer.size = std::optional(model::Buffer{4 << 20, true});
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(dataplane.buffers.at("vm1").limit_bytes, 4U << 20);
  EXPECT_TRUE(dataplane.buffers.at("vm1").grows);
  EXPECT_EQ(service->show_vnic("vm1")->buffer.size_from.level, model::Level::vnic);
  change.buffer.size = std::optional<model::Buffer>();
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(dataplane.buffers.at("vm1").limit_bytes, 2U << 20) << "the switch's again";
  SwitchChange of_switch;
  of_switch.buffer = {std::optional<model::Buffer>(), std::optional<std::uint32_t>()};
  ASSERT_TRUE(service->set_switch("sw1", of_switch));
  EXPECT_EQ(dataplane.buffers.at("vm1").limit_bytes, 1U << 20) << "the built-in one";
  EXPECT_EQ(service->show_vnic("vm1")->buffer.size_from.level, model::Level::built_in);
  change.buffer.size = std::optional(model::Buffer{1, false});
  expect_error(service->set_vnic("vm1", change), ErrorCode::invalid, {"vnic vm1", "256K to 16M"});
}

TEST_F(HostServiceTest, a_vnic_may_ask_for_a_worker_that_is_there) {
  start();
  fill();
  const auto wanted = [this](const std::string& vnic) {
    for (const auto& each : dataplane.layout.switches.at(0).vnics) {
      if (dataplane.name_of(each.port) == vnic) return each.worker;
    }
    return std::optional<unsigned>(99);
  };
  EXPECT_EQ(wanted("vm1"), std::nullopt);
  VnicChange change;
  change.worker = std::optional<unsigned>(1);
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(wanted("vm1"), 1U);
  EXPECT_EQ(wanted("mgmt"), std::nullopt);
  EXPECT_EQ(service->show_vnic("vm1")->worker, 1U);
  change.worker = std::optional<unsigned>(2);
  expect_error(service->set_vnic("vm1", change), ErrorCode::not_found,
               {"vnic vm1", "no worker 2", "0, 1", "auto", "--worker-cpus"});
  VnicSpec spec;
  spec.name = "vm2";
  spec.switch_name = "sw1";
  spec.worker = 7;
  expect_error(service->create_vnic(spec), ErrorCode::not_found, {"vnic vm2", "no worker 7"});
  EXPECT_EQ(wanted("vm1"), 1U);
  stop();
  dataplane.workers.pop_back();  // it starts with fewer
  start();
  EXPECT_EQ(wanted("vm1"), 1U) << "as stored";
  VnicChange other;
  other.trust_priority = true;
  EXPECT_TRUE(service->set_vnic("vm1", other)) << "which is no reason to refuse something else";
  change.worker = std::optional<unsigned>();
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(wanted("vm1"), std::nullopt);
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
  const std::string positions = run_path + "/rings/";
  std::filesystem::create_directory(positions);
  for (const char* const name : {"gone", "+gone", "mgmt", "vm1", "+vm1", "ntuple+7", "new+ntuple+7"})
    std::ofstream(positions + name) << "positions";
  start();
  EXPECT_TRUE(std::filesystem::exists(positions + "vm1") && std::filesystem::exists(positions + "+vm1"));
  EXPECT_FALSE(std::filesystem::exists(positions + "gone") || std::filesystem::exists(positions + "+gone") ||
               std::filesystem::exists(positions + "mgmt") || std::filesystem::exists(positions + "new+ntuple+7"));
  EXPECT_TRUE(std::filesystem::exists(positions + "ntuple+7")) << "a note of what the data plane could not put back";
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

TEST_F(HostServiceTest, makes_the_directory_of_sockets_that_others_may_pass) {
  start();
  struct stat status {};
  ASSERT_EQ(::stat((run_path + "/vhost").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755U);
}

}  // namespace
}  // namespace patchbay::reconcile
