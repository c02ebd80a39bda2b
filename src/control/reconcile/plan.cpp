#include "control/reconcile/plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace patchbay::reconcile {
namespace {

void want_vnic(const model::Switch& on, const model::Vnic& vnic, const std::string& run_dir, Wanted& wanted) {
  if (vnic.kind == model::VnicKind::host) {
    wanted.hosts[vnic.name] = {vnic.mac, on.mtu};
  } else if (vnic.connect.empty()) {
    wanted.guests[vnic.name] = {vhost_user::Role::listen, vhost_socket_path(run_dir, vnic.name)};
  } else {
    wanted.guests[vnic.name] = {vhost_user::Role::connect, vnic.connect};
  }
}

void want_uplink(const model::Switch& on, const model::Nic& nic, Wanted& wanted) {
  const model::DriverChoice choice = model::choose_driver(on.driver, nic);
  if (nic.has_interface()) {
    wanted.uplinks[nic.name] = {nic.index, nic.carrier, choice};
    if (!on.share_with_host.empty()) wanted.shares[on.share_with_host] = {on.uplink, nic.index};
  } else if (nic.driver == model::dpdk_driver) {
    wanted.uplinks[nic.name] = {nic.index, std::nullopt, choice};
  }
}

void want_team(const model::Switch& on, const model::Team& settings, const std::map<std::string, model::Nic>& nics,
               Wanted& wanted) {
  WantedTeam& team = wanted.teams[settings.name];
  team.settings = settings;
  for (const std::string& name : settings.nics) {
    const auto nic = nics.find(name);
    if (nic == nics.end()) continue;
    want_uplink(on, nic->second, wanted);
    if (!wanted.uplinks.contains(name)) continue;
    const bool has_interface = nic->second.has_interface();
    team.macs[name] = has_interface ? nic->second.mac : MacAddr();
    if (has_interface) team.links[name] = {nic->second.carrier, nic->second.speed_mbps};
  }
}

// One comparison of wanted and actual: what of both is left when the ports that go are closed.
class Comparison {
 public:
  Comparison(const Wanted& wanted, const Actual& actual) : wanted_(wanted), actual_(actual) {}

  std::vector<Step> steps() {
    take_members_out();
    close_ports();
    std::optional<PlannedLayout> without;
    if (gone_ != 0 || uplink_becomes_member()) {
      without = actual_.teams.empty() ? only_open(wanted_.layout, left_) : only_open(wanted_.layout, without_members());
    }
    const bool is_first_needed = without && *without != actual_.published;
    if (is_first_needed) steps_.insert(steps_.begin(), Publish{*without});
    open_ports();
    auto with = only_open(wanted_.layout, left_);
    if (with != (is_first_needed ? *without : actual_.published)) steps_.emplace_back(Publish{std::move(with)});
    open_endpoints();
    share_nics();
    set_buffer_limit();
    return std::move(steps_);
  }

 private:
  [[nodiscard]] bool failed(ObjectKind kind, const std::string& name) const {
    return !actual_.failed.empty() && actual_.failed.contains({kind, name});
  }
  [[nodiscard]] bool mtu_failed(const std::string& vnic, std::uint16_t mtu) const {
    const auto found = actual_.mtu_failed.find(vnic);
    return found != actual_.mtu_failed.end() && found->second.mtu == mtu;
  }
  [[nodiscard]] bool stays(const std::string& nic, const ActualUplink& uplink) const {
    const auto found = wanted_.uplinks.find(nic);
    return found != wanted_.uplinks.end() && found->second.index == uplink.index &&
           model::same_plans(found->second.choice, uplink.choice) && !failed(ObjectKind::uplink, nic);
  }

  // Of `nics`, those whose uplinks stay or were opened by now.
  [[nodiscard]] std::vector<TeamMember> members_of(const WantedTeam& team,
                                                   const std::map<std::string, ActualUplink>& uplinks,
                                                   const std::vector<TeamMember>* among) const {
    std::vector<TeamMember> members;
    for (const std::string& nic : team.settings.nics) {
      const auto uplink = uplinks.find(nic);
      const auto mac = team.macs.find(nic);
      if (uplink == uplinks.end() || mac == team.macs.end()) continue;
      const TeamMember member{nic, uplink->second.index, mac->second};
      const auto is_it = [&member](const TeamMember& known) {
        return known.nic == member.nic && known.index == member.index;
      };
      if (among == nullptr || std::any_of(among->begin(), among->end(), is_it)) members.push_back(member);
    }
    return members;
  }
  void set_team(const std::string& name, const model::Team& settings, std::vector<TeamMember> members) {
    left_.teams[name].set(settings, members);
    steps_.emplace_back(SetTeam{name, settings, std::move(members)});
  }

