#include "control/reconcile/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/support/after_steps.h"

namespace patchbay::reconcile {
namespace {

using test::after;

// sw1 on eth1 with guests vm1 (VLAN 101) and vm2 and the host vnic mgmt; pr1 with the guest vm3, which connects.
model::Host example_host() {
  using model::VnicKind;
  model::Host host;
  host.switches["pr1"] = {"pr1", model::SwitchType::private_, "", std::nullopt, 9000};
  host.switches["sw1"] = {"sw1", model::SwitchType::external, "eth1", std::nullopt, 1500};
  const auto add = [&host](const char* name, const char* on, VnicKind kind, unsigned mac, const char* connect) {
    host.vnics[name] = {
        name,   on, kind, MacAddr::from_uint64(0x020000000000 + mac), model::MacOrigin::static_, model::Untagged{},
        connect};
  };
  add("mgmt", "sw1", VnicKind::host, 9, "");
  add("vm1", "sw1", VnicKind::guest, 1, "");
  add("vm2", "sw1", VnicKind::guest, 2, "");
  add("vm3", "pr1", VnicKind::guest, 3, "/q/vm3");
  host.vnics["vm1"].vlan = model::Access{*VlanId::from(101)};
  return host;
}

std::map<std::string, model::Nic> example_nics() {
  return {{"eth1", {"eth1", 7, {}, 1500, true, true, "", std::nullopt, true, std::nullopt}}};
}

Actual example_actual() {
  return after({}, compute_steps(want(example_host(), example_nics(), "/r"), {}));
}

std::vector<std::string> described(const std::vector<Step>& steps) {
  std::vector<std::string> lines;
  for (const Step& step : steps) lines.push_back(describe(step));
  return lines;
}

using Lines = std::vector<std::string>;

TEST(Plan, opens_ports_then_publishes_then_lets_guests_in) {
  const auto steps = compute_steps(want(example_host(), example_nics(), "/r"), {});
  EXPECT_EQ(described(steps), (Lines{"open uplink eth1", "carrier of uplink eth1 is up", "open guest port vm1",
                                     "open guest port vm2", "open guest port vm3", "open host port mgmt",
                                     "publish 2 switches", "open endpoint vm1 on /r/vhost/vm1.sock",
                                     "open endpoint vm2 on /r/vhost/vm2.sock", "open endpoint vm3 on /q/vm3"}));
  const auto& layout = std::get<Publish>(steps[6]).layout;
  ASSERT_EQ(layout.size(), 2U);
  EXPECT_EQ(layout[0].nic, "");
  EXPECT_EQ(layout[0].mtu, 9000);
  EXPECT_EQ(layout[1].nic, "eth1");
  ASSERT_EQ(layout[1].vnics.size(), 3U);
  EXPECT_EQ(layout[1].vnics[1],
            (PlannedVnic{"vm1", MacAddr::from_uint64(0x020000000001), model::Access{*VlanId::from(101)}}));
  EXPECT_EQ(layout[1].vnics[2].vlan, model::VlanMode(model::Untagged{}));
}

struct Case {
  const char* name;
  std::function<void(model::Host&, std::map<std::string, model::Nic>&)> change;
  Lines steps;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table{
      {"nothing", [](auto&, auto&) {}, {}},
      {"the VLAN of a vnic",
       [](auto& host, auto&) { host.vnics.at("vm1").vlan = model::Access{*VlanId::from(102)}; },
       {"publish 2 switches"}},
      {"the MAC of a guest",
       [](auto& host, auto&) { host.vnics.at("vm1").mac = MacAddr::from_uint64(0x020000000077); },
       {"publish 2 switches"}},
      {"the MAC of a host vnic",
       [](auto& host, auto&) { host.vnics.at("mgmt").mac = MacAddr::from_uint64(0x020000000077); },
       {"publish 2 switches", "close host port mgmt", "open host port mgmt", "publish 2 switches"}},
      {"the forced VLAN of a switch",
       [](auto& host, auto&) { host.switches.at("sw1").force_vlan = VlanId::from(101); },
       {"publish 2 switches"}},
      {"the same forced VLAN that all vnics have",
       [](auto& host, auto&) { host.switches.at("pr1").force_vlan = std::nullopt; },
       {}},
      {"the mtu of a switch",
       [](auto& host, auto&) { host.switches.at("sw1").mtu = 1400; },
       {"set mtu of host port mgmt to 1400", "publish 2 switches"}},
      {"one guest less",
       [](auto& host, auto&) { host.vnics.erase("vm2"); },
       {"publish 2 switches", "close endpoint vm2", "close guest port vm2"}},
      {"one host vnic less",
       [](auto& host, auto&) { host.vnics.erase("mgmt"); },
       {"publish 2 switches", "close host port mgmt and remove its interface"}},
      {"one switch with its only vnic less",
       [](auto& host, auto&) {
         host.vnics.erase("vm3");
         host.switches.erase("pr1");
       },
       {"publish 1 switches", "close endpoint vm3", "close guest port vm3"}},
      {"one guest more",
       [](auto& host, auto&) {
         host.vnics["vm4"] = host.vnics.at("vm2");
         host.vnics["vm4"].name = "vm4";
       },
       {"open guest port vm4", "publish 2 switches", "open endpoint vm4 on /r/vhost/vm4.sock"}},
      {"a switch that nobody is on",
       [](auto& host, auto&) {
         host.switches["in1"] = {"in1", model::SwitchType::internal, "", std::nullopt, 1500};
       },
       {}},
      {"a guest in place of a host vnic",
       [](auto& host, auto&) { host.vnics.at("mgmt").kind = model::VnicKind::guest; },
       {"publish 2 switches", "close host port mgmt and remove its interface", "open guest port mgmt",
        "publish 2 switches", "open endpoint mgmt on /r/vhost/mgmt.sock"}},
      {"the socket that a vnic connects to",
       [](auto& host, auto&) { host.vnics.at("vm3").connect = "/q/new"; },
       {"close endpoint vm3", "open endpoint vm3 on /q/new"}},
      {"carrier", [](auto&, auto& nics) { nics.at("eth1").carrier = false; }, {"carrier of uplink eth1 is down"}},
      {"a NIC that went", [](auto&, auto& nics) { nics.clear(); }, {"publish 2 switches", "close uplink eth1"}},
      {"another NIC of the same name",
       [](auto&, auto& nics) { nics.at("eth1").index = 8; },
       {"publish 2 switches", "close uplink eth1", "open uplink eth1", "carrier of uplink eth1 is up",
        "publish 2 switches"}},
      {"a NIC that the host shares by a vnic",
       [](auto& host, auto&) { host.switches.at("sw1").share_with_host = "mgmt"; },
       {"share nic eth1 by mgmt"}},
      {"a NIC that nobody uses",
       [](auto&, auto& nics) {
         nics["eth2"] = {"eth2", 9, {}, 1500, true, true, "", std::nullopt, true, std::nullopt};
       },
       {}},
  };
  return table;
}

TEST(Plan, changing_one_thing_touches_one_thing_and_a_second_time_nothing) {
  for (const Case& c : cases()) {
    model::Host host = example_host();
    auto nics = example_nics();
    c.change(host, nics);
    const Wanted wanted = want(host, nics, "/r");
    const auto steps = compute_steps(wanted, example_actual());
    EXPECT_EQ(described(steps), c.steps) << c.name;
    EXPECT_EQ(described(compute_steps(wanted, after(example_actual(), steps))), Lines{}) << c.name;
  }
}

TEST(Plan, leaves_what_failed_alone_and_out_of_the_layout) {
  Actual actual;
  const Error error{ErrorCode::unavailable, "why"};
  actual.failed[{ObjectKind::uplink, "eth1"}] = error;
  actual.failed[{ObjectKind::guest, "vm1"}] = error;
  actual.failed[{ObjectKind::host_port, "mgmt"}] = error;
  const Wanted wanted = want(example_host(), example_nics(), "/r");
  const auto steps = compute_steps(wanted, actual);
  EXPECT_EQ(described(steps), (Lines{"open guest port vm2", "open guest port vm3", "publish 2 switches",
                                     "open endpoint vm2 on /r/vhost/vm2.sock", "open endpoint vm3 on /q/vm3"}));
  const auto& on = std::get<Publish>(steps[2]).layout[1];
  EXPECT_EQ(on.nic, "");
  EXPECT_EQ(on.vnics.size(), 1U);
  EXPECT_EQ(described(compute_steps(wanted, after(actual, steps))), Lines{});
}

TEST(Plan, closes_ports_whose_device_is_gone_and_opens_them_when_told) {
  Actual actual = example_actual();
  actual.failed[{ObjectKind::uplink, "eth1"}] = {ErrorCode::unavailable, "gone"};
  actual.failed[{ObjectKind::host_port, "mgmt"}] = {ErrorCode::unavailable, "gone"};
  const Wanted wanted = want(example_host(), example_nics(), "/r");
  const auto steps = compute_steps(wanted, actual);
  EXPECT_EQ(described(steps), (Lines{"publish 2 switches", "close host port mgmt", "close uplink eth1"}));
  actual = after(actual, steps);
  actual.failed.clear();
  EXPECT_EQ(described(compute_steps(wanted, actual)),
            (Lines{"open uplink eth1", "carrier of uplink eth1 is up", "open host port mgmt", "publish 2 switches"}));
}

TEST(Plan, closes_everything_when_nothing_is_wanted) {
  const auto steps = compute_steps({}, example_actual());
  EXPECT_EQ(described(steps).front(), "publish 0 switches");
  const Actual left = after(example_actual(), steps);
  EXPECT_TRUE(left.uplinks.empty() && left.guests.empty() && left.hosts.empty() && left.published.empty());
}

TEST(Plan, shares_a_nic_only_when_nic_and_vnic_are_open_and_again_when_either_is_another) {
  model::Host host = example_host();
  host.switches.at("sw1").share_with_host = "mgmt";
  auto nics = example_nics();
  const Lines last{"share nic eth1 by mgmt"};
  const auto steps_of = [](const std::vector<Step>& steps) { return described(steps); };
  const auto from_nothing = steps_of(compute_steps(want(host, nics, "/r"), {}));
  EXPECT_EQ(from_nothing.back(), last.front()) << "the ports are published before";
  const Actual shared = after({}, compute_steps(want(host, nics, "/r"), {}));
  EXPECT_EQ(steps_of(compute_steps(want(host, nics, "/r"), shared)), Lines{});

  for (const Object& broken :
       {Object{ObjectKind::uplink, "eth1"}, Object{ObjectKind::host_port, "mgmt"}, Object{ObjectKind::share, "mgmt"}}) {
    Actual actual;
    actual.failed[broken] = {ErrorCode::unavailable, "why"};
    const auto steps = steps_of(compute_steps(want(host, nics, "/r"), actual));
    EXPECT_EQ(std::count(steps.begin(), steps.end(), last.front()), 0) << broken.name;
  }
  nics.at("eth1").index = 8;
  EXPECT_EQ(steps_of(compute_steps(want(host, nics, "/r"), shared)).back(), last.front());
  nics.clear();
  const auto gone = steps_of(compute_steps(want(host, nics, "/r"), shared));
  EXPECT_EQ(gone, (Lines{"publish 2 switches", "close uplink eth1"})) << "the addresses stay on the vnic";
}

TEST(Plan, the_limit_of_all_buffers_is_told_once) {
  model::Host host;
  host.settings.buffer_limit_bytes = 1 << 20;
  const Wanted wanted = want(host, {}, "/run/pb");
  Actual actual;
  EXPECT_EQ(compute_steps(wanted, actual), (std::vector<Step>{SetBufferLimit{1 << 20}}));
  actual.failed[{ObjectKind::buffer_limit, ""}] = make_error(ErrorCode::no_resource, "no room");
  EXPECT_TRUE(compute_steps(wanted, actual).empty());
  actual.failed.clear();
  actual.buffer_limit_bytes = 1 << 20;
  EXPECT_TRUE(compute_steps(wanted, actual).empty());
  EXPECT_EQ(compute_steps(want({}, {}, "/run/pb"), actual),
            (std::vector<Step>{SetBufferLimit{model::buffer_limit_default}}));
}

}  // namespace
}  // namespace patchbay::reconcile
