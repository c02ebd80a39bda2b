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
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/mac_addr.h"
#include "control/team/channel.h"
#include "control/team/lacp_port.h"
#include "control/team/paths.h"
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
  // No layout may have its port any more: closes that. The members' ports stay open.
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // `members`: of settings.nics those that are open, in that order. Those that were members before stay undisturbed.
  void set(const model::Team& settings, std::vector<Member> members);
  // Of a member, or of a NIC that will be one.
  void set_link(const std::string& nic, const Link& link);
  // What the data plane knows of members that DPDK drives: their links, and LACPDUs that came in.
  void look_at_devices();
  // Of the switch that the team carries: its name, and the addresses of its vnics. What was learned behind them is asked of
  // the data plane when it matters.
  void set_addresses(const std::string& switch_name, std::vector<Address> addresses);

  // Called when addresses have other homes than before: from inside other calls, so it has to come back later.
  void on_moved(std::function<void()> moved) { moved_home_ = std::move(moved); }

  [[nodiscard]] PortId port() const noexcept { return port_; }
  // The NIC of the member where frames for `mac` arrive; empty: none carries frames.
  [[nodiscard]] std::string home_nic_of(MacAddr mac) const;
  [[nodiscard]] Status status() const;

 private:
  // A member, and what is known of it.
  struct Slot {
    Member member;
    std::unique_ptr<Channel> channel;  // null: the team needs none, or it could not be opened (`trouble`)
    std::string trouble;
    std::optional<Time> good_since;  // its link
    bool ready = false;              // and that for long enough
    bool leaves = false;             // it is being taken out
    bool individual = false;         // lacp: it carries frames though its partner does not speak
    std::uint16_t number = 0;        // lacp: of its port
    std::unique_ptr<LacpPort> lacp;
    MemberState state = MemberState::down;
    std::string reason;
  };

  void take_leave(const std::vector<Member>& staying, Time now);
  void adopt(std::vector<Member> members, Time now);
  void open_channel(Slot& slot);
  void start_lacp(Slot& slot);
  void heard(const std::string& nic, std::span<const std::uint8_t> frame);
  // Brings everything in line with what is known, and with the time.
  void update(Time now);
  void judge_links(Time now);
  void select_partners();
  void fall_back();
  void run_lacp(Time now);
  [[nodiscard]] bool can_carry(const Slot& slot) const;
  [[nodiscard]] bool is_standby(const Slot& slot) const { return slot.member.nic == settings_.standby; }
  [[nodiscard]] Weights weigh() const;
  void note_states(const Weights& weights);
  void take_paths(const dataplane::TeamPaths& paths, Time now);
  // Of vnics, and those learned behind them.
  [[nodiscard]] std::vector<Address> addresses_behind() const;
  void announce_moved(const dataplane::TeamPaths& before, Time now);
  // Now, and some times again.
  void say_where(std::vector<Address> addresses, Time now);
  void announce(const Address& address);
  void announce_again(Time now);
  void plan_next(Time now);
  [[nodiscard]] Link link_of(const Slot& slot) const;
  [[nodiscard]] std::optional<std::size_t> holder_of(const std::string& nic) const;

  dataplane::Dataplane& dataplane_;
  boost::asio::io_context& loop_;
  const std::string name_;
  const PortId port_;
  model::Team settings_;
  std::map<std::string, Link> links_;
  std::vector<Slot> slots_;  // by the members' numbers
  dataplane::TeamConfig config_;
  dataplane::TeamPaths paths_ = no_paths();
  std::optional<MacAddr> system_;  // of LACP: of the first member that there was
  std::string switch_name_;
  std::vector<Address> addresses_;
  // Those that moved lately, and when to say so again.
  std::vector<Address> moved_;
  std::vector<Time> repeats_;
  std::uint64_t failovers_ = 0;
  std::uint64_t announcements_ = 0;
  boost::asio::steady_timer timer_;
  std::function<void()> moved_home_;
};

}  // namespace patchbay::team
