// MAC spoofing and learning, through the worker and fake ports.
#include <gtest/gtest.h>

#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;
using test::SwitchBench;
using test::tag;

constexpr const char* outside = "02:aa:00:00:00:01";
constexpr const char* inner = "02:cc:00:00:00:01";  // behind a spoofing vnic
constexpr const char* inner2 = "02:cc:00:00:00:02";
constexpr const char* cluster = "02:bf:0a:00:00:64";  // shared by two guests that send from masked addresses
constexpr const char* vm1 = "02:00:00:00:00:01";      // pinned, VLAN 101
constexpr const char* vm2 = "02:00:00:00:00:02";      // spoofing, VLAN 101
constexpr const char* vm3 = "02:00:00:00:00:03";      // spoofing, VLAN 101
constexpr const char* vm4 = "02:00:00:00:00:04";      // pinned, VLAN 102

SwitchBench::Vnic spoofing(std::uint16_t vid = 101, std::uint32_t limit = 100) {
  SwitchBench::Vnic vnic;
  vnic.vid = vid;
  vnic.mac_spoofing = true;
  vnic.mac_limit = limit;
  return vnic;
}

class Spoofing : public testing::Test {
 protected:
  // Who got the one frame that `from` sends, as port numbers.
  std::vector<std::size_t> sends(std::size_t from, const std::string& frame) {
    for (const auto& fake : bench.fakes) fake->forget_sent();
    bench.fakes[from]->arrive(frame);
    bench.worker->poll_once();
    std::vector<std::size_t> got;
    for (std::size_t port = 0; port < bench.fakes.size(); ++port) {
      if (!bench.fakes[port]->sent().empty()) got.push_back(port);
    }
    EXPECT_EQ(bench.imbalance(), 0);
    return got;
  }
  std::uint64_t drops(std::size_t port, DropReason reason) {
    return bench.port(port).counters().drops[static_cast<std::size_t>(reason)];
  }
  using Ports = std::vector<std::size_t>;

  SwitchBench bench{{{101}, spoofing(), spoofing(), {102}}};
};

TEST_F(Spoofing, unknown_addresses_are_for_spoofing_vnics_and_the_wire_only) {
  EXPECT_EQ(sends(1, ethernet(outside, vm1)), (Ports{0, 2, 3}));
  EXPECT_EQ(sends(2, ethernet(outside, vm2)), (Ports{0, 3})) << "never back where it came from";
  EXPECT_EQ(sends(4, ethernet(outside, vm4)), (Ports{0})) << "nobody of VLAN 102 spoofs";
  EXPECT_EQ(sends(0, ethernet(inner, outside, tag(101))), (Ports{2, 3}));
  EXPECT_EQ(sends(0, ethernet(inner, outside, tag(102))), (Ports{}));
  EXPECT_EQ(drops(0, DropReason::no_destination), 1U);
}

TEST_F(Spoofing, an_address_is_learned_where_it_is_heard_and_moves) {
  EXPECT_EQ(sends(2, ethernet(vm1, inner)), (Ports{1}));
  EXPECT_EQ(sends(1, ethernet(inner, vm1)), (Ports{2}));
  EXPECT_EQ(sends(0, ethernet(inner, outside, tag(101))), (Ports{2}));
  EXPECT_EQ(sends(4, ethernet(inner, vm4)), (Ports{0})) << "another VLAN knows nothing of it";
  EXPECT_EQ(bench.learner(2)->count(), 1U);
  EXPECT_EQ(sends(3, ethernet(vm1, inner)), (Ports{1}));
  EXPECT_EQ(sends(1, ethernet(inner, vm1)), (Ports{3}));
  EXPECT_EQ(bench.learner(2)->count(), 0U);
  EXPECT_EQ(bench.learner(3)->count(), 1U);
  EXPECT_EQ(sends(3, ethernet(inner, vm3)), (Ports{})) << "to itself";
  EXPECT_EQ(drops(3, DropReason::same_port), 1U);
}

