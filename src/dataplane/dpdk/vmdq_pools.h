// VMDq: the pools of a NIC, one queue a pool, with frames sorted into them by destination address.
//
// Theory  Pool 0 is the default one: it gets every unicast frame whose address belongs to no other pool. Which drivers are
//         known to do it so that no frame is lost: is_known(). The VLAN is not looked at: a switch has each address once,
//         and judges the VLAN itself.
//         Frames for groups of stations are replicated to all pools. Who receives from a pool other than the default one
//         passes over them, so that each counts once.
// Source  docs/decisions/vmq-hardware.md; DPDK 22.11, drivers/net/e1000/igb_rxtx.c: igb_vmdq_rx_hw_configure().
// Limits  mtu_max: larger frames do not pass the pools, for the driver leaves the pools' own limit of length as it is.
// Threads control's.
#pragma once
#include <cstdint>

#include "base/mac_addr.h"

struct rte_eth_conf;
struct rte_eth_dev_info;

namespace patchbay::dataplane::dpdk {

namespace vmdq {

inline constexpr std::uint16_t mtu_max = 1500;
inline constexpr std::uint16_t pools = 8;

[[nodiscard]] bool is_known(const rte_eth_dev_info& info);
void configure(rte_eth_conf& config);
// Of a device that was configured for pools and is started: the default pool gets what it must. 0, or a negative errno value,
// as of the two below.
[[nodiscard]] int open_default_pool(std::uint16_t port);
// Frames to `mac` go to the pool, or no longer. Not for the device's own address, which the driver does not take away again.
[[nodiscard]] int add(std::uint16_t port, std::uint16_t pool, MacAddr mac);
[[nodiscard]] int remove(std::uint16_t port, MacAddr mac);

}  // namespace vmdq
}  // namespace patchbay::dataplane::dpdk