  // Before anything is closed, and before what leaves one team can come into another, or be the uplink of a switch.
  void take_members_out() {
    for (const auto& [nic, uplink] : actual_.uplinks) {
      if (stays(nic, uplink)) left_.uplinks.emplace(nic, uplink);
    }
    left_.teams = actual_.teams;
    for (const auto& [name, team] : actual_.teams) {
      const auto wanted = wanted_.teams.find(name);
      if (wanted == wanted_.teams.end()) {
        if (!team.members.empty()) set_team(name, team.settings, {});
        continue;
      }
      auto stay = members_of(wanted->second, left_.uplinks, &team.members);
      if (stay.size() != team.members.size()) set_team(name, wanted->second.settings, std::move(stay));
    }
  }

  // Whether a NIC that is the uplink of a switch now is to be in a team.
  [[nodiscard]] bool uplink_becomes_member() const {
    const auto is_in_a_team = [this](const PlannedSwitch& on) {
      return std::any_of(wanted_.teams.begin(), wanted_.teams.end(),
                         [&on](const auto& team) { return team.second.macs.contains(on.nic); });
    };
    return std::any_of(actual_.published.begin(), actual_.published.end(), is_in_a_team);
  }
  // What is left, as the first layout may have it: published before members are out of their teams.
  [[nodiscard]] Actual without_members() const {
    Actual left = left_;
    for (const auto& [name, team] : actual_.teams) {
      for (const TeamMember& member : team.members) left.uplinks.erase(member.nic);
    }
    return left;
  }

  void close_ports() {
    for (const auto& [vnic, endpoint] : actual_.guests) {
      const auto found = wanted_.guests.find(vnic);
      const bool port_stays = found != wanted_.guests.end();
      const bool endpoint_stays = port_stays && endpoint == found->second;
      if (endpoint && !endpoint_stays) steps_.emplace_back(CloseEndpoint{vnic});
      if (!port_stays) {
        steps_.emplace_back(CloseGuestPort{vnic});
        ++gone_;
      } else {
        left_.guests.emplace(vnic, endpoint_stays ? endpoint : std::nullopt);
      }
    }
    for (const auto& [vnic, port] : actual_.hosts) {
      const auto found = wanted_.hosts.find(vnic);
      const bool is_wanted = found != wanted_.hosts.end();
      if (is_wanted && found->second.mac == port.mac && !failed(ObjectKind::host_port, vnic)) {
        left_.hosts.emplace(vnic, port);
      } else {
        steps_.emplace_back(CloseHostPort{vnic, !is_wanted});
        ++gone_;
      }
    }
    for (const auto& [name, team] : actual_.teams) {
      if (wanted_.teams.contains(name)) continue;
      left_.teams.erase(name);
      steps_.emplace_back(CloseTeam{name});
      ++gone_;
    }
    for (const auto& [nic, uplink] : actual_.uplinks) {
      if (left_.uplinks.contains(nic)) continue;
      steps_.emplace_back(CloseUplink{nic});
      ++gone_;
    }
  }

  // Of links that go down, before the uplinks hear of it: their frames take another way then, and none is dropped.
  void tell_links(bool only_down) {
    for (const auto& [name, team] : wanted_.teams) {
      auto& told = left_.teams[name].links;
      for (const auto& [nic, link] : team.links) {
        if (!left_.uplinks.contains(nic) || (only_down && link.carrier)) continue;
        const auto before = told.find(nic);
        if (before != told.end() && before->second == link) continue;
        told[nic] = link;
        steps_.emplace_back(SetTeamLink{name, nic, link});
      }
    }
  }

