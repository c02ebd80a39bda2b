#include "control/api/specs.h"

#include "control/api/message.h"

namespace patchbay::api {
namespace {

model::SwitchType switch_type(Fields& fields) {
  const auto type = fields.required_text("type");
  for (const auto known : {model::SwitchType::external, model::SwitchType::internal, model::SwitchType::private_}) {
    if (type == model::to_string(known)) return known;
  }
  fields.wrong("type", in_quotes(type) + " is not a switch type; give external, internal or private");
  return model::SwitchType::private_;
}

model::VnicKind vnic_kind(Fields& fields) {
  const auto kind = fields.text("kind");
  if (!kind) return model::VnicKind::guest;
  for (const auto known : {model::VnicKind::guest, model::VnicKind::host}) {
    if (*kind == model::to_string(known)) return known;
  }
  fields.wrong("kind", in_quotes(*kind) + " is not a kind of vnic; give guest or host");
  return model::VnicKind::guest;
}

std::optional<model::MacOrigin> mac_origin(Fields& fields, bool has_mac) {
  const auto origin = fields.text("mac_origin");
  if (!origin) return std::nullopt;
  for (const auto known : {model::MacOrigin::dynamic, model::MacOrigin::static_}) {
    if (*origin != model::to_string(known)) continue;
    if (known == model::MacOrigin::static_ && !has_mac) {
      fields.wrong("mac_origin", "static needs a mac; give one, or leave both out for one from the pool");
    }
    return known;
  }
  fields.wrong("mac_origin", in_quotes(*origin) + " is not where a MAC comes from; give dynamic or static");
  return std::nullopt;
}

}  // namespace

std::optional<std::uint16_t> read_mtu(Fields& fields) {
  const auto given = fields.integer("mtu", model::mtu_min, model::mtu_max);
  if (!given) return std::nullopt;
  return static_cast<std::uint16_t>(*given);
}

std::optional<model::UplinkDriver> read_driver(Fields& fields) {
  const auto given = fields.text("driver");
  if (!given) return std::nullopt;
  for (const auto known : {model::UplinkDriver::auto_, model::UplinkDriver::packet, model::UplinkDriver::xdp}) {
    if (*given == model::to_string(known)) return known;
  }
  fields.wrong("driver", in_quotes(*given) + " is not a driver; give auto, packet or xdp");
  return std::nullopt;
}

std::optional<std::uint32_t> read_mac_limit(Fields& fields) {
  const auto given = fields.integer("mac_limit", 1, model::mac_limit_max);
  if (!given) return std::nullopt;
  return static_cast<std::uint32_t>(*given);
}

std::optional<std::uint16_t> read_queues(Fields& fields) {
  const auto given = fields.integer("queues", 1, model::queues_max);
  if (!given) return std::nullopt;
  return static_cast<std::uint16_t>(*given);
}

std::optional<std::uint32_t> read_vmq_weight(Fields& fields) {
  const auto given = fields.integer("vmq_weight", 0, model::vmq_weight_max);
  if (!given) return std::nullopt;
  return static_cast<std::uint32_t>(*given);
}

std::optional<std::optional<unsigned>> read_worker(Fields& fields) {
  const auto given = fields.integer_or_auto("worker", 0, model::worker_id_max);
  if (!given) return std::nullopt;
  return *given ? std::optional(static_cast<unsigned>(**given)) : std::nullopt;
}

reconcile::BufferChange read_buffer(Fields& fields) {
  reconcile::BufferChange change;
  change.size = fields.buffer_or_null("buffer");
  if (const auto age = fields.integer_or_null("buffer_max_age_ms", 0, model::buffer_max_age_ms_max)) {
    change.max_age_ms = *age ? std::optional(static_cast<std::uint32_t>(**age)) : std::nullopt;
  }
  return change;
}

std::optional<std::set<std::string>> read_labels(Fields& fields) {
  auto labels = fields.texts("labels");
  if (!labels) return std::nullopt;
  if (const auto ok = model::check_labels(*labels); !ok) fields.wrong("labels", ok.error().message);
  return labels;
}

std::optional<std::set<model::PolicyTarget>> read_targets(Fields& fields) {
  const auto words = fields.texts("apply_to");
  if (!words) return std::nullopt;
  std::set<model::PolicyTarget> targets;
  for (const std::string& word : *words) {
    auto target = model::parse_target(word);
    if (target) {
      targets.insert(std::move(*target));
    } else {
      fields.wrong("apply_to", target.error().message);
    }
  }
  return targets;
}

reconcile::SwitchSpec read_switch(Fields& fields, const std::string& name) {
  reconcile::SwitchSpec spec;
  spec.name = name;
  spec.type = switch_type(fields);
  spec.uplink = fields.text("uplink").value_or("");
  spec.force_vlan = fields.vlan_id_or_null("force_vlan").value_or(std::nullopt);
  spec.mtu = read_mtu(fields).value_or(model::mtu_default);
  spec.driver = read_driver(fields).value_or(model::UplinkDriver::auto_);
  spec.gro = fields.boolean("gro").value_or(true);
  spec.share_with_host = fields.text_or_null("share_with_host").value_or("");
  spec.buffer = reconcile::changed(model::BufferSettings(), read_buffer(fields));
  return spec;
}

reconcile::VnicSpec read_vnic(Fields& fields, const std::string& name) {
  reconcile::VnicSpec spec;
  spec.name = name;
  spec.switch_name = fields.required_text("switch");
  spec.kind = vnic_kind(fields);
  spec.mac = fields.mac("mac");
  spec.mac_origin = mac_origin(fields, spec.mac.has_value());
  spec.vlan = fields.vlan_mode("vlan").value_or(model::Untagged{});
  spec.connect = fields.text("connect").value_or("");
  spec.mac_spoofing = fields.boolean("mac_spoofing").value_or(false);
  spec.mac_limit = read_mac_limit(fields).value_or(model::mac_limit_default);
  spec.trust_priority = fields.boolean("trust_priority").value_or(false);
  spec.queues = read_queues(fields).value_or(1);
  spec.worker = read_worker(fields).value_or(std::nullopt);
  spec.buffer = reconcile::changed(model::BufferSettings(), read_buffer(fields));
  spec.labels = read_labels(fields).value_or(std::set<std::string>());
  spec.vmq_weight = read_vmq_weight(fields).value_or(model::vmq_weight_default);
  return spec;
}

model::Policy read_policy(Fields& fields, const std::string& name) {
  model::Policy policy;
  policy.name = name;
  policy.buffer = reconcile::changed(model::BufferSettings(), read_buffer(fields));
  policy.apply_to = read_targets(fields).value_or(std::set<model::PolicyTarget>());
  return policy;
}

model::HostSettings read_settings(Fields& fields) {
  return {fields.buffer_limit_or_null("buffer_limit").value_or(std::nullopt)};
}

}  // namespace patchbay::api
