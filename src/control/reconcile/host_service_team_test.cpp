// Teams in HostService: what is refused, what is opened, and what is shown.
#include <gtest/gtest.h>

#include <algorithm>

#include "control/reconcile/host_service.h"
#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

class HostServiceTeamTest : public HostServiceTest {
 protected:
  HostServiceTeamTest() {
    nics.put("eth2").mac = MacAddr::from_uint64(0x0200000000e2);
    nics.put("eth3").mac = MacAddr::from_uint64(0x0200000000e3);
  }

  static model::Team team(const std::string& name, std::vector<std::string> nics_of_it) {
    model::Team made;
    made.name = name;
    made.nics = std::move(nics_of_it);
    return made;
  }
  // lan on the team up1 of eth1 and eth2, with the guest vm1.
  void fill_team() {
    ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
    ASSERT_TRUE(create_switch("lan", model::SwitchType::external, "up1"));
    ASSERT_TRUE(create_vnic("vm1", "lan"));
    dataplane.calls.clear();
    endpoints.calls.clear();
  }
  Result<void> set_nics(std::vector<std::string> to) {
    TeamChange change;
    change.nics = std::move(to);
    return service->set_team("up1", change);
  }
  // Where `call` stands among the calls so far.
  std::ptrdiff_t place_of(const std::string& call) {
    const auto found = std::find(dataplane.calls.begin(), dataplane.calls.end(), call);
    EXPECT_NE(found, dataplane.calls.end()) << call << " is not among " << testing::PrintToString(dataplane.calls);
    return found - dataplane.calls.begin();
  }
  bool has_call_with(const std::string& part) {
    return std::any_of(dataplane.calls.begin(), dataplane.calls.end(),
                       [&part](const std::string& call) { return call.find(part) != std::string::npos; });
  }
};

TEST_F(HostServiceTeamTest, leaves_the_nics_alone_until_a_switch_is_on_the_team) {
  start();
  ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  auto shown = *service->show_team("up1");
  EXPECT_EQ(shown.state, "down");
  EXPECT_NE(shown.state_reason.find("patchbay switch create NAME --external up1"), std::string::npos);
  EXPECT_EQ(shown.switch_name, "");
  EXPECT_EQ(service->show_nic("eth2")->team, "up1");
  EXPECT_EQ(service->show_nic("eth2")->switch_name, "");
  ASSERT_TRUE(create_switch("lan", model::SwitchType::external, "up1"));
  EXPECT_LT(place_of("open_uplink eth1"), place_of("set_team team#1: eth1 eth2"));
  EXPECT_LT(place_of("open_uplink eth2"), place_of("set_team team#1: eth1 eth2"));
  EXPECT_LT(place_of("set_team team#1: eth1 eth2"), place_of("publish [team#1 1500:]"));
  EXPECT_FALSE(has_call_with("DEFECT"));
  EXPECT_EQ(service->show_nic("eth2")->switch_name, "lan");
  const auto uplink = *service->show_switch("lan")->uplink;
  EXPECT_EQ(uplink.team, "up1");
  EXPECT_EQ(uplink.nic, "");
  dataplane.calls.clear();
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "a second time nothing";
  ASSERT_TRUE(service->delete_switch("lan"));
  EXPECT_LT(place_of("publish"), place_of("close team#1"));
  EXPECT_LT(place_of("close team#1"), place_of("close eth1"));
  EXPECT_FALSE(has_call_with("DEFECT"));
  ASSERT_TRUE(service->delete_team("up1"));
  EXPECT_EQ(dataplane.ports_open(), 0U);
}

TEST_F(HostServiceTeamTest, tells_the_data_plane_who_the_members_are) {
  start();
  fill_team();
  const auto& config = dataplane.teams.at("team#1");
  ASSERT_EQ(config.members.size(), 2U);
  EXPECT_EQ(config.members[0].mac.to_string(), "02:00:00:00:00:e1");
  EXPECT_EQ(config.members[1].mac.to_string(), "02:00:00:00:00:e2");
  TeamChange change;
  change.balance = model::TeamBalance::address_hash;
  change.mode = model::TeamMode::static_;
  ASSERT_TRUE(service->set_team("up1", change));
  EXPECT_FALSE(has_call_with("publish") || has_call_with("open") || has_call_with("close"));
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth1", "eth2"}));
  EXPECT_EQ(service->show_team("up1")->desired.mode, model::TeamMode::static_);
}

