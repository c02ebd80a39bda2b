#include "model/nic_facts.h"

#include <gtest/gtest.h>

namespace patchbay::model {
namespace {

TEST(NicFacts, are_those_of_the_device_with_this_id) {
  struct Case {
    const char* id;
    const char* name;
    std::optional<unsigned> vmdq_pools;
    const char* dpdk;
  };
  for (const Case& c :
       {Case{"8086:10c9", "Intel 82576", 8, "net_e1000_igb"}, Case{"8086:1526", "Intel 82576", 8, "net_e1000_igb"},
        Case{"8086:152d", "Intel 82576 virtual function", 0, "net_e1000_igb_vf"},
        Case{"8086:10b6", "Intel 82598", 16, "net_ixgbe"}, Case{"8086:10fb", "Intel 82599", 64, "net_ixgbe"},
        Case{"14e4:1639", "Broadcom NetXtreme II (5706 to 5709)", 0, nullptr},
        Case{"14e4:164f", "Broadcom 57711", 0, "net_bnx2x"}}) {
    SCOPED_TRACE(c.id);
    const NicFacts* const facts = nic_facts(c.id);
    ASSERT_NE(facts, nullptr);
    EXPECT_STREQ(facts->name, c.name);
    EXPECT_EQ(facts->vmdq_pools, c.vmdq_pools);
    EXPECT_STREQ(facts->dpdk, c.dpdk);
  }
}

TEST(NicFacts, of_other_devices_nothing_is_known) {
  for (const char* id : {"", "8086:10ff", "1af4:1041", "14e4:0000", "zzzz:zzzz"})
    EXPECT_EQ(nic_facts(id), nullptr) << id;
}

}  // namespace
}  // namespace patchbay::model
