#include "dataplane/forwarding/forward.h"

#include "base/byte_order.h"

namespace patchbay::forwarding {
namespace {

using dataplane::Action;
using dataplane::DropReason;
using dataplane::Frame;

void send_to(Frame& frame, PortIndex port, PortIndex ingress) noexcept {
  if (port == ingress) return drop(frame, DropReason::same_port);
  frame.action = Action::unicast;
  frame.target = port;
}

void forward_one(Frame& frame, PortIndex ingress, const SwitchTable& table) noexcept {
  if ((frame.head[0] & 1) != 0) {
    frame.action = Action::flood;
    return;
  }
  const std::uint64_t destination = std::uint64_t{load_be16(frame.head)} << 32 | load_be32(frame.head + 2);
  if (const auto port = table.lookup(frame.vid, destination)) return send_to(frame, *port, ingress);
  const auto uplink = table.uplink();
  if (!uplink || *uplink == ingress) return drop(frame, DropReason::no_destination);
  send_to(frame, *uplink, ingress);
}

}  // namespace

void forward(std::span<Frame> burst, PortIndex ingress, const SwitchTable& table) noexcept {
  for (Frame& frame : burst) {
    if (frame.action == Action::undecided) forward_one(frame, ingress, table);
  }
}

}  // namespace patchbay::forwarding
