#include <gtest/gtest.h>

#include "model/host.h"

namespace patchbay::model {
namespace {

Team make_team(const std::string& name, std::vector<std::string> nics) {
  Team made;
  made.name = name;
  made.nics = std::move(nics);
  return made;
}

Switch make_external(const std::string& name, const std::string& uplink) {
  Switch made;
  made.name = name;
  made.type = SwitchType::external;
  made.uplink = uplink;
  return made;
}

Vnic make_host_vnic(const std::string& name, const std::string& on) {
  Vnic made;
  made.name = name;
  made.switch_name = on;
  made.kind = VnicKind::host;
  made.mac = MacAddr::from_uint64(0x020000000009);
  return made;
}

// The team up1 of eth1 and eth2, which carries lan; sw3 on eth3 with the host vnic mgmt.
Host example() {
  Host host = *add_team({}, make_team("up1", {"eth1", "eth2"}));
  host = *add_switch(host, make_external("lan", "up1"));
  host = *add_switch(host, make_external("sw3", "eth3"));
  return *add_vnic(host, make_host_vnic("mgmt", "sw3"));
}

template <typename T>
void expect_refused(const Result<T>& result, ErrorCode code, std::initializer_list<std::string> parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const auto& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << " in: " << result.error().message;
  }
}

std::vector<std::string> many_nics(std::size_t count) {
  std::vector<std::string> nics;
  for (std::size_t i = 0; i < count; ++i) nics.push_back("n" + std::to_string(i));
  return nics;
}

TEST(Team, has_1_to_32_nics_each_once) {
  EXPECT_TRUE(add_team({}, make_team("t", {"eth1"})));
  EXPECT_TRUE(add_team({}, make_team("t", {"eth1", "0000:01:00.0"})));
  EXPECT_TRUE(add_team({}, make_team("t", many_nics(32))));
  expect_refused(add_team({}, make_team("t", {})), ErrorCode::invalid, {"team t", "0 NICs", "1 to 32"});
  expect_refused(add_team({}, make_team("t", many_nics(33))), ErrorCode::invalid, {"team t", "33 NICs", "1 to 32"});
  expect_refused(add_team({}, make_team("t", {"eth1", "eth2", "eth1"})), ErrorCode::invalid,
                 {"team t", "eth1 is given twice"});
  expect_refused(add_team({}, make_team("t", {"eth/1"})), ErrorCode::invalid, {"team t", "eth/1"});
  expect_refused(add_team({}, make_team("t", {"01:00.0"})), ErrorCode::invalid, {"team t", "01:00.0", "PCI address"});
  expect_refused(add_team({}, make_team("t", {"t", "eth1"})), ErrorCode::invalid, {"team t", "another name"});
  expect_refused(add_team({}, make_team("a b", {"eth1"})), ErrorCode::invalid, {"team name 'a b'"});
  EXPECT_TRUE(add_team({}, make_team(std::string(63, 'x'), {"eth1"})));
  expect_refused(add_team({}, make_team(std::string(64, 'x'), {"eth1"})), ErrorCode::invalid, {"at most 63"});
}

TEST(Team, has_a_standby_that_is_one_of_several_nics_and_never_with_mode_static) {
  Team team = make_team("t", {"eth1", "eth2"});
  team.standby = "eth2";
  for (const TeamMode mode : {TeamMode::switch_independent, TeamMode::lacp}) {
    team.mode = mode;
    EXPECT_TRUE(add_team({}, team)) << to_string(mode);
  }
  team.mode = TeamMode::static_;
  expect_refused(add_team({}, team), ErrorCode::invalid, {"team t", "mode static", "--standby none"});
  team.mode = TeamMode::lacp;
  team.standby = "eth3";
  expect_refused(add_team({}, team), ErrorCode::invalid, {"team t", "standby eth3", "eth1, eth2"});
  team.nics = {"eth1"};
  team.standby = "eth1";
  expect_refused(add_team({}, team), ErrorCode::invalid, {"team t", "only nic eth1"});
  team.standby = "";
  EXPECT_TRUE(add_team({}, team)) << "LACP with one NIC";
}

TEST(Team, has_a_timer_with_lacp_only_and_a_delay_up_to_ten_minutes) {
  Team team = make_team("t", {"eth1", "eth2"});
  team.lacp_timer = LacpTimer::slow;
  expect_refused(add_team({}, team), ErrorCode::invalid, {"team t", "--lacp-timer", "--mode lacp"});
  team.mode = TeamMode::lacp;
  EXPECT_TRUE(add_team({}, team));
  team.failback_delay_ms = 0;
  EXPECT_TRUE(add_team({}, team));
  team.failback_delay_ms = 600'000;
  EXPECT_TRUE(add_team({}, team));
  team.failback_delay_ms = 600'001;
  expect_refused(add_team({}, team), ErrorCode::invalid, {"team t", "600001", "0 to 600000"});
}

TEST(Team, shares_no_nic_and_no_name_with_anything_else) {
  const Host host = example();
  expect_refused(add_team(host, make_team("up1", {"eth9"})), ErrorCode::exists, {"up1 exists already", "team set up1"});
  expect_refused(add_team(host, make_team("up2", {"eth9", "eth2"})), ErrorCode::exists,
                 {"team up2", "eth2", "team up1 already", "--nics"});
  expect_refused(add_team(host, make_team("up2", {"eth3"})), ErrorCode::exists, {"team up2", "eth3", "switch sw3"});
  expect_refused(add_team(host, make_team("up2", {"mgmt"})), ErrorCode::exists, {"team up2", "mgmt is a host vnic"});
  expect_refused(add_team(host, make_team("up2", {"up1"})), ErrorCode::exists, {"team up2", "up1 is a team"});
  expect_refused(add_team(host, make_team("eth3", {"eth9"})), ErrorCode::exists, {"team eth3", "switch sw3's NIC"});
  expect_refused(add_team(host, make_team("eth1", {"eth9"})), ErrorCode::exists, {"team eth1", "NIC in team up1"});
  expect_refused(add_team(host, make_team("mgmt", {"eth9"})), ErrorCode::exists, {"team mgmt", "host vnic"});
  EXPECT_TRUE(add_team(host, make_team("lan", {"eth9"}))) << "a switch has no uplink of its own name";
}

TEST(Team, keeps_switches_and_host_vnics_off_its_nics_and_its_name) {
  const Host host = example();
  expect_refused(add_switch(host, make_external("wan", "eth1")), ErrorCode::exists,
                 {"switch wan", "eth1 is in team up1", "team set up1"});
  expect_refused(add_switch(host, make_external("wan", "up1")), ErrorCode::exists, {"team up1", "switch lan already"});
  expect_refused(add_vnic(host, make_host_vnic("eth2", "lan")), ErrorCode::exists, {"vnic eth2", "NIC in team up1"});
  expect_refused(add_vnic(host, make_host_vnic("up1", "lan")), ErrorCode::exists, {"vnic up1", "name of a team"});
  Vnic guest = make_host_vnic("eth2", "lan");
  guest.kind = VnicKind::guest;
  guest.mac = MacAddr::from_uint64(0x020000000077);
  EXPECT_TRUE(add_vnic(host, guest)) << "a guest's vnic is no interface";
}

TEST(Team, with_a_long_name_can_carry_a_switch) {
  const std::string name(63, 'x');
  const Host host = *add_team({}, make_team(name, {"eth1"}));
  EXPECT_TRUE(add_switch(host, make_external("lan", name)));
}

TEST(Team, cannot_be_shared_with_the_host) {
  const auto shared = share_nic(example(), make_host_vnic("host0", "lan"));
  expect_refused(shared, ErrorCode::invalid,
                 {"switch lan", "up1 is a team", "patchbay vnic create host0 --switch lan --host", "by hand"});
}

TEST(Team, is_changed_by_the_same_rules_and_removed_when_it_carries_nothing) {
  const Host host = example();
  Team changed = make_team("up1", {"eth2", "eth4"});
  changed.mode = TeamMode::static_;
  changed.balance = TeamBalance::vnic_port;
  EXPECT_EQ(set_team(host, changed)->teams.at("up1"), changed);
  changed.nics = {"eth3"};
  expect_refused(set_team(host, changed), ErrorCode::exists, {"eth3", "switch sw3"});
  expect_refused(set_team(host, make_team("up9", {"eth9"})), ErrorCode::not_found, {"up9", "team list"});
  expect_refused(remove_team(host, "up1"), ErrorCode::in_use, {"team up1", "switch lan", "patchbay switch delete lan"});
  expect_refused(remove_team(host, "up9"), ErrorCode::not_found, {"up9"});
  EXPECT_TRUE(remove_team(*remove_switch(host, "lan"), "up1")->teams.empty());
}

TEST(Team, made_at_once_with_the_whole_host_is_the_same_and_keeps_the_rules) {
  const Host host = example();
  std::vector<Switch> switches;
  for (const auto& [name, on] : host.switches) switches.push_back(on);
  const std::vector<Vnic> vnics{host.vnics.at("mgmt")};
  std::vector<Team> teams{host.teams.at("up1")};
  EXPECT_EQ(*make_host(switches, vnics, teams), host);
  teams.push_back(make_team("up2", {"eth2"}));
  const auto twice = make_host(switches, vnics, teams);
  ASSERT_FALSE(twice);
  EXPECT_EQ(std::string(twice.error().noun) + " " + twice.error().name, "team up2");
  teams.back().nics = {"eth3"};
  const auto uplink = make_host(switches, vnics, teams);
  ASSERT_FALSE(uplink);
  EXPECT_EQ(std::string(uplink.error().noun) + " " + uplink.error().name, "switch sw3");
}

TEST(Team, of_a_switch_says_its_nics) {
  const Host host = example();
  EXPECT_EQ(nics_of(host, host.switches.at("lan")), (std::vector<std::string>{"eth1", "eth2"}));
  EXPECT_EQ(nics_of(host, host.switches.at("sw3")), (std::vector<std::string>{"eth3"}));
  EXPECT_TRUE(nics_of(host, Switch{}).empty());
  EXPECT_EQ(team_of(host, "eth2")->name, "up1");
  EXPECT_EQ(team_of(host, "eth3"), nullptr);
  EXPECT_EQ(switch_on(host, "up1")->name, "lan");
  EXPECT_EQ(switch_on(host, ""), nullptr);
  EXPECT_EQ(switch_above(host, "eth2")->name, "lan");
  EXPECT_EQ(switch_above(host, "eth3")->name, "sw3");
  EXPECT_EQ(switch_above(host, "eth9"), nullptr);
}

}  // namespace
}  // namespace patchbay::model
