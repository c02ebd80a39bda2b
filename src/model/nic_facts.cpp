#include "model/nic_facts.h"

#include <algorithm>
#include <array>

namespace patchbay::model {
namespace {

constexpr NicFacts i82576{
    .name = "Intel 82576",
    .queues = 16,
    .vmdq_pools = 8,
    .mac_filters = 24,
    .vlan_filters = 32,
    .dpdk = "net_e1000_igb",
    .note =
        "Patchbay sorts into its pools by address, with the driver's own choice by VLAN switched off: 7 vnics have a "
        "queue, on switches with an MTU of at most 1500. Tried on an emulated one only."};
constexpr NicFacts i82576_vf{.name = "Intel 82576 virtual function",
                             .queues = 2,
                             .vmdq_pools = 0,
                             .dpdk = "net_e1000_igb_vf",
                             .note = "A virtual function has no pools of its own."};
constexpr NicFacts i82598{
    .name = "Intel 82598",
    .queues = 64,
    .vmdq_pools = 16,
    .mac_filters = 16,
    .vlan_filters = 0,
    .dpdk = "net_ixgbe",
    .note =
        "DPDK's driver announces 16 pools, but programs them as those of an 82599; nobody is known to have seen them "
        "work. It has no filter by VLAN."};
constexpr NicFacts i82599{.name = "Intel 82599",
                          .queues = 128,
                          .vmdq_pools = 64,
                          .mac_filters = 128,
                          .vlan_filters = 64,
                          .dpdk = "net_ixgbe",
                          .note =
                              "A VLAN that is tied to pools below and above 32 at once is lost in the lower half by "
                              "DPDK's driver."};
constexpr NicFacts i82599_vf{.name = "Intel 82599 virtual function",
                             .vmdq_pools = 0,
                             .dpdk = "net_ixgbe_vf",
                             .note = "A virtual function has no pools of its own."};
constexpr NicFacts bnx2{.name = "Broadcom NetXtreme II (5706 to 5709)",
                        .vmdq_pools = 0,
                        .note =
                            "DPDK has no driver for it, so the kernel sorts. Its TCP offload engine is not available "
                            "to network interfaces today."};
constexpr NicFacts bcm57710{.name = "Broadcom 57710",
                            .vmdq_pools = 0,
                            .note =
                                "DPDK's bnx2x driver does not know this device, so the kernel sorts. Its TCP offload "
                                "engine is not available to network interfaces today."};
constexpr NicFacts bnx2x{.name = "Broadcom 57711",
                         .vmdq_pools = 0,
                         .dpdk = "net_bnx2x",
                         .note =
                             "DPDK's driver has neither pools nor RSS nor offloads, and needs a firmware file "
                             "(7.13.11.0); the kernel's driver suits it better."};
constexpr NicFacts bcm57712{.name = "Broadcom 57712",
                            .vmdq_pools = 0,
                            .note = "DPDK's bnx2x driver does not know this device, so the kernel sorts."};

struct Known {
  std::string_view id;
  const NicFacts* facts;
};
// Sorted by id.
constexpr std::array known{
    Known{"14e4:1639", &bnx2},      Known{"14e4:163a", &bnx2},      Known{"14e4:164a", &bnx2},
    Known{"14e4:164c", &bnx2},      Known{"14e4:164e", &bcm57710},  Known{"14e4:164f", &bnx2x},
    Known{"14e4:1650", &bnx2x},     Known{"14e4:1662", &bcm57712},  Known{"14e4:1663", &bcm57712},
    Known{"14e4:166f", &bcm57712},  Known{"14e4:16aa", &bnx2},      Known{"14e4:16ac", &bnx2},
    Known{"8086:10b6", &i82598},    Known{"8086:10c6", &i82598},    Known{"8086:10c7", &i82598},
    Known{"8086:10c8", &i82598},    Known{"8086:10c9", &i82576},    Known{"8086:10ca", &i82576_vf},
    Known{"8086:10db", &i82598},    Known{"8086:10dd", &i82598},    Known{"8086:10e1", &i82598},
    Known{"8086:10e6", &i82576},    Known{"8086:10e7", &i82576},    Known{"8086:10e8", &i82576},
    Known{"8086:10ec", &i82598},    Known{"8086:10ed", &i82599_vf}, Known{"8086:10f1", &i82598},
    Known{"8086:10f4", &i82598},    Known{"8086:10f7", &i82599},    Known{"8086:10f8", &i82599},
    Known{"8086:10f9", &i82599},    Known{"8086:10fb", &i82599},    Known{"8086:10fc", &i82599},
    Known{"8086:1508", &i82598},    Known{"8086:150a", &i82576},    Known{"8086:150b", &i82598},
    Known{"8086:150d", &i82576},    Known{"8086:1514", &i82599},    Known{"8086:1517", &i82599},
    Known{"8086:1518", &i82576},    Known{"8086:151c", &i82599},    Known{"8086:1526", &i82576},
    Known{"8086:152d", &i82576_vf},
};
static_assert(std::is_sorted(known.begin(), known.end(), [](const Known& a, const Known& b) { return a.id < b.id; }));

}  // namespace

const NicFacts* nic_facts(std::string_view pci_id) noexcept {
  const auto found = std::lower_bound(known.begin(), known.end(), pci_id,
                                      [](const Known& each, std::string_view id) { return each.id < id; });
  return found != known.end() && found->id == pci_id ? found->facts : nullptr;
}

}  // namespace patchbay::model
