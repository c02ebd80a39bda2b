#include <gtest/gtest.h>

#include <cstring>

#include "dataplane/forwarding/classify.h"
#include "dataplane/forwarding/forward.h"
#include "tests/support/frames.h"

namespace patchbay::forwarding {
namespace {

using dataplane::Action;
using dataplane::DropReason;
using dataplane::Frame;
using test::ethernet;
using test::tag;

constexpr const char* vm1 = "02:00:00:00:00:01";      // VLAN 101, port 1
constexpr const char* vm2 = "02:00:00:00:00:02";      // VLAN 101, port 2
constexpr const char* vm3 = "02:00:00:00:00:03";      // VLAN 102, port 3
constexpr const char* plain = "02:00:00:00:00:04";    // untagged, port 4
constexpr const char* outside = "02:aa:00:00:00:01";  // on the wire
constexpr const char* everyone = "ff:ff:ff:ff:ff:ff";
constexpr PortIndex wire = 0;

model::VlanMode mode_of(std::uint16_t vid) {
  return vid == 0 ? model::VlanMode(model::Untagged{}) : model::VlanMode(model::Access{*VlanId::from(vid)});
}

SwitchTable make_table(bool with_uplink = true) {
  const SwitchTable::Member members[] = {{1, *MacAddr::parse(vm1), mode_of(101)},
                                         {2, *MacAddr::parse(vm2), mode_of(101)},
                                         {3, *MacAddr::parse(vm3), mode_of(102)},
                                         {4, *MacAddr::parse(plain), mode_of(0)}};
  std::optional<SwitchTable::Uplink> uplink;
  if (with_uplink) uplink = {wire};
  return {members, uplink, 1500, nullptr};
}

IngressRule rule_of(PortIndex port) {
  constexpr std::uint16_t vid[] = {0, 101, 101, 102, 0};
  constexpr const char* mac[] = {nullptr, vm1, vm2, vm3, plain};
  if (port == wire) return {.uplink = true};
  return {.uplink = false, .mac = MacAddr::parse(mac[port])->to_uint64(), .vlans = PortVlans::of(mode_of(vid[port]))};
}

struct Case {
  const char* name;
  PortIndex from;
  std::string frame;
  Action action;
  DropReason reason = DropReason::no_destination;
  PortIndex to = 0;
  std::uint16_t vid = 0;
  std::string out = "";  // as the switch delivers it, without the tag of its VLAN; empty: as it came
  std::uint16_t tpid = 0;
  std::uint16_t tci = 0;
};

void run(const Case& test, const SwitchTable& table) {
  SCOPED_TRACE(test.name);
  std::string bytes = test.frame;
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  frame.tag_tpid = test.tpid;
  frame.tag_tci = test.tci;
  classify({&frame, 1}, rule_of(test.from), table);
  forward({&frame, 1}, test.from, table, 0);
  ASSERT_EQ(frame.action, test.action) << to_string(frame.reason);
  if (test.action == Action::drop) {
    EXPECT_STREQ(to_string(frame.reason), to_string(test.reason));
    return;
  }
  if (test.action == Action::unicast) {
    EXPECT_EQ(frame.target, test.to);
  }
  EXPECT_EQ(frame.vid, test.vid);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(frame.head), frame.head_size),
            test.out.empty() ? test.frame : test.out);
}

TEST(Forwarding, delivers_frames_of_vnics_by_vlan_and_address) {
  const Case cases[] = {
      {"to a neighbour in the VLAN", 1, ethernet(vm2, vm1), Action::unicast, {}, 2, 101},
      {"to a vnic of another VLAN: looked for on the wire", 1, ethernet(vm3, vm1), Action::unicast, {}, wire, 101},
      {"to an untagged vnic: looked for on the wire", 1, ethernet(plain, vm1), Action::unicast, {}, wire, 101},
      {"to an unknown address: the wire, never another vnic",
       1,
       ethernet(outside, vm1),
       Action::unicast,
       {},
       wire,
       101},
      {"untagged vnic to the wire", 4, ethernet(outside, plain), Action::unicast, {}, wire, 0},
      {"broadcast", 1, ethernet(everyone, vm1), Action::flood, {}, 0, 101},
      {"multicast", 3, ethernet("33:33:00:00:00:01", vm3), Action::flood, {}, 0, 102},
      {"to itself", 1, ethernet(vm1, vm1), Action::drop, DropReason::same_port},
  };
  for (const Case& test : cases) run(test, make_table());
}

