// /v1/teams: NICs that act as one uplink.
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"

namespace patchbay::api {

Response list_teams(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_teams()));
}

Response create_team(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  const auto name = fields.required_text("name");
  fields.about("team", name);
  const auto team = read_team(fields, name);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto created = service.create_team(team); !created) return error_response(created.error());
  return view_response(201, service.show_team(name));
}

Response show_team(reconcile::Service& service, const Request& request) {
  return view_response(200, service.show_team(request.name()));
}

Response set_team(reconcile::Service& service, const Request& request) {
  Fields fields(request.body);
  fields.about("team", request.name());
  const auto change = read_team_change(fields);
  if (const auto read = fields.finish(); !read) return error_response(read.error());
  if (const auto set = service.set_team(request.name(), change); !set) return error_response(set.error());
  return view_response(200, service.show_team(request.name()));
}

Response delete_team(reconcile::Service& service, const Request& request) {
  const auto deleted = service.delete_team(request.name());
  return deleted ? Response{.status = 204, .body = {}, .content_type = {}, .allow = {}}
                 : error_response(deleted.error());
}

}  // namespace patchbay::api
