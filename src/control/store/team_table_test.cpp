#include "control/store/team_table.h"

#include <gtest/gtest.h>

#include "control/store/sqlite_store.h"
#include "tests/support/temp_dir.h"

namespace patchbay::store {
namespace {

using test::TempDir;

// up1 with every field set, which carries lan; up2 as it is by default.
StoredState example() {
  StoredState state;
  state.host.teams["up1"] = {"up1",
                             {"eth2", "0000:01:00.0", "eth1"},
                             model::TeamMode::lacp,
                             model::TeamBalance::vnic_port,
                             "eth1",
                             model::LacpTimer::slow,
                             600'000};
  state.host.teams["up2"] = {"up2", {"eth3"}};
  state.host.switches["lan"] = {"lan", model::SwitchType::external, "up1", std::nullopt, 1500};
  return state;
}

Result<StoredState> load(const TempDir& dir) {
  auto store = SqliteStore::open(dir.path());
  if (!store) return fail(store.error());
  return (*store)->load();
}

TEST(TeamTable, gives_back_what_was_saved_after_each_of_a_chain_of_changes) {
  const TempDir dir;
  StoredState changed = example();
  changed.host.teams.at("up1").nics = {"eth1", "eth2"};
  changed.host.teams.at("up1").mode = model::TeamMode::static_;
  changed.host.teams.at("up1").balance = model::TeamBalance::address_hash;
  changed.host.teams.at("up1").standby = "";
  changed.host.teams.at("up1").lacp_timer = model::LacpTimer::fast;
  changed.host.teams.at("up1").failback_delay_ms = 0;
  StoredState fewer = changed;
  fewer.host.switches.clear();
  fewer.host.teams.erase("up1");
  StoredState before;
  for (const StoredState& state : {example(), changed, fewer, StoredState{}, example()}) {
    {
      auto store = SqliteStore::open(dir.path());
      ASSERT_TRUE(store);
      const Change change = difference(before, state);
      EXPECT_FALSE(change.empty());
      ASSERT_TRUE((*store)->save(change));
    }
    const auto loaded = load(dir);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(*loaded, state);
    before = state;
  }
  EXPECT_TRUE(difference(example(), example()).empty());
}

TEST(TeamTable, names_a_row_that_breaks_a_rule) {
  struct Case {
    const char* sql;
    const char* part;
  };
  for (const Case& c :
       {Case{"UPDATE teams SET mode = 'bond' WHERE name = 'up1'", "team 'up1' is not valid (mode 'bond')"},
        Case{"UPDATE teams SET balance = '' WHERE name = 'up1'", "balance ''"},
        Case{"UPDATE teams SET lacp_timer = 'x' WHERE name = 'up1'", "lacp_timer 'x'"},
        Case{"UPDATE teams SET failback_delay_ms = -1 WHERE name = 'up1'", "failback_delay_ms '-1'"},
        Case{"UPDATE teams SET failback_delay_ms = 600001 WHERE name = 'up1'", "failback_delay_ms '600001'"},
        Case{"UPDATE teams SET nics = '' WHERE name = 'up2'", "team 'up2' is not valid"},
        Case{"UPDATE teams SET nics = 'eth3,' WHERE name = 'up2'", "team 'up2' is not valid"},
        Case{"UPDATE teams SET nics = 'eth1' WHERE name = 'up2'", "eth1 is in team up1 already"},
        Case{"UPDATE teams SET standby = 'eth9' WHERE name = 'up1'", "standby eth9"},
        Case{"UPDATE switches SET uplink = 'eth2'",
             "switch 'lan' is not valid (switch lan: nic eth2 is in team up1"}}) {
    const TempDir dir;
    { ASSERT_TRUE((*SqliteStore::open(dir.path()))->save(difference({}, example()))); }
    {
      auto database = Sqlite::open(dir.path() + "/patchbay.db");
      ASSERT_TRUE(database->execute(c.sql)) << c.sql;
    }
    const auto state = load(dir);
    ASSERT_FALSE(state) << c.sql;
    EXPECT_NE(state.error().message.find(c.part), std::string::npos) << c.sql << ": " << state.error().message;
  }
}

}  // namespace
}  // namespace patchbay::store
