#include "control/team/paths.h"

#include <gtest/gtest.h>

#include <map>

#include "control/team/announcement.h"

namespace patchbay::team {
namespace {

using dataplane::team_buckets;
using dataplane::team_no_member;

std::map<unsigned, std::size_t> counts(const dataplane::TeamPaths& paths) {
  std::map<unsigned, std::size_t> result;
  for (const std::uint8_t member : paths.senders) ++result[member];
  return result;
}

std::size_t moved(const dataplane::TeamPaths& before, const dataplane::TeamPaths& after) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < team_buckets; ++i) count += before.senders[i] != after.senders[i] ? 1 : 0;
  return count;
}

using Counts = std::map<unsigned, std::size_t>;

TEST(Paths, EachMemberHasItsShare) {
  EXPECT_EQ(counts(make_paths({1, 1}, no_paths())), (Counts{{0, 128}, {1, 128}}));
  EXPECT_EQ(counts(make_paths({1, 1, 1}, no_paths())), (Counts{{0, 86}, {1, 85}, {2, 85}}));
  EXPECT_EQ(counts(make_paths({10'000, 1000}, no_paths())), (Counts{{0, 233}, {1, 23}}));
  EXPECT_EQ(counts(make_paths({400'000, 10}, no_paths())), (Counts{{0, 255}, {1, 1}}));
  EXPECT_EQ(counts(make_paths({0, 5, 0}, no_paths())), (Counts{{1, 256}}));
  EXPECT_EQ(counts(make_paths({0, 0}, no_paths())), (Counts{{team_no_member, 256}}));
  EXPECT_EQ(counts(make_paths({}, no_paths())), (Counts{{team_no_member, 256}}));
  for (const auto& [member, count] : counts(make_paths(Weights(32, 1), no_paths()))) EXPECT_EQ(count, 8U) << member;
}

TEST(Paths, OnlyWhatIsOfAFailedMemberMoves) {
  const auto three = make_paths({1, 1, 1}, no_paths());
  const auto two = make_paths({1, 0, 1}, three);
  for (std::size_t i = 0; i < team_buckets; ++i) {
    EXPECT_TRUE(three.senders[i] == 1 || two.senders[i] == three.senders[i]) << i;
  }
  EXPECT_EQ(moved(three, two), 85U);
  const auto again = make_paths({1, 1, 1}, two);
  EXPECT_EQ(moved(two, again), 85U) << "one that comes back takes no more than its share";
  EXPECT_EQ(moved(again, make_paths({1, 1, 1}, again)), 0U);
}

TEST(Paths, ThePrimaryStaysWhileItCan) {
  auto paths = make_paths({1, 1}, no_paths());
  EXPECT_EQ(paths.primary, 0);
  EXPECT_EQ(paths.receives, 0b11U);
  paths = make_paths({0, 1}, paths);
  EXPECT_EQ(paths.primary, 1);
  EXPECT_EQ(paths.receives, 0b10U);
  paths = make_paths({1, 1}, paths);
  EXPECT_EQ(paths.primary, 1);
  EXPECT_EQ(make_paths({0, 0}, paths).primary, team_no_member);
}

TEST(Paths, MembersMayGetOtherNumbers) {
  const auto before = make_paths({1, 1, 1}, no_paths());
  const auto after = renumbered(before, {team_no_member, 0, 1});
  EXPECT_EQ(after.primary, team_no_member);
  EXPECT_EQ(after.receives, 0b11U);
  for (std::size_t i = 0; i < team_buckets; ++i) {
    EXPECT_EQ(after.senders[i], before.senders[i] == 0 ? team_no_member : before.senders[i] - 1) << i;
  }
}

TEST(Paths, AddressesAreSpreadOverMembers) {
  const auto paths = make_paths({1, 1}, no_paths());
  std::map<unsigned, unsigned> homes;
  for (std::uint64_t i = 0; i < 256; ++i) {
    const auto mac = MacAddr::from_uint64(0x0200'0000'0000 + i);
    ++homes[home_of(mac, model::TeamBalance::vnic_port, paths)];
    EXPECT_EQ(home_of(mac, model::TeamBalance::address_hash, paths), paths.primary);
  }
  EXPECT_NEAR(homes[0], 128, 32);
  EXPECT_NEAR(homes[1], 128, 32);
}

TEST(Announcement, LeavesWithTheTagOfItsVlan) {
  const MacAddr mac = *MacAddr::parse("02:00:00:00:00:01");
  const auto plain = announcement(mac, 0);
  EXPECT_EQ(plain.size(), 60U);
  const auto tagged = announcement(mac, 101);
  ASSERT_EQ(tagged.size(), 64U);
  EXPECT_EQ(std::vector<std::uint8_t>(tagged.begin() + 12, tagged.begin() + 18),
            (std::vector<std::uint8_t>{0x81, 0x00, 0x00, 101, 0x80, 0x35}));
  EXPECT_EQ(MacAddr::from_wire(&tagged[6]), mac);
}

TEST(Announcement, IsMadeInTheVlansThatAVnicSendsIn) {
  const auto vid = [](std::uint16_t raw) { return *VlanId::from(raw); };
  using Vlans = std::vector<std::uint16_t>;
  EXPECT_EQ(sending_vlans(model::Untagged{}), Vlans{0});
  EXPECT_EQ(sending_vlans(model::Access{vid(101)}), Vlans{101});
  EXPECT_EQ(sending_vlans(model::Isolated{vid(100), vid(101)}), Vlans{101});
  EXPECT_EQ(sending_vlans(model::Community{vid(100), vid(102)}), Vlans{102});
  EXPECT_EQ(sending_vlans(model::Promiscuous{vid(100), *VlanSet::parse("101")}), Vlans{100});
  EXPECT_EQ(sending_vlans(model::Trunk{*VlanSet::parse("10,20-21"), {}, {}}), (Vlans{10, 20, 21}));
  EXPECT_EQ(sending_vlans(model::Trunk{*VlanSet::parse("10,20"), *VlanSet::parse("20"), {vid(7)}}), (Vlans{7, 10}));
  EXPECT_EQ(sending_vlans(model::Trunk{*VlanSet::parse("1-4094"), {}, {}}).size(), announced_vlans_max + 1);
}

}  // namespace
}  // namespace patchbay::team
