#include "control/host/carried.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace patchbay::host {
namespace {

constexpr std::uint16_t ifa_proto = 11;  // IFA_PROTO, since Linux 5.18
constexpr std::uint8_t made_by_kernel_for_link = 3;
constexpr std::uint32_t ticks_a_second = 100;  // USER_HZ, the unit of lifetimes that the kernel gives

std::string address_text(int family, Bytes address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.size() == (family == AF_INET ? 4U : 16U)) inet_ntop(family, address.data(), text, sizeof text);
  return text;
}

bool is_link_local(int family, Bytes address) {
  return family == AF_INET6 && address.size() == 16 && address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

// The last eight bytes of the link-local address that comes from a MAC address.
std::array<std::uint8_t, 8> eui64(const MacAddr& mac) {
  const auto& b = mac.bytes();
  return {static_cast<std::uint8_t>(b[0] ^ 0x02), b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]};
}

bool kernel_makes_address(const ifaddrmsg& head, const std::map<std::uint16_t, Bytes>& attributes, const Link& link) {
  const auto found = attributes.find(IFA_ADDRESS);
  if (found == attributes.end() || !is_link_local(head.ifa_family, found->second)) return false;
  const auto proto = attributes.find(ifa_proto);
  if (proto != attributes.end() && value_of<std::uint8_t>(proto->second) == made_by_kernel_for_link) return true;
  return std::ranges::equal(found->second.subspan(8), eui64(link.mac));
}

bool kernel_makes_route(const rtmsg& head, const std::map<std::uint16_t, Bytes>& attributes) {
  if ((head.rtm_flags & RTM_F_CLONED) != 0) return true;
  if (head.rtm_protocol != RTPROT_KERNEL) return false;
  const auto found = attributes.find(RTA_DST);
  return head.rtm_type != RTN_UNICAST || (found != attributes.end() && is_link_local(head.rtm_family, found->second));
}

// Calls `each` with every nexthop's header and the bytes of the whole nexthop.
template <typename Each>
void for_each_nexthop(Bytes nexthops, Each each) {
  while (nexthops.size() >= sizeof(rtnexthop)) {
    const auto head = value_of<rtnexthop>(nexthops);
    if (head.rtnh_len < sizeof head || head.rtnh_len > nexthops.size()) return;
    each(head, nexthops.subspan(0, head.rtnh_len));
    nexthops = nexthops.subspan(std::min<std::size_t>(RTNH_ALIGN(head.rtnh_len), nexthops.size()));
  }
}

bool leads_through(const std::map<std::uint16_t, Bytes>& attributes, int index) {
  const auto out = attributes.find(RTA_OIF);
  if (out != attributes.end() && value_of<int>(out->second) == index) return true;
  const auto many = attributes.find(RTA_MULTIPATH);
  bool found = false;
  if (many != attributes.end()) {
    for_each_nexthop(many->second, [&](const rtnexthop& head, Bytes) { found |= head.rtnh_ifindex == index; });
  }
  return found;
}

std::string text_of(Bytes bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  return {text, ::strnlen(text, bytes.size())};
}

// A label is the name of the interface, perhaps with more behind a colon.
std::string relabelled(Bytes label, const Link& from, const Link& to) {
  std::string text = text_of(label);
  if (text == from.name) return to.name;
  if (text.starts_with(from.name + ":")) text = to.name + text.substr(from.name.size());
  return text.size() < IFNAMSIZ ? text : to.name;
}

Error dump_error(const char* what, int error) {
  return system_error(std::string("netlink: reading ") + what, error);
}

}  // namespace

// ---- One item -------------------------------------------------------------------------------------------------------

Item::Attributes Item::attributes() const {
  const std::size_t head = kind_ == Kind::address ? sizeof(ifaddrmsg)
                           : kind_ == Kind::route ? sizeof(rtmsg)
                                                  : sizeof(ndmsg);
  return attributes_of(payload_, head);
}

std::string Item::text() const {
  const auto found = attributes();
  const auto value = [&found](std::uint16_t type) {
    const auto at = found.find(type);
    return at == found.end() ? Bytes() : at->second;
  };
  if (kind_ == Kind::neighbour) {
    return "the neighbour " + address_text(value_of<ndmsg>(payload_).ndm_family, value(NDA_DST));
  }
  if (kind_ == Kind::address) {
    const auto head = value_of<ifaddrmsg>(payload_);
    const Bytes local = value(IFA_LOCAL).empty() ? value(IFA_ADDRESS) : value(IFA_LOCAL);
    return fmt::format("{}/{}", address_text(head.ifa_family, local), head.ifa_prefixlen);
  }
  const auto head = value_of<rtmsg>(payload_);
  const char* version = head.rtm_family == AF_INET6 ? "IPv6 " : "";
  if (head.rtm_dst_len == 0) return fmt::format("the {}default route", version);
  return fmt::format("the route to {}/{}", address_text(head.rtm_family, value(RTA_DST)), head.rtm_dst_len);
}

