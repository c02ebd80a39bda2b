#include "dataplane/dpdk/vmdq_pools.h"

#include <rte_ethdev.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace patchbay::dataplane::dpdk::vmdq {
namespace {

rte_ether_addr address_of(MacAddr mac) noexcept {
  rte_ether_addr address = {};
  std::copy(mac.bytes().begin(), mac.bytes().end(), std::begin(address.addr_bytes));
  return address;
}

// The device knows 4096 hashes of groups, made of the last 12 bits of the address: one address for each.
std::vector<rte_ether_addr> one_group_of_each_hash() {
  std::vector<rte_ether_addr> groups(4096);
  for (unsigned hash = 0; hash < groups.size(); ++hash) {
    const auto high = static_cast<std::uint8_t>((hash & 0xF) << 4);
    const auto low = static_cast<std::uint8_t>(hash >> 4);
    groups[hash] = {{0x01, 0, 0, 0, high, low}};
  }
  return groups;
}

}  // namespace

bool is_known(const rte_eth_dev_info& info) {
  constexpr unsigned queues_of_82576 = 16;  // its successors, which nobody has tried, have half as many
  return std::string_view(info.driver_name) == "net_e1000_igb" && info.max_vmdq_pools == pools &&
         info.max_rx_queues == queues_of_82576;
}

void configure(rte_eth_conf& config) {
  config.rxmode.mq_mode = RTE_ETH_MQ_RX_VMDQ_ONLY;
  auto& vmdq = config.rx_adv_conf.vmdq_rx_conf;
  vmdq.nb_queue_pools = RTE_ETH_8_POOLS;
  vmdq.enable_default_pool = 1;
  vmdq.default_pool = 0;
  vmdq.rx_mode = RTE_ETH_VMDQ_ACCEPT_UNTAG | RTE_ETH_VMDQ_ACCEPT_BROADCAST | RTE_ETH_VMDQ_ACCEPT_HASH_MC;
}

int open_default_pool(std::uint16_t port) {
  // The driver starts pools with the VLAN filter on, which loses all groups of VLANs that no pool has. It is off by its own
  // account, so it has to be switched on first.
  for (const int filter : {RTE_ETH_VLAN_FILTER_OFFLOAD, 0}) {
    if (const int error = rte_eth_dev_set_vlan_offload(port, filter); error != 0) return error;
  }
  auto groups = one_group_of_each_hash();
  return rte_eth_dev_set_mc_addr_list(port, groups.data(), static_cast<std::uint32_t>(groups.size()));
}

int add(std::uint16_t port, std::uint16_t pool, MacAddr mac) {
  rte_ether_addr address = address_of(mac);
  return rte_eth_dev_mac_addr_add(port, &address, pool);
}

int remove(std::uint16_t port, MacAddr mac) {
  rte_ether_addr address = address_of(mac);
  return rte_eth_dev_mac_addr_remove(port, &address);
}

}  // namespace patchbay::dataplane::dpdk::vmdq
