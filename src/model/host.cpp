#include "model/host.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "model/host_teams.h"
#include "model/name.h"

namespace patchbay::model {
namespace {

// Whether a vnic of this mode may be on a switch that forces `forced` on its vnics.
bool fits(const VlanMode& mode, VlanId forced) noexcept {
  const auto* access = std::get_if<Access>(&mode);
  return std::holds_alternative<Untagged>(mode) || (access != nullptr && access->vid == forced);
}

// The switch whose NIC the host shares by the vnic called `vnic`; nullptr: none.
const Switch* shared_by(const Host& host, const std::string& vnic) noexcept {
  for (const auto& [name, on] : host.switches) {
    if (on.share_with_host == vnic) return &on;
  }
  return nullptr;
}

// Whether the vnic that `on` shares its NIC by, if any, is there and a host vnic of this switch.
Result<void> check_share_vnic(const Host& host, const Switch& on) {
  if (on.share_with_host.empty()) return {};
  const auto vnic = host.vnics.find(on.share_with_host);
  const bool fits =
      vnic != host.vnics.end() && vnic->second.kind == VnicKind::host && vnic->second.switch_name == on.name;
  if (fits) return {};
  return fail(ErrorCode::invalid, fmt::format("switch {}: it shares {} by {}, which is no host vnic of this switch",
                                              on.name, on.uplink, on.share_with_host));
}

// "a, b, c and 4 more"
std::string list_some(const std::vector<std::string>& names) {
  constexpr std::size_t shown_max = 10;
  const std::size_t shown = std::min(names.size(), shown_max);
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

// Names of the policies that apply to the switch called `name`.
std::vector<std::string> policies_on(const Host& host, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [policy_name, policy] : host.policies) {
    if (policy.apply_to.contains({TargetKind::switch_, name})) names.push_back(policy_name);
  }
  return names;
}

Result<void> check_uplink(const Host& host, const Switch& checked) {
  if (checked.type != SwitchType::external) {
    if (checked.driver != UplinkDriver::auto_) {
      return fail(ErrorCode::invalid,
                  fmt::format("switch {}: only an external switch has a driver; leave {} out or make it external",
                              checked.name, to_string(checked.driver)));
    }
    if (!checked.gro) {
      return fail(
          ErrorCode::invalid,
          fmt::format("switch {}: only an external switch has frames of the wire to merge; leave gro out or make "
                      "it external",
                      checked.name));
    }
    if (checked.uplink.empty()) return {};
    return fail(ErrorCode::invalid,
                fmt::format("switch {}: only an external switch has an uplink; leave {} out or make it external",
                            checked.name, checked.uplink));
  }
  if (checked.uplink.empty()) {
    return fail(ErrorCode::invalid,
                fmt::format("switch {}: an external switch needs a NIC as its uplink", checked.name));
  }
  if (host.teams.contains(checked.uplink)) return check_team_unused(host, checked.uplink, checked.name);
  if (auto ok = check_nic_name(checked.uplink); !ok) return ok;
  if (const auto* team = team_of(host, checked.uplink); team != nullptr) {
    return fail(ErrorCode::exists,
                fmt::format("switch {}: nic {} is in team {}; use the team, or take the NIC out of it with `patchbay "
                            "team set {} --nics …`",
                            checked.name, checked.uplink, team->name, team->name));
  }
  if (const auto vnic = host.vnics.find(checked.uplink);
      vnic != host.vnics.end() && vnic->second.kind == VnicKind::host) {
    return fail(ErrorCode::exists, fmt::format("switch {}: {} is a host vnic of switch {}, not a NIC; use a NIC",
                                               checked.name, checked.uplink, vnic->second.switch_name));
  }
  for (const auto& [name, other] : host.switches) {
    if (name != checked.name && other.uplink == checked.uplink) {
      return fail(ErrorCode::exists,
                  fmt::format("nic {} carries the external switch {} already; a NIC carries one: use another NIC, or "
                              "put the vnics on {}",
                              checked.uplink, name, name));
    }
  }
  return {};
}

Result<void> check_share(const Host& host, const Switch& checked) {
  if (checked.share_with_host.empty()) return {};
  if (host.teams.contains(checked.uplink)) {
    return fail(
        ErrorCode::invalid,
        fmt::format("switch {}: its uplink {} is a team, and the host can share only a NIC; leave "
                    "--share-with-host out, make a host vnic with `patchbay vnic create {} --switch {} --host`, "
                    "and move addresses and routes to it by hand",
                    checked.name, checked.uplink, checked.share_with_host, checked.name));
  }
  if (checked.type != SwitchType::external) {
    return fail(
        ErrorCode::invalid,
        fmt::format("switch {}: only an external switch has a NIC to share with the host; leave {} out, or make "
                    "a host vnic of it with `patchbay vnic create {} --switch {} --host`",
                    checked.name, checked.share_with_host, checked.share_with_host, checked.name));
  }
  return check_name("host vnic", checked.share_with_host, interface_name_size_max);
}

Result<void> check_switch(const Host& host, const Switch& checked) {
  if (auto ok = check_name("switch", checked.name); !ok) return ok;
  if (auto ok = check_uplink(host, checked); !ok) return ok;
  if (auto ok = check_share(host, checked); !ok) return ok;
  if (checked.mtu < mtu_min || checked.mtu > mtu_max) {
    return fail(ErrorCode::invalid, fmt::format("switch {}: mtu {} is out of range: {} to {} bytes", checked.name,
                                                checked.mtu, mtu_min, mtu_max));
  }
  if (auto ok = check(checked.buffer); !ok) {
    return fail(ok.error().code, fmt::format("switch {}: {}", checked.name, ok.error().message));
  }
  if (!checked.force_vlan) return {};
  std::vector<std::string> misfits;
  for (const auto& [name, vnic] : host.vnics) {
    if (vnic.switch_name == checked.name && !fits(vnic.vlan, *checked.force_vlan)) {
      misfits.push_back(fmt::format("{} ({})", name, describe(vnic.vlan)));
    }
  }
  if (misfits.empty()) return {};
  return fail(ErrorCode::in_use,
              fmt::format("switch {}: cannot force VLAN {} while vnics have VLANs of their own: {}; change or "
                          "delete them first",
                          checked.name, checked.force_vlan->raw(), list_some(misfits)));
}

// Without "//", "." and "..", so that one path has one spelling. Symbolic links are not followed.
std::string normal(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().string();
}

bool has_private_vlans(const VlanMode& mode) noexcept {
  return std::holds_alternative<Isolated>(mode) || std::holds_alternative<Community>(mode) ||
         std::holds_alternative<Promiscuous>(mode);
}

// What vnics must not share, and which vnic has it: built once, so that checking n vnics takes no n² comparisons.
struct Taken {
  std::map<MacAddr, std::string> macs;
  std::map<std::string, std::string> paths;  // to connect to, normal()
  // By switch: the modes that check_together() has something to say about, each once, with the first vnic that has it.
  std::map<std::string, std::vector<std::pair<VlanMode, std::string>>> private_vlans;

