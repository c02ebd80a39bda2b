// Runs steps against the data plane and remembers what came of them.
//
// Theory  The executor owns everything that reconciling opened: the ports, by name, and the endpoints. A step that
//         fails because of the world is noted under its object in actual().failed and the others go on.
// Threads control's only.
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "control/host/sharing.h"
#include "control/reconcile/offload_keeper.h"
#include "control/reconcile/plan.h"
#include "control/team/team.h"
#include "control/vhost_user/endpoint.h"
#include "control/vmq/queues.h"
#include "dataplane/dataplane.h"

namespace patchbay::reconcile {

// vhost_user::Endpoint::create() without what is the same for all.
using EndpointFactory = std::function<Result<std::unique_ptr<vhost_user::Endpoint>>(vhost_user::EndpointConfig config,
                                                                                    std::function<void()> changed)>;

struct NamedLearnedAddress {
  dataplane::LearnedAddress address;
  std::string port;  // name of the vnic, NIC or team
};

class Executor {
 public:
  // `socket_group`: of the sockets that endpoints listen on.
  Executor(boost::asio::io_context& loop, dataplane::Dataplane& dataplane, host::Sharing& sharing,
           OffloadKeeper& offloads, EndpointFactory make_endpoint, std::optional<unsigned> socket_group)
      : loop_(loop),
        dataplane_(dataplane),
        sharing_(sharing),
        offloads_(offloads),
        make_endpoint_(std::move(make_endpoint)),
        socket_group_(socket_group),
        queues_(dataplane) {
    actual_.buffer_limit_bytes = dataplane.buffer_use().limit_bytes;
  }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  // Closes everything. Host interfaces stay, with their addresses, for the next run.
  ~Executor();

  void run(const std::vector<Step>& steps);

  [[nodiscard]] const Actual& actual() const noexcept { return actual_; }
  // Tries failed objects again with the next steps.
  void forget_failures() {
    actual_.failed.clear();
    actual_.mtu_failed.clear();
  }
  // Switches off, and off again when somebody switched it on, what the uplinks of the published layout cannot bear of their
  // NICs' offloads; and on again what they can.
  void keep_offloads();
  // Forgets failures of what is not wanted any more.
  void forget_failures_except(const Wanted& wanted);
  // Forgets what earlier ports of an object counted once the administrator has deleted the object.
  void forget_counters_except(const Wanted& wanted);

  // Forgets shares of NICs that carry something again: set up anew after a reboot, by a DHCP client, by hand.
  void forget_shares_undone();
  // Moves what the vnic carries back to its NIC; the vnic stays. Errors: as Sharing::give_back().
  [[nodiscard]] Result<void> end_share(const std::string& vnic, const std::string& nic);

  // Passes the data plane's faults on: a guest's to its endpoint, if that is connected, for a fault stays until the next
  // link; what teams are to know of devices that DPDK drives; a device that is gone becomes a failure, so that the next
  // steps close its port. True if there are such.
  [[nodiscard]] bool take_faults();

  // Of the object's port and of all earlier ports of the same object, so that they only grow. Of a team, whose kind is
  // uplink too: and of all members while they were members.
  [[nodiscard]] dataplane::PortCounters counters(const Object& object) const;
  [[nodiscard]] dataplane::PortLearning learning(const Object& object) const;
  // Zeros if the guest vnic has no port.
  [[nodiscard]] dataplane::BufferState buffer_state(const std::string& vnic) const;
  [[nodiscard]] std::vector<NamedLearnedAddress> learned_addresses(const std::string& switch_name) const;
  // Nothing if the uplink is not open, or DPDK does not drive it.
  [[nodiscard]] std::optional<dataplane::DeviceState> device_state(const std::string& nic) const;
  // Nothing if the object has no port, or that is in no switch.
  [[nodiscard]] std::optional<unsigned> worker_of(const Object& object) const;
  // Nothing if the team carries no switch.
  [[nodiscard]] std::optional<team::Status> team_status(const std::string& team) const;
  // Queues that vnics have, by NIC and number.
  [[nodiscard]] std::vector<vmq::QueueStatus> queues() const { return queues_.status(); }
  [[nodiscard]] const vmq::Queues& vmq() const noexcept { return queues_; }
  // What sorts at an uplink; nothing if it is not open.
  [[nodiscard]] std::optional<dataplane::QueueAbility> queue_ability(const std::string& nic) const;
  // Of an open uplink the default queue, of a queue itself: what came in, and how much of it was dropped.
  [[nodiscard]] vmq::QueueCount counted_by_default_queue(const std::string& nic) const;
  [[nodiscard]] vmq::QueueCount counted_by(const vmq::QueueStatus& queue) const;
  // The worker that takes its frames; nothing: none does.
  [[nodiscard]] std::optional<unsigned> worker_of(const vmq::QueueStatus& queue) const;
  // The same of an uplink, or the member of a team.
  [[nodiscard]] std::optional<unsigned> worker_of_uplink(const std::string& nic) const;
  // Nothing if the endpoint is not open.
  [[nodiscard]] std::optional<vhost_user::EndpointStatus> endpoint_status(const std::string& vnic) const;

