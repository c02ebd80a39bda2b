// Steps about teams: what happens in which order, and what does not happen.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "control/reconcile/plan.h"
#include "tests/support/after_steps.h"

namespace patchbay::reconcile {
namespace {

using Lines = std::vector<std::string>;
using Nics = std::map<std::string, model::Nic>;

model::Nic make_nic(const std::string& name, int index) {
  model::Nic nic{name,        index, MacAddr::from_uint64(0x0200000000e0U + static_cast<unsigned>(index)),
                 1500,        true,  true,
                 "",          10000, true,
                 std::nullopt};
  return nic;
}

// lan with the guest vm1 on the team up1 of eth1 and eth2; wan with the guest vm2 on eth3; eth4 is free.
model::Host example_host() {
  model::Host host;
  host.teams["up1"] = {"up1", {"eth1", "eth2"}};
  host.switches["lan"] = {"lan", model::SwitchType::external, "up1", std::nullopt, 1500};
  host.switches["wan"] = {"wan", model::SwitchType::external, "eth3", std::nullopt, 1500};
  for (const auto& [name, on] : {std::pair("vm1", "lan"), std::pair("vm2", "wan")}) {
    host.vnics[name].name = name;
    host.vnics[name].switch_name = on;
  }
  host.vnics.at("vm1").mac = MacAddr::from_uint64(0x020000000001);
  host.vnics.at("vm2").mac = MacAddr::from_uint64(0x020000000002);
  return host;
}

Nics example_nics() {
  Nics nics;
  for (int i = 1; i <= 4; ++i) nics["eth" + std::to_string(i)] = make_nic("eth" + std::to_string(i), i);
  return nics;
}

Lines described(const std::vector<Step>& steps) {
  Lines lines;
  for (const Step& step : steps) lines.push_back(describe(step));
  return lines;
}

Actual example_actual() {
  return test::after({}, compute_steps(want(example_host(), example_nics(), "/r"), {}));
}

TEST(PlanTeam, opens_the_team_then_its_members_then_puts_them_in_then_publishes) {
  model::Host host = example_host();
  host.switches.erase("wan");
  host.vnics.clear();
  const auto steps = compute_steps(want(host, example_nics(), "/r"), {});
  EXPECT_EQ(described(steps),
            (Lines{"open team up1", "open uplink eth1", "carrier of uplink eth1 is up", "open uplink eth2",
                   "carrier of uplink eth2 is up", "link of eth1 in team up1 is up", "link of eth2 in team up1 is up",
                   "set team up1 to switch-independent, dynamic: eth1, eth2", "publish 1 switches"}));
  const auto& set = std::get<SetTeam>(steps[7]);
  EXPECT_EQ(set.settings, host.teams.at("up1"));
  EXPECT_EQ(set.members, (std::vector<TeamMember>{{"eth1", 1, MacAddr::from_uint64(0x0200000000e1)},
                                                  {"eth2", 2, MacAddr::from_uint64(0x0200000000e2)}}));
  EXPECT_EQ(std::get<SetTeamLink>(steps[5]).link, (team::Link{true, 10000}));
  EXPECT_EQ(std::get<Publish>(steps[8]).layout[0].nic, "up1");
}

TEST(PlanTeam, leaves_the_nics_of_a_team_alone_that_carries_no_switch) {
  model::Host host = example_host();
  host.switches.erase("lan");
  host.vnics.erase("vm1");
  const Wanted wanted = want(host, example_nics(), "/r");
  EXPECT_TRUE(wanted.teams.empty());
  EXPECT_EQ(wanted.uplinks.size(), 1U);
}

struct Case {
  const char* name;
  std::function<void(model::Host&, Nics&)> change;
  Lines steps;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table{
      {"nothing", [](auto&, auto&) {}, {}},
      {"one NIC more",
       [](auto& host, auto&) { host.teams.at("up1").nics.push_back("eth4"); },
       {"open uplink eth4", "carrier of uplink eth4 is up", "link of eth4 in team up1 is up",
        "set team up1 to switch-independent, dynamic: eth1, eth2, eth4"}},
      {"one NIC less",
       [](auto& host, auto&) { host.teams.at("up1").nics = {"eth1"}; },
       {"set team up1 to switch-independent, dynamic: eth1", "close uplink eth2"}},
      {"one NIC in place of another",
       [](auto& host, auto&) {
         host.teams.at("up1").nics = {"eth1", "eth4"};
       },
       {"set team up1 to switch-independent, dynamic: eth1", "close uplink eth2", "open uplink eth4",
        "carrier of uplink eth4 is up", "link of eth4 in team up1 is up",
        "set team up1 to switch-independent, dynamic: eth1, eth4"}},
      {"the order of NICs",
       [](auto& host, auto&) {
         host.teams.at("up1").nics = {"eth2", "eth1"};
       },
       {"set team up1 to switch-independent, dynamic: eth2, eth1"}},
      {"mode and timer",
       [](auto& host, auto&) {
         host.teams.at("up1").mode = model::TeamMode::lacp;
         host.teams.at("up1").lacp_timer = model::LacpTimer::slow;
       },
       {"set team up1 to lacp, dynamic: eth1, eth2"}},
      {"balance",
       [](auto& host, auto&) { host.teams.at("up1").balance = model::TeamBalance::address_hash; },
       {"set team up1 to switch-independent, address-hash: eth1, eth2"}},
      {"standby and delay",
       [](auto& host, auto&) {
         host.teams.at("up1").standby = "eth2";
         host.teams.at("up1").failback_delay_ms = 0;
       },
       {"set team up1 to switch-independent, dynamic: eth1, eth2"}},
      {"carrier that goes: the team moves the frames first",
       [](auto&, auto& nics) { nics.at("eth2").carrier = false; },
       {"link of eth2 in team up1 is down", "carrier of uplink eth2 is down"}},
      {"speed", [](auto&, auto& nics) { nics.at("eth2").speed_mbps = 1000; }, {"link of eth2 in team up1 is up"}},
      {"the MAC of a member",
       [](auto&, auto& nics) { nics.at("eth2").mac = MacAddr::from_uint64(0x020000000099); },
       {"set team up1 to switch-independent, dynamic: eth1, eth2"}},
      {"a member that went",
       [](auto&, auto& nics) { nics.erase("eth2"); },
       {"set team up1 to switch-independent, dynamic: eth1", "close uplink eth2"}},
      {"all members that went: the team stays open",
       [](auto&, auto& nics) {
         nics.erase("eth1");
         nics.erase("eth2");
       },
       {"set team up1 to switch-independent, dynamic: no members", "close uplink eth1", "close uplink eth2"}},
      {"another NIC of the same name",
       [](auto&, auto& nics) { nics.at("eth2").index = 8; },
       {"set team up1 to switch-independent, dynamic: eth1", "close uplink eth2", "open uplink eth2",
        "carrier of uplink eth2 is up", "link of eth2 in team up1 is up",
        "set team up1 to switch-independent, dynamic: eth1, eth2"}},
      {"the switch goes",
       [](auto& host, auto&) {
         host.switches.erase("lan");
         host.vnics.erase("vm1");
       },
       {"publish 1 switches", "set team up1 to switch-independent, dynamic: no members", "close endpoint vm1",
        "close guest port vm1", "close team up1", "close uplink eth1", "close uplink eth2"}},
      {"one member alone is the uplink from now on",
       [](auto& host, auto&) {
         host.teams.clear();
         host.switches.at("lan").uplink = "eth1";
       },
       {"publish 2 switches", "set team up1 to switch-independent, dynamic: no members", "close team up1",
        "close uplink eth2", "publish 2 switches"}},
      {"the uplink is the first of a team from now on",
       [](auto& host, auto&) {
         host.teams["up2"] = {"up2", {"eth3", "eth4"}};
         host.switches.at("wan").uplink = "up2";
       },
       {"publish 2 switches", "open team up2", "open uplink eth4", "carrier of uplink eth4 is up",
        "link of eth3 in team up2 is up", "link of eth4 in team up2 is up",
        "set team up2 to switch-independent, dynamic: eth3, eth4", "publish 2 switches"}},
      {"a member is another switch's uplink from now on",
       [](auto& host, auto&) {
         host.teams.at("up1").nics = {"eth1"};
         host.switches.at("wan").uplink = "eth2";
       },
       {"publish 2 switches", "set team up1 to switch-independent, dynamic: eth1", "close uplink eth3",
        "publish 2 switches"}},
      {"another switch's uplink is a member from now on",
       [](auto& host, auto&) {
         host.teams.at("up1").nics = {"eth1", "eth2", "eth3"};
         host.switches.at("wan").uplink = "eth4";
       },
       {"publish 2 switches", "open uplink eth4", "carrier of uplink eth4 is up", "link of eth3 in team up1 is up",
        "set team up1 to switch-independent, dynamic: eth1, eth2, eth3", "publish 2 switches"}},
      {"a member changes teams",
       [](auto& host, auto&) {
         host.teams.at("up1").nics = {"eth1"};
         host.teams["up2"] = {"up2", {"eth4", "eth2"}};
         host.switches["dmz"] = {"dmz", model::SwitchType::external, "up2", std::nullopt, 1500};
       },
       {"set team up1 to switch-independent, dynamic: eth1", "open team up2", "open uplink eth4",
        "carrier of uplink eth4 is up", "link of eth2 in team up2 is up", "link of eth4 in team up2 is up",
        "set team up2 to switch-independent, dynamic: eth4, eth2", "publish 3 switches"}},
  };
  return table;
}

TEST(PlanTeam, changing_one_thing_touches_one_thing_and_a_second_time_nothing) {
  for (const Case& c : cases()) {
    model::Host host = example_host();
    auto nics = example_nics();
    c.change(host, nics);
    const Wanted wanted = want(host, nics, "/r");
    const auto steps = compute_steps(wanted, example_actual());
    EXPECT_EQ(described(steps), c.steps) << c.name;
    EXPECT_EQ(described(compute_steps(wanted, test::after(example_actual(), steps))), Lines{}) << c.name;
    const auto back = compute_steps(want(example_host(), example_nics(), "/r"), test::after(example_actual(), steps));
    const Actual again = test::after(test::after(example_actual(), steps), back);
    EXPECT_EQ(again.teams.at("up1").members, example_actual().teams.at("up1").members) << c.name;
    EXPECT_EQ(again.published, example_actual().published) << c.name;
  }
}

// No NIC is a member and the uplink of a published switch, or in two teams, after any step; and none is closed meanwhile.
TEST(PlanTeam, never_uses_a_nic_in_two_places_at_any_moment) {
  const auto check = [](const Actual& actual, const std::string& where) {
    std::map<std::string, std::string> user;
    for (const auto& [name, team] : actual.teams) {
      for (const TeamMember& member : team.members) {
        EXPECT_TRUE(user.emplace(member.nic, name).second) << where << ": " << member.nic;
        EXPECT_TRUE(actual.uplinks.contains(member.nic)) << where << ": " << member.nic;
      }
    }
    for (const PlannedSwitch& on : actual.published) {
      if (on.nic.empty()) continue;
      EXPECT_TRUE(user.emplace(on.nic, on.name).second) << where << ": " << on.nic;
      EXPECT_TRUE(actual.uplinks.contains(on.nic) || actual.teams.contains(on.nic)) << where << ": " << on.nic;
    }
  };
  for (const Case& from : cases()) {
    for (const Case& to : cases()) {
      model::Host before = example_host();
      model::Host next = example_host();
      Nics nics_before = example_nics();
      Nics nics_next = example_nics();
      from.change(before, nics_before);
      to.change(next, nics_next);
      Actual actual = test::after(example_actual(), compute_steps(want(before, nics_before, "/r"), example_actual()));
      for (const Step& step : compute_steps(want(next, nics_next, "/r"), actual)) {
        actual = test::after(std::move(actual), {step});
        check(actual, std::string(from.name) + " -> " + to.name + ", " + describe(step));
      }
      EXPECT_TRUE(compute_steps(want(next, nics_next, "/r"), actual).empty()) << from.name << " -> " << to.name;
    }
  }
}

TEST(PlanTeam, does_without_a_member_that_failed_and_takes_it_in_later) {
  Actual actual;
  actual.failed[{ObjectKind::uplink, "eth1"}] = {ErrorCode::unavailable, "why"};
  const Wanted wanted = want(example_host(), example_nics(), "/r");
  const auto steps = compute_steps(wanted, actual);
  const auto lines = described(steps);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "set team up1 to switch-independent, dynamic: eth2"), 1);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "open uplink eth1"), 0);
  actual = test::after(actual, steps);
  EXPECT_EQ(described(compute_steps(wanted, actual)), Lines{});
  actual.failed.clear();
  EXPECT_EQ(described(compute_steps(wanted, actual)),
            (Lines{"open uplink eth1", "carrier of uplink eth1 is up", "link of eth1 in team up1 is up",
                   "set team up1 to switch-independent, dynamic: eth1, eth2"}));
}

