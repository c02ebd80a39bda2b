// Executor: queues of uplinks, and what vmq::Queues is to know.
#include <boost/asio/post.hpp>
#include <numeric>

#include "control/reconcile/executor.h"

namespace patchbay::reconcile {
namespace {

vmq::QueueCount count_of(const dataplane::PortCounters& counters) {
  return {counters.ingress, std::accumulate(counters.drops.begin(), counters.drops.end(), std::uint64_t{0})};
}

void take_away(std::uint64_t& from, std::uint64_t part) {
  from -= std::min(from, part);  // they are not read at the same time
}

}  // namespace

std::vector<vmq::WantedUplink> Executor::queue_demands() const {
  std::vector<vmq::WantedUplink> demands;
  for (const PlannedSwitch& planned : actual_.published) {
    if (planned.nic.empty()) continue;
    vmq::WantedUplink uplink;
    uplink.name = planned.nic;
    const auto team = teams_.find(planned.nic);
    if (team != teams_.end()) {
      const ActualTeam& actual = actual_.teams.at(planned.nic);
      uplink.sum_of_queues = vmq::is_sum_of_queues(actual.settings);
      for (const TeamMember& member : actual.members) {
        const auto open = team->second.members.find(member.nic);
        if (open != team->second.members.end()) uplink.places.push_back({member.nic, open->second.member.port});
      }
    } else {
      uplink.places.push_back({planned.nic, uplinks_.at(planned.nic)});
    }
    for (const PlannedVnic& vnic : planned.vnics) {
      std::string home = team == teams_.end() ? planned.nic : team->second.team->home_nic_of(vnic.mac);
      uplink.vnics.push_back({vnic.name, vnic.mac, vnic.vlan, vnic.vmq_weight, std::move(home)});
    }
    demands.push_back(std::move(uplink));
  }
  return demands;
}

void Executor::settle_queues() {
  queues_unsettled_ = false;
  if (queues_.want(queue_demands())) {
    publish_layout();
    queues_.close_freed();
  }
  if (queues_.allocate()) {
    publish_layout();
    queues_.complete();
  }
}

// Not at once: a team tells in the middle of its own work.
void Executor::settle_queues_later() {
  queues_unsettled_ = true;
  if (std::exchange(settle_posted_, true)) return;
  boost::asio::post(loop_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    settle_posted_ = false;
    if (queues_unsettled_) settle_queues();
  });
}

void Executor::take_queues_from(PortId uplink) {
  if (!queues_.leave(uplink)) return;
  publish_layout();
  queues_.close_freed();
}

std::optional<dataplane::QueueAbility> Executor::queue_ability(const std::string& nic) const {
  const auto found = uplinks_.find(nic);
  return found == uplinks_.end() ? std::nullopt : std::optional(dataplane_.queue_ability(found->second));
}

// The uplink counts the frames of its queues, too.
vmq::QueueCount Executor::counted_by_default_queue(const std::string& nic) const {
  const auto found = uplinks_.find(nic);
  if (found == uplinks_.end()) return {};
  vmq::QueueCount left = count_of(dataplane_.counters(found->second));
  const auto without = [&left](const vmq::QueueCount& part) {
    take_away(left.traffic.frames, part.traffic.frames);
    take_away(left.traffic.bytes, part.traffic.bytes);
    take_away(left.drops, part.drops);
  };
  without(queues_.closed(found->second));
  for (const vmq::QueueStatus& queue : queues_.status()) {
    if (queue.nic == nic) without(counted_by(queue));
  }
  return left;
}

vmq::QueueCount Executor::counted_by(const vmq::QueueStatus& queue) const {
  return count_of(dataplane_.counters(queue.port));
}

// Where the worker of the uplink sorts, it is that one.
std::optional<unsigned> Executor::worker_of(const vmq::QueueStatus& queue) const {
  if (const auto worker = dataplane_.worker_of(queue.port)) return worker;
  return worker_of_uplink(queue.nic);
}

std::optional<unsigned> Executor::worker_of_uplink(const std::string& nic) const {
  if (const auto worker = worker_of({ObjectKind::uplink, nic})) return worker;
  for (const auto& [name, team] : teams_) {
    if (team.members.contains(nic)) return dataplane_.worker_of(team.team->port());
  }
  return std::nullopt;
}

}  // namespace patchbay::reconcile
