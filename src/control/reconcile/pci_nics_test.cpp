#include "control/reconcile/pci_nics.h"

#include <gtest/gtest.h>

#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

constexpr const char* address = "0000:01:00.0";

class PciNicsTest : public HostServiceTest {
 protected:
  void SetUp() override {
    nics.current.clear();
    start();
  }

  // The device, bound to `driver`: with a network driver it has the interface eth1, else none.
  void bind(const std::string& driver) {
    nics.current.clear();
    const model::PciDevice device{address, "8086:10c9", driver, std::nullopt};
    if (driver == "igb") {
      nics.put("eth1").pci = device;
    } else {
      model::Nic nic;
      nic.name = address;
      nic.driver = driver;
      nic.physical = true;
      nic.pci = device;
      nics.current[address] = nic;
    }
    nics.tell();
  }
  void remove() {
    nics.current.clear();
    nics.tell();
  }
  // The refusal of a switch on `uplink`; empty: it was made.
  std::string create(const std::string& name, const std::string& uplink, std::uint16_t mtu = 1500) {
    const auto made = service->create_switch({name, model::SwitchType::external, uplink, std::nullopt, mtu});
    return made ? "" : made.error().message;
  }
};

TEST_F(PciNicsTest, a_device_is_refused_until_it_is_bound_for_dpdk) {
  EXPECT_EQ(create("sw1", address), "nic 0000:01:00.0 does not exist; `patchbay nic list` shows what there is");
  bind("");
  EXPECT_EQ(create("sw1", address), "nic 0000:01:00.0: it has no driver: bind it to vfio-pci");
  bind("uio_pci_generic");
  EXPECT_EQ(create("sw1", address), "nic 0000:01:00.0: it is bound to uio_pci_generic: bind it to vfio-pci");
  bind("igb");
  nics.current["eth1"].driver = "igb";
  EXPECT_EQ(create("sw1", address),
            "nic 0000:01:00.0 is bound to igb (kernel interface eth1): use eth1, or bind it to vfio-pci");
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_EQ(service->list_switches().size(), 0U);
  bind("vfio-pci");
  EXPECT_EQ(create("sw1", address), "");
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_uplink 0000:01:00.0 dpdk", "publish [0000:01:00.0 1500:]"}))
      << "its carrier is not control's to tell";
}

TEST_F(PciNicsTest, a_device_that_the_host_uses_itself_is_refused_with_what_it_would_lose) {
  bind("igb");
  nics.current["eth1"].driver = "igb";
  sharing.carried["eth1"] = {"192.0.2.10/24", "default via 192.0.2.1"};
  EXPECT_EQ(create("sw1", address),
            "nic 0000:01:00.0 is bound to igb (kernel interface eth1), and the host uses it itself (192.0.2.10/24, "
            "default via 192.0.2.1): use eth1 with --share-with-host VNIC; or take that from it first, then bind it to "
            "vfio-pci");
  EXPECT_EQ(dataplane.take_calls(), Lines{});
}

TEST_F(PciNicsTest, has_nothing_to_share_and_no_other_driver) {
  bind("vfio-pci");
  SwitchSpec spec{"sw1", model::SwitchType::external, address, std::nullopt, 1500};
  spec.share_with_host = "host0";
  const auto shared = service->create_switch(spec);
  ASSERT_FALSE(shared);
  EXPECT_EQ(
      shared.error().message,
      "switch sw1: the kernel has no interface for nic 0000:01:00.0, so the host has nothing there to share; leave "
      "--share-with-host out, and create a host vnic");
  spec.share_with_host = "";
  spec.driver = model::UplinkDriver::xdp;
  const auto driven = service->create_switch(spec);
  ASSERT_FALSE(driven);
  EXPECT_NE(driven.error().message.find("--driver auto"), std::string::npos) << driven.error().message;
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  EXPECT_EQ(service->list_switches().size(), 0U);
}

TEST_F(PciNicsTest, follows_its_device_away_and_back) {
  bind("vfio-pci");
  ASSERT_EQ(create("sw1", address), "");
  static_cast<void>(dataplane.take_calls());
  bind("igb");
  EXPECT_EQ(dataplane.take_calls(), (Lines{"publish", "close 0000:01:00.0"}));
  EXPECT_NE(service->show_switch("sw1")->uplink->state_reason.find("kernel interface eth1"), std::string::npos);
  remove();
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "no such NIC");
  bind("");
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "it has no driver: bind it to vfio-pci");
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  bind("vfio-pci");
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_uplink 0000:01:00.0 dpdk", "publish [0000:01:00.0 1500:]"}));
}

