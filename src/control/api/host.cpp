// /v1/host: what is set for the host as a whole.
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"

namespace patchbay::api {

Response show_settings(reconcile::Service& service, const Request&) {
  return json_response(200, to_json(service.show_settings()));
}

Response set_settings(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  reconcile::HostChange change;
  change.buffer_limit_bytes = fields.buffer_limit_or_null("buffer_limit");
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto set = service.set_settings(change); !set) return error_response(set.error());
  return show_settings(service, request);
}

}  // namespace patchbay::api
