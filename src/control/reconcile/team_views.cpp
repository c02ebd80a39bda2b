// What HostService shows of teams.
#include <fmt/format.h>

#include <algorithm>

#include "control/reconcile/host_service.h"
#include "control/reconcile/phrases.h"

namespace patchbay::reconcile {
namespace {

void join(std::string& text, const std::string& part) {
  if (part.empty()) return;
  text += (text.empty() ? "" : "; ") + part;
}

}  // namespace

Result<TeamView> HostService::show_team(const std::string& name) const {
  const auto found = model::find_team(state_.host, name);
  if (!found) return fail(found.error());
  return view_of(**found);
}

std::vector<TeamView> HostService::list_teams() const {
  std::vector<TeamView> views;
  for (const auto& [name, team] : state_.host.teams) views.push_back(view_of(team));
  return views;
}

TeamView HostService::view_of(const model::Team& team) const {
  TeamView view;
  view.desired = team;
  view.queue_model = queue_model_of(team);
  view.counters = executor_.counters({ObjectKind::uplink, team.name});
  const model::Switch* on = model::switch_on(state_.host, team.name);
  if (on != nullptr) view.switch_name = on->name;
  const auto status = executor_.team_status(team.name);
  if (status) {
    view.failovers = status->failovers;
    view.announcements = status->announcements;
  }
  std::size_t active = 0;
  std::size_t well = 0;
  std::string mtus;
  for (const std::string& nic : team.nics) {
    view.members.push_back(view_of_member(nic, status));
    const team::MemberStatus& member = view.members.back().status;
    if (member.state == team::MemberState::active) ++active;
    if (member.state == team::MemberState::active || member.state == team::MemberState::standby) ++well;
    if (!member.reason.empty()) join(view.state_reason, nic + ": " + member.reason);
    const auto here = nics_.nics().find(nic);
    if (on != nullptr && here != nics_.nics().end() && here->second.has_interface()) {
      join(mtus, nic_mtu_phrase(*on, here->second));
    }
  }
  view.state = active == 0 ? "down" : well == team.nics.size() ? "up" : "degraded";
  join(view.state_reason, mtus);
  if (on == nullptr) {
    view.state_reason = fmt::format(
        "it carries no switch, so its NICs are left alone: `patchbay switch create NAME --external {}`", team.name);
  }
  return view;
}

TeamMemberView HostService::view_of_member(const std::string& nic, const std::optional<team::Status>& status) const {
  TeamMemberView view;
  view.status.nic = nic;
  if (status) {
    const auto found = std::find_if(status->members.begin(), status->members.end(),
                                    [&nic](const team::MemberStatus& member) { return member.nic == nic; });
    if (found != status->members.end()) view.status = *found;
  }
  // Why it is not open the team does not know.
  if (status && view.status.state == team::MemberState::down) {
    if (const std::string reason = why_down(nic); !reason.empty()) view.status.reason = reason;
  }
  view.counters = executor_.counters({ObjectKind::uplink, nic});
  const auto& uplinks = executor_.actual().uplinks;
  if (const auto open = uplinks.find(nic); open != uplinks.end()) {
    view.driver = to_string(open->second.used.plan.driver);
    view.driver_reason = open->second.used.reason;
  }
  if (const auto here = nics_.nics().find(nic); here != nics_.nics().end()) {
    const model::Nic now = view_of(here->second).nic;
    view.carrier = now.carrier;
    view.speed_mbps = now.speed_mbps;
  }
  return view;
}

}  // namespace patchbay::reconcile