TEST_F(HostServiceTeamTest, takes_members_in_and_out_while_the_layout_stays) {
  start();
  fill_team();
  ASSERT_TRUE(set_nics({"eth1", "eth2", "eth3"}));
  EXPECT_LT(place_of("open_uplink eth3"), place_of("set_team team#1: eth1 eth2 eth3"));
  EXPECT_FALSE(has_call_with("publish"));
  dataplane.calls.clear();
  ASSERT_TRUE(set_nics({"eth3", "eth1"}));
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth3", "eth1"}));
  EXPECT_GT(place_of("close eth2"), 0);
  EXPECT_FALSE(has_call_with("publish") || has_call_with("DEFECT") || has_call_with("open"));
  EXPECT_EQ(service->show_nic("eth2")->team, "");
  EXPECT_EQ(endpoints.take_calls(), Lines{});
}

TEST_F(HostServiceTeamTest, works_on_with_the_members_that_are_there) {
  start();
  fill_team();
  const model::Nic eth2 = nics.current.at("eth2");
  nics.current.erase("eth2");
  nics.tell();
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth1"}));
  EXPECT_FALSE(has_call_with("publish"));
  auto shown = *service->show_team("up1");
  EXPECT_NE(shown.state_reason.find("eth2: no such NIC"), std::string::npos) << shown.state_reason;
  nics.current["eth2"] = eth2;
  nics.tell();
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth1", "eth2"}));
  dataplane.raise_fault("eth1", dataplane::PortFault::device_gone);
  turn();
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth2"}));
  EXPECT_FALSE(has_call_with("publish") || has_call_with("DEFECT"));
  shown = *service->show_team("up1");
  EXPECT_NE(shown.state_reason.find("eth1: nic eth1: the device is gone"), std::string::npos) << shown.state_reason;
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth1", "eth2"})) << "and opened again";
}

TEST_F(HostServiceTeamTest, refuses_a_member_that_cannot_be_opened_when_it_is_asked_for_and_waits_for_it_later) {
  start();
  dataplane.refusals["open_uplink eth2"] = {ErrorCode::no_resource, "nic eth2: no memory"};
  ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
  expect_error(create_switch("lan", model::SwitchType::external, "up1"), ErrorCode::no_resource, {"eth2: no memory"});
  EXPECT_EQ(dataplane.ports_open(), 0U);
  dataplane.refusals.clear();
  ASSERT_TRUE(create_switch("lan", model::SwitchType::external, "up1"));
  dataplane.refusals["open_uplink eth3"] = {ErrorCode::no_resource, "nic eth3: no memory"};
  expect_error(set_nics({"eth1", "eth2", "eth3"}), ErrorCode::no_resource, {"eth3: no memory"});
  EXPECT_EQ(store.stored.host.teams.at("up1").nics, (Lines{"eth1", "eth2"}));
  EXPECT_EQ(dataplane.members_of("team#2"), (Lines{"eth1", "eth2"})) << "undisturbed; the first one was taken back";
  stop();
  dataplane.refusals["open_uplink eth2"] = {ErrorCode::no_resource, "nic eth2: no memory"};
  start();
  EXPECT_EQ(dataplane.members_of("team#3"), (Lines{"eth1"})) << "at a start it does without";
  EXPECT_NE(service->show_team("up1")->state_reason.find("eth2: nic eth2: no memory"), std::string::npos);
  dataplane.refusals.clear();
  turn(std::chrono::milliseconds(20));
  EXPECT_EQ(dataplane.members_of("team#3"), (Lines{"eth1", "eth2"}));
}

