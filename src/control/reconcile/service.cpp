#include "control/reconcile/service.h"

#include <set>
#include <utility>

namespace patchbay::reconcile {

model::Switch switch_of(const SwitchSpec& spec) {
  return {spec.name,   spec.type, spec.uplink, spec.force_vlan, spec.mtu, spec.share_with_host,
          spec.driver, spec.gro,  spec.buffer};
}

model::Vnic vnic_of(const VnicSpec& spec) {
  const auto origin = spec.mac ? spec.mac_origin.value_or(model::MacOrigin::static_) : model::MacOrigin::dynamic;
  return {spec.name,    spec.switch_name,  spec.kind,      spec.mac.value_or(MacAddr()), origin,      spec.vlan,
          spec.connect, spec.mac_spoofing, spec.mac_limit, spec.trust_priority,          spec.queues, spec.worker,
          spec.buffer,  spec.labels,       spec.vmq_weight};
}

model::BufferSettings changed(model::BufferSettings settings, const BufferChange& change) {
  if (change.size) settings.size = *change.size;
  if (change.max_age_ms) settings.max_age_ms = *change.max_age_ms;
  return settings;
}

model::Team changed(model::Team team, const TeamChange& change) {
  if (change.nics) team.nics = *change.nics;
  if (change.mode) team.mode = *change.mode;
  if (change.balance) team.balance = *change.balance;
  if (change.standby) team.standby = *change.standby;
  if (team.mode != model::TeamMode::lacp) team.lacp_timer = model::LacpTimer::fast;
  if (change.lacp_timer) team.lacp_timer = *change.lacp_timer;
  if (change.failback_delay_ms) team.failback_delay_ms = *change.failback_delay_ms;
  return team;
}

model::Policy changed(model::Policy policy, const PolicyChange& change) {
  policy.buffer = changed(policy.buffer, change.buffer);
  if (change.apply_to) policy.apply_to = *change.apply_to;
  return policy;
}

model::HostSettings changed(model::HostSettings settings, const HostChange& change) {
  if (change.buffer_limit_bytes) settings.buffer_limit_bytes = *change.buffer_limit_bytes;
  return settings;
}

HostSpec with_shares(HostSpec spec) {
  std::set<std::string> listed;
  for (const VnicSpec& vnic : spec.vnics) listed.insert(vnic.name);
  for (const SwitchSpec& on : spec.switches) {
    if (on.share_with_host.empty() || !listed.insert(on.share_with_host).second) continue;
    VnicSpec vnic;
    vnic.name = on.share_with_host;
    vnic.switch_name = on.name;
    vnic.kind = model::VnicKind::host;
    spec.vnics.push_back(std::move(vnic));
  }
  return spec;
}

}  // namespace patchbay::reconcile
