// The host's own addresses.
#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "base/result.h"

namespace patchbay::host {

// The first IPv4 address of an interface that is not the loopback, by interface index; nothing if there is none.
// Errors: internal, no_resource (netlink).
[[nodiscard]] Result<std::optional<std::array<std::uint8_t, 4>>> first_ipv4_address();

}  // namespace patchbay::host
