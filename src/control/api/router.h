// Which handler answers which method and path.
#pragma once
#include <span>
#include <string_view>

#include "control/api/handlers.h"

namespace patchbay::api {

struct Route {
  std::string_view method;
  std::string_view path;  // as in openapi.yaml: "/v1/vnics/{name}/attach-args"; {name} stands for any one segment
  Handler handler;
  bool takes_query = false;  // the handler looks at each parameter of the query itself
};

[[nodiscard]] std::span<const Route> routes() noexcept;

// Answers any request: unknown paths with 404, methods that the path does not know with 405, query parameters that the
// path does not know with 400. Never throws: what a library throws becomes a 500.
[[nodiscard]] Response route(reconcile::Service& service, const Request& request) noexcept;

}  // namespace patchbay::api
