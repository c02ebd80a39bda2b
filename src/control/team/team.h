// A team at work: which of its members carry frames now, and who is told when that changes.
//
// Theory  A team is a port of the data plane, and its members are uplinks behind it. This class is what decides: from
//         carrier, from how long a link has been good, and from what LACP says, it makes the paths (paths.h), and gives
//         them to the data plane at once. LACP has sockets of its own at each member (channel.h), so that it is on time
//         however many frames there are. Where the partner does not know of the team, the addresses that are to be found
//         at another member from now on are announced there, by RARP, in their VLANs.
// Threads control's only.
// Source  IEEE 802.1AX-2020, 6.4 (LACP).
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/mac_addr.h"
#include "control/team/status.h"
#include "dataplane/dataplane.h"
#include "model/team.h"
#include "model/vlan.h"

namespace patchbay::team {

struct Link {
  bool carrier = false;
  std::optional<std::uint32_t> speed_mbps;
  friend bool operator==(const Link&, const Link&) = default;
};
// A member that is open.
struct Member {
  std::string nic;
  int index = 0;  // of its interface; 0: DPDK drives it
  PortId port{};
  MacAddr mac;
  friend bool operator==(const Member&, const Member&) = default;
};
// Of the switch that the team carries, an address that frames are sent from, and its VLANs.
struct Address {
  MacAddr mac;
  model::VlanMode vlan;  // in force
  friend bool operator==(const Address&, const Address&) = default;
};

class Team {
 public:
  // Opens the team's port.
  Team(boost::asio::io_context& loop, dataplane::Dataplane& dataplane, std::string name);
  // Its members must be gone, and no layout may have its port: closes that.
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // `members`: of settings.nics those that are open, in that order. Those that were members before stay undisturbed.
  void set(const model::Team& settings, std::vector<Member> members);
  // Of a member, or of a NIC that will be one.
  void set_link(const std::string& nic, const Link& link);
  void set_addresses(std::vector<Address> addresses);

  [[nodiscard]] PortId port() const noexcept { return port_; }
  [[nodiscard]] Status status() const;

 private:
  struct Running;

  boost::asio::io_context& loop_;
  dataplane::Dataplane& dataplane_;
  const std::string name_;
  const PortId port_;
  std::unique_ptr<Running> running_;
};

}  // namespace patchbay::team
