#include "control/host/netlink.h"

#include <linux/ethtool_netlink.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/route/addr.h>
#include <sys/socket.h>

#include <climits>

#include "control/host/addresses.h"

namespace patchbay::host {

Error netlink_error(const std::string& what, int code) {
  const bool is_memory = code == -NLE_NOMEM;
  return make_error(is_memory ? ErrorCode::no_resource : ErrorCode::internal, what + ": " + nl_geterror(code));
}

Result<NetlinkSocket> connect_rtnetlink() {
  NetlinkSocket socket(nl_socket_alloc());
  if (!socket) return fail(ErrorCode::no_resource, "netlink: no memory for a socket");
  if (const int code = nl_connect(socket.get(), NETLINK_ROUTE); code < 0) return fail(netlink_error("netlink", code));
  return socket;
}

Result<NetlinkSocket> connect_ethtool_events() {
  const auto failed = [](int code) { return fail(netlink_error("netlink: ethtool notifications", code)); };
  NetlinkSocket socket(nl_socket_alloc());
  if (!socket) return failed(-NLE_NOMEM);
  if (const int code = genl_connect(socket.get()); code < 0) return failed(code);
  const int group = genl_ctrl_resolve_grp(socket.get(), ETHTOOL_GENL_NAME, ETHTOOL_MCGRP_MONITOR_NAME);
  if (group < 0) return failed(group);
  nl_socket_disable_seq_check(socket.get());
  if (const int code = nl_socket_set_nonblocking(socket.get()); code < 0) return failed(code);
  if (const int code = nl_socket_add_memberships(socket.get(), group, 0); code < 0) return failed(code);
  return socket;
}

std::optional<model::Nic> to_nic(rtnl_link* link) {
  const char* name = rtnl_link_get_name(link);
  if (name == nullptr || rtnl_link_get_arptype(link) != ARPHRD_ETHER) return std::nullopt;
  model::Nic nic;
  nic.name = name;
  nic.index = rtnl_link_get_ifindex(link);
  if (nl_addr* address = rtnl_link_get_addr(link); address != nullptr && nl_addr_get_len(address) == 6) {
    nic.mac = MacAddr::from_wire(static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(address)));
  }
  nic.mtu = rtnl_link_get_mtu(link);
  const unsigned flags = rtnl_link_get_flags(link);
  nic.up = (flags & IFF_UP) != 0;
  nic.carrier = (flags & IFF_LOWER_UP) != 0;
  if (const char* kind = rtnl_link_get_type(link); kind != nullptr) nic.driver = kind;
  return nic;
}

Result<std::optional<std::array<std::uint8_t, 4>>> first_ipv4_address() {
  auto socket = connect_rtnetlink();
  if (!socket) return fail(socket.error());
  nl_cache* raw_cache = nullptr;
  if (const int code = rtnl_addr_alloc_cache(socket->get(), &raw_cache); code < 0) {
    return fail(netlink_error("netlink: addresses", code));
  }
  const NetlinkCache cache(raw_cache);
  std::optional<std::array<std::uint8_t, 4>> first;
  int first_index = INT_MAX;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr; object = nl_cache_get_next(object)) {
    auto* entry = reinterpret_cast<rtnl_addr*>(object);
    nl_addr* local = rtnl_addr_get_local(entry);
    if (local == nullptr || nl_addr_get_family(local) != AF_INET || nl_addr_get_len(local) != 4) continue;
    const auto* bytes = static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(local));
    const int index = rtnl_addr_get_ifindex(entry);
    if (bytes[0] == 127 || index >= first_index) continue;
    first = {bytes[0], bytes[1], bytes[2], bytes[3]};
    first_index = index;
  }
  return first;
}

}  // namespace patchbay::host
