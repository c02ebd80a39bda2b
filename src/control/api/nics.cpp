// /v1/nics: the physical NICs of the host, as the kernel shows them now.
#include "control/api/handlers.h"

namespace patchbay::api {

Response list_nics(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_nics()));
}

Response show_nic(reconcile::Service& service, const Request& request) {
  return view_response(200, service.show_nic(request.name()));
}

}  // namespace patchbay::api