  void add(const Vnic& vnic) {
    macs.emplace(vnic.mac, vnic.name);
    if (!vnic.connect.empty()) paths.emplace(normal(vnic.connect), vnic.name);
    if (!has_private_vlans(vnic.vlan)) return;
    auto& modes = private_vlans[vnic.switch_name];
    const auto same = [&vnic](const auto& known) { return known.first == vnic.vlan; };
    if (std::none_of(modes.begin(), modes.end(), same)) modes.emplace_back(vnic.vlan, vnic.name);
  }
};

// By the vnics of `host` but the one called `name`.
Taken taken_by_others(const Host& host, const std::string& name) {
  Taken taken;
  for (const auto& [other_name, other] : host.vnics) {
    if (other_name != name) taken.add(other);
  }
  return taken;
}

Result<void> check_mac(const Taken& taken, const Vnic& checked) {
  if (!checked.mac.is_station()) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: MAC {} is {}; give the address of a single station", checked.name,
                            checked.mac.to_string(), checked.mac.is_zero() ? "all zeros" : "a multicast address"));
  }
  const auto holder = taken.macs.find(checked.mac);
  if (holder == taken.macs.end()) return {};
  return fail(ErrorCode::exists, fmt::format("vnic {}: MAC {} belongs to vnic {} already; give another one",
                                             checked.name, checked.mac.to_string(), holder->second));
}

Result<void> check_connect(const Taken& taken, const Vnic& checked) {
  const std::string& path = checked.connect;
  if (path.empty()) return {};
  if (checked.kind != VnicKind::guest) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: a host vnic connects to no socket; leave the path out", checked.name));
  }
  if (path.front() != '/' || path.find('\0') != std::string::npos) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: the socket to connect to needs an absolute path", checked.name));
  }
  if (path.size() > socket_path_size_max) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: the path of the socket to connect to has {} bytes: at most {} "
                            "are possible",
                            checked.name, path.size(), socket_path_size_max));
  }
  const auto holder = taken.paths.find(normal(path));
  if (holder == taken.paths.end()) return {};
  return fail(ErrorCode::exists, fmt::format("vnic {}: vnic {} connects to {} already; a socket serves one vnic",
                                             checked.name, holder->second, path));
}