TEST(Forwarding, holds_vnics_to_their_address_and_vlan) {
  const Case cases[] = {
      {"a neighbour's address", 1, ethernet(outside, vm2), Action::drop, DropReason::source_mac},
      {"an address of nobody", 1, ethernet(outside, "02:00:00:00:00:99"), Action::drop, DropReason::source_mac},
      {"a group address as source", 1, ethernet(vm2, "03:00:00:00:00:01"), Action::drop, DropReason::source_multicast},
      {"zero as source", 1, ethernet(vm2, "00:00:00:00:00:00"), Action::drop, DropReason::source_multicast},
      {"tagged with its own VLAN", 1, ethernet(vm2, vm1, tag(101)), Action::drop, DropReason::vlan_not_allowed},
      {"tagged with another VLAN", 1, ethernet(vm2, vm1, tag(102)), Action::drop, DropReason::vlan_not_allowed},
      {"tagged, from an untagged vnic", 4, ethernet(outside, plain, tag(101)), Action::drop,
       DropReason::vlan_not_allowed},
      {"tagged 4095", 1, ethernet(vm2, vm1, tag(4095)), Action::drop, DropReason::vlan_not_allowed},
      {"S-tag", 1, ethernet(vm2, vm1, tag(101, 0x88A8)), Action::drop, DropReason::vlan_not_allowed},
      {"old double tag", 4, ethernet(outside, plain, tag(0, 0x9100)), Action::drop, DropReason::vlan_not_allowed},
      {"priority tag counts as untagged",
       1,
       ethernet(vm2, vm1, tag(0, 0x8100, 5)),
       Action::unicast,
       {},
       2,
       101,
       ethernet(vm2, vm1)},
      {"a tag hidden behind a priority tag", 4, ethernet(outside, plain, tag(0) + tag(101)), Action::drop,
       DropReason::vlan_not_allowed},
      {"double tag", 1, ethernet(vm2, vm1, tag(101) + tag(102)), Action::drop, DropReason::vlan_not_allowed},
      {"LACP", 1, ethernet("01:80:c2:00:00:02", vm1), Action::drop, DropReason::reserved_address},
      {"LLDP", 4, ethernet("01:80:c2:00:00:0e", plain), Action::drop, DropReason::reserved_address},
      {"shorter than a header", 1, std::string(13, '\x02'), Action::drop, DropReason::frame_too_short},
      {"ends inside its tag", 1, ethernet(vm2, vm1, tag(0)).substr(0, 15), Action::drop, DropReason::frame_too_short},
      {"as long as the MTU allows", 1, ethernet(vm2, vm1, "", 1500), Action::unicast, {}, 2, 101},
      {"one byte more", 1, ethernet(vm2, vm1, "", 1501), Action::drop, DropReason::oversize},
      {"as long as the MTU allows, with a priority tag",
       1,
       ethernet(vm2, vm1, tag(0), 1500),
       Action::unicast,
       {},
       2,
       101,
       ethernet(vm2, vm1, "", 1500)},
  };
  for (const Case& test : cases) run(test, make_table());
}

