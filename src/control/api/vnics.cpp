// /v1/vnics: virtual NICs, of guests and of the host, and the arguments that attach a guest.
#include "control/api/attach_args.h"
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"

namespace patchbay::api {

Response list_vnics(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_vnics()));
}

Response create_vnic(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  const auto name = fields.required_text("name");
  fields.about("vnic", name);
  const auto spec = read_vnic(fields, name);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto created = service.create_vnic(spec); !created) return error_response(created.error());
  return view_response(201, service.show_vnic(spec.name));
}

Response show_vnic(reconcile::Service& service, const Request& request) {
  return view_response(200, service.show_vnic(request.name()));
}

Response set_vnic(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  fields.about("vnic", request.name());
  reconcile::VnicChange change;
  change.vlan = fields.vlan_mode("vlan");
  change.mac = fields.mac("mac");
  change.mac_spoofing = fields.boolean("mac_spoofing");
  change.mac_limit = read_mac_limit(fields);
  change.trust_priority = fields.boolean("trust_priority");
  change.queues = read_queues(fields);
  change.worker = read_worker(fields);
  change.buffer = read_buffer(fields);
  change.labels = read_labels(fields);
  change.vmq_weight = read_vmq_weight(fields);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto set = service.set_vnic(request.name(), change); !set) return error_response(set.error());
  return view_response(200, service.show_vnic(request.name()));
}

Response delete_vnic(reconcile::Service& service, const Request& request) {
  const auto deleted = service.delete_vnic(request.name());
  return deleted ? Response{.status = 204, .body = {}, .content_type = {}, .allow = {}}
                 : error_response(deleted.error());
}

Response show_attach_args(reconcile::Service& service, const Request& request) {
  const auto options = parse_attach_options(request.query);
  if (!options) return error_response(options.error());
  const auto vnic = service.show_vnic(request.name());
  if (!vnic) return error_response(vnic.error());
  const auto text = attach_args(*vnic, *options);
  return text ? json_response(200, {{"text", *text}}) : error_response(text.error());
}

}  // namespace patchbay::api
