#include "control/host/sharing.h"

#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <utility>

#include "control/host/carried.h"
#include "control/host/ingress_block.h"
#include "control/host/move.h"
#include "model/vnic.h"

namespace patchbay::host {
namespace {

using boost::asio::posix::stream_descriptor;

// "192.0.2.1/24, 192.0.2.2/24 and 3 more"
std::string some_of(const std::vector<Item>& items) {
  constexpr std::size_t shown_max = 6;
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < shown_max; ++i) text += (i == 0 ? "" : ", ") + items[i].text();
  if (items.size() > shown_max) text += fmt::format(" and {} more", items.size() - shown_max);
  return text;
}

class NetlinkSharing final : public Sharing {
 public:
  NetlinkSharing(boost::asio::io_context& loop, Channel queries, Channel events)
      : queries_(std::move(queries)), events_(std::move(events)), readable_(loop, events_.fd()) {
    wait();
  }
  ~NetlinkSharing() override { readable_.release(); }  // events_ closes it

  Result<void> check_uplink(const std::string& nic) const override;
  Result<std::vector<std::string>> of_note(const std::string& interface) const override;
  Result<void> take(const std::string& nic, const std::string& vnic) override;
  Result<void> give_back(const std::string& nic, const std::string& vnic) override;
  bool is_taken(const std::string& nic) const override;
  void on_change(std::function<void()> changed) override { changed_ = std::move(changed); }

 private:
  [[nodiscard]] Result<Link> need(const std::string& interface) const;
  // What `from` carries, all of it movable.
  [[nodiscard]] Result<std::vector<Item>> movable(const Link& from) const;
  [[nodiscard]] Result<void> move(const Link& from, const Link& to) const;
  void wait();
  [[nodiscard]] bool receive() const;
  [[nodiscard]] bool concerns_us(Bytes message) const;

  Channel queries_;
  Channel events_;
  IngressBlock block_;
  stream_descriptor readable_;
  std::function<void()> changed_;
  std::map<int, std::string> taken_;  // NICs by index
};

Result<Link> NetlinkSharing::need(const std::string& interface) const {
  auto link = find_link(queries_, interface);
  if (!link) return fail(link.error());
  if (!*link) return fail(ErrorCode::not_found, "no network interface is called " + interface);
  return **link;
}

Result<void> NetlinkSharing::check_uplink(const std::string& nic) const {
  const auto found = find_link(queries_, nic);
  if (!found) return fail(found.error());
  if (!*found) return {};
  const Link& link = **found;
  if (link.type != ARPHRD_ETHER) {
    return fail(ErrorCode::invalid,
                fmt::format("nic {} is no Ethernet device; `patchbay nic list` shows what can be used", nic));
  }
  if (link.alias.starts_with(model::host_vnic_alias)) {
    return fail(ErrorCode::in_use, fmt::format("nic {} is the interface of a host vnic; use a NIC", nic));
  }
  if (link.master != 0) {
    const auto master = find_link(queries_, "", link.master);
    const std::string name = master && *master ? (*master)->name : fmt::format("interface {}", link.master);
    return fail(ErrorCode::in_use,
                fmt::format("nic {} is a port of {}, which takes its frames; `ip link set {} nomaster` "
                            "frees it, or use another NIC",
                            nic, name, nic));
  }
  // A wireless station sends with its own address only, so no guest behind it would get an answer.
  if (::access(("/sys/class/net/" + nic + "/phy80211").c_str(), F_OK) == 0) {
    return fail(ErrorCode::invalid,
                fmt::format("nic {} is wireless and lets no other address than its own through; use a wired NIC", nic));
  }
  return {};
}

Result<std::vector<std::string>> NetlinkSharing::of_note(const std::string& interface) const {
  std::vector<std::string> texts;
  const auto link = find_link(queries_, interface);
  if (!link) return fail(link.error());
  if (!*link) return texts;
  const auto items = carried_by(queries_, **link);
  if (!items) return fail(items.error());
  for (const Item& item : *items) {
    if (item.is_of_note()) texts.push_back(item.text());
  }
  return texts;
}

Result<std::vector<Item>> NetlinkSharing::movable(const Link& from) const {
  auto items = carried_by(queries_, from);
  if (!items) return items;
  for (const Item& item : *items) {
    if (!item.has_nexthop_object()) continue;
    return fail(ErrorCode::invalid, fmt::format("{} of {} uses a nexthop object (`ip nexthop`), which cannot be moved; "
                                                "replace it by a route with a gateway first",
                                                item.text(), from.name));
  }
  return items;
}

Result<void> NetlinkSharing::move(const Link& from, const Link& to) const {
  const auto items = movable(from);
  if (!items) return fail(items.error());
  if (items->empty()) return {};
  if (auto ok = move_items(queries_, *items, from, to); !ok) return ok;
  spdlog::info("moved from {} to {}: {}", from.name, to.name, some_of(*items));
  return {};
}

Result<void> NetlinkSharing::take(const std::string& nic, const std::string& vnic) {
  const auto from = need(nic);
  if (!from) return fail(from.error());
  const auto to = need(vnic);
  if (!to) return fail(to.error());
  const bool was_on = block_.is_on(*from);
  if (auto ok = block_.put(*from); !ok) return ok;
  if (auto ok = move(*from, *to); !ok) {
    if (!was_on) block_.remove(nic);
    return ok;
  }
  std::erase_if(taken_, [&nic](const auto& taken) { return taken.second == nic; });
  taken_[from->index] = nic;
  return {};
}

Result<void> NetlinkSharing::give_back(const std::string& nic, const std::string& vnic) {
  const auto from = find_link(queries_, vnic);
  if (!from) return fail(from.error());
  const auto to = find_link(queries_, nic);
  if (!to) return fail(to.error());
  // An interface that only has the vnic's name keeps what it has: the vnic was never opened because of it.
  if (*from && (*from)->alias.starts_with(model::host_vnic_alias)) {
    const auto items = movable(**from);
    if (!items) return fail(items.error());
    if (!items->empty() && !*to) {
      return fail(ErrorCode::in_use,
                  fmt::format("nic {} is gone, so {} of {} cannot move back to it; bring the NIC back, or give them up "
                              "with `ip addr flush dev {}; ip route flush dev {}`",
                              nic, some_of(*items), vnic, vnic, vnic));
    }
    if (!items->empty() && !(*to)->up) {
      return fail(ErrorCode::in_use, fmt::format("nic {} is down, so {} of {} cannot move back to it; first `ip link "
                                                 "set {} up`",
                                                 nic, some_of(*items), vnic, nic));
    }
    if (*to) {
      if (auto ok = move(**from, **to); !ok) return ok;
    }
  }
  block_.remove(nic);
  std::erase_if(taken_, [&nic](const auto& taken) { return taken.second == nic; });
  return {};
}

bool NetlinkSharing::is_taken(const std::string& nic) const {
  const auto link = find_link(queries_, nic);
  if (!link || !*link || !block_.is_on(**link)) return false;
  const auto items = carried_by(queries_, **link);
  return items && items->empty();
}

// ---- What changes ---------------------------------------------------------------------------------------------------

void NetlinkSharing::wait() {
  readable_.async_wait(stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
    if (error) return;  // being destroyed
    const bool is_ours = receive();
    wait();
    if (is_ours && changed_) changed_();
  });
}