TEST_F(HostServiceTeamTest, refuses_what_the_kernel_does_not_go_with) {
  start();
  nics.put("jumbo", 9000);
  sharing.carried["eth3"] = {"192.0.2.1/24", "the default route"};
  sharing.refusals["br0"] = {ErrorCode::invalid, "nic br0 is no Ethernet device"};
  const auto refused = [this](const model::Team& asked, ErrorCode code, std::initializer_list<std::string> parts) {
    expect_error(service->create_team(asked), code, parts);
  };
  refused(team("t", {"eth1", "eth9"}), ErrorCode::not_found, {"nic eth9 does not exist"});
  refused(team("t", {"eth1", "eth3"}), ErrorCode::in_use, {"team t", "eth3", "192.0.2.1/24, the default route"});
  refused(team("t", {"eth1", "jumbo"}), ErrorCode::invalid,
          {"team t", "eth1 has mtu 1500", "jumbo has mtu 9000", "ip link set jumbo mtu 1500"});
  refused(team("t", {"br0"}), ErrorCode::invalid, {"team t", "br0 is no Ethernet device"});
  refused(team("eth2", {"eth1"}), ErrorCode::exists, {"team eth2", "network interface"});
  refused(team("br0", {"eth1"}), ErrorCode::exists, {"team br0", "network interface"});
  EXPECT_EQ(store.stored.host, model::Host{});
  ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
  expect_error(set_nics({"eth1", "eth9"}), ErrorCode::not_found, {"eth9"});
  expect_error(set_nics({"eth1", "eth3"}), ErrorCode::in_use, {"team up1", "eth3"});
  expect_error(set_nics({"eth1", "jumbo"}), ErrorCode::invalid, {"ip link set jumbo mtu 1500"});
  sharing.carried["eth2"] = {"192.0.2.9/24"};
  expect_error(create_switch("lan", model::SwitchType::external, "up1"), ErrorCode::in_use,
               {"team up1", "eth2", "192.0.2.9/24"});
  sharing.carried.clear();
  expect_error(service->create_switch({"lan", model::SwitchType::external, "up1", std::nullopt, 9000}),
               ErrorCode::invalid, {"switch lan", "mtu 9000", "1500 of nic eth1", "ip link set eth1 mtu 9000"});
  expect_error(service->create_switch({"lan", model::SwitchType::external, "up1", std::nullopt, 1500, "host0"}),
               ErrorCode::invalid, {"switch lan", "up1 is a team", "by hand"});
  EXPECT_TRUE(store.stored.host.switches.empty());
}

TEST_F(HostServiceTeamTest, refuses_what_the_nics_cannot_bear_of_the_switch_and_of_new_nics) {
  start();
  fill_team();
  expect_error(service->set_switch("lan", {std::nullopt, 9000}), ErrorCode::invalid,
               {"switch lan", "9000", "1500 of nic eth1"});
  nics.put_for_xdp("stuck", 1).offloads[2] = model::OffloadState::on_fixed;
  SwitchChange change;
  change.gro = false;
  ASSERT_TRUE(service->set_switch("lan", change));
  expect_error(set_nics({"eth1", "eth2", "stuck"}), ErrorCode::invalid, {"switch lan", "stuck", "--gro on"});
  expect_error(service->set_switch("lan", {std::nullopt, std::nullopt, "host0"}), ErrorCode::invalid,
               {"switch lan", "up1 is a team"});
  expect_error(service->delete_team("up1"), ErrorCode::in_use, {"team up1", "switch lan", "switch delete lan"});
  expect_error(service->create_team(team("up2", {"eth2"})), ErrorCode::exists, {"eth2", "team up1"});
  expect_error(create_switch("wan", model::SwitchType::external, "eth2"), ErrorCode::exists, {"eth2", "team up1"});
  expect_error(create_switch("wan", model::SwitchType::external, "up1"), ErrorCode::exists, {"up1", "switch lan"});
}

TEST_F(HostServiceTeamTest, knows_one_device_by_its_two_names) {
  const model::PciDevice device{"0000:01:00.0", "8086:10c9", "igb", std::nullopt};
  nics.current.at("eth1").pci = device;
  start();
  ASSERT_TRUE(service->create_team(team("up1", {"eth1"})));
  expect_error(create_switch("wan", model::SwitchType::external, "0000:01:00.0"), ErrorCode::exists,
               {"0000:01:00.0 is the same device as eth1", "team up1"});
  expect_error(service->create_team(team("up2", {"eth2", "0000:01:00.0"})), ErrorCode::exists,
               {"team up2", "same device as eth1", "team up1"});
}

TEST_F(HostServiceTeamTest, counts_as_one_uplink_what_all_members_count_also_of_those_that_left) {
  start();
  fill_team();
  const auto frames = [this] { return service->show_switch("lan")->uplink->counters.ingress.frames; };
  const auto of_member = [this](std::size_t at) {
    return service->show_team("up1")->members.at(at).counters.ingress.frames;
  };
  const std::uint64_t start_of_team = frames();  // a fake port has as many as its number, the team's own too
  const std::uint64_t start_of_eth2 = of_member(1);
  dataplane.more_frames["eth1"] = 100;
  dataplane.more_frames["eth2"] = 1000;
  EXPECT_EQ(frames(), start_of_team + 1100);
  EXPECT_EQ(of_member(1), start_of_eth2 + 1000);
  ASSERT_TRUE(set_nics({"eth1"}));
  EXPECT_EQ(frames(), start_of_team + 1100) << "what eth2 counted stays";
  dataplane.more_frames["eth1"] = 200;
  dataplane.more_frames["eth2"] = 5000;
  EXPECT_EQ(frames(), start_of_team + 1200);
  ASSERT_TRUE(set_nics({"eth1", "eth2"}));
  EXPECT_EQ(frames(), start_of_team + 1200) << "what eth2 counts before it is a member is not the team's";
  dataplane.more_frames["eth2"] = 5001;
  EXPECT_EQ(frames(), start_of_team + 1201);
  nics.current.erase("eth2");
  nics.tell();
  EXPECT_EQ(frames(), start_of_team + 1201);
  EXPECT_EQ(service->show_team("up1")->counters.ingress.frames, frames());
}

