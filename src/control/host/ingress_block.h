// Keeps the host's IP from hearing a NIC whose frames it gets through a host vnic already.
//
// Theory  A packet socket sees what the NIC receives and the kernel goes on with the frame. Once the host's addresses
//         are on a vnic with the NIC's MAC, every packet for the host would come in twice: through the switch and, for
//         Linux answers for any of its addresses on any interface, straight from the NIC. A chain at the NIC's ingress
//         drops untagged IPv4, ARP and IPv6 behind the packet sockets; other protocols, and VLAN interfaces on top of
//         the NIC, go on as before.
//         The table belongs to our netlink socket and goes with it, so that not even kill -9 leaves it behind.
// Limits  nf_tables with owned tables: Linux 5.12.
// Threads control's only.
// Source  Linux include/uapi/linux/netfilter/nf_tables.h.
#pragma once
#include <map>
#include <optional>
#include <string>

#include "control/host/carried.h"

namespace patchbay::host {

class IngressBlock {
 public:
  // Errors: unavailable, no_resource, internal; they name the NIC.
  [[nodiscard]] Result<void> put(const Link& nic);
  // Nothing happens if there is none.
  void remove(const std::string& nic);
  [[nodiscard]] bool is_on(const Link& nic) const;

 private:
  std::optional<Channel> channel_;      // opened for the first NIC: a host without nf_tables can do all but share
  std::map<std::string, int> indexes_;  // by NIC: the interface that its chain hangs on
};

}  // namespace patchbay::host
