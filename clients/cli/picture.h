// The host as a picture: uplinks, the switches behind them, their vnics, and what state each is in.
#pragma once
#include <string>

#include "client.h"

namespace patchbay::cli {

// `host` is the answer to GET /v1/show. Without `utf8` the lines are drawn in ASCII.
[[nodiscard]] std::string picture(const Json& host, bool utf8);

}  // namespace patchbay::cli
