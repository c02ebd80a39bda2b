// Executor: its steps about teams, and what team::Team is to know.
#include "control/reconcile/counter_sums.h"
#include "control/reconcile/executor.h"

namespace patchbay::reconcile {

void Executor::step(const OpenTeam& open) {
  auto& opened = teams_[open.team].team;
  opened = std::make_unique<team::Team>(loop_, dataplane_, open.team);
  opened->on_moved([this] { settle_queues_later(); });
  actual_.teams[open.team] = {};
}

void Executor::step(const SetTeamLink& set) {
  teams_.at(set.team).team->set_link(set.nic, set.link);
  actual_.teams[set.team].links[set.nic] = set.link;
}

void Executor::step(const SetTeam& set) {
  OpenedTeam& opened = teams_.at(set.team);
  std::vector<TeamMember> planned;
  std::vector<team::Member> members;
  std::map<std::string, Member> now;
  for (const TeamMember& each : set.members) {
    if (!uplinks_.contains(each.nic)) continue;  // it failed to open; the others do without it
    planned.push_back(each);
    members.push_back(member_of(each));
    const auto before = opened.members.find(each.nic);
    const bool stays = before != opened.members.end() && before->second.member.port == members.back().port;
    now[each.nic] = {members.back(), stays ? before->second.before : dataplane_.counters(members.back().port)};
  }
  const ActualTeam& actual = actual_.teams[set.team];
  if (actual.settings == set.settings && actual.members == planned) return;  // who failed to open, failed once more
  for (const auto& [nic, member] : opened.members) {
    const auto still = now.find(nic);
    if (still == now.end() || still->second.member.port != member.member.port) take_queues_from(member.member.port);
  }
  opened.team->set(set.settings, std::move(members));
  queues_unsettled_ = true;
  for (const auto& [nic, member] : opened.members) {  // not earlier: a frame may have come until now
    const auto still = now.find(nic);
    if (still == now.end() || still->second.member.port != member.member.port) {
      add(opened.left, counters_as_member(member));
    }
  }
  opened.members = std::move(now);
  actual_.teams[set.team].set(set.settings, planned);
  opened.team->look_at_devices();
}

void Executor::step(const CloseTeam& close) {
  teams_.erase(close.team);
  actual_.teams.erase(close.team);
}

team::Member Executor::member_of(const TeamMember& planned) const {
  team::Member member{planned.nic, planned.index, uplinks_.at(planned.nic), planned.mac};
  if (const auto device = dataplane_.device_state(member.port); device && member.index == 0) member.mac = device->mac;
  return member;
}

dataplane::PortCounters Executor::counters_as_member(const Member& member) const {
  return since(dataplane_.counters(member.member.port), member.before);
}

void Executor::tell_addresses() {
  for (const PlannedSwitch& planned : actual_.published) {
    const auto opened = teams_.find(planned.nic);
    if (opened == teams_.end()) continue;
    std::vector<team::Address> addresses;
    for (const PlannedVnic& vnic : planned.vnics) addresses.push_back({vnic.mac, vnic.vlan});
    opened->second.team->set_addresses(planned.name, std::move(addresses));
  }
}

std::optional<team::Status> Executor::team_status(const std::string& team) const {
  const auto found = teams_.find(team);
  return found == teams_.end() ? std::nullopt : std::optional(found->second.team->status());
}

}  // namespace patchbay::reconcile
