// /v1/switches: virtual switches.
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"

namespace patchbay::api {

Response list_switches(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_switches()));
}

Response create_switch(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  const auto name = fields.required_text("name");
  fields.about("switch", name);
  const auto spec = read_switch(fields, name);
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
  change.mtu = read_mtu(fields);
  change.share_with_host = fields.text_or_null("share_with_host");
  change.driver = read_driver(fields);
  change.gro = fields.boolean("gro");
  change.buffer = read_buffer(fields);
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
