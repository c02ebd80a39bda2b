#include "model/uplink_driver.h"

#include <gtest/gtest.h>

#include <vector>

namespace patchbay::model {
namespace {

// A physical NIC that AF_XDP may be used on, in its driver.
Nic good_nic() {
  Nic nic;
  nic.name = "eth1";
  nic.index = 7;
  nic.mtu = 1500;
  nic.driver = "igb";
  nic.physical = true;
  nic.queues = 4;
  nic.offloads = {OffloadState::on, OffloadState::off_fixed, OffloadState::on};
  return nic;
}

template <typename Change>
Nic nic_with(Change change) {
  Nic nic = good_nic();
  change(nic);
  return nic;
}

// "xdp native 4", "xdp generic 4 multi-buffer", "packet", in the order of the attempts; empty: refused.
std::string attempts_of(const DriverChoice& choice) {
  std::string text;
  for (const auto& [plan, reason] : choice.attempts) {
    EXPECT_FALSE(reason.empty());
    text += text.empty() ? "" : ", ";
    text += to_string(plan.driver);
    if (plan.driver == UplinkDriver::xdp) {
      text += (plan.native ? " native " : " generic ") + std::to_string(plan.queues);
      if (plan.multi_buffer) text += " multi-buffer";
    }
  }
  return text;
}

struct Case {
  const char* name;
  Nic nic;
  const char* for_auto;  // attempts
  const char* for_xdp;
  const char* part;  // of the reason against AF_XDP, which both say; empty: there is none
};

TEST(UplinkDriver, chooses_by_what_is_known_about_the_nic) {
  const Case cases[] = {
      {"igb", good_nic(), "xdp native 4, packet", "xdp native 4, xdp generic 4", ""},
      {"stripping off already", nic_with([](Nic& n) { n.offloads = {}; }), "xdp native 4, packet",
       "xdp native 4, xdp generic 4", ""},
      {"one queue", nic_with([](Nic& n) { n.queues = 1; }), "xdp native 1, packet", "xdp native 1, xdp generic 1", ""},
      {"no XDP in the driver", nic_with([](Nic& n) { n.driver = "e1000e"; }), "packet", "xdp generic 4", ""},
      {"takes programs, does not redirect", nic_with([](Nic& n) { n.driver = "ixgbevf"; }), "packet", "xdp generic 4",
       ""},
      {"veth", nic_with([](Nic& n) { n.driver = "veth", n.physical = false; }), "packet", "",
       "veth is a virtual device"},
      {"tap", nic_with([](Nic& n) { n.driver = "tun", n.physical = false; }), "packet", "", "tun is a virtual device"},
      {"unknown kind", nic_with([](Nic& n) { n.driver = "", n.physical = false; }), "packet", "",
       "eth1 is a virtual device"},
      {"virtio", nic_with([](Nic& n) { n.driver = "virtio_net"; }), "packet", "", "virtio_net is a virtual device"},
      {"stripping fixed", nic_with([](Nic& n) { n.offloads[0] = OffloadState::on_fixed; }), "packet", "",
       "driver igb cannot switch rx-vlan-offload off"},
      {"service tags stripped", nic_with([](Nic& n) { n.offloads[1] = OffloadState::on_fixed; }), "packet", "",
       "driver igb cannot switch rx-vlan-stag-hw-parse off"},
      {"merging fixed", nic_with([](Nic& n) { n.offloads[2] = OffloadState::on_fixed; }), "packet", "",
       "driver igb cannot switch generic-receive-offload off"},
      {"queues unknown", nic_with([](Nic& n) { n.queues = 0; }), "packet", "", "queues is not known"},
      {"most queues", nic_with([](Nic& n) { n.queues = 64; }), "xdp native 64, packet", "xdp native 64, xdp generic 64",
       ""},
      {"too many queues", nic_with([](Nic& n) { n.queues = 65; }), "packet", "", "65 receive queues"},
      {"largest mtu for one buffer", nic_with([](Nic& n) { n.mtu = 3502; }), "xdp native 4, packet",
       "xdp native 4, xdp generic 4", ""},
      {"larger mtu", nic_with([](Nic& n) { n.mtu = 3503; }), "packet", "", "mtu 3503 is larger than 3502"},
      {"larger mtu, new kernel", nic_with([](Nic& n) { n.mtu = 9000, n.xdp_multi_buffer = true; }),
       "xdp native 4 multi-buffer, packet", "xdp native 4 multi-buffer, xdp generic 4 multi-buffer", ""},
      {"small mtu, new kernel", nic_with([](Nic& n) { n.xdp_multi_buffer = true; }), "xdp native 4, packet",
       "xdp native 4, xdp generic 4", ""},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.name);
    const auto for_auto = choose_driver(UplinkDriver::auto_, each.nic);
    const auto for_xdp = choose_driver(UplinkDriver::xdp, each.nic);
    EXPECT_EQ(attempts_of(for_auto), each.for_auto);
    EXPECT_EQ(attempts_of(for_xdp), each.for_xdp);
    EXPECT_EQ(attempts_of(choose_driver(UplinkDriver::packet, each.nic)), "packet");
    EXPECT_EQ(for_xdp.refusal.empty(), *each.for_xdp != '\0');
    if (*each.part == '\0') continue;
    EXPECT_NE(for_auto.attempts.front().reason.find(each.part), std::string::npos) << for_auto.attempts.front().reason;
    for (const char* part : {each.part, "nic eth1", "--driver packet"}) {
      EXPECT_NE(for_xdp.refusal.find(part), std::string::npos) << for_xdp.refusal;
    }
  }
}

TEST(UplinkDriver, says_what_was_chosen_and_why) {
  EXPECT_EQ(choose_driver(UplinkDriver::auto_, good_nic()).attempts.front().reason, "AF_XDP in driver igb, 4 queues");
  const Nic e1000e = nic_with([](Nic& n) { n.driver = "e1000e", n.queues = 1; });
  EXPECT_EQ(choose_driver(UplinkDriver::xdp, e1000e).attempts.front().reason,
            "AF_XDP in generic mode, for driver e1000e is not known to run XDP programs itself, 1 queue");
  EXPECT_EQ(choose_driver(UplinkDriver::packet, good_nic()).attempts.front().reason, "asked for with --driver packet");
}

TEST(UplinkDriver, names_the_way_out_of_a_refusal) {
  const Nic jumbo = nic_with([](Nic& n) { n.mtu = 9000; });
  EXPECT_NE(choose_driver(UplinkDriver::xdp, jumbo).refusal.find("`ip link set eth1 mtu 3502`"), std::string::npos);
  const Nic wide = nic_with([](Nic& n) { n.queues = 128; });
  EXPECT_NE(choose_driver(UplinkDriver::xdp, wide).refusal.find("`ethtool -L eth1 combined 64`"), std::string::npos);
}

TEST(UplinkDriver, a_pci_device_without_an_interface_has_only_dpdk) {
  Nic device;
  device.name = "0000:01:00.0";
  device.driver = dpdk_driver;
  device.physical = true;
  EXPECT_EQ(attempts_of(choose_driver(UplinkDriver::auto_, device)), "dpdk");
  for (const auto asked : {UplinkDriver::packet, UplinkDriver::xdp}) {
    const auto refused = choose_driver(asked, device);
    EXPECT_TRUE(refused.attempts.empty());
    for (const char* part : {"nic 0000:01:00.0: driver", to_string(asked), "--driver auto"}) {
      EXPECT_NE(refused.refusal.find(part), std::string::npos) << refused.refusal;
    }
  }
}

TEST(UplinkDriver, is_opened_anew_only_for_other_plans) {
  const auto before = choose_driver(UplinkDriver::auto_, good_nic());
  const auto stripping_off = nic_with([](Nic& n) { n.offloads[0] = OffloadState::off; });
  EXPECT_TRUE(same_plans(before, choose_driver(UplinkDriver::auto_, stripping_off))) << "that is our own doing";
  EXPECT_FALSE(same_plans(before, choose_driver(UplinkDriver::xdp, good_nic())));
  EXPECT_FALSE(same_plans(before, choose_driver(UplinkDriver::auto_, nic_with([](Nic& n) { n.queues = 2; }))));
  EXPECT_FALSE(same_plans(before, choose_driver(UplinkDriver::packet, good_nic())));
  const Nic veth = nic_with([](Nic& n) { n.physical = false; });
  EXPECT_TRUE(same_plans(choose_driver(UplinkDriver::packet, good_nic()), choose_driver(UplinkDriver::auto_, veth)));
}

}  // namespace
}  // namespace patchbay::model
