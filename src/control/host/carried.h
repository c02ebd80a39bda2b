// What an interface carries for the host's own IP: addresses, routes, permanent neighbours; and the messages that give
// the same to another interface.
//
// Theory  Each is kept as the kernel's own attributes. adding() makes the request that creates it on an interface,
//         removing() the one that takes it from an interface. Both replace what names the interface (index, label) and
//         leave out what the kernel computes by itself.
//         Not carried, for the kernel makes them by itself on each interface: the IPv6 link-local address of its MAC,
//         the routes to its own addresses and to groups. Routes to connected networks are carried, for an address may
//         be set not to make one; where it does, adding the route again changes nothing.
// Limits  Routes by way of a nexthop object cannot be moved, for the object names the interface; they have
//         `nexthop_object` set.
// Threads control's only.
// Source  rtnetlink(7); Linux include/uapi/linux/{if_addr,rtnetlink,neighbour}.h.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "control/host/channel.h"

namespace patchbay::host {

struct Link {
  int index = 0;
  std::string name;
  MacAddr mac;
  bool up = false;    // administratively
  unsigned type = 0;  // ARPHRD_…
  int master = 0;     // index of the bridge or bond that it is a port of; 0: none
  std::string alias;
};

class Item {
 public:
  enum class Kind : std::uint8_t { address, route, neighbour };

  Item(Kind kind, Bytes payload, int on) : kind_(kind), payload_(payload.begin(), payload.end()), on_(on) {}

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  // "192.0.2.1/24", "the default route", "the route to 198.51.100.0/24", "the neighbour 192.0.2.9"
  [[nodiscard]] std::string text() const;
  // Whether the host would lose what it reaches by it: no address of the link alone, no route that comes with an address.
  [[nodiscard]] bool is_of_note() const;
  [[nodiscard]] bool has_nexthop_object() const;
  [[nodiscard]] bool has_gateway() const;

  [[nodiscard]] Message adding(const Link& from, const Link& to) const;
  // From the interface it was read of, or, with `to`, from the interface it was added to.
  [[nodiscard]] Message removing(const Link& from, const Link& to) const;

 private:
  using Attributes = std::map<std::uint16_t, Bytes>;
  [[nodiscard]] Attributes attributes() const;
  [[nodiscard]] Message address(std::uint16_t type, const Link& from, const Link& to) const;
  [[nodiscard]] Message route(std::uint16_t type, const Link& to) const;
  [[nodiscard]] Message neighbour(std::uint16_t type, const Link& to) const;
  void put_nexthops(Message& message, Bytes nexthops, bool only_ours, int to) const;

  Kind kind_;
  std::vector<std::uint8_t> payload_;  // ifaddrmsg, rtmsg or ndmsg, and attributes
  int on_;                             // index of the interface it was read of
};

// The interface called `name`, or of index `index` if that is not 0; nothing if there is none. Errors: internal.
[[nodiscard]] Result<std::optional<Link>> find_link(const Channel& channel, const std::string& name, int index = 0);

// What `link` carries: addresses, routes, neighbours, each in the kernel's order. Errors: internal, unavailable.
[[nodiscard]] Result<std::vector<Item>> carried_by(const Channel& channel, const Link& link);

}  // namespace patchbay::host
