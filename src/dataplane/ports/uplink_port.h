// A port to the wire: what control asks of it beyond any port.
#pragma once
#include <cstdint>
#include <optional>

#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class UplinkPort : public Port {
 public:
  using Port::Port;
  // Without carrier, frames for the wire are dropped (not_connected).
  virtual void set_carrier(bool up) noexcept = 0;
  // Frames that the kernel, or the NIC itself, had no room for.
  [[nodiscard]] virtual std::uint64_t kernel_drops() noexcept = 0;
  // Of a device that the data plane drives itself; else nothing.
  [[nodiscard]] virtual std::optional<DeviceState> device_state() const { return std::nullopt; }
};

}  // namespace patchbay::dataplane
