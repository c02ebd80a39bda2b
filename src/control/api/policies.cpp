// /v1/policies: named settings for vnics.
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"

namespace patchbay::api {

Response list_policies(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_policies()));
}

Response create_policy(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  const auto name = fields.required_text("name");
  fields.about("policy", name);
  const auto policy = read_policy(fields, name);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto created = service.create_policy(policy); !created) return error_response(created.error());
  return view_response(201, service.show_policy(policy.name));
}

Response show_policy(reconcile::Service& service, const Request& request) {
  return view_response(200, service.show_policy(request.name()));
}

Response set_policy(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  fields.about("policy", request.name());
  reconcile::PolicyChange change;
  change.buffer = read_buffer(fields);
  change.apply_to = read_targets(fields);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto set = service.set_policy(request.name(), change); !set) return error_response(set.error());
  return view_response(200, service.show_policy(request.name()));
}

Response delete_policy(reconcile::Service& service, const Request& request) {
  const auto deleted = service.delete_policy(request.name());
  return deleted ? Response{.status = 204, .body = {}, .content_type = {}, .allow = {}}
                 : error_response(deleted.error());
}

}  // namespace patchbay::api
