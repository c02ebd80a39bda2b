// What HostService shows: desired and actual put together.
#include <fmt/format.h>

#include "control/reconcile/host_service.h"
#include "control/reconcile/pci_nics.h"
#include "control/reconcile/phrases.h"

namespace patchbay::reconcile {
namespace {

// Names of the vnics of each switch, sorted.
std::map<std::string, std::vector<std::string>> vnics_by_switch(const model::Host& host) {
  std::map<std::string, std::vector<std::string>> names;
  for (const auto& [name, vnic] : host.vnics) names[vnic.switch_name].push_back(name);
  return names;
}

// What it means that a guest goes by another MTU than its switch; empty if it does not.
std::string guest_mtu_phrase(std::uint16_t guest_mtu, std::uint16_t switch_mtu) {
  if (guest_mtu == switch_mtu) return "";
  return fmt::format(
      "guest restart needed: it goes by mtu {}, its switch has {} now; start it anew with the host_mtu that "
      "`patchbay vnic attach-args` prints",
      guest_mtu, switch_mtu);
}

// The same of its queue pairs.
std::string guest_queues_phrase(std::uint16_t offered, std::uint16_t wanted) {
  if (offered == wanted) return "";
  return fmt::format(
      "guest restart needed: it was offered {} queue pair{} when it connected, the vnic has {} now; start it anew with "
      "what `patchbay vnic attach-args` prints",
      offered, offered == 1 ? "" : "s", wanted);
}

// "14 ms", "1.2 s"
std::string duration_text(std::uint64_t ns) {
  constexpr double ms = 1e6;
  constexpr double second = 1e9;
  const auto length = static_cast<double>(ns);
  if (length < 10 * ms) return fmt::format("{:.1f} ms", length / ms);
  return length < second ? fmt::format("{:.0f} ms", length / ms) : fmt::format("{:.1f} s", length / second);
}

// What a larger buffer would have done; empty if none was missed.
std::string buffer_phrase(const VnicView& view) {
  const auto drops = view.counters.drops[static_cast<std::size_t>(dataplane::DropReason::buffer_full)];
  const dataplane::BufferStall& worst = view.buffered.worst_stall;
  const std::string& name = view.desired.name;
  if (drops == 0) return "";
  if (view.buffered.limit_max_bytes == 0) {
    return fmt::format(
        "{} frames found no room in the guest's ring, and the vnic has no buffer: `patchbay vnic set {} "
        "--buffer {}` would have held some of them",
        drops, name, to_string(model::Buffer{}));
  }
  if (worst.demand_bytes <= view.buffered.limit_max_bytes) return "";  // others had the memory, or the stall lasts
  const double rate = static_cast<double>(worst.frames) / std::max(1e-9, static_cast<double>(worst.length_ns) / 1e9);
  const std::string stall =
      fmt::format("the worst stall lasted {} at {:.0f} frames/s", duration_text(worst.length_ns), rate);
  if (const auto size = model::buffer_for(worst.demand_bytes)) {
    const std::string text = to_string(model::Buffer{*size, false});
    return fmt::format("{}: {} would have held it; `patchbay vnic set {} --buffer {}`", stall, text, name, text);
  }
  return fmt::format("{}, {} MB in all: no buffer holds that, the guest takes too little or stands still too long",
                     stall, worst.demand_bytes >> 20);
}

}  // namespace

Result<SwitchView> HostService::show_switch(const std::string& name) const {
  const auto found = model::find_switch(state_.host, name);
  if (!found) return fail(found.error());
  return view_of(**found, vnics_by_switch(state_.host)[name]);
}

std::vector<SwitchView> HostService::list_switches() const {
  auto vnics = vnics_by_switch(state_.host);
  std::vector<SwitchView> views;
  for (const auto& [name, on] : state_.host.switches) views.push_back(view_of(on, std::move(vnics[name])));
  return views;
}

SwitchView HostService::view_of(const model::Switch& on, std::vector<std::string> vnics) const {
  SwitchView view{on, std::nullopt, std::move(vnics)};
  if (on.type == model::SwitchType::external) view.uplink = view_of_uplink(on);
  return view;
}

UplinkView HostService::view_of_uplink(const model::Switch& on) const {
  const std::string& nic = on.uplink;
  const Object object{ObjectKind::uplink, nic};
  if (const auto team = state_.host.teams.find(nic); team != state_.host.teams.end()) {
    const TeamView shown = view_of(team->second);
    return {"", shown.state, shown.state_reason, shown.counters, "", "", nic};
  }
  UplinkView view{nic, "down", "", executor_.counters(object), "", ""};
  if (const auto open = executor_.actual().uplinks.find(nic); open != executor_.actual().uplinks.end()) {
    view.driver = to_string(open->second.used.plan.driver);
    view.driver_reason = open->second.used.reason;
  }
  view.state_reason = why_down(nic);
  if (!view.state_reason.empty()) return view;
  view.state = "up";
  view.state_reason = nic_mtu_phrase(on, view_of(nics_.nics().at(nic)).nic);
  return view;
}

std::string HostService::why_down(const std::string& nic) const {
  const auto& failed = executor_.actual().failed;
  const auto failure = failed.find({ObjectKind::uplink, nic});
  const auto found = nics_.nics().find(nic);
  if (found == nics_.nics().end()) {
    const Error absent = no_such_nic(nic, nics_.nics());
    return absent.code == ErrorCode::not_found ? "no such NIC" : absent.message;
  }
  if (failure != failed.end()) return failure->second.message;
  if (!found->second.has_interface() && !executor_.device_state(nic)) return why_not_for_dpdk(found->second);
  if (found->second.has_interface() && !found->second.up) {
    return fmt::format("the NIC is down: `ip link set {} up`", nic);
  }
  return view_of(found->second).nic.carrier ? "" : "no carrier";
}

Result<VnicView> HostService::show_vnic(const std::string& name) const {
  const auto found = model::find_vnic(state_.host, name);
  if (!found) return fail(found.error());
  return view_of(**found, model::PolicyIndex(state_.host.policies), executor_.queues());
}

std::vector<VnicView> HostService::list_vnics() const {
  const model::PolicyIndex policies(state_.host.policies);
  const auto queues = executor_.queues();
  std::vector<VnicView> views;
  for (const auto& [name, vnic] : state_.host.vnics) views.push_back(view_of(vnic, policies, queues));
  return views;
}

VnicView HostService::view_of(const model::Vnic& vnic, const model::PolicyIndex& policies,
                              const std::vector<vmq::QueueStatus>& queues) const {
  const model::Switch& on = state_.host.switches.at(vnic.switch_name);
  VnicView view;
  view.desired = vnic;
  view.effective_vlan = model::effective_vlan(on, vnic);
  view.vlan_forced = on.force_vlan.has_value();
  view.mtu = on.mtu;
  if (vnic.kind == model::VnicKind::guest) {
    view_guest_state(view);
    view.buffer = model::buffer_in_force(policies, on, vnic);
    view.buffered = executor_.buffer_state(vnic.name);
    view.buffer_advice = buffer_phrase(view);
  } else {
    view_host_state(view);
  }
  view_addresses(view);
  view.vmq = vmq_of(vnic, queues);
  return view;
}

void HostService::view_addresses(VnicView& view) const {
  const model::Vnic& vnic = view.desired;
  const auto kind = vnic.kind == model::VnicKind::guest ? ObjectKind::guest : ObjectKind::host_port;
  view.learning = executor_.learning({kind, vnic.name});
  view.worker = executor_.worker_of({kind, vnic.name});
  const auto& refused = view.counters.refused_source;
  if (!refused) return;
  RefusedSource shown{*refused, "", ""};
  for (const auto& [name, other] : state_.host.vnics) {
    if (name != vnic.name && other.switch_name == vnic.switch_name && other.mac == *refused) shown.holder = name;
  }
  if (*refused == vnic.mac || (vnic.mac_spoofing && shown.holder.empty())) return;  // it would pass now
  if (!shown.holder.empty()) {
    shown.advice = fmt::format(
        "{} sent frames from {}, which is the address of vnic {}; nobody else may use it: give the guest its own, {}",
        vnic.name, refused->to_string(), shown.holder, vnic.mac.to_string());
  } else {
    shown.advice = fmt::format(
        "{} sent frames from {} and may only use its own address, {}; if the guest is meant to use others (a cluster, "
        "a bridge, containers): `patchbay vnic set {} --mac-spoofing on`; if it has one other address: `--mac {}`",
        vnic.name, refused->to_string(), vnic.mac.to_string(), vnic.name, refused->to_string());
  }
  view.refused_source = std::move(shown);
}

Result<std::vector<FdbRow>> HostService::show_fdb(const std::string& switch_name) const {
  const auto found = model::find_switch(state_.host, switch_name);
  if (!found) return fail(found.error());
  std::vector<FdbRow> rows;
  for (const auto& [address, port] : executor_.learned_addresses(switch_name)) {
    rows.push_back({VlanId::from(address.vid), address.mac, port, address.age_s});
  }
  return rows;
}

void HostService::view_guest_state(VnicView& view) const {
  const std::string& name = view.desired.name;
  const Object object{ObjectKind::guest, name};
  const auto& failed = executor_.actual().failed;
  view.vhost_socket = view.desired.connect.empty() ? vhost_socket_path(config_.run_dir, name) : view.desired.connect;
  view.counters = executor_.counters(object);
  if (const auto status = executor_.endpoint_status(name)) {
    view.state = to_string(status->state);
    view.state_reason = status->reason;
    view.queues_used = status->queues_used;
    if (status->guest_mtu) view.state_reason = guest_mtu_phrase(*status->guest_mtu, view.mtu);
    if (status->queues_offered != 0 && view.state_reason.empty()) {
      view.state_reason = guest_queues_phrase(status->queues_offered, view.desired.queues);
    }
    return;
  }
  const auto failure = failed.find(object);
  view.state = "failed";
  view.state_reason = failure != failed.end() ? failure->second.message : "not open yet";
}

void HostService::view_host_state(VnicView& view) const {
  const std::string& name = view.desired.name;
  const Object object{ObjectKind::host_port, name};
  const auto& actual = executor_.actual();
  view.counters = executor_.counters(object);
  if (const auto failure = actual.failed.find(object); failure != actual.failed.end()) {
    view.state = "failed";
    view.state_reason = failure->second.message;
    return;
  }
  const auto found = nics_.nics().find(name);
  view.state = "down";
  if (found == nics_.nics().end()) {
    view.state_reason = "the network interface is gone";
  } else if (!found->second.up) {
    view.state_reason = fmt::format("the network interface is down: `ip link set {} up`", name);
  } else {
    view.state = "up";
    const auto share = actual.failed.find({ObjectKind::share, name});
    if (share != actual.failed.end()) view.state_reason = share->second.message;
    const auto mtu = actual.mtu_failed.find(name);
    if (mtu != actual.mtu_failed.end()) view.state_reason = mtu->second.why.message;
  }
}

Result<NicView> HostService::show_nic(const std::string& name) const {
  const auto found = nics_.nics().find(name);
  if (found == nics_.nics().end()) return fail(no_such_nic(name, nics_.nics()));
  if (is_host_vnic(name)) {
    return fail(ErrorCode::not_found,
                fmt::format("{} is a host vnic, not a NIC; see `patchbay vnic show {}`", name, name));
  }
  return view_of(found->second);
}

std::vector<NicView> HostService::list_nics() const {
  std::vector<NicView> views;
  for (const auto& [name, nic] : nics_.nics()) {
    if (!is_host_vnic(name)) views.push_back(view_of(nic));
  }
  return views;
}

NicView HostService::view_of(const model::Nic& nic) const {
  NicView view{nic, "", model::choose_driver(model::UplinkDriver::auto_, nic).attempts.front(), ""};
  const model::Team* team = model::team_of(state_.host, nic.name);
  if (team != nullptr) view.team = team->name;
  const model::Switch* on = model::switch_above(state_.host, nic.name);
  if (on != nullptr) view.switch_name = on->name;
  if (!nic.has_interface()) view_device_state(view);
  view.sorting = executor_.queue_ability(nic.name);
  return view;
}

void HostService::view_device_state(NicView& view) const {
  const auto& failed = executor_.actual().failed;
  if (const auto device = executor_.device_state(view.nic.name)) {
    view.nic.mac = device->mac;
    view.nic.mtu = device->mtu;
    view.nic.up = true;
    view.nic.carrier = device->carrier;
    view.nic.speed_mbps = device->speed_mbps;
    view.state_reason = fmt::format("driven by DPDK's {}", device->driver);
    if (!device->interrupts) view.state_reason += ", which cannot interrupt: its worker never sleeps";
  } else if (const auto failure = failed.find({ObjectKind::uplink, view.nic.name}); failure != failed.end()) {
    view.state_reason = failure->second.message;
  } else {
    view.state_reason = why_not_for_dpdk(view.nic);
    if (view.state_reason.empty()) view.state_reason = fmt::format("bound to {}, ready for DPDK", view.nic.driver);
  }
}

std::vector<dataplane::WorkerStats> HostService::list_workers() const {
  return dataplane_.worker_stats();
}

}  // namespace patchbay::reconcile
