// Receive queues in HostService: when vnics get them and give them back, and what is shown.
#include <gtest/gtest.h>

#include <algorithm>

#include "control/reconcile/host_service.h"
#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

class HostServiceVmqTest : public HostServiceTest {
 protected:
  HostServiceVmqTest() {
    dataplane.ability = {dataplane::QueueSorting::kernel, 2, false, false, "the kernel sorts"};
    nics.put("eth2").mac = MacAddr::from_uint64(0x0200000000e2);
  }
  // lan on eth1 with the guests of these names, all with MACs 02:00:00:00:00:0N.
  void fill_with(const std::vector<std::string>& vnics, const std::string& uplink = "eth1") {
    ASSERT_TRUE(create_switch("lan", model::SwitchType::external, uplink));
    for (const std::string& name : vnics) create(name);
    dataplane.calls.clear();
  }
  void create(const std::string& name) {
    VnicSpec spec;
    spec.name = name;
    spec.switch_name = "lan";
    spec.mac = MacAddr::from_uint64(0x020000000000 + ++last_mac_);
    ASSERT_TRUE(service->create_vnic(spec));
  }
  Result<void> set_weight(const std::string& vnic, std::uint32_t weight) {
    VnicChange change;
    change.vmq_weight = weight;
    return service->set_vnic(vnic, change);
  }
  // "eth1#1 vm1": those of vnics.
  Lines shown(const std::string& uplink = "") {
    Lines lines;
    const auto view = service->show_vmq(uplink);
    if (!view) return {view.error().message};
    for (const auto& queue : view->queues) {
      if (queue.queue != 0) lines.push_back(fmt::format("{}#{} {}", queue.nic, queue.queue, queue.vnic));
    }
    for (const auto& vnic : view->without_queue) lines.push_back(vnic.vnic + ": " + vnic.reason);
    return lines;
  }
  void expect_no_defect() {
    for (const auto& call : dataplane.calls) EXPECT_EQ(call.find("DEFECT"), std::string::npos) << call;
  }

  std::uint64_t last_mac_ = 0;
};

TEST_F(HostServiceVmqTest, a_vnic_has_its_queue_as_soon_as_it_is_in_the_layout) {
  start();
  fill_with({});
  create("vm1");
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_guest vm1", "publish [eth1 1500: vm1/-]", "open_queue eth1#1",
                                           "filter eth1#1 02:00:00:00:00:01/0", "publish [eth1 1500: vm1/-+eth1#1]"}));
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "a second time nothing";
  ASSERT_TRUE(service->delete_vnic("vm1"));
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"no_filter eth1#1", "publish [eth1 1500:]", "close eth1#1", "close vm1 remove"}));
}

TEST_F(HostServiceVmqTest, out_of_queues_nothing_fails_and_the_next_one_gets_what_is_given_back) {
  start();
  fill_with({"vm1", "vm2", "vm3"});
  EXPECT_EQ(shown(),
            (Lines{"eth1#1 vm1", "eth1#2 vm2", "vm3: all 2 queues of eth1 are taken (first come, first served)"}));
  ASSERT_TRUE(set_weight("vm1", 0));
  EXPECT_EQ(shown(), (Lines{"eth1#1 vm3", "eth1#2 vm2", "vm1: vmq_weight is 0"}));
  expect_no_defect();
  const auto vmq = service->show_vnic("vm1")->vmq;
  ASSERT_TRUE(vmq);
  EXPECT_EQ(vmq->reason, "vmq_weight is 0");
  EXPECT_EQ(service->show_vnic("vm3")->vmq->queues.at(0).queue, 1U);
  expect_error(set_weight("vm1", 101), ErrorCode::invalid, {"vnic vm1", "vmq_weight 101", "0 (never a queue) to 100"});
  stop();
  start();
  EXPECT_EQ(shown().back(), "vm1: vmq_weight is 0") << "it is stored";
}

TEST_F(HostServiceVmqTest, vlan_mac_and_driver_changes_give_queues_back_before_they_come_into_force) {
  start();
  fill_with({"vm1"});
  VnicChange change;
  change.vlan = model::Access{*VlanId::from(101)};
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"no_filter eth1#1", "publish [eth1 1500: vm1/101]", "close eth1#1", "open_queue eth1#2",
                   "filter eth1#2 02:00:00:00:00:01/101", "publish [eth1 1500: vm1/101+eth1#2]"}));
  change = {};
  change.mac = MacAddr::from_uint64(0x020000000077);
  ASSERT_TRUE(service->set_vnic("vm1", change));
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"no_filter eth1#2", "publish [eth1 1500: vm1/101]", "close eth1#2", "open_queue eth1#3",
                   "filter eth1#3 02:00:00:00:00:77/101", "publish [eth1 1500: vm1/101+eth1#3]"}));
  const model::Nic eth1 = nics.current.at("eth1");
  nics.current.erase("eth1");
  nics.tell();
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"no_filter eth1#3", "publish [- 1500: vm1/101]", "close eth1#3", "close eth1"}));
  nics.current["eth1"] = eth1;
  nics.tell();
  EXPECT_EQ(shown(), Lines{"eth1#1 vm1"});
  expect_no_defect();
  ASSERT_TRUE(service->delete_vnic("vm1"));
  ASSERT_TRUE(service->delete_switch("lan"));
  EXPECT_EQ(dataplane.ports_open(), 0U);
}