TEST(Forwarding, delivers_frames_of_the_wire_by_vlan_and_address) {
  const std::string to_vm1 = ethernet(vm1, outside);
  const std::string to_plain = ethernet(plain, outside);
  const Case cases[] = {
      {"tagged", wire, ethernet(vm1, outside, tag(101)), Action::unicast, {}, 1, 101, to_vm1},
      {"tagged with a priority",
       wire,
       ethernet(vm1, outside, tag(101, 0x8100, 7)),
       Action::unicast,
       {},
       1,
       101,
       to_vm1},
      {"tagged out of band", wire, to_vm1, Action::unicast, {}, 1, 101, to_vm1, 0x8100, 101},
      {"in another VLAN", wire, ethernet(vm1, outside, tag(102)), Action::drop, DropReason::no_destination},
      {"in another VLAN, out of band", wire, to_vm1, Action::drop, DropReason::no_destination, 0, 0, "", 0x8100, 102},
      {"untagged to an access vnic", wire, to_vm1, Action::drop, DropReason::no_destination},
      {"VID 0 to an access vnic", wire, ethernet(vm1, outside, tag(0, 0x8100, 5)), Action::drop,
       DropReason::no_destination},
      {"untagged to an untagged vnic", wire, to_plain, Action::unicast, {}, 4, 0, to_plain},
      {"VID 0 to an untagged vnic",
       wire,
       ethernet(plain, outside, tag(0, 0x8100, 5)),
       Action::unicast,
       {},
       4,
       0,
       to_plain},
      {"VID 0 out of band to an untagged vnic", wire, to_plain, Action::unicast, {}, 4, 0, to_plain, 0x8100, 0xA000},
      {"tagged to an untagged vnic", wire, ethernet(plain, outside, tag(101)), Action::drop,
       DropReason::no_destination},
      {"only the outer tag counts",
       wire,
       ethernet(vm1, outside, tag(101) + tag(102)),
       Action::unicast,
       {},
       1,
       101,
       ethernet(vm1, outside, tag(102))},
      {"outer tag out of band",
       wire,
       ethernet(vm3, outside, tag(101)),
       Action::unicast,
       {},
       3,
       102,
       ethernet(vm3, outside, tag(101)),
       0x8100,
       102},
      {"a tag hidden behind a priority tag", wire, ethernet(plain, outside, tag(0) + tag(101)), Action::drop,
       DropReason::vlan_not_allowed},
      {"a tag behind an out-of-band priority tag", wire, ethernet(plain, outside, tag(101)), Action::drop,
       DropReason::vlan_not_allowed, 0, 0, "", 0x8100, 0},
      {"S-tag", wire, ethernet(vm1, outside, tag(101, 0x88A8)), Action::drop, DropReason::vlan_not_allowed},
      {"S-tag out of band", wire, to_vm1, Action::drop, DropReason::vlan_not_allowed, 0, 0, "", 0x88A8, 101},
      {"VID 4095", wire, ethernet(vm1, outside, tag(4095)), Action::drop, DropReason::vlan_not_allowed},
      {"to nobody", wire, ethernet(outside, "02:aa:00:00:00:02", tag(101)), Action::drop, DropReason::no_destination},
      {"a pinned address as source", wire, ethernet(vm1, vm2, tag(101)), Action::drop, DropReason::source_mac},
      {"the same address in another VLAN",
       wire,
       ethernet(vm3, vm2, tag(102)),
       Action::unicast,
       {},
       3,
       102,
       ethernet(vm3, vm2)},
      {"broadcast",
       wire,
       ethernet(everyone, outside, tag(102)),
       Action::flood,
       {},
       0,
       102,
       ethernet(everyone, outside)},
      {"spanning tree", wire, ethernet("01:80:c2:00:00:00", outside), Action::drop, DropReason::reserved_address},
      {"one byte too long", wire, ethernet(vm1, outside, tag(101), 1501), Action::drop, DropReason::oversize},
      {"longest, with its tag",
       wire,
       ethernet(vm1, outside, tag(101), 1500),
       Action::unicast,
       {},
       1,
       101,
       ethernet(vm1, outside, "", 1500)},
  };
  for (const Case& test : cases) run(test, make_table());
}

TEST(Forwarding, drops_unknown_unicast_where_there_is_no_uplink) {
  run({"no uplink", 1, ethernet(outside, vm1), Action::drop, DropReason::no_destination}, make_table(false));
}

TEST(SwitchTable, finds_pinned_addresses_and_who_hears_a_vlan) {
  std::vector<SwitchTable::Member> members;
  for (std::uint16_t vid = 1; vid <= 1000; ++vid) {
    members.push_back({vid, MacAddr::from_uint64(0x020000000000U + vid * 256U), mode_of(vid)});
  }
  const SwitchTable table(members, std::nullopt, 1500, nullptr);
  for (const auto& member : members) {
    const auto* const found = table.pinned(member.mac.to_uint64());
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->port, member.port);
    const auto vid = static_cast<std::uint16_t>(member.port);
    EXPECT_TRUE(found->vlans.hears(vid));
    EXPECT_FALSE(found->vlans.hears(static_cast<std::uint16_t>(vid + 1)));
    ASSERT_EQ(table.members(vid).size(), 1U);
  }
  EXPECT_EQ(table.pinned(0x020000000001), nullptr);
  EXPECT_TRUE(table.members(1001).empty());
}

}  // namespace
}  // namespace patchbay::forwarding
