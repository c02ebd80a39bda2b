// Everything that can be asked of the host, whichever door it comes through: the API is one face of this class, the
// configuration file another.
//
// Theory  A change is checked against the model, stored in one transaction, and then reconciled: desired minus actual
//         gives steps, and the steps run. A change that is refused leaves store and data plane as they were. A step
//         that fails because of the world (the NIC is gone) leaves the change stored, shows why in the object's
//         state_reason and is tried again when the world changes.
// Threads control's only.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/reconcile/changes.h"
#include "control/team/status.h"
#include "dataplane/dataplane.h"
#include "model/host.h"
#include "model/nic.h"

namespace patchbay::reconcile {

struct SwitchSpec {  // what `switch create` gives
  std::string name;
  model::SwitchType type = model::SwitchType::private_;
  std::string uplink;  // External only
  std::optional<VlanId> force_vlan;
  std::uint16_t mtu = model::mtu_default;
  std::string share_with_host = {};                         // External only: name of the host vnic to make; empty: none
  model::UplinkDriver driver = model::UplinkDriver::auto_;  // External only
  bool gro = true;                                          // likewise
  model::BufferSettings buffer = {};
};
// Of buffer settings, what is to change; inner nothing: the next level says.
struct BufferChange {
  std::optional<std::optional<model::Buffer>> size = {};
  std::optional<std::optional<std::uint32_t>> max_age_ms = {};
};
[[nodiscard]] model::BufferSettings changed(model::BufferSettings settings, const BufferChange& change);

struct SwitchChange {                               // what `switch set` gives: only what is to change
  std::optional<std::optional<VlanId>> force_vlan;  // inner nothing: no forced VLAN any more
  std::optional<std::uint16_t> mtu;
  std::optional<std::string> share_with_host = std::nullopt;  // empty: move everything back to the NIC
  std::optional<model::UplinkDriver> driver = {};
  std::optional<bool> gro = {};
  BufferChange buffer = {};
};
struct VnicSpec {
  std::string name;
  std::string switch_name;
  model::VnicKind kind = model::VnicKind::guest;
  std::optional<MacAddr> mac;  // nothing: from the pool
  model::VlanMode vlan = model::Untagged{};
  std::string connect;
  bool mac_spoofing = false;
  std::uint32_t mac_limit = model::mac_limit_default;
  bool trust_priority = false;
  std::optional<model::MacOrigin> mac_origin = {};  // of `mac`; nothing: static
  std::uint16_t queues = 1;
  std::optional<unsigned> worker = {};  // nothing: any
  model::BufferSettings buffer = {};
  std::set<std::string> labels = {};
  std::uint32_t vmq_weight = model::vmq_weight_default;
};
struct VnicChange {
  std::optional<model::VlanMode> vlan = {};
  std::optional<MacAddr> mac = {};
  std::optional<bool> mac_spoofing = {};
  std::optional<std::uint32_t> mac_limit = {};
  std::optional<bool> trust_priority = {};
  std::optional<std::uint16_t> queues = {};
  std::optional<std::optional<unsigned>> worker = {};  // inner nothing: any
  BufferChange buffer = {};
  std::optional<std::set<std::string>> labels = {};  // all of them
  std::optional<std::uint32_t> vmq_weight = {};
};
struct PolicyChange {
  BufferChange buffer = {};
  std::optional<std::set<model::PolicyTarget>> apply_to = {};  // all of them
};
struct HostChange {
  std::optional<std::optional<std::uint64_t>> buffer_limit_bytes = {};  // inner nothing: the built-in one
};

struct TeamChange {  // what `team set` gives
  std::optional<std::vector<std::string>> nics = {};
  std::optional<model::TeamMode> mode = {};
  std::optional<model::TeamBalance> balance = {};
  std::optional<std::string> standby = {};  // empty: none any more
  std::optional<model::LacpTimer> lacp_timer = {};
  std::optional<std::uint32_t> failback_delay_ms = {};
};
// Where LACP ends, so does what its timer was.
[[nodiscard]] model::Team changed(model::Team team, const TeamChange& change);

// A whole host. Names are unique among the switches, the vnics, the teams, and the policies.
struct HostSpec {
  std::vector<SwitchSpec> switches;
  std::vector<VnicSpec> vnics;
  std::optional<std::vector<model::Team>> teams = {};       // nothing: they stay as they are
  std::optional<std::vector<model::Policy>> policies = {};  // likewise
  std::optional<model::HostSettings> settings = {};         // likewise
};
struct ApplyRefusal {
  Error error;
  std::string noun;  // "switch", "vnic", "team", "policy", "host": the object that is at fault; empty: no single one is
  std::string name;  // of the host: empty
};

[[nodiscard]] model::Policy changed(model::Policy policy, const PolicyChange& change);
[[nodiscard]] model::HostSettings changed(model::HostSettings settings, const HostChange& change);

// The object that `spec` asks for. A vnic without a MAC has zeros.
[[nodiscard]] model::Switch switch_of(const SwitchSpec& spec);
[[nodiscard]] model::Vnic vnic_of(const VnicSpec& spec);
// `spec` with the host vnics by which its switches share their NICs, where it does not list them itself.
[[nodiscard]] HostSpec with_shares(HostSpec spec);

// Desired and actual, together.
struct NicView {
  model::Nic nic;               // of one that DPDK drives, what the device says; all zeros while it is not open
  std::string switch_name;      // of the External switch on it, or on its team; empty: none
  model::DriverAttempt driver;  // that an External switch with driver auto would try first, and why
  std::string state_reason;     // what stands in the way of its use, or how it is used; empty: nothing to say
  std::string team = {};        // that it is in; empty: none
  std::optional<dataplane::QueueAbility> sorting = {};  // nothing: it is not open
};
struct UplinkView {
  std::string nic;           // empty: a team
  std::string state;         // "up", "down"; of a team as in TeamView
  std::string state_reason;  // "no carrier", "no such NIC", …; up: empty, or what is lost (the NIC's MTU is too small)
  dataplane::PortCounters counters;
  std::string driver;         // in use: "packet", "xdp"; empty: it is not open
  std::string driver_reason;  // why that one; empty as `driver`
  std::string team = {};      // empty: a NIC. Each member of a team has a driver of its own
};
struct SwitchView {
  model::Switch desired;
  std::optional<UplinkView> uplink;
  std::vector<std::string> vnics;  // names, sorted
};
// The last frame that a vnic was refused for its source address.
struct RefusedSource {
  MacAddr mac;
  std::string holder;  // the vnic of the same switch that the address belongs to; empty: nobody's
  std::string advice;  // what it means and the way out, as a sentence
};
struct FdbRow {
  std::optional<VlanId> vid;  // nothing: no VLAN
  MacAddr mac;
  std::string port;  // the vnic, or the NIC or team of the uplink, behind which it is
  std::uint32_t age_s = 0;
};
// A receive queue of an uplink. Number 0 is the default queue, that takes all that no other one does: it is no vnic's.
struct VmqQueueView {
  std::string nic;
  unsigned queue = 0;
  std::string vnic;                   // empty: the default queue
  std::optional<MacAddr> mac = {};    // that its filter names; nothing: the default queue
  std::optional<std::uint16_t> vlan;  // likewise; 0: frames without a tag
  std::string state;                  // as vmq::to_string()
  std::optional<unsigned> worker;     // that takes its frames
  dataplane::Traffic traffic;         // that came in
  std::uint64_t drops = 0;            // of these
  std::string sorting;                // as dataplane::to_string()
};
// An uplink, or a member of a team.
struct VmqNicView {
  std::string nic;
  std::string team;         // empty: none
  std::string queue_model;  // of the team: "sum-of-queues", "min-queues"; empty as `team`
  std::string switch_name;
  std::string sorting;         // as dataplane::to_string(); empty: it is not open
  std::string sorting_reason;  // why that one, or why it is not open
  std::size_t queues_max = 0;  // beside the default one
  std::size_t queues_used = 0;
  bool vlan_only = false;
  bool restarts = false;
};
// A vnic of an External switch that has no queue.
struct VmqVnicView {
  std::string vnic;
  std::string switch_name;
  std::string uplink;  // NIC or team
  std::string reason;
};
struct VmqView {
  std::vector<VmqNicView> nics;            // by name
  std::vector<VmqQueueView> queues;        // by NIC and number
  std::vector<VmqVnicView> without_queue;  // by name
};
// What a vnic has of that.
struct VnicVmqView {
  std::vector<VmqQueueView> queues;
  std::string reason;  // why it has none, or not all; empty: it has
};
struct VnicView {
  model::Vnic desired;
  model::VlanMode effective_vlan;  // access to the forced VLAN of the switch, or the vnic's own
  bool vlan_forced = false;        // effective_vlan comes from the switch
  std::uint16_t mtu = 0;           // layer 3 bytes
  std::string state;               // guest: as vhost_user::to_string; host: "up", "down"; "failed" if not realised
  std::string state_reason;        // a phrase for people; empty when all is well
  std::string vhost_socket;        // guest: path of the socket; host: empty
  std::uint16_t queues_used = 0;   // guest: queue pairs that it uses now; host: 0
  std::optional<unsigned> worker;  // id of the one that it is on; nothing while it has no port
  dataplane::PortCounters counters;
  dataplane::PortLearning learning;
  model::BufferInForce buffer = {};  // guest
  dataplane::BufferState buffered = {};
  std::string buffer_advice = {};               // a sentence; empty: none
  std::optional<RefusedSource> refused_source;  // while it would be refused again
  std::optional<VnicVmqView> vmq = {};          // nothing: its switch has no uplink
};
struct TeamMemberView {
  team::MemberStatus status;
  bool carrier = false;
  std::optional<std::uint32_t> speed_mbps;
  std::string driver;         // in use: "packet", "xdp", "dpdk"; empty: it is not open
  std::string driver_reason;  // why that one; empty as `driver`
  dataplane::PortCounters counters;
};
struct TeamView {
  model::Team desired;
  std::string switch_name;   // of the External switch on it; empty: none, and its NICs are left alone
  std::string state;         // "up": all members carry, or stand by; "degraded": some; "down": none
  std::string state_reason;  // a phrase for people, that names each member which does not; empty when all is well
  // How many hardware queues it has for vnics: "sum-of-queues" of its members, of which each is one vnic's at one member; or
  // "min-queues", as many as the member with the fewest, each at every member.
  std::string queue_model;
  std::vector<TeamMemberView> members;  // in the order of desired.nics
  std::uint64_t failovers = 0;          // since the switch is on it
  std::uint64_t announcements = 0;      // likewise
  dataplane::PortCounters counters;     // likewise, of the team as one uplink
};

struct PolicyView {
  model::Policy desired;
  std::vector<std::string> vnics;  // names, sorted, of those that take a value from it
};
struct SettingsView {
  model::HostSettings desired;
  dataplane::BufferUse buffers;       // limit_bytes: in force
  std::vector<std::string> policies;  // names, sorted, of those that apply to the host
};

class Service {
 public:
  virtual ~Service() = default;