TEST_F(Spoofing, the_wire_is_learned_so_that_spoofing_vnics_do_not_see_its_traffic) {
  EXPECT_EQ(sends(0, ethernet(vm1, outside, tag(101))), (Ports{1}));
  EXPECT_EQ(sends(1, ethernet(outside, vm1)), (Ports{0}));
}

TEST_F(Spoofing, pinned_addresses_are_nobody_elses) {
  EXPECT_EQ(sends(2, ethernet(outside, vm1)), (Ports{}));
  EXPECT_EQ(sends(2, ethernet(outside, vm4)), (Ports{})) << "not of another VLAN either";
  EXPECT_EQ(sends(2, ethernet(outside, vm3)), (Ports{})) << "nor of a spoofing vnic";
  EXPECT_EQ(drops(2, DropReason::source_mac), 3U);
  EXPECT_EQ(bench.port(2).counters().refused_source, MacAddr::parse(vm3));
  EXPECT_EQ(bench.learner(2)->count(), 0U);
  EXPECT_EQ(sends(4, ethernet(vm1, vm4)), (Ports{0})) << "the table is as it was";
  EXPECT_EQ(sends(0, ethernet(vm1, outside, tag(101))), (Ports{1}));
  EXPECT_EQ(sends(1, ethernet(outside, inner)), (Ports{})) << "without spoofing, only its own";
  EXPECT_EQ(bench.port(1).counters().refused_source, MacAddr::parse(inner));
}

TEST_F(Spoofing, two_cluster_guests_that_mask_their_address_both_get_what_is_for_the_cluster) {
  constexpr const char* masked1 = "02:01:0a:00:00:64";
  constexpr const char* masked2 = "02:02:0a:00:00:64";
  EXPECT_EQ(sends(2, ethernet(outside, masked1)), (Ports{0, 3}));
  EXPECT_EQ(sends(3, ethernet(outside, masked2)), (Ports{0, 2}));
  EXPECT_EQ(sends(0, ethernet(cluster, outside, tag(101))), (Ports{2, 3}));
  EXPECT_EQ(sends(1, ethernet(cluster, vm1)), (Ports{0, 2, 3}));
  EXPECT_EQ(sends(0, ethernet(masked1, outside, tag(101))), (Ports{2}));
}

TEST_F(Spoofing, what_was_learned_is_void_when_spoofing_ends_or_the_mode_changes) {
  EXPECT_EQ(sends(2, ethernet(vm1, inner)), (Ports{1}));
  bench.change(2, {101});
  EXPECT_EQ(sends(1, ethernet(inner, vm1)), (Ports{0, 3}));
  EXPECT_EQ(sends(2, ethernet(vm1, inner)), (Ports{}));
  EXPECT_EQ(sends(3, ethernet(vm1, inner2)), (Ports{1}));
  bench.change(3, spoofing(102));
  EXPECT_EQ(sends(1, ethernet(inner2, vm1)), (Ports{0}));
  bench.change(3, spoofing(101));
  EXPECT_EQ(sends(1, ethernet(inner2, vm1)), (Ports{0, 3}));
}

TEST_F(Spoofing, a_vnic_at_its_limit_learns_no_more_and_takes_nothing_from_others) {
  bench.change(2, spoofing(101, 2));
  EXPECT_EQ(sends(3, ethernet(vm1, "02:dd:00:00:00:01")), (Ports{1}));
  for (int i = 1; i <= 50; ++i) {
    const auto mac = MacAddr::from_uint64(0x02CC00000000U + static_cast<unsigned>(i)).to_string();
    EXPECT_EQ(sends(2, ethernet(vm1, mac.c_str())), (Ports{1})) << "it still sends";
  }
  EXPECT_EQ(bench.learner(2)->count(), 2U);
  EXPECT_EQ(bench.learner(2)->refused(), 48U);
  EXPECT_EQ(sends(1, ethernet("02:cc:00:00:00:02", vm1)), (Ports{2}));
  EXPECT_EQ(sends(1, ethernet("02:cc:00:00:00:03", vm1)), (Ports{0, 2, 3})) << "as an unknown one";
  EXPECT_EQ(sends(1, ethernet("02:dd:00:00:00:01", vm1)), (Ports{3}));
}