TEST_F(HostServiceTeamTest, switches_offloads_of_each_member_as_the_switch_needs_them) {
  nics.put_for_xdp("eth1", 4).driver = "e1000e";
  nics.put_for_xdp("eth2", 4);
  start();
  fill_team();
  EXPECT_EQ(nics.offload_calls, (Lines{"eth2 rx-vlan-offload off", "eth2 generic-receive-offload off"}));
  EXPECT_EQ(service->show_team("up1")->members.at(0).driver, "packet");
  EXPECT_EQ(service->show_team("up1")->members.at(1).driver, "xdp");
  nics.offload_calls.clear();
  SwitchChange change;
  change.gro = false;
  ASSERT_TRUE(service->set_switch("lan", change));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 generic-receive-offload off"}));
  nics.offload_calls.clear();
  ASSERT_TRUE(set_nics({"eth2"}));
  EXPECT_EQ(nics.offload_calls, (Lines{"eth1 generic-receive-offload on"})) << "eth1 is nobody's any more";
}

TEST_F(HostServiceTeamTest, shows_a_queue_model_for_each_mode_and_balance) {
  using model::TeamBalance;
  using model::TeamMode;
  start();
  ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
  for (const auto mode : {TeamMode::switch_independent, TeamMode::static_, TeamMode::lacp}) {
    for (const auto balance : {TeamBalance::address_hash, TeamBalance::vnic_port, TeamBalance::dynamic}) {
      TeamChange change;
      change.mode = mode;
      change.balance = balance;
      ASSERT_TRUE(service->set_team("up1", change));
      const bool is_sum = mode == TeamMode::switch_independent && balance != TeamBalance::address_hash;
      EXPECT_EQ(service->show_team("up1")->queue_model, is_sum ? "sum-of-queues" : "min-queues")
          << to_string(mode) << " " << to_string(balance);
    }
  }
}

TEST_F(HostServiceTeamTest, the_timer_of_lacp_ends_with_lacp) {
  start();
  ASSERT_TRUE(service->create_team(team("up1", {"eth1", "eth2"})));
  TeamChange change;
  change.mode = model::TeamMode::lacp;
  change.lacp_timer = model::LacpTimer::slow;
  ASSERT_TRUE(service->set_team("up1", change));
  change = {};
  change.mode = model::TeamMode::static_;
  ASSERT_TRUE(service->set_team("up1", change));
  change.lacp_timer = model::LacpTimer::slow;
  expect_error(service->set_team("up1", change), ErrorCode::invalid, {"team up1", "--mode lacp"});
}

TEST_F(HostServiceTeamTest, is_there_again_after_a_restart_and_in_the_audit) {
  start();
  fill_team();
  ASSERT_TRUE(set_nics({"eth2", "eth1"}));
  stop();
  EXPECT_EQ(dataplane.ports_open(), 0U);
  EXPECT_FALSE(has_call_with("DEFECT"));
  start();
  EXPECT_EQ(dataplane.members_of("team#2"), (Lines{"eth2", "eth1"}));
  EXPECT_EQ(service->list_teams().size(), 1U);
  ASSERT_TRUE(service->delete_vnic("vm1"));
  ASSERT_TRUE(service->delete_switch("lan"));
  ASSERT_TRUE(service->delete_team("up1"));
  Lines rows;
  const auto audit = service->list_audit(10, "up1");
  for (const auto& row : *audit) rows.push_back(row.verb + " " + row.kind + " " + row.after);
  EXPECT_EQ(rows, (Lines{"delete team ",
                         R"(set team {"nics":["eth2","eth1"],"mode":"switch-independent","balance":"dynamic",)"
                         R"("failback_delay_ms":1000})",
                         R"(create team {"nics":["eth1","eth2"],"mode":"switch-independent","balance":"dynamic",)"
                         R"("failback_delay_ms":1000})"}));
}

// ---- Apply -----------------------------------------------------------------------------------------------------------

