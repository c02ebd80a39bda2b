// /v1/show: the whole host in one document, taken at one moment. /v1/openapi.yaml: this API's own description.
#include "control/api/handlers.h"
#include "control/api/openapi.h"

namespace patchbay::api {

Response show_host(reconcile::Service& service, const Request&) {
  return json_response(200, {{"host", to_json(service.show_settings())},
                             {"nics", to_json_array(service.list_nics())},
                             {"switches", to_json_array(service.list_switches())},
                             {"teams", to_json_array(service.list_teams())},
                             {"policies", to_json_array(service.list_policies())},
                             {"vnics", to_json_array(service.list_vnics())},
                             {"workers", to_json_array(service.list_workers())}});
}

Response show_openapi(reconcile::Service&, const Request&) {
  return {.status = 200, .body = std::string(openapi_yaml()), .content_type = "application/yaml", .allow = {}};
}

}  // namespace patchbay::api