  void open_uplinks() {
    for (const auto& [name, team] : wanted_.teams) {
      if (left_.teams.emplace(name, ActualTeam{}).second) steps_.emplace_back(OpenTeam{name});
    }
    tell_links(true);
    for (const auto& [nic, uplink] : wanted_.uplinks) {
      const bool is_new = !left_.uplinks.contains(nic);
      if (is_new && failed(ObjectKind::uplink, nic)) continue;
      if (is_new) steps_.emplace_back(OpenUplink{nic, uplink.index, uplink.choice});
      ActualUplink& opened = left_.uplinks[nic];
      if (is_new) opened.index = uplink.index;
      if (uplink.carrier && opened.carrier != uplink.carrier) steps_.emplace_back(SetCarrier{nic, *uplink.carrier});
    }
    tell_links(false);
    for (const auto& [name, team] : wanted_.teams) {
      const ActualTeam& opened = left_.teams[name];
      auto members = members_of(team, left_.uplinks, nullptr);
      if (opened.settings != team.settings || opened.members != members) {
        set_team(name, team.settings, std::move(members));
      }
    }
  }

  void open_ports() {
    open_uplinks();
    for (const auto& [vnic, plan] : wanted_.guests) {
      if (left_.guests.contains(vnic) || failed(ObjectKind::guest, vnic)) continue;
      steps_.emplace_back(OpenGuestPort{vnic});
      left_.guests.emplace(vnic, std::nullopt);
    }
    for (const auto& [vnic, plan] : wanted_.hosts) {
      const auto found = left_.hosts.find(vnic);
      if (found != left_.hosts.end()) {
        if (found->second.mtu != plan.mtu && !mtu_failed(vnic, plan.mtu))
          steps_.emplace_back(SetHostPortMtu{vnic, plan.mtu});
      } else if (!failed(ObjectKind::host_port, vnic)) {
        steps_.emplace_back(OpenHostPort{vnic, plan});
        left_.hosts.emplace(vnic, plan);
      }
    }
  }

  void open_endpoints() {
    for (const auto& [vnic, endpoint] : left_.guests) {
      if (endpoint || failed(ObjectKind::guest, vnic)) continue;
      steps_.emplace_back(OpenEndpoint{vnic, wanted_.guests.at(vnic)});
    }
  }

  void share_nics() {
    for (const auto& [vnic, plan] : wanted_.shares) {
      if (!left_.hosts.contains(vnic) || !left_.uplinks.contains(plan.nic)) continue;  // the host would be cut off
      if (failed(ObjectKind::share, vnic)) continue;
      const auto found = actual_.shares.find(vnic);
      const bool is_done = found != actual_.shares.end() && found->second == plan && actual_.hosts.contains(vnic);
      if (!is_done) steps_.emplace_back(ShareNic{vnic, plan});
    }
  }

  void set_buffer_limit() {
    if (wanted_.buffer_limit_bytes == actual_.buffer_limit_bytes || failed(ObjectKind::buffer_limit, "")) return;
    steps_.emplace_back(SetBufferLimit{wanted_.buffer_limit_bytes});
  }