SwitchSpec external(const std::string& name, const std::string& uplink) {
  SwitchSpec spec;
  spec.name = name;
  spec.type = model::SwitchType::external;
  spec.uplink = uplink;
  return spec;
}

HostSpec spec_with(std::vector<SwitchSpec> switches, std::optional<std::vector<model::Team>> teams) {
  HostSpec spec;
  spec.switches = std::move(switches);
  spec.teams = std::move(teams);
  return spec;
}

TEST_F(HostServiceTeamTest, apply_makes_a_team_and_its_switch_at_once_and_a_second_time_nothing) {
  start();
  const auto spec = spec_with({external("lan", "up1")}, {{team("up1", {"eth1", "eth2"})}});
  const auto changes = service->apply(spec, false);
  ASSERT_TRUE(changes) << changes.error().error.message;
  ASSERT_EQ(changes->size(), 2U);
  EXPECT_EQ(changes->front().name, "up1") << "the team before its switch";
  EXPECT_EQ(dataplane.members_of("team#1"), (Lines{"eth1", "eth2"}));
  dataplane.calls.clear();
  EXPECT_TRUE(service->apply(spec, false)->empty());
  EXPECT_TRUE(service->apply(spec_with(spec.switches, std::nullopt), false)->empty()) << "teams stay as they are";
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  const auto gone = service->apply(spec_with({}, std::vector<model::Team>{}), false);
  ASSERT_TRUE(gone);
  EXPECT_EQ(gone->front().name, "lan") << "the switch before its team";
  EXPECT_EQ(dataplane.ports_open(), 0U);
}

TEST_F(HostServiceTeamTest, apply_moves_nics_between_switch_and_team_without_opening_them_anew) {
  start();
  ASSERT_TRUE(create_switch("lan", model::SwitchType::external, "eth1"));
  sharing.carried["eth1"] = {"169.254.0.1/16"};
  dataplane.calls.clear();
  ASSERT_TRUE(service->apply(spec_with({external("lan", "up1")}, {{team("up1", {"eth1", "eth2"})}}), false));
  EXPECT_FALSE(has_call_with("close") || has_call_with("open_uplink eth1") || has_call_with("DEFECT"));
  dataplane.calls.clear();
  ASSERT_TRUE(service->apply(spec_with({external("lan", "eth1")}, std::vector<model::Team>{}), false));
  EXPECT_FALSE(has_call_with("close eth1") || has_call_with("open_uplink eth1") || has_call_with("DEFECT"));
  EXPECT_EQ(dataplane.calls.back(), "publish [eth1 1500:]");
}

TEST_F(HostServiceTeamTest, apply_takes_no_nic_into_a_team_that_the_host_shares) {
  start();
  SwitchSpec lan = external("lan", "eth1");
  lan.share_with_host = "host0";
  ASSERT_TRUE(service->create_switch(lan));
  const auto refused = service->apply(
      spec_with({external("lan", "up1")}, std::vector<model::Team>{team("up1", {"eth1", "eth2"})}), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().name, "up1");
  EXPECT_NE(refused.error().error.message.find("shares nic eth1 by vnic host0"), std::string::npos);
  EXPECT_EQ(sharing.take_calls(), (Lines{"take eth1 host0"}));
}

TEST_F(HostServiceTeamTest, apply_names_the_team_that_is_at_fault_and_takes_back_what_cannot_be_opened) {
  start();
  const auto refused = [this](const HostSpec& spec, const std::string& object, const std::string& part) {
    const auto answer = service->apply(spec, false);
    ASSERT_FALSE(answer) << object;
    EXPECT_EQ(answer.error().noun + " " + answer.error().name, object);
    EXPECT_NE(answer.error().error.message.find(part), std::string::npos) << answer.error().error.message;
  };
  refused(spec_with({}, {{team("up1", {"eth1", "eth9"})}}), "team up1", "eth9 does not exist");
  refused(spec_with({}, {{team("up1", {"eth1"}), team("up2", {"eth1"})}}), "team up2", "eth1 is in team up1");
  SwitchSpec lan = external("lan", "up1");
  lan.share_with_host = "host0";
  refused(spec_with({lan}, {{team("up1", {"eth1"})}}), "switch lan", "up1 is a team");
  lan.share_with_host = "";
  dataplane.refusals["open_uplink eth2"] = {ErrorCode::no_resource, "nic eth2: no memory"};
  refused(spec_with({lan}, {{team("up1", {"eth1", "eth2"})}}), "switch lan", "eth2: no memory");
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_EQ(dataplane.ports_open(), 0U);
}

}  // namespace
}  // namespace patchbay::reconcile