bool Item::is_of_note() const {
  if (kind_ == Kind::address) return value_of<ifaddrmsg>(payload_).ifa_scope < RT_SCOPE_LINK;
  return kind_ == Kind::route && value_of<rtmsg>(payload_).rtm_protocol != RTPROT_KERNEL;
}

bool Item::has_nexthop_object() const {
  return kind_ == Kind::route && attributes().contains(RTA_NH_ID);
}

bool Item::has_gateway() const {
  const auto found = attributes();
  return kind_ == Kind::route &&
         (found.contains(RTA_GATEWAY) || found.contains(RTA_VIA) || found.contains(RTA_MULTIPATH));
}

Message Item::adding(const Link& from, const Link& to) const {
  switch (kind_) {
    case Kind::address:
      return address(RTM_NEWADDR, from, to);
    case Kind::route:
      return route(RTM_NEWROUTE, to);
    case Kind::neighbour:
      break;
  }
  return neighbour(RTM_NEWNEIGH, to);
}

Message Item::removing(const Link& from, const Link& to) const {
  switch (kind_) {
    case Kind::address:
      return address(RTM_DELADDR, from, to);
    case Kind::route:
      return route(RTM_DELROUTE, to);
    case Kind::neighbour:
      break;
  }
  return neighbour(RTM_DELNEIGH, to);
}

Message Item::address(std::uint16_t type, const Link& from, const Link& to) const {
  auto head = value_of<ifaddrmsg>(payload_);
  const auto found = attributes();
  const std::uint32_t flags_before =
      found.contains(IFA_FLAGS) ? value_of<std::uint32_t>(found.at(IFA_FLAGS)) : head.ifa_flags;
  head.ifa_index = static_cast<std::uint32_t>(to.index);
  head.ifa_flags = 0;
  const bool is_new = type == RTM_NEWADDR;
  // Replacing gives an address that is there already the lifetimes of this one.
  Message message(type, is_new ? NLM_F_CREATE | NLM_F_REPLACE : 0U, head);
  for (const std::uint16_t keep : {IFA_ADDRESS, IFA_LOCAL}) {
    if (found.contains(keep)) message.put(keep, found.at(keep));
  }
  if (!is_new) return message;
  for (const std::uint16_t keep :
       {std::uint16_t{IFA_BROADCAST}, std::uint16_t{IFA_CACHEINFO}, std::uint16_t{IFA_RT_PRIORITY}, ifa_proto}) {
    if (found.contains(keep)) message.put(keep, found.at(keep));
  }
  if (found.contains(IFA_LABEL)) message.put_text(IFA_LABEL, relabelled(found.at(IFA_LABEL), from, to));
  std::uint32_t flags = flags_before & (IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN);
  if (head.ifa_family == AF_INET6) {
    flags |= flags_before & (IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR);
    // It was found to be nobody else's already, and must be a source again at once.
    if ((flags_before & IFA_F_DADFAILED) == 0) flags |= IFA_F_NODAD;
  }
  message.put_u32(IFA_FLAGS, flags);
  return message;
}

// `only_ours`: without the nexthops that lead through other interfaces.
void Item::put_nexthops(Message& message, Bytes nexthops, bool only_ours, int to) const {
  std::vector<std::uint8_t> moved;
  for_each_nexthop(nexthops, [&](rtnexthop head, Bytes whole) {
    if (only_ours && head.rtnh_ifindex != on_) return;
    if (head.rtnh_ifindex == on_) head.rtnh_ifindex = to;
    head.rtnh_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
    const std::size_t at = moved.size();
    moved.insert(moved.end(), whole.begin(), whole.end());
    moved.resize(at + RTNH_ALIGN(whole.size()));
    std::memcpy(moved.data() + at, &head, sizeof head);
  });
  message.put(RTA_MULTIPATH, moved);
}

Message Item::route(std::uint16_t type, const Link& to) const {
  auto head = value_of<rtmsg>(payload_);
  const auto found = attributes();
  head.rtm_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
  const bool is_new = type == RTM_NEWROUTE;
  // Appending lets the old and the new way stand side by side until the old one goes.
  Message message(type, is_new ? NLM_F_CREATE | NLM_F_APPEND : 0U, head);
  for (const std::uint16_t keep : {RTA_DST, RTA_SRC, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_FLOW,
                                   RTA_TABLE, RTA_VIA, RTA_PREF, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_TTL_PROPAGATE}) {
    if (found.contains(keep)) message.put(keep, found.at(keep));
  }
  const bool is_ipv6 = head.rtm_family == AF_INET6;
  // IPv6 keeps each nexthop as a route of its own; an IPv4 route goes over with all of them.
  if (found.contains(RTA_MULTIPATH)) put_nexthops(message, found.at(RTA_MULTIPATH), is_ipv6, to.index);
  if (found.contains(RTA_OIF)) message.put_u32(RTA_OIF, static_cast<std::uint32_t>(to.index));
  if (is_new && is_ipv6 && found.contains(RTA_CACHEINFO)) {
    const auto expires = static_cast<std::int32_t>(value_of<rta_cacheinfo>(found.at(RTA_CACHEINFO)).rta_expires);
    const auto ticks = static_cast<std::uint32_t>(std::max(expires, 0));
    if (ticks != 0) message.put_u32(RTA_EXPIRES, (ticks + ticks_a_second - 1) / ticks_a_second);
  }
  return message;
}

