#include "control/vmq/assignment.h"

#include <gtest/gtest.h>

namespace patchbay::vmq {
namespace {

using dataplane::QueueAbility;
using dataplane::QueueFilter;
using dataplane::QueueSorting;

MacAddr mac(std::uint64_t number) {
  return MacAddr::from_uint64(0x020000000000 + number);
}
VlanId vid(std::uint16_t raw) {
  return *VlanId::from(raw);
}
VlanSet ids(const char* text) {
  return *VlanSet::parse(text);
}
QueueAbility able(std::uint16_t queues) {
  return {QueueSorting::kernel, queues, false, false, ""};
}
Candidate candidate(const std::string& vnic, std::uint64_t number, std::uint32_t weight = 100,
                    model::VlanMode vlan = model::Untagged{}) {
  return {vnic, mac(number), vlan, weight};
}
Candidate holder(Candidate made) {
  made.held = filter_for(made.mac, made.vlan).filter;
  return made;
}
std::vector<std::string> served(const std::map<std::string, Share>& shares) {
  std::vector<std::string> names;
  for (const auto& [vnic, share] : shares) {
    EXPECT_NE(share.filter.has_value(), !share.reason.empty()) << vnic << ": one of the two";
    if (share.filter) names.push_back(vnic);
  }
  return names;
}
using Names = std::vector<std::string>;

TEST(FilterFor, names_the_one_vlan_in_which_the_wire_brings_frames) {
  struct Case {
    const char* name;
    model::VlanMode vlan;
    std::optional<std::uint16_t> vid;
    const char* reason;
  };
  for (const Case& c : {
           Case{"untagged", model::Untagged{}, 0, ""},
           Case{"access", model::Access{vid(101)}, 101, ""},
           Case{"trunk of many", model::Trunk{ids("10,20"), {}, std::nullopt}, {}, "a trunk hears many VLANs"},
           Case{"trunk of one", model::Trunk{ids("10,20"), ids("20"), std::nullopt}, 10, ""},
           Case{"trunk of one, which is native", model::Trunk{ids("10"), {}, std::optional(vid(10))}, 10, ""},
           Case{"trunk of one and a native one", model::Trunk{ids("10"), {}, std::optional(vid(20))}, {}, "many VLANs"},
           Case{"trunk of one and none", model::Trunk{ids("10"), {}, std::optional<VlanId>()}, {}, "many VLANs"},
           Case{"isolated", model::Isolated{vid(100), vid(101)}, 100, ""},
           Case{"community", model::Community{vid(100), vid(102)}, {}, "VLAN 100 and VLAN 102"},
           Case{"promiscuous", model::Promiscuous{vid(100), ids("101-103")}, {}, "secondary VLANs 101-103"},
       }) {
    SCOPED_TRACE(c.name);
    const Share share = filter_for(mac(1), c.vlan);
    ASSERT_EQ(share.filter.has_value(), c.vid.has_value());
    if (c.vid) {
      EXPECT_EQ(*share.filter, (QueueFilter{mac(1), *c.vid}));
    }
    EXPECT_NE(share.reason.find(c.reason), std::string::npos) << share.reason;
    EXPECT_EQ(share.reason.empty(), c.vid.has_value());
  }
}

TEST(Assign, gives_free_queues_by_weight_and_then_by_name) {
  const auto shares = assign("eth1", able(2), {candidate("c", 3), candidate("b", 2), candidate("a", 1, 50)});
  EXPECT_EQ(served(shares), (Names{"b", "c"}));
  EXPECT_EQ(shares.at("a").reason, "all 2 queues of eth1 are taken (first come, first served)");
  EXPECT_EQ(served(assign("eth1", able(1), {candidate("c", 3), candidate("b", 2)})), Names{"b"});
}

TEST(Assign, leaves_a_queue_to_who_has_it_whatever_others_weigh) {
  const auto shares = assign("eth1", able(1), {holder(candidate("old", 1, 1)), candidate("new", 2, 100)});
  EXPECT_EQ(served(shares), Names{"old"});
  EXPECT_EQ(shares.at("new").reason, "the one queue of eth1 is taken (first come, first served)");
}

TEST(Assign, a_filter_that_changed_is_asked_for_anew) {
  Candidate moved = holder(candidate("moved", 1, 50));
  moved.vlan = model::Access{vid(7)};
  const auto shares = assign("eth1", able(1), {moved, candidate("other", 2, 60)});
  EXPECT_EQ(served(shares), Names{"other"});
}

TEST(Assign, weight_0_gives_a_queue_back) {
  const auto shares = assign("eth1", able(1), {holder(candidate("a", 1, 0)), candidate("b", 2, 1)});
  EXPECT_EQ(served(shares), Names{"b"});
  EXPECT_EQ(shares.at("a").reason, "vmq_weight is 0");
}

TEST(Assign, by_vlan_alone_one_vnic_of_each_vlan_has_a_queue) {
  QueueAbility ability = able(7);
  ability.vlan_only = true;
  const model::Access in_101{vid(101)};
  const auto shares = assign("eth1", ability,
                             {candidate("web1", 1, 100, in_101), candidate("web2", 2, 100, in_101),
                              candidate("db", 3, 100, model::Access{vid(102)}), candidate("plain", 4)});
  EXPECT_EQ(served(shares), (Names{"db", "web1"}));
  EXPECT_EQ(shares.at("web2").reason, "eth1 sorts by VLAN alone, and VLAN 101 has the queue of vnic web1");
  EXPECT_EQ(shares.at("plain").reason, "eth1 sorts by VLAN alone, and frames for it have no tag");
  const auto kept =
      assign("eth1", ability, {candidate("web1", 1, 100, in_101), holder(candidate("web2", 2, 1, in_101))});
  EXPECT_EQ(served(kept), Names{"web2"});
}

TEST(Assign, where_there_is_no_queue_the_ability_says_why) {
  QueueAbility ability = able(0);
  ability.reason = "driver e1000 has one receive queue";
  const auto shares = assign("eth1", ability, {candidate("a", 1)});
  EXPECT_EQ(shares.at("a").reason, "eth1 has no queue beside the default one: driver e1000 has one receive queue");
}

TEST(Assign, software_has_queues_for_1024_vnics) {
  const QueueAbility ability{QueueSorting::software, 0, false, false, ""};
  std::vector<Candidate> many;
  for (std::uint64_t i = 0; i <= software_queues_max; ++i) many.push_back(candidate("vm" + std::to_string(i), i + 1));
  EXPECT_EQ(served(assign("eth1", ability, many)).size(), software_queues_max);
  many.pop_back();
  EXPECT_EQ(served(assign("eth1", ability, many)).size(), software_queues_max);
}

}  // namespace
}  // namespace patchbay::vmq