TEST(PlanTeam, closes_only_the_member_whose_device_is_gone) {
  Actual actual = example_actual();
  actual.failed[{ObjectKind::uplink, "eth2"}] = {ErrorCode::unavailable, "gone"};
  EXPECT_EQ(described(compute_steps(want(example_host(), example_nics(), "/r"), actual)),
            (Lines{"set team up1 to switch-independent, dynamic: eth1", "close uplink eth2"}));
}

TEST(PlanTeam, opens_members_by_the_driver_of_the_switch_and_anew_when_that_changes) {
  model::Host host = example_host();
  Nics nics = example_nics();
  for (const char* name : {"eth1", "eth2"}) {
    nics.at(name).driver = "igb";
    nics.at(name).queues = 2;
  }
  const Actual actual = test::after({}, compute_steps(want(host, nics, "/r"), {}));
  EXPECT_EQ(actual.uplinks.at("eth1").choice.attempts.front().plan.driver, model::UplinkDriver::xdp);
  host.switches.at("lan").driver = model::UplinkDriver::packet;
  const auto steps = compute_steps(want(host, nics, "/r"), actual);
  EXPECT_EQ(described(steps).front(), "set team up1 to switch-independent, dynamic: no members");
  EXPECT_EQ(test::after(actual, steps).uplinks.at("eth2").choice.attempts.front().plan.driver,
            model::UplinkDriver::packet);
}

