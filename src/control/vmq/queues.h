// The receive queues of all uplinks: who has one, and the way there and back.
//
// Theory  want() is told what there is to be and takes the filters off queues that go: their frames come by the default
//         queue again. When a layout without them is published, close_freed() gives them back. allocate() opens queues for
//         those that are to have one, and sets their filters; when a layout with them is published, complete() says that
//         they run. One layout is enough for any number of queues, each way. What cannot be opened leaves its vnic at the
//         default queue and keeps the reason; each allocate() tries it again.
//         Of a team either each vnic has one queue, at the member where its address is at home (sum-of-queues), or one at
//         every member (min-queues): then the smallest member says how many vnics can have queues.
//         An uplink that sorts in another way than before (its switch's MTU has changed, for one) gets other queues.
// States  Each queue goes by queue_state.h.
// Threads control's only.
// Source  Windows Server 2012 R2 LBFO (queues with teams).
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "control/vmq/assignment.h"
#include "control/vmq/queue_state.h"
#include "dataplane/dataplane.h"
#include "model/team.h"

namespace patchbay::vmq {

// An open uplink: a NIC, or a member of a team.
struct Place {
  std::string nic;
  PortId port{};
};
struct WantedVnic {
  std::string name;
  MacAddr mac;
  model::VlanMode vlan;  // in force
  std::uint32_t weight = model::vmq_weight_default;
  std::string home = {};  // sum-of-queues: the NIC of that member; empty: none carries frames
};
// An uplink, or a team, that carries a switch.
struct WantedUplink {
  std::string name;  // of the NIC, or the team
  std::vector<Place> places;
  bool sum_of_queues = false;
  std::vector<WantedVnic> vnics;
};

// A queue as it is now.
struct QueueStatus {
  std::string nic;
  unsigned number = 0;  // of that NIC, from 1
  std::string vnic;
  dataplane::QueueFilter filter;
  QueueState state = QueueState::undefined;
  PortId port{};
  dataplane::QueueSorting sorting{};
};
// What came in, and how much of it was dropped.
struct QueueCount {
  dataplane::Traffic traffic;
  std::uint64_t drops = 0;
};

// Whether each vnic's frames arrive at one member, so that its queue can be there alone.
[[nodiscard]] bool is_sum_of_queues(const model::Team& team) noexcept;

class Queues {
 public:
  explicit Queues(dataplane::Dataplane& dataplane) : dataplane_(dataplane) {}
  Queues(const Queues&) = delete;
  Queues& operator=(const Queues&) = delete;

  // What is to be from now on. True: there are queues to be closed, when a layout without them is published.
  [[nodiscard]] bool want(const std::vector<WantedUplink>& wanted);
  // The same for one uplink that is about to go, or to leave its team.
  [[nodiscard]] bool leave(PortId uplink);
  void close_freed();
  // True: there are new ones, for a layout. Those that go are closed by now.
  [[nodiscard]] bool allocate();
  void complete();

  // For the layout: those of the vnic that have a filter.
  [[nodiscard]] std::vector<PortId> of(const std::string& vnic) const;
  // All, by NIC and number.
  [[nodiscard]] std::vector<QueueStatus> status() const;
  // Why the vnic has no queue, or (min-queues) not one at every member; empty: it has, or none is its uplink's.
  [[nodiscard]] std::string reason(const std::string& vnic) const;
  // Of the queues of an uplink that were closed, while somebody wants the uplink.
  [[nodiscard]] QueueCount closed(PortId uplink) const;

 private:
  struct Queue {
    std::string nic;
    PortId uplink{};
    unsigned number = 0;
    std::string vnic;
    dataplane::QueueFilter filter;
    QueueState state = QueueState::undefined;
    PortId port{};
    dataplane::QueueSorting sorting{};
  };
  // A queue that is to be.
  struct Target {
    Place place;
    dataplane::QueueFilter filter;
  };

  void step(Queue& queue, QueueEvent event);
  void aim(const WantedUplink& uplink);
  void aim_at_homes(const WantedUplink& uplink);
  void aim_at_all(const WantedUplink& uplink);
  [[nodiscard]] std::string home_of(const WantedUplink& uplink, const WantedVnic& vnic) const;
  // That is running.
  [[nodiscard]] const Queue* find(const std::string& vnic, PortId uplink) const;
  void clear(Queue& queue);
  // Nothing: it stays at the default queue, and why is noted.
  [[nodiscard]] std::optional<Queue> open(const std::string& vnic, const Target& target);
  void close(Queue& queue);
  void note_failure(const std::string& vnic, const std::string& nic, const Error& error);
  [[nodiscard]] unsigned take_number(PortId uplink);

  dataplane::Dataplane& dataplane_;
  std::map<std::pair<std::string, PortId>, Queue> queues_;              // by vnic and uplink
  std::map<std::string, std::vector<Target>> targets_;                  // by vnic
  std::map<std::string, std::string> reasons_;                          // by vnic: it is to have none
  std::map<std::string, std::map<std::string, std::string>> failures_;  // by vnic and NIC
  std::map<PortId, QueueCount> closed_;                                 // by uplink
  std::map<PortId, std::set<unsigned>> numbers_;                        // by uplink, of its queues
};

}  // namespace patchbay::vmq