TEST_F(PciNicsTest, one_device_carries_one_switch_under_both_names) {
  bind("vfio-pci");
  ASSERT_EQ(create("sw1", address), "");
  bind("igb");
  EXPECT_EQ(create("sw2", "eth1"),
            "nic eth1 is the same device as 0000:01:00.0, which carries the external switch sw1 already; a NIC carries "
            "one: use another NIC, or put the vnics on sw1");
  ASSERT_TRUE(service->delete_switch("sw1"));
  ASSERT_EQ(create("sw2", "eth1"), "");
  EXPECT_NE(create("sw1", address).find("sw2"), std::string::npos);
}

TEST_F(PciNicsTest, a_larger_mtu_than_the_device_takes_is_refused_and_leaves_nothing) {
  bind("vfio-pci");
  dataplane.devices[address] = {"net_fake", {}, 1500, true, 1000, true};
  EXPECT_EQ(create("sw1", address, 9000),
            "switch sw1: its mtu 9000 is larger than the 1500 that nic 0000:01:00.0 takes; give a smaller --mtu, or "
            "another NIC");
  EXPECT_EQ(service->list_switches().size(), 0U);
  EXPECT_EQ(dataplane.ports_open(), 0U);
  ASSERT_EQ(create("sw1", address, 1500), "");
  EXPECT_FALSE(service->set_switch("sw1", {std::nullopt, 1501}));
  EXPECT_TRUE(service->set_switch("sw1", {std::nullopt, 1400}));
}

TEST_F(PciNicsTest, apply_refuses_what_create_does) {
  bind("vfio-pci");
  dataplane.devices[address] = {"net_fake", {}, 1500, true, 1000, true};
  SwitchSpec spec{"sw1", model::SwitchType::external, address, std::nullopt, 9000};
  const auto large = service->apply({{spec}, {}}, false);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().noun + " " + large.error().name, "switch sw1");
  EXPECT_NE(large.error().error.message.find("larger than the 1500"), std::string::npos) << large.error().error.message;
  EXPECT_EQ(dataplane.ports_open(), 0U);
  spec.mtu = 1500;
  spec.share_with_host = "host0";
  const auto shared = service->apply({{spec}, {}}, false);
  ASSERT_FALSE(shared);
  EXPECT_NE(shared.error().error.message.find("nothing there to share"), std::string::npos)
      << shared.error().error.message;
  EXPECT_EQ(service->list_switches().size(), 0U);
  spec.share_with_host = "";
  EXPECT_TRUE(service->apply({{spec}, {}}, false));
  EXPECT_EQ(dataplane.ports_open(), 1U);
}

TEST_F(PciNicsTest, shows_what_the_device_says_once_it_is_open) {
  bind("vfio-pci");
  EXPECT_EQ(service->show_nic(address)->state_reason, "bound to vfio-pci, ready for DPDK");
  ASSERT_EQ(create("sw1", address), "");
  dataplane.devices[address] = {"net_fake", MacAddr::from_uint64(0x020000000007), 9000, true, 1000, true};
  auto shown = *service->show_nic(address);
  EXPECT_EQ(shown.state_reason, "driven by DPDK's net_fake");
  EXPECT_EQ(shown.switch_name, "sw1");
  EXPECT_EQ(shown.nic.mac.to_string(), "02:00:00:00:00:07");
  EXPECT_EQ(shown.nic.mtu, 9000U);
  EXPECT_TRUE(shown.nic.carrier);
  EXPECT_EQ(service->show_switch("sw1")->uplink->state, "up");
  dataplane.devices[address].interrupts = false;
  dataplane.devices[address].carrier = false;
  shown = *service->show_nic(address);
  EXPECT_NE(shown.state_reason.find("never sleeps"), std::string::npos);
  EXPECT_FALSE(shown.nic.carrier);
  EXPECT_EQ(service->show_switch("sw1")->uplink->state_reason, "no carrier");
}

TEST_F(PciNicsTest, shows_why_it_cannot_be_opened) {
  dataplane.refusals["open_uplink 0000:01:00.0 dpdk"] =
      make_error(ErrorCode::unavailable, "nic 0000:01:00.0: it is in use");
  bind("vfio-pci");
  EXPECT_EQ(create("sw1", address), "nic 0000:01:00.0: it is in use");
  EXPECT_EQ(service->list_switches().size(), 0U);
}

}  // namespace
}  // namespace patchbay::reconcile
