#include "control/reconcile/executor.h"

#include <spdlog/spdlog.h>

#include <set>
#include <utility>

#include "control/reconcile/counter_sums.h"

namespace patchbay::reconcile {

Executor::~Executor() {
  Wanted nothing;
  nothing.buffer_limit_bytes = actual_.buffer_limit_bytes;
  for (Step& each : compute_steps(nothing, actual_)) {
    if (auto* close = std::get_if<CloseHostPort>(&each)) close->remove_interface = false;
    if (auto* close = std::get_if<CloseGuestPort>(&each)) close->forget = false;
    std::visit([this](const auto& what) { step(what); }, each);
  }
}

void Executor::run(const std::vector<Step>& steps) {
  for (const Step& each : steps) {
    spdlog::debug("{}", describe(each));
    std::visit([this](const auto& what) { step(what); }, each);
  }
  if (queues_unsettled_) settle_queues();
}

void Executor::forget_failures_except(const Wanted& wanted) {
  const auto is_unwanted = [&wanted](const auto& failure) {
    const auto& [kind, name] = failure.first;
    switch (kind) {
      case ObjectKind::uplink:
        return !wanted.uplinks.contains(name);
      case ObjectKind::guest:
        return !wanted.guests.contains(name);
      case ObjectKind::host_port:
        return !wanted.hosts.contains(name);
      case ObjectKind::share:
        return !wanted.shares.contains(name);
      case ObjectKind::buffer_limit:
        return false;
    }
    return true;
  };
  std::erase_if(actual_.failed, is_unwanted);
  std::erase_if(reported_, is_unwanted);
}

void Executor::keep_offloads() {
  for (const PlannedSwitch& planned : actual_.published) {
    if (const auto team = actual_.teams.find(planned.nic); team != actual_.teams.end()) {
      for (const TeamMember& member : team->second.members) keep_offloads(member.nic, planned.gro);
    } else {
      keep_offloads(planned.nic, planned.gro);
    }
  }
}

void Executor::keep_offloads(const std::string& nic, bool gro) {
  const auto uplink = actual_.uplinks.find(nic);
  if (uplink == actual_.uplinks.end()) return;
  const OffloadNeed need = uplink->second.used.plan.driver == model::UplinkDriver::xdp ? OffloadNeed::all_off
                           : gro                                                       ? OffloadNeed::none
                                                                                       : OffloadNeed::gro_off;
  if (auto kept = offloads_.keep(nic, need); !kept) warn_once({ObjectKind::uplink, nic}, kept.error().message);
}

void Executor::forget_counters_except(const Wanted& wanted) {
  if (earlier_.empty()) return;
  std::set<std::string> nics;
  std::set<std::string> vnics;
  for (const auto& [name, team] : wanted.teams) nics.insert(team.settings.nics.begin(), team.settings.nics.end());
  for (const PlannedSwitch& planned : wanted.layout) {
    nics.insert(planned.nic);
    for (const PlannedVnic& vnic : planned.vnics) vnics.insert(vnic.name);
  }
  std::erase_if(earlier_, [&](const auto& counted) {
    const Object& object = counted.first;
    return !(object.kind == ObjectKind::uplink ? nics : vnics).contains(object.name);
  });
}

// ---- Steps ----------------------------------------------------------------------------------------------------------

void Executor::step(const Publish& publish) {
  actual_.published = only_open(publish.layout, actual_);  // some of what was to be opened may have failed
  for (const PlannedSwitch& planned : actual_.published) {
    for (const PlannedVnic& vnic : planned.vnics) {
      const auto guest = guests_.find(vnic.name);
      if (guest != guests_.end()) tell(guest->second, planned.mtu, vnic);
    }
  }
  const bool any_go = queues_.want(queue_demands());
  publish_layout();
  if (any_go) queues_.close_freed();
  queues_unsettled_ = true;  // new ones come when the steps are done
  tell_addresses();
}

void Executor::publish_layout() {
  dataplane::Layout layout;
  for (const PlannedSwitch& planned : actual_.published) {
    dataplane::SwitchLayout on;
    on.name = planned.name;
    if (!planned.nic.empty()) on.uplink = port_of({ObjectKind::uplink, planned.nic});
    on.mtu = planned.mtu;
    on.gro = planned.gro;
    for (const PlannedVnic& vnic : planned.vnics) {
      const auto guest = guests_.find(vnic.name);
      on.vnics.push_back({guest != guests_.end() ? guest->second.port : hosts_.at(vnic.name), vnic.mac, vnic.vlan,
                          vnic.mac_spoofing, vnic.mac_limit, vnic.trust_priority, vnic.worker, queues_.of(vnic.name)});
    }
    layout.switches.push_back(std::move(on));
  }
  dataplane_.publish(layout);
}

void Executor::tell(Guest& guest, std::uint16_t mtu, const PlannedVnic& vnic) {
  const bool has_new_mtu = std::exchange(guest.mtu, mtu) != mtu;
  const bool has_new_queues = std::exchange(guest.queues, vnic.queues) != vnic.queues;
  if (guest.endpoint && has_new_mtu) guest.endpoint->set_mtu(mtu);
  if (guest.endpoint && has_new_queues) guest.endpoint->set_queues(vnic.queues);
  dataplane_.set_buffer(guest.port, {.limit_bytes = vnic.buffer.limit_bytes,
                                     .grows = vnic.buffer.grows,
                                     .max_age = std::chrono::milliseconds(vnic.buffer_max_age_ms)});
}

void Executor::step(const OpenUplink& open) {
  Error error = make_error(ErrorCode::invalid, open.choice.refusal);
  std::string tried;
  for (const model::DriverAttempt& attempt : open.choice.attempts) {
    const auto port = open_uplink(open.nic, attempt.plan);
    if (!port) {
      error = port.error();
      tried = error.message;
      continue;
    }
    uplinks_[open.nic] = *port;
    const std::string reason = tried.empty() ? attempt.reason : attempt.reason + ": " + tried;
    spdlog::info("nic {}: driver {}: {}", open.nic, to_string(attempt.plan.driver), reason);
    actual_.uplinks[open.nic] = {open.index, std::nullopt, open.choice, {attempt.plan, reason}};
    reported_.erase({ObjectKind::uplink, open.nic});
    return;
  }
  note_failure(ObjectKind::uplink, open.nic, error);
}

Result<PortId> Executor::open_uplink(const std::string& nic, const model::DriverPlan& plan) {
  if (plan.driver != model::UplinkDriver::xdp) return dataplane_.open_uplink(nic, plan);
  const auto opened = [&]() -> Result<PortId> {
    if (auto kept = offloads_.keep(nic, OffloadNeed::all_off); !kept) return fail(kept.error());
    return dataplane_.open_uplink(nic, plan);
  }();
  if (!opened) offloads_.give_back(nic);
  return opened;
}

void Executor::step(const SetCarrier& set) {
  const auto found = uplinks_.find(set.nic);
  if (found == uplinks_.end()) return;  // it failed to open
  dataplane_.set_carrier(found->second, set.up);
  actual_.uplinks[set.nic].carrier = set.up;
}

void Executor::step(const CloseUplink& close) {
  take_queues_from(uplinks_.at(close.nic));
  close_port({ObjectKind::uplink, close.nic}, uplinks_.at(close.nic), false);
  uplinks_.erase(close.nic);
  actual_.uplinks.erase(close.nic);
  offloads_.give_back(close.nic);
}

void Executor::step(const OpenGuestPort& open) {
  const auto port = dataplane_.open_guest_port(open.vnic);
  if (!port) return note_failure(ObjectKind::guest, open.vnic, port.error());
  guests_[open.vnic].port = *port;
  actual_.guests[open.vnic] = std::nullopt;
}

void Executor::step(const CloseGuestPort& close) {
  close_port({ObjectKind::guest, close.vnic}, guests_.at(close.vnic).port, close.forget);
  guests_.erase(close.vnic);
  actual_.guests.erase(close.vnic);
}

void Executor::step(const OpenEndpoint& open) {
  const auto guest = guests_.find(open.vnic);
  if (guest == guests_.end()) return;  // its port failed to open
  vhost_user::EndpointConfig config{open.vnic,     guest->second.port, open.plan.role,      open.plan.path,
                                    socket_group_, guest->second.mtu,  guest->second.queues};
  auto endpoint = make_endpoint_(std::move(config), nullptr);  // its status is asked for when somebody looks
  if (!endpoint) return note_failure(ObjectKind::guest, open.vnic, endpoint.error());
  guest->second.endpoint = std::move(*endpoint);
  actual_.guests[open.vnic] = open.plan;
  reported_.erase({ObjectKind::guest, open.vnic});
}

void Executor::step(const CloseEndpoint& close) {
  guests_.at(close.vnic).endpoint.reset();
  actual_.guests[close.vnic] = std::nullopt;
}

void Executor::step(const OpenHostPort& open) {
  const auto port = dataplane_.open_host_port({open.vnic, open.plan.mac, open.plan.mtu});
  if (!port) return note_failure(ObjectKind::host_port, open.vnic, port.error());
  hosts_[open.vnic] = *port;
  actual_.hosts[open.vnic] = open.plan;
  reported_.erase({ObjectKind::host_port, open.vnic});
}

void Executor::step(const SetHostPortMtu& set) {
  const auto ok = dataplane_.set_host_port_mtu(hosts_.at(set.vnic), set.mtu);
  if (!ok) {  // the port works on with the MTU that it has
    warn_once({ObjectKind::host_port, set.vnic}, ok.error().message);
    actual_.mtu_failed[set.vnic] = {set.mtu, ok.error()};
    return;
  }
  actual_.hosts[set.vnic].mtu = set.mtu;
  actual_.mtu_failed.erase(set.vnic);
  reported_.erase({ObjectKind::host_port, set.vnic});
}

void Executor::step(const CloseHostPort& close) {
  close_port({ObjectKind::host_port, close.vnic}, hosts_.at(close.vnic), close.remove_interface);
  hosts_.erase(close.vnic);
  actual_.hosts.erase(close.vnic);
  actual_.mtu_failed.erase(close.vnic);
  actual_.shares.erase(close.vnic);
}

void Executor::step(const ShareNic& share) {
  if (!hosts_.contains(share.vnic) || !uplinks_.contains(share.plan.nic)) return;  // one of them failed to open
  if (const auto ok = sharing_.take(share.plan.nic, share.vnic); !ok) {
    return note_failure(ObjectKind::share, share.vnic, ok.error());
  }
  actual_.shares[share.vnic] = share.plan;
  reported_.erase({ObjectKind::share, share.vnic});
}

void Executor::step(const SetBufferLimit& set) {
  if (const auto ok = dataplane_.set_buffer_limit(set.bytes); !ok) {
    return note_failure(ObjectKind::buffer_limit, "", ok.error());
  }
  actual_.buffer_limit_bytes = set.bytes;
  reported_.erase({ObjectKind::buffer_limit, ""});
}

void Executor::forget_shares_undone() {
  std::erase_if(actual_.shares, [this](const auto& share) { return !sharing_.is_taken(share.second.nic); });
}

Result<void> Executor::end_share(const std::string& vnic, const std::string& nic) {
  if (auto ok = sharing_.give_back(nic, vnic); !ok) return ok;
  actual_.shares.erase(vnic);
  return {};
}

void Executor::close_port(const Object& object, PortId port, bool remove_left) {
  add(earlier_[object], dataplane_.counters(port));  // final: a layout without the port is published already
  dataplane_.close_port(port, remove_left);
}

// ---- Failures and faults --------------------------------------------------------------------------------------------

void Executor::note_failure(ObjectKind kind, const std::string& name, const Error& error) {
  warn_once({kind, name}, error.message);
  actual_.failed[{kind, name}] = error;
}

// Once, not at each retry.
void Executor::warn_once(const Object& object, const std::string& message) {
  std::string& reported = reported_[object];
  if (reported != message) spdlog::warn("{}", message);
  reported = message;
}

bool Executor::take_faults() {
  using dataplane::PortFault;
  for (auto& [vnic, guest] : guests_) {
    const PortFault fault = dataplane_.fault(guest.port);
    // A fault stays until the next link: what is seen while there is none belongs to the one before.
    if (fault == PortFault::none || !guest.endpoint) continue;
    if (guest.endpoint->status().state != vhost_user::State::connected) continue;
    spdlog::warn("vnic {}: {}", vnic, to_string(fault));
    guest.endpoint->port_failed(fault);
  }
  for (const auto& [name, opened] : teams_) opened.team->look_at_devices();
  bool any_gone = false;
  for (const auto& [nic, port] : uplinks_) any_gone |= take_device_fault(ObjectKind::uplink, nic, port);
  for (const auto& [vnic, port] : hosts_) any_gone |= take_device_fault(ObjectKind::host_port, vnic, port);
  return any_gone;
}

bool Executor::take_device_fault(ObjectKind kind, const std::string& name, PortId port) {
  if (dataplane_.fault(port) != dataplane::PortFault::device_gone) return false;
  const char* noun = kind == ObjectKind::uplink ? "nic" : "vnic";
  note_failure(kind, name, make_error(ErrorCode::unavailable, std::string(noun) + " " + name + ": the device is gone"));
  return true;
}

// ---- What the views ask ---------------------------------------------------------------------------------------------

std::optional<PortId> Executor::port_of(const Object& object) const {
  if (object.kind == ObjectKind::guest) {
    const auto found = guests_.find(object.name);
    return found == guests_.end() ? std::nullopt : std::optional(found->second.port);
  }
  if (const auto team = teams_.find(object.name); object.kind == ObjectKind::uplink && team != teams_.end()) {
    return team->second.team->port();
  }
  const auto& ports = object.kind == ObjectKind::uplink ? uplinks_ : hosts_;
  const auto found = ports.find(object.name);
  return found == ports.end() ? std::nullopt : std::optional(found->second);
}

dataplane::PortCounters Executor::counters(const Object& object) const {
  dataplane::PortCounters sum;
  if (const auto port = port_of(object)) sum = dataplane_.counters(*port);
  if (const auto team = teams_.find(object.name); object.kind == ObjectKind::uplink && team != teams_.end()) {
    add(sum, team->second.left);
    for (const auto& [nic, member] : team->second.members) add(sum, counters_as_member(member));
  }
  if (const auto earlier = earlier_.find(object); earlier != earlier_.end()) add(sum, earlier->second);
  return sum;
}

dataplane::PortLearning Executor::learning(const Object& object) const {
  const auto port = port_of(object);
  return port ? dataplane_.learning(*port) : dataplane::PortLearning{};
}

dataplane::BufferState Executor::buffer_state(const std::string& vnic) const {
  const auto found = guests_.find(vnic);
  return found == guests_.end() ? dataplane::BufferState{} : dataplane_.buffer_state(found->second.port);
}

std::vector<NamedLearnedAddress> Executor::learned_addresses(const std::string& switch_name) const {
  std::map<PortId, std::string> names;
  for (const auto& [name, port] : uplinks_) names[port] = name;
  for (const auto& [name, opened] : teams_) names[opened.team->port()] = name;
  for (const auto& [name, guest] : guests_) names[guest.port] = name;
  for (const auto& [name, port] : hosts_) names[port] = name;
  std::vector<NamedLearnedAddress> named;
  for (const auto& address : dataplane_.learned_addresses(switch_name)) {
    named.push_back({address, names[address.port]});
  }
  return named;
}

std::optional<dataplane::DeviceState> Executor::device_state(const std::string& nic) const {
  const auto found = uplinks_.find(nic);
  return found == uplinks_.end() ? std::nullopt : dataplane_.device_state(found->second);
}

std::optional<unsigned> Executor::worker_of(const Object& object) const {
  const auto port = port_of(object);
  return port ? dataplane_.worker_of(*port) : std::nullopt;
}

std::optional<vhost_user::EndpointStatus> Executor::endpoint_status(const std::string& vnic) const {
  const auto found = guests_.find(vnic);
  if (found == guests_.end() || !found->second.endpoint) return std::nullopt;
  return found->second.endpoint->status();
}

}  // namespace patchbay::reconcile