Result<void> check_vlan(const Taken& taken, const Switch& on, const Vnic& checked) {
  if (auto ok = check(checked.vlan); !ok) {
    return fail(ok.error().code, fmt::format("vnic {}: {}", checked.name, ok.error().message));
  }
  if (on.force_vlan && !fits(checked.vlan, *on.force_vlan)) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: switch {} forces VLAN {} on its vnics, {} is not possible there; leave the VLAN "
                            "out",
                            checked.name, on.name, on.force_vlan->raw(), describe(checked.vlan)));
  }
  const auto others = taken.private_vlans.find(on.name);
  if (others == taken.private_vlans.end()) return {};
  for (const auto& [mode, name] : others->second) {
    if (auto ok = check_together(checked.vlan, mode); !ok) {
      return fail(ok.error().code, fmt::format("vnic {}: with vnic {}, {}", checked.name, name, ok.error().message));
    }
  }
  return {};
}

Result<void> check_buffer(const Vnic& checked) {
  if (checked.kind == VnicKind::host && checked.buffer != BufferSettings{}) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: a host vnic has no buffer here, the kernel queues for it; leave "
                            "--buffer and --buffer-max-age out",
                            checked.name));
  }
  if (auto ok = check(checked.buffer); !ok) {
    return fail(ok.error().code, fmt::format("vnic {}: {}", checked.name, ok.error().message));
  }
  return {};
}

Result<void> check_queues(const Vnic& checked) {
  if (checked.queues < 1 || checked.queues > queues_max) {
    return fail(ErrorCode::invalid, fmt::format("vnic {}: queues {} is out of range: 1 to {} queue pairs", checked.name,
                                                checked.queues, queues_max));
  }
  if (checked.kind == VnicKind::host && checked.queues != 1) {
    return fail(ErrorCode::invalid, fmt::format("vnic {}: a host vnic has one queue pair, only guests can have {}; "
                                                "leave --queues out",
                                                checked.name, checked.queues));
  }
  return {};
}

Result<void> check_labels_of(const PolicyIndex& policies, const Vnic& checked) {
  if (auto ok = check_labels(checked.labels); !ok) {
    return fail(ok.error().code, fmt::format("vnic {}: {}", checked.name, ok.error().message));
  }
  const auto found = disagreement(policies, checked);
  if (!found) return {};
  return fail(ErrorCode::in_use, fmt::format("vnic {}: {}", checked.name, describe(*found)));
}

Result<void> check_vnic(const Host& host, const PolicyIndex& policies, const Taken& taken, const Vnic& checked) {
  const auto name_max = checked.kind == VnicKind::host ? interface_name_size_max : name_size_max;
  if (auto ok = check_name(checked.kind == VnicKind::host ? "host vnic" : "vnic", checked.name, name_max); !ok) {
    return ok;
  }
  const auto on = find_switch(host, checked.switch_name);
  if (!on) return fail(ErrorCode::not_found, fmt::format("vnic {}: {}", checked.name, on.error().message));
  if ((*on)->type == SwitchType::private_ && checked.kind == VnicKind::host) {
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: switch {} is private, the host has no part in it; use an internal or external "
                            "switch",
                            checked.name, checked.switch_name));
  }
  if (checked.kind == VnicKind::host) {
    if (auto ok = check_no_team_name(host, checked.name); !ok) return ok;
  }
  for (const auto& [name, other] : host.switches) {
    if (checked.kind == VnicKind::host && other.uplink == checked.name) {
      return fail(ErrorCode::exists,
                  fmt::format("vnic {}: this is the name of switch {}'s NIC, and a host vnic's name is "
                              "that of its network interface; choose another name",
                              checked.name, name));
    }
  }
  if (auto ok = check_vlan(taken, **on, checked); !ok) return ok;
  if (checked.mac_limit < 1 || checked.mac_limit > mac_limit_max) {
    return fail(ErrorCode::invalid, fmt::format("vnic {}: mac_limit {} is out of range: 1 to {} addresses",
                                                checked.name, checked.mac_limit, mac_limit_max));
  }
  if (checked.vmq_weight > vmq_weight_max) {
    return fail(ErrorCode::invalid, fmt::format("vnic {}: vmq_weight {} is out of range: 0 (never a queue) to {}",
                                                checked.name, checked.vmq_weight, vmq_weight_max));
  }
  if (auto ok = check_queues(checked); !ok) return ok;
  if (auto ok = check_buffer(checked); !ok) return ok;
  if (auto ok = check_labels_of(policies, checked); !ok) return ok;
  if (auto ok = check_mac(taken, checked); !ok) return ok;
  return check_connect(taken, checked);
}

