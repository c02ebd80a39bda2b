// HostService::apply(): one host in place of another. And the audit, which tells of it.
//
// Theory  The new host is built whole and checked whole by the model's rules, so there is no order of single changes
//         that could pass through an invalid state: two vnics may swap MAC addresses, a NIC may go from one switch to
//         another. Then it is committed as any change is, and the reconciler finds what differs. A NIC that the host is
//         to share gives its MAC to the vnic, as with `switch create --share-with-host`.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/reconcile/host_service.h"
#include "control/reconcile/pci_nics.h"

namespace patchbay::reconcile {
namespace {

Object object_of(const model::Vnic& vnic) {
  return {vnic.kind == model::VnicKind::guest ? ObjectKind::guest : ObjectKind::host_port, vnic.name};
}

// The NICs that carry something, with the driver that is asked for.
std::map<std::string, model::UplinkDriver> uplinks_of(const model::Host& host) {
  std::map<std::string, model::UplinkDriver> uplinks;
  for (const auto& [name, on] : host.switches) {
    for (const std::string& nic : model::nics_of(host, on)) uplinks.emplace(nic, on.driver);
  }
  return uplinks;
}

// Whether the host shares the NIC of `on` by the same vnic in `host` already.
bool is_shared_in(const model::Host& host, const model::Switch& on) {
  return std::any_of(host.switches.begin(), host.switches.end(), [&on](const auto& known) {
    return known.second.uplink == on.uplink && known.second.share_with_host == on.share_with_host;
  });
}

// Names the switch in place of the vnic that it shares its NIC by, if `spec` does not list that vnic.
ApplyRefusal refusal_of(const HostSpec& spec, Error error, const std::string& noun, const std::string& name) {
  if (noun != "vnic") return {std::move(error), noun, name};
  const auto is_it = [&name](const VnicSpec& vnic) { return vnic.name == name; };
  if (std::any_of(spec.vnics.begin(), spec.vnics.end(), is_it)) return {std::move(error), noun, name};
  for (const SwitchSpec& on : spec.switches) {
    if (on.share_with_host == name) return {std::move(error), "switch", on.name};
  }
  return {std::move(error), "", ""};
}

// Whether opening `vnic` is another matter than it was in `before`.
bool opens_anew(const model::Host& before, const model::Vnic& vnic) {
  const auto found = before.vnics.find(vnic.name);
  return found == before.vnics.end() || found->second.kind != vnic.kind || found->second.connect != vnic.connect;
}

}  // namespace

tl::expected<std::vector<ObjectChange>, ApplyRefusal> HostService::apply(const HostSpec& spec, bool dry_run) {
  auto next = state_of(spec);
  if (!next) return tl::unexpected(std::move(next.error()));
  if (auto refusal = check_world(next->host)) return tl::unexpected(std::move(*refusal));
  auto changes = changes_between(state_.host, next->host);
  if (dry_run || changes.empty()) return changes;
  executor_.forget_failures();  // of what had the same names
  const auto created = created_by(next->host);
  std::map<Object, std::string> switch_of_object;
  for (const auto& [name, on] : next->host.switches) {
    for (const std::string& nic : model::nics_of(next->host, on)) switch_of_object[{ObjectKind::uplink, nic}] = name;
    switch_of_object[{ObjectKind::share, on.share_with_host}] = name;
  }
  const auto ok = commit(std::move(*next), created, true);
  if (ok) return changes;
  if (!not_opened_) return tl::unexpected(ApplyRefusal{ok.error(), "", ""});
  if (not_opened_->kind == ObjectKind::buffer_limit) return tl::unexpected(ApplyRefusal{ok.error(), "host", ""});
  const auto on = switch_of_object.find(*not_opened_);
  if (on != switch_of_object.end()) return tl::unexpected(ApplyRefusal{ok.error(), "switch", on->second});
  return tl::unexpected(refusal_of(spec, ok.error(), "vnic", not_opened_->name));
}

tl::expected<store::StoredState, ApplyRefusal> HostService::state_of(const HostSpec& given) const {
  const HostSpec spec = with_shares(given);
  std::vector<model::Switch> switches;
  for (const SwitchSpec& each : spec.switches) switches.push_back(switch_of(each));
  std::vector<model::Vnic> vnics;
  for (const VnicSpec& each : spec.vnics) vnics.push_back(vnic_of(each));
  model::MacPool pool = *state_.mac_pool;
  std::vector<model::Team> teams;
  if (given.teams) {
    teams = *given.teams;
  } else {
    for (const auto& [name, team] : state_.host.teams) teams.push_back(team);
  }
  for (const model::Switch& on : switches) {
    const auto is_uplink = [&on](const model::Team& team) { return team.name == on.uplink; };
    if (std::any_of(teams.begin(), teams.end(), is_uplink)) continue;  // no NIC to share: make_host() says so
    if (auto ok = give_mac_of_nic(on, vnics); !ok) {
      return tl::unexpected(ApplyRefusal{std::move(ok.error()), "switch", on.name});
    }
  }
  std::size_t at = 0;
  if (auto ok = choose_macs(spec, vnics, pool, at); !ok) {
    return tl::unexpected(ApplyRefusal{std::move(ok.error()), "vnic", vnics[at].name});
  }
  std::vector<model::Policy> policies;
  if (given.policies) {
    policies = *given.policies;
  } else {
    for (const auto& [name, policy] : state_.host.policies) policies.push_back(policy);
  }
  auto host = model::make_host(switches, vnics, teams, policies, given.settings.value_or(state_.host.settings));
  if (!host) {
    model::Misfit& misfit = host.error();
    return tl::unexpected(refusal_of(given, std::move(misfit.error), misfit.noun, misfit.name));
  }
  return store::StoredState{std::move(*host), pool};
}

// To the vnic by which the host shares the NIC of `on`, if it does. As long as it does so, the vnic keeps what it has.
Result<void> HostService::give_mac_of_nic(const model::Switch& on, std::vector<model::Vnic>& vnics) const {
  // What make_host() refuses is left to it.
  if (on.share_with_host.empty() || on.type != model::SwitchType::external) return {};
  const auto vnic = std::find_if(vnics.begin(), vnics.end(),
                                 [&on](const model::Vnic& each) { return each.name == on.share_with_host; });
  if (vnic->switch_name != on.name) return {};
  std::optional<MacAddr> mac;
  if (is_shared_in(state_.host, on)) {
    mac = state_.host.vnics.at(on.share_with_host).mac;
  } else if (const auto nic = nics_.nics().find(on.uplink); nic != nics_.nics().end()) {
    if (!nic->second.has_interface()) return fail(nothing_to_share(on.name, on.uplink));
    mac = nic->second.mac;
  }
  if (!mac) {
    return fail(ErrorCode::not_found,
                fmt::format("switch {}: its nic {} is not there, so there is nothing to share", on.name, on.uplink));
  }
  const bool is_given = !vnic->mac.is_zero() || vnic->mac_origin == model::MacOrigin::static_;
  if (is_given && vnic->mac != *mac) {
    return fail(
        ErrorCode::invalid,
        fmt::format("switch {}: the host shares {} by vnic {}, which then has the NIC's MAC {}, not {}; leave the "
                    "vnic's mac out",
                    on.name, on.uplink, vnic->name, mac->to_string(), vnic->mac.to_string()));
  }
  vnic->mac = *mac;
  vnic->mac_origin = model::MacOrigin::static_;
  return {};
}

// Those without one keep what they have from the pool; then the others draw. `at`: the vnic that got none.
Result<void> HostService::choose_macs(const HostSpec& spec, std::vector<model::Vnic>& vnics, model::MacPool& pool,
                                      std::size_t& at) const {
  std::set<MacAddr> used;
  for (std::size_t i = 0; i < vnics.size(); ++i) {
    const auto now = state_.host.vnics.find(vnics[i].name);
    const bool has_dynamic = now != state_.host.vnics.end() && now->second.mac_origin == model::MacOrigin::dynamic;
    if (vnics[i].mac.is_zero() && !spec.vnics[i].mac && has_dynamic) vnics[i].mac = now->second.mac;
    used.insert(vnics[i].mac);
  }
  for (at = 0; at < vnics.size(); ++at) {
    model::Vnic& vnic = vnics[at];
    if (spec.vnics[at].mac || !vnic.mac.is_zero()) continue;
    const auto drawn = model::draw(pool, [&used](MacAddr mac) { return used.contains(mac); });
    if (!drawn) return fail(drawn.error().code, fmt::format("vnic {}: {}", vnic.name, drawn.error().message));
    vnic.mac = *drawn;
    used.insert(*drawn);
  }
  return {};
}

std::optional<ApplyRefusal> HostService::check_world(const model::Host& next) const {
  if (auto refusal = check_teams(next)) return refusal;
  if (auto ok = check_buffer_limit(next.settings); !ok) return ApplyRefusal{std::move(ok.error()), "host", ""};
  const auto uplinks = uplinks_of(state_.host);
  for (const auto& [name, on] : next.switches) {
    const auto now = state_.host.switches.find(name);
    const bool is_same = now != state_.host.switches.end() && now->second.uplink == on.uplink &&
                         now->second.mtu == on.mtu && now->second.driver == on.driver && now->second.gro == on.gro;
    if (is_same) continue;
    if (auto ok = check_uplink(next, on, !uplinks.contains(on.uplink)); !ok) {
      return ApplyRefusal{std::move(ok.error()), "switch", name};
    }
    if (!on.share_with_host.empty() || uplinks.contains(on.uplink)) continue;
    if (auto ok = check_unused_by_host(next, on); !ok) return ApplyRefusal{std::move(ok.error()), "switch", name};
  }
  for (const auto& [name, vnic] : next.vnics) {
    if (auto ok = check_worker(vnic); !ok) return ApplyRefusal{std::move(ok.error()), "vnic", name};
    if (!opens_anew(state_.host, vnic)) continue;
    if (auto ok = check_socket(vnic); !ok) return ApplyRefusal{std::move(ok.error()), "vnic", name};
  }
  return std::nullopt;
}

std::vector<Object> HostService::created_by(const model::Host& next) const {
  std::vector<Object> created;
  const auto uplinks = uplinks_of(state_.host);
  for (const auto& [name, on] : next.switches) {
    for (const std::string& nic : model::nics_of(next, on)) {
      const auto now = uplinks.find(nic);
      const bool is_open = now != uplinks.end() && now->second == on.driver;
      if (!is_open) created.push_back({ObjectKind::uplink, nic});
    }
  }
  for (const auto& [name, vnic] : next.vnics) {
    if (opens_anew(state_.host, vnic)) created.push_back(object_of(vnic));
  }
  for (const auto& [name, on] : next.switches) {
    if (on.share_with_host.empty() || is_shared_in(state_.host, on)) continue;
    created.push_back({ObjectKind::share, on.share_with_host});
  }
  if (next.settings != state_.host.settings) created.push_back({ObjectKind::buffer_limit, ""});
  return created;
}

Result<std::vector<store::AuditEntry>> HostService::list_audit(std::size_t count_max, const std::string& name) const {
  return store_.audit(count_max, name);
}

}  // namespace patchbay::reconcile
