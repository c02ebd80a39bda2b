#include <gtest/gtest.h>

#include <cerrno>

#include "base/byte_order.h"
#include "base/error.h"
#include "base/mac_addr.h"
#include "base/result.h"
#include "base/vlan_id.h"
#include "base/vlan_set.h"

namespace patchbay {
namespace {

TEST(VlanSet, reads_and_writes_lists) {
  struct Case {
    const char* text;
    const char* shortest;
    std::size_t size;
  };
  for (const Case& c : {Case{"1", "1", 1}, Case{"4094", "4094", 1}, Case{"10,20-29", "10,20-29", 11},
                        Case{"20-29, 10 ,21-30,10", "10,20-30", 12}, Case{"1-4094", "1-4094", 4094},
                        Case{"5,6", "5,6", 2}, Case{"7-7", "7", 1}}) {
    const auto set = VlanSet::parse(c.text);
    ASSERT_TRUE(set) << c.text;
    EXPECT_EQ(set->to_string(), c.shortest);
    EXPECT_EQ(set->size(), c.size);
    const auto again = VlanSet::parse(c.shortest);
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, *set);
  }
  for (const char* bad : {"", ",", "1,", "0", "4095", "1-4095", "0-5", "9-8", "a", "1-2-3", "-1", "1 2", "+1", "1;2"}) {
    EXPECT_FALSE(VlanSet::parse(bad)) << bad;
  }
}

TEST(MacAddr, reads_both_common_spellings_and_nothing_else) {
  for (const char* good : {"02:15:5d:0a:0B:ff", "02-15-5D-0A-0b-FF"}) {
    const auto mac = MacAddr::parse(good);
    ASSERT_TRUE(mac) << good;
    EXPECT_EQ(mac->to_string(), "02:15:5d:0a:0b:ff");
    EXPECT_EQ(MacAddr::from_uint64(mac->to_uint64()), *mac);
  }
  for (const char* bad : {"", "02:15:5d:0a:0b", "02:15:5d:0a:0b:fg", "02:15-5d:0a:0b:ff", "02.15.5d.0a.0b.ff",
                          "02:15:5d:0a:0b:ff ", " 2:15:5d:0a:0b:ff"}) {
    EXPECT_FALSE(MacAddr::parse(bad)) << bad;
  }
}

TEST(MacAddr, tells_group_zero_and_reserved_addresses) {
  EXPECT_TRUE(MacAddr::parse("ff:ff:ff:ff:ff:ff")->is_group());
  EXPECT_FALSE(MacAddr::parse("ff:ff:ff:ff:ff:ff")->is_station());
  EXPECT_FALSE(MacAddr().is_station());
  EXPECT_TRUE(MacAddr::parse("02:00:00:00:00:01")->is_station());
  EXPECT_TRUE(MacAddr::parse("01:80:c2:00:00:00")->is_reserved());
  EXPECT_TRUE(MacAddr::parse("01:80:c2:00:00:0f")->is_reserved());
  EXPECT_FALSE(MacAddr::parse("01:80:c2:00:00:10")->is_reserved());
  EXPECT_FALSE(MacAddr::parse("01:80:c1:00:00:00")->is_reserved());
}

TEST(VlanId, takes_1_to_4094) {
  EXPECT_FALSE(VlanId::from(0));
  EXPECT_TRUE(VlanId::from(1));
  EXPECT_TRUE(VlanId::from(4094));
  EXPECT_FALSE(VlanId::from(4095));
  EXPECT_FALSE(VlanId::from(4096));
  EXPECT_FALSE(VlanId::from(-1));
}

TEST(ByteOrder, puts_the_high_byte_first_on_the_wire) {
  unsigned char bytes[4] = {};
  store_be16(bytes, 0x8100);
  EXPECT_EQ(bytes[0], 0x81);
  EXPECT_EQ(load_be16(bytes), 0x8100);
  store_be32(bytes, 0x01020304);
  EXPECT_EQ(bytes[0], 1);
  EXPECT_EQ(load_be32(bytes), 0x01020304U);
}

TEST(Error, maps_errno_to_a_code_and_names_the_object) {
  const Error error = system_error("nic eth9", 19);
  EXPECT_EQ(error.code, ErrorCode::not_found);
  EXPECT_EQ(error.message, "nic eth9: No such device");
}

TEST(Error, of_a_refused_permission_names_the_capability_and_the_way_out) {
  const Error refused = privileged_error("nic eth1: opening a packet socket", EPERM, "CAP_NET_RAW");
  EXPECT_EQ(refused.code, ErrorCode::unavailable);
  EXPECT_EQ(refused.message,
            "nic eth1: opening a packet socket is not permitted to patchbayd: it needs CAP_NET_RAW; start it by its "
            "systemd unit, which gives it that, or as root");
  EXPECT_EQ(privileged_error("x", ENODEV, "CAP_NET_RAW").message, system_error("x", ENODEV).message);
}

}  // namespace
}  // namespace patchbay
