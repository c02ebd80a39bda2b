// For tests: a Service that lives in memory. The model's own rules, no data plane: states and counters are made up, and
// every change is counted, so that a test can tell a refused request from an applied one.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "control/reconcile/service.h"
#include "model/host.h"

namespace patchbay::api {

class FakeService : public reconcile::Service {
 public:
  model::Host host;
  int changes = 0;
  reconcile::Actor actor;
  std::vector<store::AuditEntry> rows;  // of the audit, newest first
  bool throws = false;                  // list_workers() throws what a library might

  FakeService() {
    nic_.nic.name = "eth1";
    nic_.nic.index = 2;
    nic_.nic.mac = MacAddr::from_uint64(0x020000000001);
    nic_.nic.mtu = 1500;
    nic_.nic.up = nic_.nic.carrier = true;
    nic_.nic.driver = "veth";
    nic_.driver = model::choose_driver(model::UplinkDriver::auto_, nic_.nic).attempts.front();
  }

  void on_behalf_of(const reconcile::Actor& asking) override { actor = asking; }

  Result<void> create_switch(const reconcile::SwitchSpec& spec) override {
    model::Switch added = reconcile::switch_of(spec);
    added.share_with_host.clear();
    auto next = model::add_switch(host, added);
    if (next && !spec.uplink.empty() && spec.uplink != nic_.nic.name && !host.teams.contains(spec.uplink)) {
      return fail(ErrorCode::not_found, "nic " + spec.uplink + " does not exist; `patchbay nic list` shows them");
    }
    if (next && !spec.share_with_host.empty()) next = model::share_nic(*next, shared(spec.name, spec.share_with_host));
    return keep(std::move(next));
  }
  Result<void> set_switch(const std::string& name, const reconcile::SwitchChange& change) override {
    const auto found = model::find_switch(host, name);
    if (!found) return fail(found.error());
    model::Switch changed = **found;
    if (change.force_vlan) changed.force_vlan = *change.force_vlan;
    if (change.mtu) changed.mtu = *change.mtu;
    if (change.driver) changed.driver = *change.driver;
    if (change.gro) changed.gro = *change.gro;
    changed.buffer = reconcile::changed(changed.buffer, change.buffer);
    auto next = model::set_switch(host, changed);
    if (next && change.share_with_host) {
      next = change.share_with_host->empty() ? model::unshare_nic(*next, name)
                                             : model::share_nic(*next, shared(name, *change.share_with_host));
    }
    return keep(std::move(next));
  }
  Result<void> delete_switch(const std::string& name) override { return keep(model::remove_switch(host, name)); }
  Result<reconcile::SwitchView> show_switch(const std::string& name) const override {
    const auto found = model::find_switch(host, name);
    if (!found) return fail(found.error());
    reconcile::SwitchView view{**found, std::nullopt, {}};
    if (host.teams.contains(view.desired.uplink)) {
      view.uplink = {"", "degraded", "eth2: no carrier", counters(7), "", "", view.desired.uplink};
    } else if (!view.desired.uplink.empty()) {
      view.uplink = {view.desired.uplink, "up", "", counters(7), "packet", "veth is a virtual device"};
    }
    for (const auto& [vnic_name, vnic] : host.vnics) {
      if (vnic.switch_name == name) view.vnics.push_back(vnic_name);
    }
    return view;
  }
  std::vector<reconcile::SwitchView> list_switches() const override {
    std::vector<reconcile::SwitchView> views;
    for (const auto& [name, unused] : host.switches) views.push_back(*show_switch(name));
    return views;
  }

  Result<std::vector<reconcile::FdbRow>> show_fdb(const std::string& name) const override {
    const auto found = model::find_switch(host, name);
    if (!found) return fail(found.error());
    return std::vector<reconcile::FdbRow>{{VlanId::from(101), MacAddr::from_uint64(0x02BF0A000001), "web", 7}};
  }

