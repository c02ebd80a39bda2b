// /v1/vmq: the receive queues of uplinks, and who has them.
#include "control/api/handlers.h"

namespace patchbay::api {

Response show_vmq(reconcile::Service& service, const Request& request) {
  std::string uplink;
  for (const auto& [key, value] : request.query) {
    if (key != "nic") {
      return error_response(
          make_error(ErrorCode::invalid, "unknown query parameter " + in_quotes(key) + "; known here: nic"));
    }
    if (value.empty()) return error_response(make_error(ErrorCode::invalid, "nic: give the name of a NIC or a team"));
    uplink = value;
  }
  return view_response(200, service.show_vmq(uplink));
}

}  // namespace patchbay::api