Result<void> check_new_vnic(const Host& host, const PolicyIndex& policies, const Taken& taken, const Vnic& added) {
  if (host.vnics.contains(added.name)) {
    return fail(ErrorCode::exists,
                fmt::format("vnic {} exists already; choose another name, or change it with `patchbay vnic set {}`",
                            added.name, added.name));
  }
  return check_vnic(host, policies, taken, added);
}

}  // namespace

tl::expected<Host, Misfit> make_host(const std::vector<Switch>& switches, const std::vector<Vnic>& vnics,
                                     const std::vector<Team>& teams, const std::vector<Policy>& policies,
                                     const HostSettings& settings) {
  Host host;
  for (const Team& added : teams) {
    auto next = add_team(std::move(host), added);
    if (!next) return tl::unexpected(Misfit{"team", added.name, std::move(next.error())});
    host = std::move(*next);
  }
  for (const Switch& added : switches) {
    auto next = add_switch(std::move(host), added);
    if (!next) return tl::unexpected(Misfit{"switch", added.name, std::move(next.error())});
    host = std::move(*next);
  }
  auto with_settings = set_settings(std::move(host), settings);
  if (!with_settings) return tl::unexpected(Misfit{"host", "", std::move(with_settings.error())});
  host = std::move(*with_settings);
  for (const Policy& added : policies) {
    if (auto ok = check_policy(host, added); !ok) return tl::unexpected(Misfit{"policy", added.name, ok.error()});
    host.policies.emplace(added.name, added);
  }
  const PolicyIndex index(host.policies);
  if (const auto found = disagreement(index)) {
    return tl::unexpected(
        Misfit{"policy", found->second.policy->name, make_error(ErrorCode::in_use, describe(*found))});
  }
  Taken taken;
  for (const Vnic& added : vnics) {
    if (auto ok = check_new_vnic(host, index, taken, added); !ok) {
      return tl::unexpected(Misfit{"vnic", added.name, std::move(ok.error())});
    }
    taken.add(added);
    host.vnics.emplace(added.name, added);
  }
  for (const auto& [name, on] : host.switches) {
    if (auto ok = check_share_vnic(host, on); !ok) return tl::unexpected(Misfit{"switch", name, std::move(ok.error())});
  }
  return host;
}

Result<const Switch*> find_switch(const Host& host, const std::string& name) {
  const auto found = host.switches.find(name);
  if (found != host.switches.end()) return &found->second;
  if (auto ok = check_name("switch", name); !ok) return fail(ok.error());
  return fail(ErrorCode::not_found,
              fmt::format("switch {} does not exist; `patchbay switch list` shows what there is", name));
}

Result<const Vnic*> find_vnic(const Host& host, const std::string& name) {
  const auto found = host.vnics.find(name);
  if (found != host.vnics.end()) return &found->second;
  if (auto ok = check_name("vnic", name); !ok) return fail(ok.error());
  return fail(ErrorCode::not_found,
              fmt::format("vnic {} does not exist; `patchbay vnic list` shows what there is", name));
}

VlanMode effective_vlan(const Switch& on, const Vnic& vnic) {
  return on.force_vlan ? VlanMode(Access{*on.force_vlan}) : vnic.vlan;
}

Result<Host> add_switch(Host host, const Switch& added) {
  if (host.switches.contains(added.name)) {
    return fail(ErrorCode::exists,
                fmt::format("switch {} exists already; choose another name, or change it with `patchbay switch set {}`",
                            added.name, added.name));
  }
  if (auto ok = check_switch(host, added); !ok) return fail(ok.error());
  host.switches.emplace(added.name, added);
  return host;
}

Result<Host> set_switch(Host host, const Switch& changed) {
  if (auto found = find_switch(host, changed.name); !found) return fail(found.error());
  Switch next = host.switches.at(changed.name);
  next.force_vlan = changed.force_vlan;
  next.mtu = changed.mtu;
  next.driver = changed.driver;
  next.gro = changed.gro;
  next.buffer = changed.buffer;
  if (auto ok = check_switch(host, next); !ok) return fail(ok.error());
  host.switches.at(changed.name) = std::move(next);
  return host;
}

