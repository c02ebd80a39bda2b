#include "control/reconcile/settable.h"

namespace patchbay::reconcile {
namespace {

using Json = nlohmann::ordered_json;

// One for each VLAN mode: the compiler asks for another when model::VlanMode has another.
struct VlanFields {
  Json& json;

  void operator()(const model::Untagged&) const {}
  void operator()(const model::Access& mode) const { json["vid"] = mode.vid.raw(); }
  void operator()(const model::Trunk& mode) const {
    json["allowed"] = mode.allowed.to_string();
    if (!mode.pruned.empty()) json["pruned"] = mode.pruned.to_string();
    if (mode.native) json["native"] = *mode.native ? Json((*mode.native)->raw()) : Json("untagged");
  }
  void operator()(const model::Isolated& mode) const {
    json["primary"] = mode.primary.raw();
    json["secondary"] = mode.secondary.raw();
  }
  void operator()(const model::Community& mode) const {
    json["primary"] = mode.primary.raw();
    json["secondary"] = mode.secondary.raw();
  }
  void operator()(const model::Promiscuous& mode) const {
    json["primary"] = mode.primary.raw();
    json["secondaries"] = mode.secondaries.to_string();
  }
};

void put_buffer(Json& json, const model::BufferSettings& buffer) {
  if (buffer.size) json["buffer"] = to_string(*buffer.size);
  if (buffer.max_age_ms) json["buffer_max_age_ms"] = *buffer.max_age_ms;
}

}  // namespace

Json settable(const model::VlanMode& mode) {
  Json json = {{"mode", model::to_string(mode)}};
  std::visit(VlanFields{json}, mode);
  return json;
}

Json settable(const model::Switch& on) {
  Json json = {{"type", model::to_string(on.type)}};
  if (!on.uplink.empty()) json["uplink"] = on.uplink;
  if (on.force_vlan) json["force_vlan"] = on.force_vlan->raw();
  json["mtu"] = on.mtu;
  if (on.type == model::SwitchType::external) {
    json["driver"] = model::to_string(on.driver);
    json["gro"] = on.gro;
  }
  if (!on.share_with_host.empty()) json["share_with_host"] = on.share_with_host;
  put_buffer(json, on.buffer);
  return json;
}

Json settable(const model::Vnic& vnic) {
  Json json = {{"switch", vnic.switch_name},
               {"kind", model::to_string(vnic.kind)},
               {"mac", vnic.mac.to_string()},
               {"mac_origin", model::to_string(vnic.mac_origin)},
               {"vlan", settable(vnic.vlan)}};
  if (!vnic.connect.empty()) json["connect"] = vnic.connect;
  json["mac_spoofing"] = vnic.mac_spoofing;
  json["mac_limit"] = vnic.mac_limit;
  json["trust_priority"] = vnic.trust_priority;
  if (vnic.kind == model::VnicKind::guest) json["queues"] = vnic.queues;
  if (vnic.worker) json["worker"] = *vnic.worker;
  json["vmq_weight"] = vnic.vmq_weight;
  put_buffer(json, vnic.buffer);
  if (!vnic.labels.empty()) json["labels"] = vnic.labels;
  return json;
}

Json settable(const model::Policy& policy) {
  Json json = Json::object();
  put_buffer(json, policy.buffer);
  Json targets = Json::array();
  for (const model::PolicyTarget& target : policy.apply_to) targets.push_back(to_string(target));
  json["apply_to"] = std::move(targets);
  return json;
}

Json settable(const model::HostSettings& settings) {
  Json json = Json::object();
  if (settings.buffer_limit_bytes) json["buffer_limit"] = model::buffer_limit_text(*settings.buffer_limit_bytes);
  return json;
}

Json settable(const model::Team& team) {
  Json json = {{"nics", team.nics}, {"mode", model::to_string(team.mode)}, {"balance", model::to_string(team.balance)}};
  if (!team.standby.empty()) json["standby"] = team.standby;
  if (team.mode == model::TeamMode::lacp) json["lacp_timer"] = model::to_string(team.lacp_timer);
  json["failback_delay_ms"] = team.failback_delay_ms;
  return json;
}

}  // namespace patchbay::reconcile