  const Wanted& wanted_;
  const Actual& actual_;
  Actual left_;  // as the steps so far will have made it
  std::vector<Step> steps_;
  unsigned gone_ = 0;  // ports
};

struct Describe {
  std::string operator()(const Publish& s) const { return fmt::format("publish {} switches", s.layout.size()); }
  std::string operator()(const OpenUplink& s) const { return "open uplink " + s.nic; }
  std::string operator()(const SetCarrier& s) const {
    return fmt::format("carrier of uplink {} is {}", s.nic, s.up ? "up" : "down");
  }
  std::string operator()(const CloseUplink& s) const { return "close uplink " + s.nic; }
  std::string operator()(const OpenTeam& s) const { return "open team " + s.team; }
  std::string operator()(const SetTeamLink& s) const {
    return fmt::format("link of {} in team {} is {}", s.nic, s.team, s.link.carrier ? "up" : "down");
  }
  std::string operator()(const SetTeam& s) const {
    std::string members;
    for (const TeamMember& member : s.members) members += (members.empty() ? "" : ", ") + member.nic;
    return fmt::format("set team {} to {}, {}: {}", s.team, to_string(s.settings.mode), to_string(s.settings.balance),
                       members.empty() ? "no members" : members);
  }
  std::string operator()(const CloseTeam& s) const { return "close team " + s.team; }
  std::string operator()(const OpenGuestPort& s) const { return "open guest port " + s.vnic; }
  std::string operator()(const CloseGuestPort& s) const { return "close guest port " + s.vnic; }
  std::string operator()(const OpenEndpoint& s) const {
    return fmt::format("open endpoint {} on {}", s.vnic, s.plan.path);
  }
  std::string operator()(const CloseEndpoint& s) const { return "close endpoint " + s.vnic; }
  std::string operator()(const OpenHostPort& s) const { return "open host port " + s.vnic; }
  std::string operator()(const SetHostPortMtu& s) const {
    return fmt::format("set mtu of host port {} to {}", s.vnic, s.mtu);
  }
  std::string operator()(const CloseHostPort& s) const {
    return fmt::format("close host port {}{}", s.vnic, s.remove_interface ? " and remove its interface" : "");
  }
  std::string operator()(const SetBufferLimit& s) const {
    return fmt::format("set the limit of all buffers to {} bytes", s.bytes);
  }
  std::string operator()(const ShareNic& s) const { return fmt::format("share nic {} by {}", s.plan.nic, s.vnic); }
};

}  // namespace

void ActualTeam::set(const model::Team& changed, const std::vector<TeamMember>& now) {
  for (const TeamMember& before : members) {
    const auto is_it = [&before](const TeamMember& member) { return member.nic == before.nic; };
    if (std::none_of(now.begin(), now.end(), is_it)) links.erase(before.nic);
  }
  settings = changed;
  members = now;
}

std::string vhost_socket_path(const std::string& run_dir, const std::string& vnic) {
  return run_dir + "/vhost/" + vnic + ".sock";
}

Wanted want(const model::Host& host, const std::map<std::string, model::Nic>& nics, const std::string& run_dir) {
  Wanted wanted;
  std::map<std::string, std::size_t> position;  // of each switch in the layout
  for (const auto& [name, on] : host.switches) {
    position[name] = wanted.layout.size();
    wanted.layout.push_back({name, on.uplink, on.mtu, {}, on.gro});
    if (const auto team = host.teams.find(on.uplink); team != host.teams.end()) {
      want_team(on, team->second, nics, wanted);
      continue;
    }
    const auto nic = nics.find(on.uplink);
    if (!on.uplink.empty() && nic != nics.end()) want_uplink(on, nic->second, wanted);
  }
  wanted.buffer_limit_bytes = host.settings.buffer_limit_bytes.value_or(model::buffer_limit_default);
  const model::PolicyIndex policies(host.policies);
  for (const auto& [name, vnic] : host.vnics) {
    const model::Switch& on = host.switches.at(vnic.switch_name);
    const model::BufferInForce buffer = model::buffer_in_force(policies, on, vnic);
    wanted.layout[position.at(vnic.switch_name)].vnics.push_back(
        {name, vnic.mac, model::effective_vlan(on, vnic), vnic.mac_spoofing, vnic.mac_limit, vnic.trust_priority,
         vnic.queues, vnic.worker, buffer.size, buffer.max_age_ms, vnic.vmq_weight});
    want_vnic(on, vnic, run_dir, wanted);
  }
  return wanted;
}

PlannedLayout only_open(const PlannedLayout& layout, const Actual& actual) {
  PlannedLayout open;
  for (const PlannedSwitch& planned : layout) {
    PlannedSwitch kept{planned.name, "", planned.mtu, {}, planned.gro};
    if (actual.uplinks.contains(planned.nic) || actual.teams.contains(planned.nic)) kept.nic = planned.nic;
    for (const PlannedVnic& vnic : planned.vnics) {
      if (actual.guests.contains(vnic.name) || actual.hosts.contains(vnic.name)) kept.vnics.push_back(vnic);
    }
    if (!kept.nic.empty() || !kept.vnics.empty()) open.push_back(std::move(kept));
  }
  return open;
}

std::vector<Step> compute_steps(const Wanted& wanted, const Actual& actual) {
  return Comparison(wanted, actual).steps();
}

std::string describe(const Step& step) {
  return std::visit(Describe{}, step);
}

}  // namespace patchbay::reconcile
