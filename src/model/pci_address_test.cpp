#include "model/pci_address.h"

#include <gtest/gtest.h>

#include <string>

#include "model/host.h"

namespace patchbay::model {
namespace {

TEST(PciAddress, has_one_spelling) {
  for (const char* good : {"0000:00:00.0", "0000:01:00.0", "ffff:ff:1f.7", "10af:0a:09.1"}) {
    EXPECT_TRUE(is_pci_address(good)) << good;
  }
  for (const char* bad : {"", "eth1", "01:00.0", "0000:01:00", "0000:01:00.8", "0000:01:20.0", "0000:0A:00.0",
                          "0000:01:00.0 ", " 0000:01:00.0", "0000.01.00.0", "0000:01:00:0", "00000:1:00.0",
                          "0000:01:00.00", "000g:01:00.0", "0000:01:2f.0"}) {
    EXPECT_FALSE(is_pci_address(bad)) << bad;
  }
  EXPECT_FALSE(is_pci_address(std::string(12, '\0')));
}

TEST(PciAddress, names_the_uplink_of_a_switch) {
  Switch added{"sw1", SwitchType::external, "0000:01:00.0", std::nullopt, mtu_default};
  const auto host = add_switch({}, added);
  ASSERT_TRUE(host) << host.error().message;
  added.name = "sw2";
  const auto second = add_switch(*host, added);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::exists);
  EXPECT_NE(second.error().message.find("sw1"), std::string::npos) << second.error().message;
  added.uplink = "0000:0A:00.0";
  const auto misspelt = add_switch(*host, added);
  ASSERT_FALSE(misspelt);
  EXPECT_EQ(misspelt.error().code, ErrorCode::invalid);
  EXPECT_NE(misspelt.error().message.find("0000:01:00.0"), std::string::npos) << "an example is the way out";
}

}  // namespace
}  // namespace patchbay::model