// Takes what is there. True if something of it is about a NIC that was taken.
bool NetlinkSharing::receive() const {
  constexpr int datagrams_max = 256;  // a turn of the event loop
  std::vector<std::uint8_t> datagram(64 << 10);
  bool is_ours = false;
  for (int i = 0; i < datagrams_max; ++i) {
    const ssize_t size = ::recv(events_.fd(), datagram.data(), datagram.size(), MSG_DONTWAIT);
    if (size < 0 && errno == ENOBUFS) is_ours = true;  // some were lost: look
    if (size < 0 && errno != ENOBUFS && errno != EINTR) break;
    if (size > 0 && !taken_.empty()) is_ours |= concerns_us(Bytes(datagram).subspan(0, static_cast<std::size_t>(size)));
  }
  return is_ours && !taken_.empty();
}

bool NetlinkSharing::concerns_us(Bytes message) const {
  const auto head = value_of<nlmsghdr>(message);
  if (message.size() < sizeof head) return false;
  const Bytes payload = message.subspan(sizeof head);
  if (head.nlmsg_type == RTM_NEWADDR) {
    return taken_.contains(static_cast<int>(value_of<ifaddrmsg>(payload).ifa_index));
  }
  if (head.nlmsg_type != RTM_NEWROUTE) return false;
  const auto found = attributes_of(payload, sizeof(rtmsg));
  const auto out = found.find(RTA_OIF);
  return found.contains(RTA_MULTIPATH) || (out != found.end() && taken_.contains(value_of<int>(out->second)));
}

}  // namespace

Result<std::unique_ptr<Sharing>> Sharing::create(boost::asio::io_context& loop) {
  auto queries = Channel::open(NETLINK_ROUTE);
  if (!queries) return fail(queries.error());
  auto events = Channel::open(NETLINK_ROUTE);
  if (!events) return fail(events.error());
  for (const int group : {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE}) {
    if (::setsockopt(events->fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
      return fail(system_error("netlink: address notifications", errno));
    }
  }
  return std::make_unique<NetlinkSharing>(loop, std::move(*queries), std::move(*events));
}

}  // namespace patchbay::host