TEST_F(HostServiceVmqTest, teams_by_vnic_have_the_sum_of_queues_and_others_the_least) {
  start();
  model::Team team;
  team.name = "up1";
  team.nics = {"eth1", "eth2"};
  ASSERT_TRUE(service->create_team(team));
  fill_with({"vm1", "vm2", "vm3", "vm4", "vm5", "vm6", "vm7", "vm8"}, "up1");
  const auto by_vnic = service->show_vmq("up1");
  EXPECT_EQ(by_vnic->nics.at(0).queue_model, "sum-of-queues");
  EXPECT_EQ(by_vnic->nics.at(0).queues_used + by_vnic->nics.at(1).queues_used, 4U);
  EXPECT_EQ(by_vnic->without_queue.size(), 4U);
  TeamChange change;
  change.balance = model::TeamBalance::address_hash;
  ASSERT_TRUE(service->set_team("up1", change));
  turn();
  const auto by_flow = service->show_vmq("eth2");
  EXPECT_EQ(by_flow->nics.at(0).queue_model, "min-queues");
  EXPECT_EQ(by_flow->without_queue.size(), 6U);
  for (const auto& queue : by_flow->queues) {
    if (queue.queue != 0) {
      EXPECT_EQ(service->show_vnic(queue.vnic)->vmq->queues.size(), 2U);
    }
  }
  change = {};
  change.nics = std::vector<std::string>{"eth1"};
  ASSERT_TRUE(service->set_team("up1", change));
  turn();
  EXPECT_EQ(service->show_vmq("")->queues.size(), 3U);
  expect_no_defect();
  ASSERT_TRUE(service->set_team("up1", {.nics = std::vector<std::string>{"eth1", "eth2"}}));
  turn();
  EXPECT_EQ(service->show_vmq("")->queues.size(), 6U) << "both have two queues again, and the default one";
  expect_no_defect();
}

TEST_F(HostServiceVmqTest, queues_follow_their_vnics_home_when_a_member_loses_its_link) {
  start();
  model::Team team;
  team.name = "up1";
  team.nics = {"eth1", "eth2"};
  ASSERT_TRUE(service->create_team(team));
  fill_with({"vm1", "vm2", "vm3", "vm4"}, "up1");
  nics.current.at("eth2").carrier = false;
  nics.tell();
  turn();
  const auto moved = *service->show_vmq("");
  for (const auto& queue : moved.queues) {
    if (queue.queue != 0) {
      EXPECT_EQ(queue.nic, "eth1") << queue.vnic;
    }
  }
  EXPECT_EQ(service->show_vmq("eth1")->nics.at(0).queues_used, 2U);
  expect_no_defect();
}

TEST_F(HostServiceVmqTest, lists_the_default_queue_and_only_uplinks_that_carry_a_switch) {
  start();
  fill_with({"vm1"});
  ASSERT_TRUE(create_switch("inner", model::SwitchType::internal));
  ASSERT_TRUE(create_vnic("vm9", "inner"));
  EXPECT_FALSE(service->show_vnic("vm9")->vmq);
  dataplane.more_frames["eth1"] = 500;
  dataplane.more_frames["eth1#1"] = 400;
  const auto view = *service->show_vmq("eth1");
  ASSERT_EQ(view.nics.size(), 1U);
  EXPECT_EQ(view.nics[0].sorting, "kernel");
  EXPECT_EQ(view.nics[0].sorting_reason, "the kernel sorts");
  EXPECT_EQ(view.nics[0].queues_max, 2U);
  ASSERT_EQ(view.queues.size(), 2U);
  EXPECT_EQ(view.queues[0].queue, 0U);
  EXPECT_FALSE(view.queues[0].mac);
  EXPECT_LT(view.queues[0].traffic.frames, 150U) << "without those of the queue";
  EXPECT_EQ(view.queues[1].mac->to_string(), "02:00:00:00:00:01");
  EXPECT_EQ(view.queues[1].vlan, 0U);
  EXPECT_EQ(view.queues[1].state, "running");
  EXPECT_EQ(view.queues[1].worker, 0U);
  EXPECT_EQ(
      shown("eth2"),
      Lines{
          "eth2 is no uplink, and no team that is one: it carries no switch; `patchbay vmq list` shows those that do"});
}

}  // namespace
}  // namespace patchbay::reconcile
