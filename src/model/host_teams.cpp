// Teams of a host, and the rules about them.
#include "model/host_teams.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "model/name.h"

namespace patchbay::model {
namespace {

Result<void> check_own_nics(const Team& checked) {
  if (checked.nics.empty() || checked.nics.size() > team_nics_max) {
    return fail(ErrorCode::invalid, fmt::format("team {}: it has {} NICs; give 1 to {} with --nics", checked.name,
                                                checked.nics.size(), team_nics_max));
  }
  std::set<std::string> seen;
  for (const std::string& nic : checked.nics) {
    if (auto ok = check_nic_name(nic); !ok) {
      return fail(ok.error().code, fmt::format("team {}: {}", checked.name, ok.error().message));
    }
    if (nic == checked.name) {
      return fail(ErrorCode::invalid,
                  fmt::format("team {}: a team is not called like one of its NICs; choose another name", checked.name));
    }
    if (!seen.insert(nic).second) {
      return fail(ErrorCode::invalid, fmt::format("team {}: nic {} is given twice; give it once", checked.name, nic));
    }
  }
  return {};
}

// Against everything else on the host.
Result<void> check_nics(const Host& host, const Team& checked) {
  for (const std::string& nic : checked.nics) {
    for (const auto& [name, other] : host.teams) {
      if (name == checked.name) continue;
      if (nic == name) {
        return fail(ErrorCode::exists,
                    fmt::format("team {}: {} is a team, not a NIC; a team has NICs", checked.name, nic));
      }
      if (std::find(other.nics.begin(), other.nics.end(), nic) == other.nics.end()) continue;
      return fail(ErrorCode::exists,
                  fmt::format("team {}: nic {} is in team {} already; take it out of that with `patchbay team set {} "
                              "--nics …` first, or use another NIC",
                              checked.name, nic, name, name));
    }
    if (const Switch* on = switch_on(host, nic); on != nullptr) {
      return fail(ErrorCode::exists,
                  fmt::format("team {}: nic {} carries the external switch {} already; delete that first, or use "
                              "another NIC",
                              checked.name, nic, on->name));
    }
    const auto vnic = host.vnics.find(nic);
    if (vnic != host.vnics.end() && vnic->second.kind == VnicKind::host) {
      return fail(ErrorCode::exists, fmt::format("team {}: {} is a host vnic of switch {}, not a NIC; use a NIC",
                                                 checked.name, nic, vnic->second.switch_name));
    }
  }
  return {};
}

Result<void> check_settings(const Team& checked) {
  const std::string& standby = checked.standby;
  if (!standby.empty()) {
    if (std::find(checked.nics.begin(), checked.nics.end(), standby) == checked.nics.end()) {
      return fail(ErrorCode::invalid,
                  fmt::format("team {}: the standby {} is none of its NICs; give one of {}, or --standby none",
                              checked.name, standby, fmt::join(checked.nics, ", ")));
    }
    if (checked.nics.size() == 1) {
      return fail(ErrorCode::invalid,
                  fmt::format("team {}: its only nic {} cannot be the standby; give another NIC, or --standby none",
                              checked.name, standby));
    }
    if (checked.mode == TeamMode::static_) {
      return fail(
          ErrorCode::invalid,
          fmt::format("team {}: mode static has no standby, for the physical switch sends to every NIC; use mode "
                      "switch-independent or lacp, or --standby none",
                      checked.name));
    }
  }
  if (checked.lacp_timer != LacpTimer::fast && checked.mode != TeamMode::lacp) {
    return fail(
        ErrorCode::invalid,
        fmt::format("team {}: only mode lacp has a timer; leave --lacp-timer out, or use --mode lacp", checked.name));
  }
  if (checked.failback_delay_ms > failback_delay_max_ms) {
    return fail(ErrorCode::invalid, fmt::format("team {}: failback_delay_ms {} is out of range: 0 to {}", checked.name,
                                                checked.failback_delay_ms, failback_delay_max_ms));
  }
  return {};
}

// What else has the name of a new team: uplinks and host vnics are named in the same places.
Result<void> check_new_name(const Host& host, const Team& added) {
  if (host.teams.contains(added.name)) {
    return fail(ErrorCode::exists,
                fmt::format("team {} exists already; choose another name, or change it with `patchbay team set {}`",
                            added.name, added.name));
  }
  if (const Switch* on = switch_on(host, added.name); on != nullptr) {
    return fail(ErrorCode::exists,
                fmt::format("team {}: this is the name of switch {}'s NIC; choose another name", added.name, on->name));
  }
  if (const Team* other = team_of(host, added.name); other != nullptr) {
    return fail(ErrorCode::exists, fmt::format("team {}: this is the name of a NIC in team {}; choose another name",
                                               added.name, other->name));
  }
  const auto vnic = host.vnics.find(added.name);
  if (vnic == host.vnics.end() || vnic->second.kind != VnicKind::host) return {};
  return fail(ErrorCode::exists,
              fmt::format("team {}: this is the name of a host vnic and so of a network interface; choose another name",
                          added.name));
}

Result<void> check_team(const Host& host, const Team& checked) {
  if (auto ok = check_name("team", checked.name); !ok) return ok;
  if (auto ok = check_own_nics(checked); !ok) return ok;
  if (auto ok = check_settings(checked); !ok) return ok;
  return check_nics(host, checked);
}

}  // namespace

Result<void> check_team_unused(const Host& host, const std::string& team, const std::string& switch_name) {
  for (const auto& [name, other] : host.switches) {
    if (name == switch_name || other.uplink != team) continue;
    return fail(ErrorCode::exists,
                fmt::format("team {} carries the external switch {} already; a team carries one: use another team or "
                            "NIC, or put the vnics on {}",
                            team, name, name));
  }
  return {};
}

Result<void> check_no_team_name(const Host& host, const std::string& vnic) {
  if (host.teams.contains(vnic)) {
    return fail(ErrorCode::exists,
                fmt::format("vnic {}: this is the name of a team, and a host vnic's name is that of its network "
                            "interface; choose another name",
                            vnic));
  }
  const Team* team = team_of(host, vnic);
  if (team == nullptr) return {};
  return fail(
      ErrorCode::exists,
      fmt::format("vnic {}: this is the name of a NIC in team {}, and a host vnic's name is that of its network "
                  "interface; choose another name",
                  vnic, team->name));
}

Result<Host> add_team(Host host, const Team& added) {
  if (auto ok = check_name("team", added.name); !ok) return fail(ok.error());
  if (auto ok = check_new_name(host, added); !ok) return fail(ok.error());
  if (auto ok = check_team(host, added); !ok) return fail(ok.error());
  host.teams.emplace(added.name, added);
  return host;
}

Result<Host> set_team(Host host, const Team& changed) {
  if (auto found = find_team(host, changed.name); !found) return fail(found.error());
  if (auto ok = check_team(host, changed); !ok) return fail(ok.error());
  host.teams.at(changed.name) = changed;
  return host;
}

Result<Host> remove_team(Host host, const std::string& name) {
  if (auto found = find_team(host, name); !found) return fail(found.error());
  if (const Switch* on = switch_on(host, name); on != nullptr) {
    return fail(ErrorCode::in_use,
                fmt::format("team {} carries the external switch {}; `patchbay switch delete {}` first", name, on->name,
                            on->name));
  }
  host.teams.erase(name);
  return host;
}

Result<const Team*> find_team(const Host& host, const std::string& name) {
  const auto found = host.teams.find(name);
  if (found != host.teams.end()) return &found->second;
  if (auto ok = check_name("team", name); !ok) return fail(ok.error());
  return fail(ErrorCode::not_found,
              fmt::format("team {} does not exist; `patchbay team list` shows what there is", name));
}

const Team* team_of(const Host& host, const std::string& nic) noexcept {
  for (const auto& [name, team] : host.teams) {
    if (std::find(team.nics.begin(), team.nics.end(), nic) != team.nics.end()) return &team;
  }
  return nullptr;
}

const Switch* switch_on(const Host& host, const std::string& uplink) noexcept {
  for (const auto& [name, on] : host.switches) {
    if (!on.uplink.empty() && on.uplink == uplink) return &on;
  }
  return nullptr;
}

const Switch* switch_above(const Host& host, const std::string& nic) noexcept {
  const Team* team = team_of(host, nic);
  return switch_on(host, team != nullptr ? team->name : nic);
}

std::vector<std::string> nics_of(const Host& host, const Switch& on) {
  if (on.uplink.empty()) return {};
  const auto team = host.teams.find(on.uplink);
  return team == host.teams.end() ? std::vector<std::string>{on.uplink} : team->second.nics;
}

}  // namespace patchbay::model
