// /v1/switches: virtual switches.
#include "control/api/fields.h"
#include "control/api/handlers.h"

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

std::optional<std::uint16_t> mtu(Fields& fields) {
  const auto given = fields.integer("mtu", model::mtu_min, model::mtu_max);
  if (!given) return std::nullopt;
  return static_cast<std::uint16_t>(*given);
}

}  // namespace

Response list_switches(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_switches()));
}

Response create_switch(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  reconcile::SwitchSpec spec;
  spec.name = fields.required_text("name");
  fields.about("switch", spec.name);
  spec.type = switch_type(fields);
  spec.uplink = fields.text("uplink").value_or("");
  spec.force_vlan = fields.vlan_id_or_null("force_vlan").value_or(std::nullopt);
  spec.mtu = mtu(fields).value_or(model::mtu_default);
  spec.share_with_host = fields.text_or_null("share_with_host").value_or("");
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto created = service.create_switch(spec); !created) return error_response(created.error());
  return view_response(201, service.show_switch(spec.name));
}

Response show_switch(reconcile::Service& service, const Request& request) {
  return view_response(200, service.show_switch(request.name()));
}

Response show_fdb(reconcile::Service& service, const Request& request) {
  const auto rows = service.show_fdb(request.name());
  return rows ? json_response(200, to_json_array(*rows)) : error_response(rows.error());
}

Response set_switch(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  fields.about("switch", request.name());
  reconcile::SwitchChange change;
  change.force_vlan = fields.vlan_id_or_null("force_vlan");
  change.mtu = mtu(fields);
  change.share_with_host = fields.text_or_null("share_with_host");
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto set = service.set_switch(request.name(), change); !set) return error_response(set.error());
  return view_response(200, service.show_switch(request.name()));
}

Response delete_switch(reconcile::Service& service, const Request& request) {
  const auto deleted = service.delete_switch(request.name());
  return deleted ? Response{.status = 204, .body = {}, .content_type = {}, .allow = {}}
                 : error_response(deleted.error());
}

}  // namespace patchbay::api
