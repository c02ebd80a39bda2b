// Ids of things in the data plane: distinct types, no arithmetic. Messages between threads carry these, never pointers.
#pragma once
#include <cstdint>

namespace patchbay {

// A port of the data plane: an uplink, a guest's vnic or a host vnic. Unique while the daemon runs; never reused.
enum class PortId : std::uint32_t {};

[[nodiscard]] constexpr std::uint32_t raw(PortId id) noexcept {
  return static_cast<std::uint32_t>(id);
}

}  // namespace patchbay
