#include "dataplane/forwarding/fdb.h"

#include <gtest/gtest.h>

#include <optional>

#include "dataplane/forwarding/tables.h"

namespace patchbay::forwarding {
namespace {

// Two ports that learn, and a table that knows them.
class FdbTest : public testing::Test {
 protected:
  void make_table(bool with_second = true) {
    std::vector<SwitchTable::Member> members = {{1, MacAddr::from_uint64(1), model::Untagged{}, true, &first}};
    if (with_second) members.push_back({2, MacAddr::from_uint64(2), model::Untagged{}, true, &second});
    table.emplace(members, std::nullopt, std::uint16_t{1500}, &fdb);
  }
  FdbTest() { make_table(); }

  Learned learn(std::uint64_t mac, Learner& by, Seconds now = 1000, std::uint16_t fid = 5) {
    return fdb.learn(fid, mac, by, now, *table);
  }

  Learner first{1, 5000};
  Learner second{2, 10};
  Fdb fdb{4096};
  std::optional<SwitchTable> table;
};

TEST_F(FdbTest, finds_what_was_learned_in_that_vlan_only) {
  EXPECT_EQ(fdb.lookup(5, 77, 1000), std::nullopt);
  EXPECT_EQ(learn(77, first), Learned::fresh);
  EXPECT_EQ(fdb.lookup(5, 77, 1000), 1U);
  EXPECT_EQ(fdb.lookup(6, 77, 1000), std::nullopt);
  EXPECT_EQ(learn(77, second, 1000, 6), Learned::fresh);
  EXPECT_EQ(fdb.lookup(5, 77, 1000), 1U);
  EXPECT_EQ(fdb.lookup(6, 77, 1000), 2U);
}

TEST_F(FdbTest, moves_an_address_and_its_count) {
  learn(77, first);
  EXPECT_EQ(learn(77, first), Learned::refreshed);
  EXPECT_EQ(learn(77, second), Learned::moved);
  EXPECT_EQ(fdb.lookup(5, 77, 1000), 2U);
  EXPECT_EQ(first.count(), 0U);
  EXPECT_EQ(second.count(), 1U);
}

TEST_F(FdbTest, forgets_after_the_ageing_time_and_not_before) {
  learn(77, first, 1000);
  EXPECT_EQ(fdb.lookup(5, 77, 1000 + ageing_s), 1U);
  EXPECT_EQ(fdb.lookup(5, 77, 1001 + ageing_s), std::nullopt);
  learn(77, first, 1200);
  EXPECT_EQ(fdb.lookup(5, 77, 1001 + ageing_s), 1U) << "a sighting makes it young again";
  EXPECT_EQ(first.count(), 1U);
}

TEST_F(FdbTest, the_clock_may_wrap) {
  learn(77, first, 0xFFFFFFF0);
  EXPECT_EQ(fdb.lookup(5, 77, 10), 1U);
  EXPECT_EQ(fdb.lookup(5, 77, 400), std::nullopt);
}

TEST_F(FdbTest, a_learner_at_its_limit_gets_room_again_when_its_addresses_are_old) {
  for (std::uint64_t mac = 1; mac <= 10; ++mac) EXPECT_EQ(learn(100 + mac, second), Learned::fresh);
  EXPECT_EQ(learn(200, second), Learned::full);
  EXPECT_EQ(second.refused(), 1U);
  EXPECT_EQ(second.count(), 10U);
  // Each refusal looks at some of the table for entries that are too old: after one round all ten are gone.
  bool fresh = false;
  for (int i = 0; i < 4096 && !fresh; ++i) fresh = learn(200, second, 2000) == Learned::fresh;
  EXPECT_TRUE(fresh);
  EXPECT_LE(second.count(), 10U);
  EXPECT_EQ(fdb.lookup(5, 200, 2000), 2U);
}

TEST_F(FdbTest, entries_of_a_learner_that_is_gone_mean_nothing_and_make_room) {
  learn(77, second);
  make_table(false);
  const auto found = fdb.lookup(5, 77, 1000);
  ASSERT_TRUE(found);
  EXPECT_EQ(table->learning_port(*found), nullptr);
  EXPECT_EQ(learn(77, first), Learned::moved);
  EXPECT_EQ(first.count(), 1U);
  EXPECT_EQ(fdb.lookup(5, 77, 1000), 1U);
}

TEST_F(FdbTest, holds_as_many_as_it_promises) {
  std::uint64_t refused = 0;
  for (std::uint64_t mac = 1; mac <= 4096; ++mac)
    refused += learn(0x020000000000 + mac, first) == Learned::full ? 1 : 0;
  EXPECT_EQ(refused, 0U);
  for (std::uint64_t mac = 1; mac <= 4096; ++mac) ASSERT_EQ(fdb.lookup(5, 0x020000000000 + mac, 1000), 1U) << mac;
  EXPECT_EQ(fdb.entries(1000).size(), 4096U);
  EXPECT_TRUE(fdb.entries(1001 + ageing_s).empty());
}

TEST_F(FdbTest, refuses_when_it_is_full_and_counts_it) {
  Fdb small(4);
  Learner greedy(1, 100000);
  const SwitchTable::Member member{1, MacAddr::from_uint64(1), model::Untagged{}, true, &greedy};
  const SwitchTable only({&member, 1}, std::nullopt, 1500, &small);
  std::uint64_t full = 0;
  for (std::uint64_t mac = 1; mac <= 1000; ++mac)
    full += small.learn(5, mac, greedy, 1000, only) == Learned::full ? 1 : 0;
  EXPECT_GE(full, 1000U - 16);
  EXPECT_EQ(greedy.refused(), full);
  EXPECT_EQ(greedy.count(), 1000 - full);
  EXPECT_EQ(small.learn(5, 5000, greedy, 2000, only), Learned::fresh) << "all are old by then";
}

TEST_F(FdbTest, lists_what_it_knows) {
  learn(0x02CC00000001, first, 1000, 0);
  learn(0x02CC00000002, second, 1003, 4094);
  auto entries = fdb.entries(1010);
  ASSERT_EQ(entries.size(), 2U);
  if (entries[0].fid != 0) std::swap(entries[0], entries[1]);
  EXPECT_EQ(entries[0].mac, MacAddr::from_uint64(0x02CC00000001));
  EXPECT_EQ(entries[0].learner, 1U);
  EXPECT_EQ(entries[0].age, 10U);
  EXPECT_EQ(entries[1].fid, 4094);
  EXPECT_EQ(entries[1].age, 7U);
}

}  // namespace
}  // namespace patchbay::forwarding