TEST(PlanTeam, takes_a_device_of_dpdk_in_without_mac_and_link_which_the_device_knows) {
  model::Host host = example_host();
  host.teams.at("up1").nics = {"0000:01:00.0", "eth1"};
  Nics nics = example_nics();
  model::Nic& device = nics["0000:01:00.0"];
  device.name = "0000:01:00.0";
  device.driver = model::dpdk_driver;
  const Wanted wanted = want(host, nics, "/r");
  EXPECT_EQ(wanted.teams.at("up1").macs.at("0000:01:00.0"), MacAddr());
  EXPECT_FALSE(wanted.teams.at("up1").links.contains("0000:01:00.0"));
  const Actual actual = test::after({}, compute_steps(wanted, {}));
  EXPECT_EQ(actual.teams.at("up1").members.size(), 2U);
  device.driver = "igb";  // bound to the kernel's: it is not opened
  EXPECT_EQ(described(compute_steps(want(host, nics, "/r"), actual)),
            (Lines{"set team up1 to switch-independent, dynamic: eth1", "close uplink 0000:01:00.0"}));
}

TEST(PlanTeam, closes_everything_when_nothing_is_wanted) {
  const Actual left = test::after(example_actual(), compute_steps({}, example_actual()));
  EXPECT_TRUE(left.teams.empty() && left.uplinks.empty() && left.published.empty());
}

}  // namespace
}  // namespace patchbay::reconcile
