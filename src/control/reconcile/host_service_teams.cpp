// HostService: teams, and what is to be true of their NICs.
#include <fmt/format.h>

#include <algorithm>

#include "control/reconcile/host_service.h"
#include "control/reconcile/pci_nics.h"
#include "control/reconcile/phrases.h"
#include "model/name.h"

namespace patchbay::reconcile {
namespace {

bool is_used(const model::Host& host, const std::string& nic) {
  return model::team_of(host, nic) != nullptr || model::switch_on(host, nic) != nullptr;
}

}  // namespace

Result<void> HostService::create_team(const model::Team& added) {
  auto host = model::add_team(state_.host, added);
  if (!host) return fail(host.error());
  if (auto ok = check_team(*host, added); !ok) return ok;
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::set_team(const std::string& name, const TeamChange& change) {
  const auto found = model::find_team(state_.host, name);
  if (!found) return fail(found.error());
  const model::Team changed = reconcile::changed(**found, change);
  auto host = model::set_team(state_.host, changed);
  if (!host) return fail(host.error());
  std::vector<Object> created;
  if (changed.nics != (*found)->nics) {
    if (auto ok = check_team(*host, changed); !ok) return ok;
    for (const std::string& nic : changed.nics) {
      if (!is_used(state_.host, nic)) created.push_back({ObjectKind::uplink, nic});
    }
  }
  return commit({std::move(*host), state_.mac_pool}, created);
}

Result<void> HostService::delete_team(const std::string& name) {
  auto host = model::remove_team(state_.host, name);
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::check_team(const model::Host& host, const model::Team& checked) const {
  if (!state_.host.teams.contains(checked.name)) {
    if (auto ok = check_no_interface(checked.name); !ok) return ok;
  }
  for (const std::string& nic : checked.nics) {
    if (auto ok = check_other_name(host, nic, nics_.nics()); !ok) {
      return fail(ok.error().code, fmt::format("team {}: {}", checked.name, ok.error().message));
    }
    const model::Switch* now = model::switch_on(state_.host, nic);
    if (now != nullptr && !now->share_with_host.empty()) {  // its end would give the NIC the addresses back
      return fail(ErrorCode::in_use,
                  fmt::format("team {}: the host shares nic {} by vnic {}; end that first with `patchbay switch set {} "
                              "--share-with-host none`, and take the addresses from the NIC",
                              checked.name, nic, now->share_with_host, now->name));
    }
    if (is_used(state_.host, nic)) continue;  // it may be missing for a while
    if (auto ok = check_nic_there("team " + checked.name, nic); !ok) return ok;
    if (auto ok = check_unused_by_host(checked, nic); !ok) return ok;
  }
  if (auto ok = check_same_mtu(checked); !ok) return ok;
  const model::Switch* on = model::switch_on(host, checked.name);
  return on == nullptr ? Result<void>{} : check_uplink(host, *on, false);
}

Result<void> HostService::check_no_interface(const std::string& team) const {
  if (team.size() > model::interface_name_size_max) return {};
  // Of the kernel's interfaces, check_uplink() refuses those that nics() leaves out.
  const auto other = sharing_.check_uplink(team);
  if (!other && other.error().code == ErrorCode::internal) return other;
  if (other && !nics_.nics().contains(team)) return {};
  return fail(ErrorCode::exists,
              fmt::format("team {}: the kernel has a network interface of this name; choose another name", team));
}

Result<void> HostService::check_unused_by_host(const model::Team& checked, const std::string& nic) const {
  const auto carried = sharing_.of_note(nic);
  if (!carried) return fail(carried.error());
  if (carried->empty()) return {};
  return fail(ErrorCode::in_use,
              fmt::format("team {}: the host uses nic {} itself ({}); take that from it first, or use another NIC",
                          checked.name, nic, some_of(*carried)));
}

Result<void> HostService::check_same_mtu(const model::Team& checked) const {
  const model::Nic* first = nullptr;
  for (const std::string& name : checked.nics) {
    const auto nic = nics_.nics().find(name);
    if (nic == nics_.nics().end() || !nic->second.has_interface()) continue;
    if (first == nullptr) first = &nic->second;
    if (nic->second.mtu == first->mtu) continue;
    return fail(
        ErrorCode::invalid,
        fmt::format("team {}: nic {} has mtu {} and nic {} has mtu {}, and a team has one; first `ip link set {} "
                    "mtu {}`, or use other NICs",
                    checked.name, first->name, first->mtu, name, nic->second.mtu, name, first->mtu));
  }
  return {};
}

std::optional<ApplyRefusal> HostService::check_teams(const model::Host& next) const {
  for (const auto& [name, team] : next.teams) {
    const auto now = state_.host.teams.find(name);
    if (now != state_.host.teams.end() && now->second.nics == team.nics) continue;
    if (auto ok = check_team(next, team); !ok) return ApplyRefusal{std::move(ok.error()), "team", name};
  }
  return std::nullopt;
}

}  // namespace patchbay::reconcile
