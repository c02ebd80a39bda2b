#include "control/api/router.h"

#include <exception>

namespace patchbay::api {
namespace {

constexpr Route table[] = {
    {"POST", "/v1/apply", apply_host, true},
    {"GET", "/v1/audit", list_audit, true},
    {"GET", "/v1/export", export_host, true},
    {"GET", "/v1/host", show_settings},
    {"PATCH", "/v1/host", set_settings},
    {"GET", "/v1/nics", list_nics},
    {"GET", "/v1/nics/{name}", show_nic},
    {"GET", "/v1/openapi.yaml", show_openapi},
    {"GET", "/v1/policies", list_policies},
    {"POST", "/v1/policies", create_policy},
    {"GET", "/v1/policies/{name}", show_policy},
    {"PATCH", "/v1/policies/{name}", set_policy},
    {"DELETE", "/v1/policies/{name}", delete_policy},
    {"GET", "/v1/show", show_host},
    {"GET", "/v1/switches", list_switches},
    {"POST", "/v1/switches", create_switch},
    {"GET", "/v1/switches/{name}", show_switch},
    {"GET", "/v1/switches/{name}/fdb", show_fdb},
    {"PATCH", "/v1/switches/{name}", set_switch},
    {"DELETE", "/v1/switches/{name}", delete_switch},
    {"GET", "/v1/teams", list_teams},
    {"POST", "/v1/teams", create_team},
    {"GET", "/v1/teams/{name}", show_team},
    {"PATCH", "/v1/teams/{name}", set_team},
    {"DELETE", "/v1/teams/{name}", delete_team},
    {"GET", "/v1/vmq", show_vmq, true},
    {"GET", "/v1/vnics", list_vnics},
    {"POST", "/v1/vnics", create_vnic},
    {"GET", "/v1/vnics/{name}", show_vnic},
    {"PATCH", "/v1/vnics/{name}", set_vnic},
    {"DELETE", "/v1/vnics/{name}", delete_vnic},
    {"GET", "/v1/vnics/{name}/attach-args", show_attach_args, true},
    {"GET", "/v1/workers", list_workers},
};

bool matches(std::string_view path, const std::vector<std::string>& segments) noexcept {
  for (const auto& segment : segments) {
    if (path.empty()) return false;
    path.remove_prefix(1);  // the slash
    const auto wanted = path.substr(0, path.find('/'));
    if (wanted != "{name}" && wanted != segment) return false;
    path.remove_prefix(wanted.size());
  }
  return path.empty();
}

std::string joined(const std::vector<std::string>& segments) {
  std::string path;
  for (const auto& segment : segments) path += "/" + segment;
  return path;
}

Response find_and_call(reconcile::Service& service, const Request& request) {
  std::string allow;
  for (const Route& route : table) {
    if (!matches(route.path, request.segments)) continue;
    if (route.method != request.method) {
      allow += (allow.empty() ? "" : ", ") + std::string(route.method);
      continue;
    }
    if (!request.query.empty() && !route.takes_query) {
      return error_response(make_error(ErrorCode::invalid, "unknown query parameter " +
                                                               in_quotes(request.query.begin()->first) + "; " +
                                                               std::string(route.path) + " takes none"));
    }
    return route.handler(service, request);
  }
  const std::string path = in_quotes(joined(request.segments));
  if (allow.empty()) {
    return error_response(
        make_error(ErrorCode::not_found, "no such path: " + path + "; GET /v1/openapi.yaml lists them"));
  }
  auto response =
      error_response(405, make_error(ErrorCode::invalid, "method " + in_quotes(request.method) + " does not go with " +
                                                             path + "; use " + allow));
  response.allow = allow;
  return response;
}

}  // namespace

std::span<const Route> routes() noexcept {
  return table;
}

Response route(reconcile::Service& service, const Request& request) noexcept {
  try {
    service.on_behalf_of({request.uid});
    return find_and_call(service, request);
  } catch (const std::exception& thrown) {
    return error_response(make_error(
        ErrorCode::internal, std::string("the request failed inside patchbayd: ") + thrown.what() + "; see its log"));
  }
}

Json stored_json(const std::string& text) {
  Json parsed = Json::parse(text, nullptr, false);
  return parsed.is_discarded() ? Json(nullptr) : parsed;
}

Response json_response(unsigned status, const Json& body) {
  Response response;
  response.status = status;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return response;
}

}  // namespace patchbay::api