  Result<void> create_vnic(const reconcile::VnicSpec& spec) override {
    return keep(model::add_vnic(host, with_mac(spec)));
  }
  Result<void> set_vnic(const std::string& name, const reconcile::VnicChange& change) override {
    const auto found = model::find_vnic(host, name);
    if (!found) return fail(found.error());
    model::Vnic changed = **found;
    if (change.vlan) changed.vlan = *change.vlan;
    if (change.mac) changed.mac = *change.mac;
    if (change.mac_spoofing) changed.mac_spoofing = *change.mac_spoofing;
    if (change.mac_limit) changed.mac_limit = *change.mac_limit;
    if (change.trust_priority) changed.trust_priority = *change.trust_priority;
    if (change.queues) changed.queues = *change.queues;
    if (change.worker) changed.worker = *change.worker;
    changed.buffer = reconcile::changed(changed.buffer, change.buffer);
    if (change.labels) changed.labels = *change.labels;
    if (change.vmq_weight) changed.vmq_weight = *change.vmq_weight;
    return keep(model::set_vnic(host, changed));
  }
  Result<void> delete_vnic(const std::string& name) override { return keep(model::remove_vnic(host, name)); }
  Result<reconcile::VnicView> show_vnic(const std::string& name) const override {
    const auto found = model::find_vnic(host, name);
    if (!found) return fail(found.error());
    const model::Vnic& vnic = **found;
    const model::Switch& on = host.switches.at(vnic.switch_name);
    reconcile::VnicView view;
    view.desired = vnic;
    view.effective_vlan = model::effective_vlan(on, vnic);
    view.vlan_forced = on.force_vlan.has_value();
    view.mtu = on.mtu;
    view.state = "up";
    view.counters = counters(100);
    if (vnic.mac_spoofing) view.learning = {.count = 3, .limit = vnic.mac_limit, .refused = 4};
    if (!on.uplink.empty()) view.vmq = reconcile::VnicVmqView{{web_queue()}, "eth2: not open"};
    if (!vnic.mac_spoofing) view.refused_source = {MacAddr::from_uint64(0x02BF0A000001), "", "way out"};
    if (vnic.kind == model::VnicKind::guest) {
      view.vhost_socket = vnic.connect.empty() ? "/run/patchbay/vhost/" + name + ".sock" : vnic.connect;
      view.queues_used = 6;
      view.buffer = model::buffer_in_force(model::PolicyIndex(host.policies), on, vnic);
      view.buffered.limit_bytes = view.buffered.limit_max_bytes = view.buffer.size.limit_bytes;
      view.buffered.used_bytes = 7;
      view.buffered.peak_bytes = 8;
      view.buffered.frames = 2;
      view.buffered.waits = {.frames = 9, .p50_ns = 10'000, .p99_ns = 11'000, .max_ns = 12'000};
      view.buffered.stalls = 3;
      view.buffered.longest_stall_ns = 13'000;
      view.buffer_advice = "more";
      view.worker = 5;
      view.state = "waiting_for_guest";
      view.state_reason = "waiting for a guest on " + view.vhost_socket;
    }
    return view;
  }
  std::vector<reconcile::VnicView> list_vnics() const override {
    std::vector<reconcile::VnicView> views;
    for (const auto& [name, unused] : host.vnics) views.push_back(*show_vnic(name));
    return views;
  }

  Result<void> create_team(const model::Team& added) override { return keep(model::add_team(host, added)); }
  Result<void> set_team(const std::string& name, const reconcile::TeamChange& change) override {
    const auto found = model::find_team(host, name);
    if (!found) return fail(found.error());
    return keep(model::set_team(host, reconcile::changed(**found, change)));
  }
  Result<void> delete_team(const std::string& name) override { return keep(model::remove_team(host, name)); }
  // The first member is the primary and, of a team with LACP, has a partner; the others are down.
  Result<reconcile::TeamView> show_team(const std::string& name) const override {
    const auto found = model::find_team(host, name);
    if (!found) return fail(found.error());
    reconcile::TeamView view;
    view.desired = **found;
    const model::Switch* on = model::switch_on(host, name);
    if (on != nullptr) view.switch_name = on->name;
    view.state = "degraded";
    view.state_reason = "eth2: no carrier";
    view.queue_model = "min-queues";
    view.failovers = 3;
    view.announcements = 4;
    view.counters = counters(300);
    for (const std::string& nic : view.desired.nics) {
      const bool is_first = view.members.empty();
      reconcile::TeamMemberView member;
      member.status = {nic,
                       is_first ? team::MemberState::active : team::MemberState::down,
                       is_first ? "" : "no carrier",
                       is_first,
                       {}};
      member.carrier = is_first;
      if (is_first) {
        member.speed_mbps = 10000;
        member.driver = "packet";
        member.driver_reason = "veth is a virtual device";
        if (view.desired.mode == model::TeamMode::lacp) member.status.lacp = lacp();
      }
      member.counters = counters(200);
      view.members.push_back(std::move(member));
    }
    return view;
  }
  std::vector<reconcile::TeamView> list_teams() const override {
    std::vector<reconcile::TeamView> views;
    for (const auto& [name, unused] : host.teams) views.push_back(*show_team(name));
    return views;
  }

  Result<void> create_policy(const model::Policy& policy) override { return keep(model::add_policy(host, policy)); }
  Result<void> set_policy(const std::string& name, const reconcile::PolicyChange& change) override {
    const auto found = model::find_policy(host, name);
    if (!found) return fail(found.error());
    return keep(model::set_policy(host, reconcile::changed(**found, change)));
  }
  Result<void> delete_policy(const std::string& name) override { return keep(model::remove_policy(host, name)); }
  Result<reconcile::PolicyView> show_policy(const std::string& name) const override {
    const auto found = model::find_policy(host, name);
    if (!found) return fail(found.error());
    return reconcile::PolicyView{**found, model::vnics_by_policy(host)[name]};
  }
  std::vector<reconcile::PolicyView> list_policies() const override {
    std::vector<reconcile::PolicyView> views;
    for (const auto& [name, unused] : host.policies) views.push_back(*show_policy(name));
    return views;
  }
  Result<void> set_settings(const reconcile::HostChange& change) override {
    return keep(model::set_settings(host, reconcile::changed(host.settings, change)));
  }
  reconcile::SettingsView show_settings() const override {
    return {host.settings, {.limit_bytes = 5, .used_bytes = 3, .to_release = false}, {"base"}};
  }

  Result<reconcile::NicView> show_nic(const std::string& name) const override {
    if (name != nic_.nic.name) {
      return fail(ErrorCode::not_found, "nic " + name + " does not exist; `patchbay nic list` shows them");
    }
    return list_nics().front();
  }
  std::vector<reconcile::NicView> list_nics() const override {
    reconcile::NicView view = nic_;
    for (const auto& [name, on] : host.switches) {
      if (on.uplink == view.nic.name) view.switch_name = name;
    }
    if (const model::Team* team = model::team_of(host, view.nic.name); team != nullptr) view.team = team->name;
    return {view};
  }
  Result<reconcile::VmqView> show_vmq(const std::string& uplink) const override {
    if (!uplink.empty() && uplink != nic_.nic.name)
      return fail(ErrorCode::not_found, "nic " + uplink + " carries no switch");
    reconcile::VmqView view;
    view.nics = {{nic_.nic.name, "", "", "lan", "kernel", "why", 7, 1, false, false}};
    view.queues = {{nic_.nic.name, 0, "", std::nullopt, std::nullopt, "running", 0, {30, 40}, 3, "kernel"},
                   web_queue()};
    view.without_queue = {{"db", "lan", nic_.nic.name, "vmq_weight is 0"}};
    return view;
  }
  std::vector<dataplane::WorkerStats> list_workers() const override {
    if (throws) throw std::runtime_error("no worker answers");
    return {{.id = 0, .cpu = 1, .busy_cycles = 10, .idle_cycles = 20, .frames = 30, .sleeps = 40, .ports = 2}};
  }

  tl::expected<std::vector<reconcile::ObjectChange>, reconcile::ApplyRefusal> apply(const reconcile::HostSpec& spec,
                                                                                    bool dry_run) override {
    std::vector<model::Switch> switches;
    for (const auto& each : spec.switches) switches.push_back(reconcile::switch_of(each));
    std::vector<model::Vnic> vnics;
    for (const auto& each : reconcile::with_shares(spec).vnics) vnics.push_back(with_mac(each));
    for (const auto& on : switches) {
      for (auto& vnic : vnics) {
        if (vnic.name == on.share_with_host) vnic.mac = nic_.nic.mac;
      }
    }
    std::vector<model::Team> teams;
    for (const auto& [name, team] : host.teams) teams.push_back(team);
    std::vector<model::Policy> policies;
    for (const auto& [name, policy] : host.policies) policies.push_back(policy);
    auto next = model::make_host(switches, vnics, spec.teams.value_or(teams), spec.policies.value_or(policies),
                                 spec.settings.value_or(host.settings));
    if (!next) {
      return tl::unexpected(reconcile::ApplyRefusal{next.error().error, next.error().noun, next.error().name});
    }
    auto made = reconcile::changes_between(host, *next);
    if (dry_run || made.empty()) return made;
    host = std::move(*next);
    ++changes;
    return made;
  }
  const model::Host& desired() const override { return host; }
  Result<std::vector<store::AuditEntry>> list_audit(std::size_t count_max, const std::string& name) const override {
    std::vector<store::AuditEntry> found;
    for (const auto& row : rows) {
      if (found.size() < count_max && (name.empty() || row.name == name)) found.push_back(row);
    }
    return found;
  }

 private:
  model::Vnic with_mac(const reconcile::VnicSpec& spec) {
    model::Vnic vnic = reconcile::vnic_of(spec);
    if (!spec.mac) vnic.mac = MacAddr::from_uint64(0x525400000000u + ++macs_drawn_);
    return vnic;
  }
  Result<void> keep(Result<model::Host> next) {
    if (!next) return fail(next.error());
    host = std::move(*next);
    ++changes;
    return {};
  }
  [[nodiscard]] model::Vnic shared(const std::string& switch_name, const std::string& vnic) const {
    return {vnic, switch_name, model::VnicKind::host, nic_.nic.mac, model::MacOrigin::static_, model::Untagged{}, ""};
  }
  [[nodiscard]] reconcile::VmqQueueView web_queue() const {
    return {nic_.nic.name, 1, "web", MacAddr::from_uint64(0x020000000001), 101, "running", 2, {50, 60}, 4, "kernel"};
  }
  static team::LacpStatus lacp() {
    const MacAddr us = MacAddr::from_uint64(0x020000000001);
    const MacAddr them = MacAddr::from_uint64(0x020000000002);
    return {{0x8000, us, 1, 0x8001, 2, 0x3F}, team::LacpEnd{3, them, 4, 5, 6, 0xC5}, "current", "attached", 7, 8, 9};
  }
  // Distinct numbers, so that a mix-up of two fields shows: base+1 frames in, … and base+10+i drops of reason i.
  static dataplane::PortCounters counters(std::uint64_t base) {
    dataplane::PortCounters counters;
    counters.ingress = {base + 1, base + 2};
    counters.egress = {base + 3, base + 4};
    counters.flood_copies = base + 5;
    counters.cut_frames = base + 6;
    counters.merged_frames = base + 7;
    for (std::size_t i = 0; i < counters.drops.size(); ++i) counters.drops[i] = base + 10 + i;
    return counters;
  }

  reconcile::NicView nic_;
  std::uint64_t macs_drawn_ = 0;
};

}  // namespace patchbay::api
