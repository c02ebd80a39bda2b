#include "dataplane/ports/interface.h"

#include <net/if.h>
#include <net/if_arp.h>
#include <netlink/route/link.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace patchbay::dataplane {
namespace {

ifreq request_for(const std::string& name) noexcept {
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
  return request;
}

struct NetlinkCloser {
  void operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }
  void operator()(rtnl_link* link) const noexcept { rtnl_link_put(link); }
};
using NetlinkSocket = std::unique_ptr<nl_sock, NetlinkCloser>;
using NetlinkLink = std::unique_ptr<rtnl_link, NetlinkCloser>;

Result<NetlinkSocket> connect_netlink() {
  NetlinkSocket socket(nl_socket_alloc());
  if (!socket || nl_connect(socket.get(), NETLINK_ROUTE) < 0) {
    return fail(ErrorCode::internal, "cannot open a netlink socket");
  }
  return socket;
}

Error not_permitted(const std::string& what, int errno_value) {
  return privileged_error(what, errno_value, "CAP_NET_ADMIN");
}

// A text that the kernel has about the link; empty if it has none.
template <typename What>
Result<std::string> text_of(const std::string& name, int index, What what) {
  auto netlink = connect_netlink();
  if (!netlink) return fail(netlink.error());
  rtnl_link* found = nullptr;
  if (rtnl_link_get_kernel(netlink->get(), index, nullptr, &found) < 0) {
    return fail(ErrorCode::not_found, "no network interface is called " + name);
  }
  const NetlinkLink link(found);
  const char* const text = what(link.get());
  return std::string(text == nullptr ? "" : text);
}

}  // namespace

Result<std::vector<std::string>> remove_interfaces(const std::string& alias, const std::set<std::string>& except) {
  auto netlink = connect_netlink();
  if (!netlink) return fail(netlink.error());
  nl_cache* all = nullptr;
  if (const int error = rtnl_link_alloc_cache(netlink->get(), AF_UNSPEC, &all); error < 0) {
    return fail(ErrorCode::internal, std::string("cannot list network interfaces: ") + nl_geterror(error));
  }
  const std::unique_ptr<nl_cache, void (*)(nl_cache*)> cache(all, nl_cache_free);
  std::vector<std::string> removed;
  for (nl_object* at = nl_cache_get_first(cache.get()); at != nullptr; at = nl_cache_get_next(at)) {
    auto* const link = reinterpret_cast<rtnl_link*>(at);
    const char* const has = rtnl_link_get_ifalias(link);
    const char* const name = rtnl_link_get_name(link);
    if (has == nullptr || name == nullptr || alias != has || except.contains(name)) continue;
    const int error = rtnl_link_delete(netlink->get(), link);
    if (error == -NLE_PERM) {
      return fail(not_permitted(std::string("interface ") + name + ", left by an earlier run: removing it", EPERM));
    }
    if (error == 0) removed.emplace_back(name);  // any other error: it went by itself
  }
  return removed;
}

Result<Interface> Interface::open(const std::string& name) {
  Interface result;
  result.name_ = name;
  result.socket_.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!result.socket_) return fail(system_error("interface " + name, errno));
  ifreq request = request_for(name);
  if (name.size() >= IF_NAMESIZE || ioctl(result.socket_.get(), SIOCGIFINDEX, &request) != 0) {
    return fail(ErrorCode::not_found, "no network interface is called " + name);
  }
  result.index_ = request.ifr_ifindex;
  if (ioctl(result.socket_.get(), SIOCGIFHWADDR, &request) != 0) return fail(system_error("interface " + name, errno));
  result.hardware_type_ = request.ifr_hwaddr.sa_family;
  return result;
}

Result<std::uint32_t> Interface::mtu() const {
  ifreq request = request_for(name_);
  if (ioctl(socket_.get(), SIOCGIFMTU, &request) != 0) return fail(system_error("interface " + name_, errno));
  return static_cast<std::uint32_t>(request.ifr_mtu);
}

Result<std::string> Interface::kind() const {
  return text_of(name_, index_, rtnl_link_get_type);
}

Result<std::string> Interface::alias() const {
  return text_of(name_, index_, rtnl_link_get_ifalias);
}

Result<void> Interface::set_alias(const std::string& alias) {
  auto netlink = connect_netlink();
  if (!netlink) return fail(netlink.error());
  const NetlinkLink from(rtnl_link_alloc());
  const NetlinkLink to(rtnl_link_alloc());
  rtnl_link_set_ifindex(from.get(), index_);
  rtnl_link_set_ifindex(to.get(), index_);
  rtnl_link_set_ifalias(to.get(), alias.c_str());
  if (const int error = rtnl_link_change(netlink->get(), from.get(), to.get(), 0); error < 0) {
    if (error == -NLE_PERM) return fail(not_permitted("interface " + name_ + ": setting its alias", EPERM));
    return fail(ErrorCode::internal, "interface " + name_ + ": cannot set its alias: " + nl_geterror(error));
  }
  return {};
}

// Setting what is there already would make the kernel forget neighbours.
Result<void> Interface::set_mac(const MacAddr& mac) {
  ifreq request = request_for(name_);
  if (ioctl(socket_.get(), SIOCGIFHWADDR, &request) != 0) return fail(system_error("interface " + name_, errno));
  if (std::memcmp(request.ifr_hwaddr.sa_data, mac.bytes().data(), mac.bytes().size()) == 0) return {};
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, mac.bytes().data(), mac.bytes().size());
  if (ioctl(socket_.get(), SIOCSIFHWADDR, &request) != 0) {
    return fail(not_permitted("interface " + name_ + ": setting its address", errno));
  }
  return {};
}

Result<void> Interface::set_mtu(std::uint32_t mtu) {
  ifreq request = request_for(name_);
  request.ifr_mtu = static_cast<int>(mtu);
  if (ioctl(socket_.get(), SIOCSIFMTU, &request) != 0) {
    return fail(not_permitted("interface " + name_ + ": setting its MTU to " + std::to_string(mtu), errno));
  }
  return {};
}

Result<void> Interface::set_up() {
  ifreq request = request_for(name_);
  if (ioctl(socket_.get(), SIOCGIFFLAGS, &request) != 0) return fail(system_error("interface " + name_, errno));
  if ((request.ifr_flags & IFF_UP) != 0) return {};
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(socket_.get(), SIOCSIFFLAGS, &request) != 0) {
    return fail(not_permitted("interface " + name_ + ": setting it up", errno));
  }
  return {};
}

}  // namespace patchbay::dataplane
