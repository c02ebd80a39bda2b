// Desired minus actual gives steps.
//
// Theory  want() turns the administrator's host and the NICs that are there into the ports, endpoints and layout that
//         the data plane should have. compute_steps() compares that with what it has, as plain values, and lists what
//         is to be done, in the order that never lets a frame meet a port that is not there: publish without what goes,
//         close it, open what comes, publish with it, and only then let guests in and move the host's addresses.
//         A member is taken out of its team before its port is closed or used by a switch, and comes in after it is open;
//         what changes in a team whose port stays is no matter of the layout. What failed to open is left alone, as if it were not wanted, until somebody takes it off `failed`.
// Threads pure functions.
#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/mac_addr.h"
#include "control/team/team.h"
#include "control/vhost_user/endpoint.h"
#include "model/host.h"
#include "model/nic.h"
#include "model/uplink_driver.h"

namespace patchbay::reconcile {

// ---- Wanted ---------------------------------------------------------------------------------------------------------

struct WantedUplink {
  int index = 0;                        // of the interface: another one of the same name is another device
  std::optional<bool> carrier = false;  // nothing: the data plane knows better than the kernel
  model::DriverChoice choice = {};      // how it is to be opened
};
// Of a team that carries a switch. Its members are uplinks.
struct WantedTeam {
  model::Team settings;
  std::map<std::string, MacAddr> macs;      // of those of its NICs that are there; zeros of what DPDK drives
  std::map<std::string, team::Link> links;  // of those with an interface
};
struct EndpointPlan {
  vhost_user::Role role = vhost_user::Role::listen;
  std::string path;
  friend bool operator==(const EndpointPlan&, const EndpointPlan&) = default;
};
struct HostPortPlan {
  MacAddr mac;
  std::uint16_t mtu = 0;
  friend bool operator==(const HostPortPlan&, const HostPortPlan&) = default;
};

// dataplane::Layout with names in place of ports.
struct PlannedVnic {
  std::string name;
  MacAddr mac;
  model::VlanMode vlan;
  bool mac_spoofing = false;
  std::uint32_t mac_limit = model::mac_limit_default;
  bool trust_priority = false;
  std::uint16_t queues = 1;  // for its endpoint
  std::optional<unsigned> worker = {};
  model::Buffer buffer = {};  // guest
  std::uint32_t buffer_max_age_ms = 0;
  std::uint32_t vmq_weight = model::vmq_weight_default;
  friend bool operator==(const PlannedVnic&, const PlannedVnic&) = default;
};
struct PlannedSwitch {
  std::string name;
  std::string nic;  // the uplink, or the team; empty: none
  std::uint16_t mtu = 0;
  std::vector<PlannedVnic> vnics;
  bool gro = true;
  friend bool operator==(const PlannedSwitch&, const PlannedSwitch&) = default;
};
using PlannedLayout = std::vector<PlannedSwitch>;

// A host vnic by which the host shares a NIC: what the NIC carries for the host moves to it.
struct SharePlan {
  std::string nic;
  int index = 0;  // of the NIC: another one of the same name carries other things
  friend bool operator==(const SharePlan&, const SharePlan&) = default;
};

struct Wanted {
  std::map<std::string, WantedUplink> uplinks;  // by NIC
  std::map<std::string, WantedTeam> teams;      // by name
  std::map<std::string, EndpointPlan> guests;   // by vnic
  std::map<std::string, HostPortPlan> hosts;    // by vnic
  std::map<std::string, SharePlan> shares;      // by vnic
  PlannedLayout layout;
  std::uint64_t buffer_limit_bytes = model::buffer_limit_default;  // of all buffers together
};

// An uplink whose NIC is not in `nics` is not wanted: it waits for the NIC. So does one on a PCI device that is not bound
// for DPDK. NICs of a team that carries no switch are left alone.
[[nodiscard]] Wanted want(const model::Host& host, const std::map<std::string, model::Nic>& nics,
                          const std::string& run_dir);

// RUN_DIR/vhost/NAME.sock
[[nodiscard]] std::string vhost_socket_path(const std::string& run_dir, const std::string& vnic);

// ---- Actual ---------------------------------------------------------------------------------------------------------

// buffer_limit: there is one, without a name.
enum class ObjectKind : std::uint8_t { uplink, guest, host_port, share, buffer_limit };
struct Object {
  ObjectKind kind = ObjectKind::uplink;
  std::string name;
  friend auto operator<=>(const Object&, const Object&) = default;
};

struct ActualUplink {
  int index = 0;
  std::optional<bool> carrier;  // as the data plane was told
  model::DriverChoice choice;   // that it was opened by
  model::DriverAttempt used;    // of its attempts, the one that could be opened, with the reason
};
struct TeamMember {
  std::string nic;
  int index = 0;
  MacAddr mac;  // zeros: the device knows
  friend bool operator==(const TeamMember&, const TeamMember&) = default;
};
struct ActualTeam {
  model::Team settings;
  std::vector<TeamMember> members;          // in the order of settings.nics
  std::map<std::string, team::Link> links;  // that the team was told of, of members and of those that may be next