 private:
  struct Member {
    team::Member member;
    dataplane::PortCounters before;  // that its port had counted when it became one
  };
  struct OpenedTeam {
    std::unique_ptr<team::Team> team;
    std::map<std::string, Member> members;  // by NIC
    dataplane::PortCounters left;           // of members that are none any more, while they were
  };
  struct Guest {
    PortId port{};
    std::uint16_t mtu = 0;     // of the switch, as last published
    std::uint16_t queues = 1;  // likewise
    std::unique_ptr<vhost_user::Endpoint> endpoint;
  };

  void step(const Publish& publish);
  void step(const OpenUplink& open);
  void step(const SetCarrier& set);
  void step(const CloseUplink& close);
  void step(const OpenGuestPort& open);
  void step(const CloseGuestPort& close);
  void step(const OpenEndpoint& open);
  void step(const CloseEndpoint& close);
  void step(const OpenHostPort& open);
  void step(const SetHostPortMtu& set);
  void step(const CloseHostPort& close);
  void step(const ShareNic& share);
  void step(const OpenTeam& open);
  void step(const SetTeamLink& set);
  void step(const SetTeam& set);
  void step(const CloseTeam& close);
  void step(const SetBufferLimit& set);

  // The layout in actual_.published, with the queues that there are.
  void publish_layout();
  // Gives back and opens queues as the published layout needs them.
  void settle_queues();
  void settle_queues_later();
  // Before the uplink is closed, or leaves its team.
  void take_queues_from(PortId uplink);
  [[nodiscard]] std::vector<vmq::WantedUplink> queue_demands() const;
  void tell(Guest& guest, std::uint16_t mtu, const PlannedVnic& vnic);
  void keep_offloads(const std::string& nic, bool gro);
  // Opens `nic` by `plan`, its offloads put as that needs them.
  [[nodiscard]] Result<PortId> open_uplink(const std::string& nic, const model::DriverPlan& plan);
  void close_port(const Object& object, PortId port, bool remove_left);
  // Which addresses are behind the team, as the layout has it that was published last.
  void tell_addresses();
  [[nodiscard]] team::Member member_of(const TeamMember& planned) const;
  [[nodiscard]] dataplane::PortCounters counters_as_member(const Member& member) const;
  void note_failure(ObjectKind kind, const std::string& name, const Error& error);
  void warn_once(const Object& object, const std::string& message);
  [[nodiscard]] std::optional<PortId> port_of(const Object& object) const;
  [[nodiscard]] bool take_device_fault(ObjectKind kind, const std::string& name, PortId port);

  boost::asio::io_context& loop_;
  dataplane::Dataplane& dataplane_;
  host::Sharing& sharing_;
  OffloadKeeper& offloads_;
  const EndpointFactory make_endpoint_;
  const std::optional<unsigned> socket_group_;
  Actual actual_;
  vmq::Queues queues_;
  bool queues_unsettled_ = false;  // something changed that they depend on
  bool settle_posted_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what waits in the loop
  std::map<std::string, PortId> uplinks_;
  std::map<std::string, OpenedTeam> teams_;
  std::map<std::string, Guest> guests_;
  std::map<std::string, PortId> hosts_;
  std::map<Object, dataplane::PortCounters> earlier_;  // of ports that were closed
  std::map<Object, std::string> reported_;             // failures that stand in the log already
};

}  // namespace patchbay::reconcile
