#include "control/api/views.h"

#include <algorithm>

#include "base/monotonic.h"
#include "control/reconcile/settable.h"
#include "control/vmq/assignment.h"
#include "model/nic_facts.h"

namespace patchbay::api {
namespace {

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

template <typename T>
Json value_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json vid_or_null(const std::optional<VlanId>& vid) {
  return vid ? Json(vid->raw()) : Json(nullptr);
}

Json traffic(const dataplane::Traffic& traffic) {
  return {{"frames", traffic.frames}, {"bytes", traffic.bytes}};
}

// `in` and `out` name the two directions as the port's owner sees them: from_guest and to_guest, from_wire and to_wire.
Json counters(const dataplane::PortCounters& counters, const char* in, const char* out) {
  Json drops = Json::object();
  for (std::size_t i = 0; i < dataplane::drop_reason_count; ++i) {
    drops[dataplane::to_string(static_cast<dataplane::DropReason>(i))] = counters.drops[i];
  }
  return {{in, traffic(counters.ingress)},
          {out, traffic(counters.egress)},
          {"flood_copies", counters.flood_copies},
          {"cut_frames", counters.cut_frames},
          {"drops", std::move(drops)}};
}

Json uplink_counters(const dataplane::PortCounters& of_uplink) {
  Json counted = counters(of_uplink, "from_wire", "to_wire");
  counted["merged_frames"] = of_uplink.merged_frames;
  return counted;
}

Json uplink(const reconcile::UplinkView& view) {
  return {{"nic", text_or_null(view.nic)},
          {"team", text_or_null(view.team)},
          {"state", view.state},
          {"state_reason", view.state_reason},
          {"driver", text_or_null(view.driver)},
          {"driver_reason", text_or_null(view.driver_reason)},
          {"counters", uplink_counters(view.counters)}};
}

// IEEE 802.1AX-2020, 6.4.2.3.
Json lacp_state_words(std::uint8_t bits) {
  static constexpr const char* words[] = {"active",     "short-timeout", "aggregation", "in-sync",
                                          "collecting", "distributing",  "defaulted",   "expired"};
  Json set = Json::array();
  for (unsigned bit = 0; bit < 8; ++bit) {
    if ((bits >> bit & 1U) != 0) set.push_back(words[bit]);
  }
  return set;
}

Json lacp_end(const team::LacpEnd& end) {
  return {{"system", end.system.to_string()},
          {"system_priority", end.system_priority},
          {"key", end.key},
          {"port", end.port},
          {"port_priority", end.port_priority},
          {"state", lacp_state_words(end.state)}};
}

Json lacp(const std::optional<team::LacpStatus>& status) {
  if (!status) return nullptr;
  return {{"actor", lacp_end(status->actor)},
          {"partner", status->partner ? lacp_end(*status->partner) : Json(nullptr)},
          {"receive", status->receive},
          {"mux", status->mux},
          {"sent", status->sent},
          {"received", status->received},
          {"malformed", status->malformed}};
}

Json team_member(const reconcile::TeamMemberView& view) {
  return {{"nic", view.status.nic},
          {"state", team::to_string(view.status.state)},
          {"state_reason", view.status.reason},
          {"primary", view.status.primary},
          {"driver", text_or_null(view.driver)},
          {"driver_reason", text_or_null(view.driver_reason)},
          {"carrier", view.carrier},
          {"speed_mbps", value_or_null(view.speed_mbps)},
          {"counters", uplink_counters(view.counters)},
          {"lacp", lacp(view.status.lacp)}};
}

Json vlan(const reconcile::VnicView& view) {
  Json fields = {{"mode", model::to_string(view.effective_vlan)}, {"vid", nullptr}};
  if (std::holds_alternative<model::Trunk>(view.effective_vlan)) {
    fields.update({{"allowed", ""}, {"pruned", ""}, {"native", nullptr}});
  }
  fields.update(reconcile::settable(view.effective_vlan));
  fields["forced"] = view.vlan_forced;
  return fields;
}

Json refused_source(const std::optional<reconcile::RefusedSource>& refused) {
  if (!refused) return nullptr;
  return {{"mac", refused->mac.to_string()}, {"holder", text_or_null(refused->holder)}, {"advice", refused->advice}};
}

std::uint64_t microseconds(std::uint64_t ns) {
  return ns / 1000;
}

// Of a host vnic: no buffer, zeros.
Json buffer(const reconcile::VnicView& view) {
  const bool guest = view.desired.kind == model::VnicKind::guest;
  const dataplane::BufferState& state = view.buffered;
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t stalled = state.stalled_since_ns == 0 ? 0 : now - std::min(now, state.stalled_since_ns);
  return {{"size", guest ? Json(to_string(view.buffer.size)) : Json(nullptr)},
          {"size_from", guest ? Json(to_string(view.buffer.size_from)) : Json(nullptr)},
          {"max_age_ms", guest ? Json(view.buffer.max_age_ms) : Json(nullptr)},
          {"max_age_from", guest ? Json(to_string(view.buffer.max_age_from)) : Json(nullptr)},
          {"limit_bytes", state.limit_bytes},
          {"used_bytes", state.used_bytes},
          {"peak_bytes", state.peak_bytes},
          {"frames", state.frames},
          {"waited",
           {{"frames", state.waits.frames},
            {"p50_us", microseconds(state.waits.p50_ns)},
            {"p99_us", microseconds(state.waits.p99_ns)},
            {"max_us", microseconds(state.waits.max_ns)}}},
          {"stalls",
           {{"count", state.stalls},
            {"longest_us", microseconds(std::max(state.longest_stall_ns, stalled))},
            {"now_us", microseconds(stalled)}}},
          {"advice", text_or_null(view.buffer_advice)}};
}

// What a switch or a policy says of the buffers of vnics: two fields.
Json buffer_settings(const model::BufferSettings& buffer) {
  return {{"buffer", buffer.size ? Json(to_string(*buffer.size)) : Json(nullptr)},
          {"buffer_max_age_ms", value_or_null(buffer.max_age_ms)}};
}

Json queue(const reconcile::VmqQueueView& view) {
  return {{"nic", view.nic},
          {"queue", view.queue},
          {"vnic", text_or_null(view.vnic)},
          {"mac", view.mac ? Json(view.mac->to_string()) : Json(nullptr)},
          {"vlan", value_or_null(view.vlan)},
          {"state", view.state},
          {"worker", value_or_null(view.worker)},
          {"frames", view.traffic.frames},
          {"bytes", view.traffic.bytes},
          {"drops", view.drops},
          {"sorting", view.sorting}};
}

Json queues(const std::vector<reconcile::VmqQueueView>& views) {
  Json all = Json::array();
  for (const auto& view : views) all.push_back(queue(view));
  return all;
}

Json vmq(const std::optional<reconcile::VnicVmqView>& view) {
  if (!view) return nullptr;
  return {{"queues", queues(view->queues)}, {"reason", text_or_null(view->reason)}};
}

Json vmq_nic(const reconcile::VmqNicView& view) {
  return {{"nic", view.nic},
          {"team", text_or_null(view.team)},
          {"queue_model", text_or_null(view.queue_model)},
          {"switch", view.switch_name},
          {"sorting", text_or_null(view.sorting)},
          {"sorting_reason", view.sorting_reason},
          {"queues_max", view.queues_max},
          {"queues_used", view.queues_used},
          {"vlan_only", view.vlan_only},
          {"restarts", view.restarts}};
}

Json pci(const std::optional<model::PciDevice>& device) {
  if (!device) return nullptr;
  return {{"address", device->address},
          {"id", device->id},
          {"driver", text_or_null(device->driver)},
          {"numa_node", value_or_null(device->numa_node)}};
}

// What the device can do, as it is known by its PCI id.
Json hardware(const std::optional<model::PciDevice>& device) {
  const model::NicFacts* const facts = device ? model::nic_facts(device->id) : nullptr;
  if (facts == nullptr) return nullptr;
  return {{"name", facts->name},
          {"queues", value_or_null(facts->queues)},
          {"vmdq_pools", value_or_null(facts->vmdq_pools)},
          {"mac_filters", value_or_null(facts->mac_filters)},
          {"vlan_filters", value_or_null(facts->vlan_filters)},
          {"dpdk_driver", facts->dpdk == nullptr ? Json(nullptr) : Json(facts->dpdk)},
          {"note", facts->note == nullptr ? Json(nullptr) : Json(facts->note)}};
}

Json sorting(const std::optional<dataplane::QueueAbility>& ability) {
  if (!ability) return nullptr;
  return {{"by", dataplane::to_string(ability->sorting)},
          {"reason", ability->reason},
          {"queues_max", vmq::queues_max_of(*ability)},
          {"vlan_only", ability->vlan_only},
          {"restarts", ability->restarts}};
}

}  // namespace

Json to_json(const reconcile::FdbRow& row) {
  return {{"vid", vid_or_null(row.vid)}, {"mac", row.mac.to_string()}, {"port", row.port}, {"age_s", row.age_s}};
}

Json to_json(const reconcile::NicView& view) {
  const model::Nic& nic = view.nic;
  const bool known = nic.has_interface() || nic.up;  // a device that is not open says nothing about itself
  const bool has_offloads = nic.physical && nic.has_interface();
  return {{"name", nic.name},
          {"mac", known ? Json(nic.mac.to_string()) : Json(nullptr)},
          {"mtu", known ? Json(nic.mtu) : Json(nullptr)},
          {"up", nic.up},
          {"carrier", nic.carrier},
          {"driver", nic.driver},
          {"speed_mbps", value_or_null(nic.speed_mbps)},
          {"physical", nic.physical},
          {"pci", pci(nic.pci)},
          {"queues", nic.queues == 0 ? Json(nullptr) : Json(nic.queues)},
          {"rx_vlan_offload",
           has_offloads ? Json(model::to_string(nic.offload(model::NicOffload::rx_vlan))) : Json(nullptr)},
          {"xdp_multi_buffer", has_offloads ? Json(nic.xdp_multi_buffer) : Json(nullptr)},
          {"hardware", hardware(nic.pci)},
          {"sorting", sorting(view.sorting)},
          {"uplink_driver", model::to_string(view.driver.plan.driver)},
          {"uplink_driver_reason", view.driver.reason},
          {"team", text_or_null(view.team)},
          {"switch", text_or_null(view.switch_name)},
          {"state_reason", view.state_reason}};
}

Json to_json(const reconcile::SwitchView& view) {
  const bool external = view.desired.type == model::SwitchType::external;
  Json json = {{"name", view.desired.name},
               {"type", model::to_string(view.desired.type)},
               {"uplink", view.uplink ? uplink(*view.uplink) : Json(nullptr)},
               {"force_vlan", vid_or_null(view.desired.force_vlan)},
               {"mtu", view.desired.mtu},
               {"share_with_host", text_or_null(view.desired.share_with_host)},
               {"driver", external ? Json(model::to_string(view.desired.driver)) : Json(nullptr)},
               {"gro", external ? Json(view.desired.gro) : Json(nullptr)}};
  json.update(buffer_settings(view.desired.buffer));
  json["vnics"] = view.vnics;
  return json;
}

Json to_json(const reconcile::TeamView& view) {
  const model::Team& team = view.desired;
  Json members = Json::array();
  for (const auto& member : view.members) members.push_back(team_member(member));
  return {{"name", team.name},
          {"nics", team.nics},
          {"mode", model::to_string(team.mode)},
          {"balance", model::to_string(team.balance)},
          {"standby", text_or_null(team.standby)},
          {"lacp_timer", team.mode == model::TeamMode::lacp ? Json(model::to_string(team.lacp_timer)) : Json(nullptr)},
          {"failback_delay_ms", team.failback_delay_ms},
          {"switch", text_or_null(view.switch_name)},
          {"state", view.state},
          {"state_reason", view.state_reason},
          {"queue_model", view.queue_model},
          {"failovers", view.failovers},
          {"announcements", view.announcements},
          {"members", std::move(members)},
          {"counters", uplink_counters(view.counters)}};
}

Json to_json(const reconcile::VnicView& view) {
  const model::Vnic& vnic = view.desired;
  const bool guest = vnic.kind == model::VnicKind::guest;
  return {
      {"name", vnic.name},
      {"switch", vnic.switch_name},
      {"kind", model::to_string(vnic.kind)},
      {"mac", vnic.mac.to_string()},
      {"mac_origin", model::to_string(vnic.mac_origin)},
      {"labels", vnic.labels},
      {"vlan", vlan(view)},
      {"mac_spoofing", vnic.mac_spoofing},
      {"mac_limit", vnic.mac_limit},
      {"trust_priority", vnic.trust_priority},
      {"queues", vnic.queues},
      {"queues_used", guest ? Json(view.queues_used) : Json(nullptr)},
      {"worker", vnic.worker ? Json(*vnic.worker) : Json("auto")},
      {"on_worker", value_or_null(view.worker)},
      {"vmq_weight", vnic.vmq_weight},
      {"vmq", vmq(view.vmq)},
      {"learned", {{"count", view.learning.count}, {"limit", view.learning.limit}, {"refused", view.learning.refused}}},
      {"refused_source", refused_source(view.refused_source)},
      {"state", view.state},
      {"state_reason", view.state_reason},
      {"vhost_socket", text_or_null(view.vhost_socket)},
      {"vhost_role", guest ? Json(vnic.connect.empty() ? "listen" : "connect") : Json(nullptr)},
      {"mtu", view.mtu},
      {"buffer", buffer(view)},
      {"counters", counters(view.counters, "from_guest", "to_guest")}};
}

Json to_json(const reconcile::VmqView& view) {
  Json nics = Json::array();
  for (const auto& nic : view.nics) nics.push_back(vmq_nic(nic));
  Json without = Json::array();
  for (const auto& vnic : view.without_queue) {
    without.push_back(
        {{"vnic", vnic.vnic}, {"switch", vnic.switch_name}, {"uplink", vnic.uplink}, {"reason", vnic.reason}});
  }
  return {{"nics", std::move(nics)}, {"queues", queues(view.queues)}, {"without_queue", std::move(without)}};
}

Json to_json(const reconcile::PolicyView& view) {
  Json targets = Json::array();
  for (const model::PolicyTarget& target : view.desired.apply_to) targets.push_back(to_string(target));
  Json json = {{"name", view.desired.name}};
  json.update(buffer_settings(view.desired.buffer));
  json["apply_to"] = std::move(targets);
  json["vnics"] = view.vnics;
  return json;
}

Json to_json(const reconcile::SettingsView& view) {
  const auto& limit = view.desired.buffer_limit_bytes;
  return {{"buffer",
           {{"limit", model::buffer_limit_text(limit.value_or(model::buffer_limit_default))},
            {"limit_from", limit ? "host" : "built_in"},
            {"limit_bytes", view.buffers.limit_bytes},
            {"used_bytes", view.buffers.used_bytes}}},
          {"policies", view.policies}};
}

Json to_json(const dataplane::WorkerStats& stats) {
  return {{"id", stats.id},
          {"cpu", value_or_null(stats.cpu)},
          {"busy_cycles", stats.busy_cycles},
          {"idle_cycles", stats.idle_cycles},
          {"frames", stats.frames},
          {"sleeps", stats.sleeps},
          {"ports", stats.ports}};
}

}  // namespace patchbay::api
