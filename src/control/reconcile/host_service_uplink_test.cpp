#include "control/reconcile/host_service.h"

#include <gtest/gtest.h>

#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

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

TEST_F(HostServiceTest, switches_coalescing_off_and_on_without_opening_the_uplink_anew) {
  using model::NicOffload;
  nics.put_for_xdp("eth1", 4);
  nics.put_for_xdp("eth2", 4).driver = "e1000e";
  start();
  fill();
  ASSERT_TRUE(create_switch("sw2", model::SwitchType::external, "eth2"));
  static_cast<void>(dataplane.take_calls());
  nics.offload_calls.clear();
  const auto set = [&](const char* name, bool gro) {
    reconcile::SwitchChange change;
    change.gro = gro;
    return service->set_switch(name, change);
  };
  ASSERT_TRUE(set("sw1", false));
  EXPECT_EQ(dataplane.take_calls(), Lines{"publish [eth1 1500: mgmt/- vm1/- gro off] [eth2 1500:]"});
  EXPECT_EQ(nics.offload_calls, Lines{}) << "AF_XDP has it off already";
  ASSERT_TRUE(set("sw2", false));
  EXPECT_EQ(dataplane.take_calls(), Lines{"publish [eth1 1500: mgmt/- vm1/- gro off] [eth2 1500: gro off]"});
  EXPECT_EQ(nics.offload_calls, Lines{"eth2 generic-receive-offload off"}) << "packet sockets: the kernel merges";
  EXPECT_EQ(store.switched_off.at("eth2"), std::set{NicOffload::gro});
  // Somebody switches it on.
  nics.current.at("eth2").offloads[2] = model::OffloadState::on;
  nics.tell();
  EXPECT_EQ(nics.offload_calls, (Lines{"eth2 generic-receive-offload off", "eth2 generic-receive-offload off"}));
  nics.offload_calls.clear();
  // The other driver has more to switch off, and leaves this one as it is when it goes.
  reconcile::SwitchChange change;
  change.driver = model::UplinkDriver::packet;
  ASSERT_TRUE(service->set_switch("sw1", change));
  EXPECT_EQ(nics.current.at("eth1").offload(NicOffload::rx_vlan), model::OffloadState::on);
  EXPECT_EQ(nics.current.at("eth1").offload(NicOffload::gro), model::OffloadState::off);
  nics.offload_calls.clear();
  ASSERT_TRUE(set("sw2", true));
  ASSERT_TRUE(set("sw1", true));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth2 generic-receive-offload on", "eth1 generic-receive-offload on"}));
  EXPECT_TRUE(store.switched_off.empty());
  ASSERT_TRUE(set("sw2", false));
  ASSERT_TRUE(service->delete_switch("sw2"));
  EXPECT_EQ(nics.current.at("eth2").offload(NicOffload::gro), model::OffloadState::on) << "the switch is gone";
}

TEST_F(HostServiceTest, refuses_gro_off_where_the_nic_keeps_merging) {
  nics.put("eth1").offloads[2] = model::OffloadState::on_fixed;
  nics.current.at("eth1").driver = "stubborn";
  start();
  SwitchSpec spec{"sw1", model::SwitchType::external, "eth1", {}, 1500};
  spec.gro = false;
  expect_error(service->create_switch(spec), ErrorCode::invalid,
               {"sw1", "eth1", "stubborn", "generic-receive-offload", "--gro on"});
  spec.gro = true;
  ASSERT_TRUE(service->create_switch(spec));
  SwitchChange change;
  change.gro = false;
  expect_error(service->set_switch("sw1", change), ErrorCode::invalid, {"generic-receive-offload"});
  spec = {"sw2", model::SwitchType::internal, "", {}, 1500};
  spec.gro = false;
  expect_error(service->create_switch(spec), ErrorCode::invalid, {"sw2", "external"});
}

TEST_F(HostServiceTest, knows_after_a_kill_that_coalescing_was_switched_off_for_a_switch) {
  using model::NicOffload;
  nics.put_for_xdp("eth1", 4).driver = "e1000e";
  start();
  SwitchSpec spec{"sw1", model::SwitchType::external, "eth1", {}, 1500};
  spec.gro = false;
  ASSERT_TRUE(service->create_switch(spec));
  stop();
  EXPECT_EQ(nics.current.at("eth1").offload(NicOffload::gro), model::OffloadState::on) << "a proper end";
  nics.current.at("eth1").offloads = {};  // as a killed run left it, with AF_XDP
  store.switched_off = {{"eth1", {NicOffload::rx_vlan, NicOffload::gro}}};
  nics.offload_calls.clear();
  start();
  EXPECT_EQ(nics.offload_calls, Lines{"eth1 rx-vlan-offload on"});
  EXPECT_EQ(store.switched_off.at("eth1"), std::set{NicOffload::gro});
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

}  // namespace
}  // namespace patchbay::reconcile