TEST(SpoofingWithPrivateVlans, replies_find_addresses_learned_in_the_secondary) {
  const auto vid = [](std::uint16_t raw) { return *VlanId::from(raw); };
  SwitchBench::Vnic isolated = spoofing();
  isolated.vlan = model::Isolated{vid(100), vid(101)};
  SwitchBench::Vnic promiscuous;
  promiscuous.vlan = model::Promiscuous{vid(100), *VlanSet::parse("101")};
  SwitchBench bench(std::vector<SwitchBench::Vnic>{isolated, promiscuous});
  bench.fakes[1]->arrive(ethernet("02:00:00:00:00:02", inner));  // in VLAN 101
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  bench.fakes[2]->arrive(ethernet(inner, "02:00:00:00:00:02"));  // in VLAN 100
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[1]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[0]->sent().size(), 0U) << "it was known: the wire is not asked";
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(SpoofingWithPrivateVlans, the_wire_has_nobodys_address_in_the_vlans_that_are_his) {
  const auto vid = [](std::uint16_t raw) { return *VlanId::from(raw); };
  SwitchBench::Vnic isolated;
  isolated.vlan = model::Isolated{vid(100), vid(101)};
  SwitchBench::Vnic promiscuous = spoofing();
  promiscuous.vlan = model::Promiscuous{vid(100), *VlanSet::parse("101,102")};
  SwitchBench::Vnic trunk;
  trunk.vlan = model::Trunk{*VlanSet::parse("20"), {}, std::optional(vid(102))};
  SwitchBench::Vnic access;
  access.vlan = model::Access{vid(101)};
  struct Case {
    std::size_t source;  // the vnic whose address it is
    std::uint16_t vid;
    bool passes;
  };
  for (const Case& c : {Case{1, 100, false}, Case{1, 101, false}, Case{1, 20, true}, Case{2, 102, false},
                        Case{3, 102, false}, Case{3, 20, false}, Case{3, 100, true}, Case{3, 101, true},
                        Case{4, 101, false}, Case{4, 100, true}, Case{4, 102, true}}) {
    SCOPED_TRACE("the address of vnic " + std::to_string(c.source) + " in VLAN " + std::to_string(c.vid));
    SwitchBench bench(std::vector<SwitchBench::Vnic>{isolated, promiscuous, trunk, access});
    bench.fakes[0]->arrive(ethernet("ff:ff:ff:ff:ff:ff", SwitchBench::mac(c.source).c_str(), tag(c.vid)));
    bench.worker->poll_once();
    const auto drops = bench.port(0).counters().drops[static_cast<std::size_t>(DropReason::source_mac)];
    EXPECT_EQ(drops, c.passes ? 0U : 1U);
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST_F(Spoofing, what_a_team_sent_and_gets_back_is_reflected) {
  bench.set_reflects(true);
  sends(2,
        ethernet(outside, inner));  // is learned behind the vnic, and flooded outside, for nobody knows the destination
  EXPECT_EQ(sends(0, ethernet(outside, inner, tag(101))), (Ports{}));
  EXPECT_EQ(drops(0, DropReason::reflected), 1U);
  EXPECT_EQ(sends(0, ethernet(inner, outside, tag(101))), (Ports{2})) << "it did not move to the wire";
  EXPECT_EQ(sends(0, ethernet(vm1, inner, tag(101))), (Ports{1})) << "for one of us: its station moved, and is heard";
  EXPECT_EQ(sends(1, ethernet(inner, vm1)), (Ports{0}));
  EXPECT_EQ(sends(0, ethernet(vm3, vm1, tag(101))), (Ports{})) << "a vnic's own address is nowhere else";
  EXPECT_EQ(drops(0, DropReason::reflected), 2U);
  bench.set_reflects(false);
  EXPECT_EQ(sends(0, ethernet(vm3, vm1, tag(101))), (Ports{}));
  EXPECT_EQ(drops(0, DropReason::source_mac), 1U);
}

}  // namespace
}  // namespace patchbay::dataplane