Message Item::neighbour(std::uint16_t type, const Link& to) const {
  auto head = value_of<ndmsg>(payload_);
  const auto found = attributes();
  head.ndm_ifindex = to.index;
  const bool is_new = type == RTM_NEWNEIGH;
  Message message(type, is_new ? NLM_F_CREATE | NLM_F_REPLACE : 0U, head);
  for (const std::uint16_t keep : {NDA_DST, NDA_LLADDR, NDA_PROTOCOL}) {
    if (found.contains(keep)) message.put(keep, found.at(keep));
  }
  return message;
}

// ---- Reading --------------------------------------------------------------------------------------------------------

Result<std::optional<Link>> find_link(const Channel& channel, const std::string& name, int index) {
  std::optional<Link> link;
  const Message ask(RTM_GETLINK, 0, ifinfomsg{});
  const int error = channel.dump(ask, [&](std::uint16_t type, Bytes payload) {
    const auto head = value_of<ifinfomsg>(payload);
    const auto found = attributes_of(payload, sizeof head);
    if (type != RTM_NEWLINK || !found.contains(IFLA_IFNAME)) return;
    Link read;
    read.index = head.ifi_index;
    read.name = text_of(found.at(IFLA_IFNAME));
    if (index != 0 ? read.index != index : read.name != name) return;
    const auto mac = found.find(IFLA_ADDRESS);
    if (mac != found.end() && mac->second.size() == 6) read.mac = MacAddr::from_wire(mac->second.data());
    read.up = (head.ifi_flags & IFF_UP) != 0;
    read.type = head.ifi_type;
    if (found.contains(IFLA_MASTER)) read.master = value_of<int>(found.at(IFLA_MASTER));
    if (found.contains(IFLA_IFALIAS)) read.alias = text_of(found.at(IFLA_IFALIAS));
    link = std::move(read);
  });
  if (error != 0 && error != EAGAIN) return fail(dump_error("links", error));
  return link;
}

namespace {

// One reading; EAGAIN: something changed meanwhile.
std::pair<int, const char*> read_items(const Channel& channel, const Link& link, std::vector<Item>& items) {
  const auto index = static_cast<std::uint32_t>(link.index);

  ifaddrmsg addresses{};
  addresses.ifa_index = index;
  int error = channel.dump(Message(RTM_GETADDR, 0, addresses), [&](std::uint16_t type, Bytes payload) {
    const auto head = value_of<ifaddrmsg>(payload);
    if (type != RTM_NEWADDR || head.ifa_index != index) return;
    if (kernel_makes_address(head, attributes_of(payload, sizeof head), link)) return;
    if (head.ifa_family == AF_INET || head.ifa_family == AF_INET6) {
      items.emplace_back(Item::Kind::address, payload, link.index);
    }
  });
  if (error != 0) return {error, "addresses"};

  for (const int family : {AF_INET, AF_INET6}) {
    rtmsg routes{};
    routes.rtm_family = static_cast<unsigned char>(family);
    Message ask(RTM_GETROUTE, 0, routes);
    ask.put_u32(RTA_OIF, index);
    error = channel.dump(ask, [&](std::uint16_t type, Bytes payload) {
      const auto head = value_of<rtmsg>(payload);
      const auto found = attributes_of(payload, sizeof head);
      if (type != RTM_NEWROUTE || kernel_makes_route(head, found) || !leads_through(found, link.index)) return;
      items.emplace_back(Item::Kind::route, payload, link.index);
    });
    if (error != 0 && error != ENOENT) return {error, "routes"};
  }

  Message ask(RTM_GETNEIGH, 0, ndmsg{});
  ask.put_u32(NDA_IFINDEX, index);
  error = channel.dump(ask, [&](std::uint16_t type, Bytes payload) {
    const auto head = value_of<ndmsg>(payload);
    if (type != RTM_NEWNEIGH || head.ndm_ifindex != link.index || (head.ndm_state & NUD_PERMANENT) == 0) return;
    if (head.ndm_family == AF_INET || head.ndm_family == AF_INET6) {
      items.emplace_back(Item::Kind::neighbour, payload, link.index);
    }
  });
  return {error, "neighbours"};
}

}  // namespace

Result<std::vector<Item>> carried_by(const Channel& channel, const Link& link) {
  constexpr int tries = 16;
  std::pair<int, const char*> failed;
  for (int i = 0; i < tries; ++i) {
    std::vector<Item> items;
    failed = read_items(channel, link, items);
    if (failed.first == 0) return items;
    if (failed.first != EAGAIN) break;
  }
  return fail(dump_error(failed.second, failed.first));
}

}  // namespace patchbay::host