  // Who asks for the changes that follow, until the next call; at first patchbayd itself does.
  virtual void on_behalf_of(const Actor& actor) = 0;

  [[nodiscard]] virtual Result<void> create_switch(const SwitchSpec& spec) = 0;
  [[nodiscard]] virtual Result<void> set_switch(const std::string& name, const SwitchChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_switch(const std::string& name) = 0;
  [[nodiscard]] virtual Result<SwitchView> show_switch(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<SwitchView> list_switches() const = 0;
  // What the switch has learned, sorted by VLAN and address. Errors: not_found.
  [[nodiscard]] virtual Result<std::vector<FdbRow>> show_fdb(const std::string& switch_name) const = 0;

  [[nodiscard]] virtual Result<void> create_vnic(const VnicSpec& spec) = 0;
  [[nodiscard]] virtual Result<void> set_vnic(const std::string& name, const VnicChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_vnic(const std::string& name) = 0;
  [[nodiscard]] virtual Result<VnicView> show_vnic(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<VnicView> list_vnics() const = 0;

  [[nodiscard]] virtual Result<void> create_team(const model::Team& added) = 0;
  [[nodiscard]] virtual Result<void> set_team(const std::string& name, const TeamChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_team(const std::string& name) = 0;
  [[nodiscard]] virtual Result<TeamView> show_team(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<TeamView> list_teams() const = 0;

  [[nodiscard]] virtual Result<void> create_policy(const model::Policy& policy) = 0;
  [[nodiscard]] virtual Result<void> set_policy(const std::string& name, const PolicyChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_policy(const std::string& name) = 0;
  [[nodiscard]] virtual Result<PolicyView> show_policy(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<PolicyView> list_policies() const = 0;

  // Of the host as a whole. Errors of the change: invalid, in_use (less than buffers use now).
  [[nodiscard]] virtual Result<void> set_settings(const HostChange& change) = 0;
  [[nodiscard]] virtual SettingsView show_settings() const = 0;

  [[nodiscard]] virtual Result<NicView> show_nic(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<NicView> list_nics() const = 0;
  // Of all uplinks, or of the one NIC or team `uplink`. Errors: not_found.
  [[nodiscard]] virtual Result<VmqView> show_vmq(const std::string& uplink) const = 0;
  [[nodiscard]] virtual std::vector<dataplane::WorkerStats> list_workers() const = 0;

  // Makes the host what `spec` says, in one transaction: what is not in it is deleted, the rest created or changed, and
  // what is as it should be is not touched. A vnic without a MAC keeps the one that it has from the pool, or draws one;
  // one that the host shares a NIC by has the NIC's, and is made if it is not listed.
  // Gives what was changed, or with `dry_run` what would be. Refused: nothing was changed; if something new cannot be
  // opened, all of it is taken back.
  [[nodiscard]] virtual tl::expected<std::vector<ObjectChange>, ApplyRefusal> apply(const HostSpec& spec,
                                                                                    bool dry_run) = 0;
  [[nodiscard]] virtual const model::Host& desired() const = 0;
  // As store::Store::audit().
  [[nodiscard]] virtual Result<std::vector<store::AuditEntry>> list_audit(std::size_t count_max,
                                                                          const std::string& name) const = 0;
};

}  // namespace patchbay::reconcile
