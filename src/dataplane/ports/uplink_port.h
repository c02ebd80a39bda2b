// A port to the wire: what control asks of it beyond any port.
#pragma once
#include <cstdint>

#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class UplinkPort : public Port {
 public:
  using Port::Port;
  // Without carrier, frames for the wire are dropped (not_connected).
  virtual void set_carrier(bool up) noexcept = 0;
  // Frames that the kernel had no room for.
  [[nodiscard]] virtual std::uint64_t kernel_drops() noexcept = 0;
};

}  // namespace patchbay::dataplane
