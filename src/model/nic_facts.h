// What is known of NICs by their PCI ids, where it helps whoever wants receive queues for vnics: pools, filters, pitfalls.
//
// Source  DPDK 22.11: drivers/net/e1000, ixgbe, i40e, bnx2x and doc/guides/nics; Linux: igb, ixgbe, bnx2, bnx2x; QEMU:
//         hw/net/igb_core.c.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace patchbay::model {

struct NicFacts {
  const char* name;                           // of the family, for people
  std::optional<unsigned> queues = {};        // receive queues of the device; nothing: unknown
  std::optional<unsigned> vmdq_pools = {};    // 0: it has no pools that DPDK uses; nothing: unknown
  std::optional<unsigned> mac_filters = {};   // addresses that it can hold; nothing: unknown
  std::optional<unsigned> vlan_filters = {};  // VLANs that it can tie to pools; nothing: unknown
  const char* dpdk = nullptr;                 // DPDK's driver; null: none takes it
  const char* note = nullptr;                 // what to look out for, a sentence or two; null: nothing known
};

// By vendor and device, "8086:10c9". Null: nothing is known of it.
[[nodiscard]] const NicFacts* nic_facts(std::string_view pci_id) noexcept;

}  // namespace patchbay::model