Result<Host> remove_switch(Host host, const std::string& name) {
  if (auto found = find_switch(host, name); !found) return fail(found.error());
  const std::string shared = host.switches.at(name).share_with_host;
  std::vector<std::string> users;
  for (const auto& [vnic_name, vnic] : host.vnics) {
    if (vnic.switch_name == name && vnic_name != shared) users.push_back(vnic_name);
  }
  if (!users.empty()) {
    return fail(ErrorCode::in_use,
                fmt::format("switch {} has {} vnic{}: {}; delete {} first", name, users.size(),
                            users.size() == 1 ? "" : "s", list_some(users), users.size() == 1 ? "it" : "them"));
  }
  if (const auto named = policies_on(host, name); !named.empty()) {
    const bool one = named.size() == 1;
    return fail(
        ErrorCode::in_use,
        fmt::format("switch {}: {} {} {} to it; `patchbay policy set {} --apply-to` other things, or none, first", name,
                    one ? "policy" : "policies", list_some(named), one ? "applies" : "apply", named.front()));
  }
  host.switches.erase(name);
  if (!shared.empty()) host.vnics.erase(shared);
  return host;
}

Result<Host> share_nic(Host host, const Vnic& added) {
  if (auto found = find_switch(host, added.switch_name); !found) return fail(found.error());
  Switch& on = host.switches.at(added.switch_name);
  if (!on.share_with_host.empty()) {
    return fail(ErrorCode::exists,
                fmt::format("switch {}: the host shares {} by vnic {} already; `patchbay switch set {} "
                            "--share-with-host none` ends that first",
                            on.name, on.uplink, on.share_with_host, on.name));
  }
  on.share_with_host = added.name;
  if (auto ok = check_share(host, on); !ok) return fail(ok.error());
  auto with = add_vnic(std::move(host), added);
  if (!with) return with;
  if (auto ok = check_shares(*with); !ok) return fail(ok.error());
  return with;
}

Result<Host> unshare_nic(Host host, const std::string& switch_name) {
  if (auto found = find_switch(host, switch_name); !found) return fail(found.error());
  const std::string vnic = std::exchange(host.switches.at(switch_name).share_with_host, "");
  if (!vnic.empty()) host.vnics.erase(vnic);
  return host;
}

Result<void> check_shares(const Host& host) {
  for (const auto& [name, on] : host.switches) {
    if (auto ok = check_share_vnic(host, on); !ok) return ok;
  }
  return {};
}

Result<Host> add_vnic(Host host, const Vnic& added) {
  if (auto ok = check_new_vnic(host, PolicyIndex(host.policies), taken_by_others(host, added.name), added); !ok)
    return fail(ok.error());
  host.vnics.emplace(added.name, added);
  return host;
}

Result<Host> set_vnic(Host host, const Vnic& changed) {
  if (auto found = find_vnic(host, changed.name); !found) return fail(found.error());
  Vnic next = host.vnics.at(changed.name);
  const Switch* shared = shared_by(host, changed.name);
  if (shared != nullptr && changed.mac != next.mac) {
    return fail(ErrorCode::in_use, fmt::format("vnic {}: the host shares {} by it, so it keeps the NIC's MAC {}; leave "
                                               "--mac out",
                                               changed.name, shared->uplink, next.mac.to_string()));
  }
  next.mac = changed.mac;
  next.mac_origin = changed.mac_origin;
  next.vlan = changed.vlan;
  next.mac_spoofing = changed.mac_spoofing;
  next.mac_limit = changed.mac_limit;
  next.trust_priority = changed.trust_priority;
  next.queues = changed.queues;
  next.worker = changed.worker;
  next.buffer = changed.buffer;
  next.labels = changed.labels;
  next.vmq_weight = changed.vmq_weight;
  if (auto ok = check_vnic(host, PolicyIndex(host.policies), taken_by_others(host, next.name), next); !ok)
    return fail(ok.error());
  host.vnics.at(changed.name) = std::move(next);
  return host;
}

Result<Host> remove_vnic(Host host, const std::string& name) {
  if (auto found = find_vnic(host, name); !found) return fail(found.error());
  if (const Switch* shared = shared_by(host, name); shared != nullptr) {
    return fail(ErrorCode::in_use,
                fmt::format("vnic {}: the host shares {} by it; `patchbay switch set {} --share-with-host none` moves "
                            "its addresses back to the NIC and deletes it, deleting the switch does too",
                            name, shared->uplink, shared->name));
  }
  host.vnics.erase(name);
  return host;
}

}  // namespace patchbay::model
