// What HostService shows of receive queues.
#include <fmt/format.h>

#include <algorithm>

#include "control/reconcile/host_service.h"
#include "control/reconcile/phrases.h"

namespace patchbay::reconcile {

Result<VmqView> HostService::show_vmq(const std::string& uplink) const {
  VmqView view;
  for (const auto& [name, on] : state_.host.switches) {
    if (on.uplink.empty()) continue;
    for (const std::string& nic : model::nics_of(state_.host, on)) {
      if (uplink.empty() || uplink == nic || uplink == on.uplink) view.nics.push_back(view_of_queues(nic, on));
    }
  }
  if (!uplink.empty() && view.nics.empty()) {
    return fail(ErrorCode::not_found,
                fmt::format("{} is no uplink, and no team that is one: it carries no switch; `patchbay vmq list` shows "
                            "those that do",
                            uplink));
  }
  std::sort(view.nics.begin(), view.nics.end(), [](const auto& a, const auto& b) { return a.nic < b.nic; });
  const auto queues = executor_.queues();
  for (VmqNicView& nic : view.nics) {
    if (nic.sorting.empty()) continue;  // it is not open
    const vmq::QueueCount rest = executor_.counted_by_default_queue(nic.nic);
    view.queues.push_back({nic.nic, 0, "", std::nullopt, std::nullopt, to_string(vmq::QueueState::running),
                           executor_.worker_of_uplink(nic.nic), rest.traffic, rest.drops, nic.sorting});
    for (const vmq::QueueStatus& queue : queues) {
      if (queue.nic != nic.nic) continue;
      view.queues.push_back(view_of(queue));
      ++nic.queues_used;
    }
  }
  for (const auto& [name, vnic] : state_.host.vnics) {
    const model::Switch& on = state_.host.switches.at(vnic.switch_name);
    const bool is_asked_for = std::any_of(view.nics.begin(), view.nics.end(),
                                          [&on](const VmqNicView& nic) { return nic.switch_name == on.name; });
    if (!is_asked_for) continue;
    const auto has = vmq_of(vnic, queues);
    if (has && has->queues.empty()) view.without_queue.push_back({name, on.name, on.uplink, has->reason});
  }
  return view;
}

VmqNicView HostService::view_of_queues(const std::string& nic, const model::Switch& on) const {
  VmqNicView view;
  view.nic = nic;
  view.switch_name = on.name;
  if (const auto team = state_.host.teams.find(on.uplink); team != state_.host.teams.end()) {
    view.team = team->first;
    view.queue_model = queue_model_of(team->second);
  }
  const auto ability = executor_.queue_ability(nic);
  if (!ability) {
    view.sorting_reason = why_down(nic);
    if (view.sorting_reason.empty()) view.sorting_reason = "not open yet";
    return view;
  }
  view.sorting = to_string(ability->sorting);
  view.sorting_reason = ability->reason;
  view.queues_max = vmq::queues_max_of(*ability);
  view.vlan_only = ability->vlan_only;
  view.restarts = ability->restarts;
  return view;
}

VmqQueueView HostService::view_of(const vmq::QueueStatus& queue) const {
  const vmq::QueueCount counted = executor_.counted_by(queue);
  return {queue.nic,
          queue.number,
          queue.vnic,
          queue.filter.mac,
          queue.filter.vid,
          to_string(queue.state),
          executor_.worker_of(queue),
          counted.traffic,
          counted.drops,
          to_string(queue.sorting)};
}

std::optional<VnicVmqView> HostService::vmq_of(const model::Vnic& vnic,
                                               const std::vector<vmq::QueueStatus>& queues) const {
  const model::Switch& on = state_.host.switches.at(vnic.switch_name);
  if (on.uplink.empty()) return std::nullopt;
  VnicVmqView view;
  for (const vmq::QueueStatus& queue : queues) {
    if (queue.vnic == vnic.name) view.queues.push_back(view_of(queue));
  }
  view.reason = executor_.vmq().reason(vnic.name);
  if (!view.queues.empty() || !view.reason.empty()) return view;
  view.reason = vnic.vmq_weight == 0 ? "vmq_weight is 0" : "the vnic, or its uplink, is not open";
  return view;
}

}  // namespace patchbay::reconcile
