// /v1/workers: the threads that move frames.
#include "control/api/handlers.h"

namespace patchbay::api {

Response list_workers(reconcile::Service& service, const Request&) {
  return json_response(200, to_json_array(service.list_workers()));
}

}  // namespace patchbay::api
