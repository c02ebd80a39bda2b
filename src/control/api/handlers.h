// One function per method and path of the API; router.cpp holds the table. Each checks the request's form, asks the
// Service, and puts what comes back into JSON. The rules themselves live in the Service.
#pragma once
#include "control/api/message.h"
#include "control/api/views.h"
#include "control/reconcile/service.h"

namespace patchbay::api {

using Handler = Response (*)(reconcile::Service&, const Request&);

// switches.cpp
[[nodiscard]] Response list_switches(reconcile::Service& service, const Request& request);
[[nodiscard]] Response create_switch(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_switch(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_fdb(reconcile::Service& service, const Request& request);
[[nodiscard]] Response set_switch(reconcile::Service& service, const Request& request);
[[nodiscard]] Response delete_switch(reconcile::Service& service, const Request& request);

// vnics.cpp
[[nodiscard]] Response list_vnics(reconcile::Service& service, const Request& request);
[[nodiscard]] Response create_vnic(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_vnic(reconcile::Service& service, const Request& request);
[[nodiscard]] Response set_vnic(reconcile::Service& service, const Request& request);
[[nodiscard]] Response delete_vnic(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_attach_args(reconcile::Service& service, const Request& request);

// teams.cpp
[[nodiscard]] Response list_teams(reconcile::Service& service, const Request& request);
[[nodiscard]] Response create_team(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_team(reconcile::Service& service, const Request& request);
[[nodiscard]] Response set_team(reconcile::Service& service, const Request& request);
[[nodiscard]] Response delete_team(reconcile::Service& service, const Request& request);

// policies.cpp
[[nodiscard]] Response list_policies(reconcile::Service& service, const Request& request);
[[nodiscard]] Response create_policy(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_policy(reconcile::Service& service, const Request& request);
[[nodiscard]] Response set_policy(reconcile::Service& service, const Request& request);
[[nodiscard]] Response delete_policy(reconcile::Service& service, const Request& request);

// host.cpp
[[nodiscard]] Response show_settings(reconcile::Service& service, const Request& request);
[[nodiscard]] Response set_settings(reconcile::Service& service, const Request& request);

// nics.cpp
[[nodiscard]] Response list_nics(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_nic(reconcile::Service& service, const Request& request);

// vmq.cpp
[[nodiscard]] Response show_vmq(reconcile::Service& service, const Request& request);

// workers.cpp
[[nodiscard]] Response list_workers(reconcile::Service& service, const Request& request);

// audit.cpp
[[nodiscard]] Response list_audit(reconcile::Service& service, const Request& request);

// apply.cpp
[[nodiscard]] Response apply_host(reconcile::Service& service, const Request& request);
[[nodiscard]] Response export_host(reconcile::Service& service, const Request& request);

// show.cpp
[[nodiscard]] Response show_host(reconcile::Service& service, const Request& request);
[[nodiscard]] Response show_openapi(reconcile::Service& service, const Request& request);

// A JSON answer; bytes that are no UTF-8 (a kernel's interface name may hold any) are replaced.
[[nodiscard]] Response json_response(unsigned status, const Json& body);
// JSON that was stored or made as text; null for an empty one, and for one that is none.
[[nodiscard]] Json stored_json(const std::string& text);
// The object behind `shown`, or its error.
template <typename View>
[[nodiscard]] Response view_response(unsigned status, const Result<View>& shown) {
  return shown ? json_response(status, to_json(*shown)) : error_response(shown.error());
}

}  // namespace patchbay::api
