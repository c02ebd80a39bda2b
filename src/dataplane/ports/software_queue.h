// A queue of an uplink that has only one ring: what it would hold is counted here by the worker that sorts.
//
// Threads count_ingress(): the worker of the uplink. The rest: control.
#pragma once
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class SoftwareQueue final : public Port {
 public:
  using Port::Port;
  [[nodiscard]] std::size_t receive(Burst&) noexcept override { return 0; }
  void complete(std::size_t) noexcept override {}
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override {
    count_drop(DropReason::not_connected, frames.size());  // nothing is ever sent there
    return frames.size();
  }
  [[nodiscard]] bool prepare_sleep() noexcept override { return false; }
  void attach(int) noexcept override {}
  void detach() noexcept override {}
};

}  // namespace patchbay::dataplane
