#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

Result<std::unique_ptr<Port>> UplinkPort::open_queue(PortId) {
  return fail(ErrorCode::unavailable, "this uplink has one queue");
}

void UplinkPort::close_queue(Port&) {}

Result<void> UplinkPort::set_queue_filter(Port&, const std::optional<QueueFilter>&) {
  return fail(ErrorCode::unavailable, "this uplink has one queue");
}

}  // namespace patchbay::dataplane
