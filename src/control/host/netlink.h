// Owners of libnl's objects, and one link message as a Nic.
#pragma once
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/socket.h>

#include <memory>
#include <optional>

#include "base/result.h"
#include "model/nic.h"

namespace patchbay::host {

struct FreeSocket {
  void operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }
};
using NetlinkSocket = std::unique_ptr<nl_sock, FreeSocket>;

struct FreeCache {
  void operator()(nl_cache* cache) const noexcept { nl_cache_free(cache); }
};
using NetlinkCache = std::unique_ptr<nl_cache, FreeCache>;

// "<what>: <libnl's words>"
[[nodiscard]] Error netlink_error(const std::string& what, int code);

// A socket connected to rtnetlink. Errors: no_resource, internal.
[[nodiscard]] Result<NetlinkSocket> connect_rtnetlink();

// A socket that does not block, on which the kernel tells what somebody changes by ethtool. Errors: no_resource, internal
// (the kernel has no netlink for ethtool: before Linux 5.6).
[[nodiscard]] Result<NetlinkSocket> connect_ethtool_events();

// The parts of a Nic that netlink knows; nothing if the link is no Ethernet device.
[[nodiscard]] std::optional<model::Nic> to_nic(rtnl_link* link);

}  // namespace patchbay::host