  // Forgets the links of members that are none any more: when they come back, they are told anew.
  void set(const model::Team& changed, const std::vector<TeamMember>& now);
};
struct MtuFailure {
  std::uint16_t mtu = 0;  // that was wanted
  Error why;
};
struct Actual {
  std::map<std::string, ActualUplink> uplinks;
  std::map<std::string, ActualTeam> teams;
  std::map<std::string, std::optional<EndpointPlan>> guests;  // the port is open; the endpoint, if that is
  std::map<std::string, HostPortPlan> hosts;
  std::map<std::string, SharePlan> shares;  // whose NICs carry nothing any more
  PlannedLayout published;
  std::uint64_t buffer_limit_bytes = model::buffer_limit_default;
  std::map<Object, Error> failed;                // and why
  std::map<std::string, MtuFailure> mtu_failed;  // by host vnic: its port is open, with the MTU in `hosts`
};

// ---- Steps ----------------------------------------------------------------------------------------------------------

struct SetBufferLimit {
  std::uint64_t bytes = 0;
  friend bool operator==(const SetBufferLimit&, const SetBufferLimit&) = default;
};
struct Publish {
  PlannedLayout layout;
  friend bool operator==(const Publish&, const Publish&) = default;
};
struct OpenUplink {
  std::string nic;
  int index = 0;
  model::DriverChoice choice;
  friend bool operator==(const OpenUplink&, const OpenUplink&) = default;
};
struct SetCarrier {
  std::string nic;
  bool up = false;
  friend bool operator==(const SetCarrier&, const SetCarrier&) = default;
};
struct CloseUplink {
  std::string nic;
  friend bool operator==(const CloseUplink&, const CloseUplink&) = default;
};
struct OpenTeam {
  std::string team;
  friend bool operator==(const OpenTeam&, const OpenTeam&) = default;
};
struct SetTeamLink {  // of a member, or of an uplink that will be one
  std::string team;
  std::string nic;
  team::Link link;
  friend bool operator==(const SetTeamLink&, const SetTeamLink&) = default;
};
struct SetTeam {
  std::string team;
  model::Team settings;
  std::vector<TeamMember> members;
  friend bool operator==(const SetTeam&, const SetTeam&) = default;
};
struct CloseTeam {  // it has no members any more
  std::string team;
  friend bool operator==(const CloseTeam&, const CloseTeam&) = default;
};
struct OpenGuestPort {
  std::string vnic;
  friend bool operator==(const OpenGuestPort&, const OpenGuestPort&) = default;
};
struct CloseGuestPort {
  std::string vnic;
  bool forget = true;  // the positions of its rings too; else they stay for the next run
  friend bool operator==(const CloseGuestPort&, const CloseGuestPort&) = default;
};
struct OpenEndpoint {
  std::string vnic;
  EndpointPlan plan;
  friend bool operator==(const OpenEndpoint&, const OpenEndpoint&) = default;
};
struct CloseEndpoint {
  std::string vnic;
  friend bool operator==(const CloseEndpoint&, const CloseEndpoint&) = default;
};
struct OpenHostPort {
  std::string vnic;
  HostPortPlan plan;
  friend bool operator==(const OpenHostPort&, const OpenHostPort&) = default;
};
struct SetHostPortMtu {
  std::string vnic;
  std::uint16_t mtu = 0;
  friend bool operator==(const SetHostPortMtu&, const SetHostPortMtu&) = default;
};
struct CloseHostPort {
  std::string vnic;
  bool remove_interface = false;
  friend bool operator==(const CloseHostPort&, const CloseHostPort&) = default;
};
struct ShareNic {  // moves what the NIC carries to the vnic
  std::string vnic;
  SharePlan plan;
  friend bool operator==(const ShareNic&, const ShareNic&) = default;
};
using Step = std::variant<Publish, OpenUplink, SetCarrier, CloseUplink, OpenGuestPort, CloseGuestPort, OpenEndpoint,
                          CloseEndpoint, OpenHostPort, SetHostPortMtu, CloseHostPort, ShareNic, OpenTeam, SetTeamLink,
                          SetTeam, CloseTeam, SetBufferLimit>;

[[nodiscard]] std::vector<Step> compute_steps(const Wanted& wanted, const Actual& actual);

// `layout` without the ports that are not open in `actual`, and without switches that are then empty. A team is open also
// without members.
[[nodiscard]] PlannedLayout only_open(const PlannedLayout& layout, const Actual& actual);

// One line for the log: "open uplink eth1", …
[[nodiscard]] std::string describe(const Step& step);

}  // namespace patchbay::reconcile
