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

void forward_one(Frame& frame, PortIndex ingress, const SwitchTable& table, Seconds now) noexcept {
  if ((frame.head[0] & 1) != 0) {
    frame.action = Action::flood;
    return;
  }
  const std::uint64_t destination = load_be48(frame.head);
  if (const auto* const vnic = table.pinned(destination); vnic != nullptr) {
    if (vnic->vlans.hears(frame.vid)) return send_to(frame, vnic->port, ingress);
  } else if (table.fdb() != nullptr) {
    const auto learner = table.fdb()->lookup(table.fid(frame.vid), destination, now);
    const auto* const port = learner ? table.learning_port(*learner) : nullptr;
    const bool hears = port != nullptr && (port->vlans == nullptr || port->vlans->hears(frame.vid));
    if (hears) return send_to(frame, port->port, ingress);
  }
  const auto uplink = table.uplink();
  if (!table.spoofing_members().empty()) {
    frame.action = Action::flood_unknown;
  } else if (uplink && *uplink != ingress) {
    send_to(frame, *uplink, ingress);
  } else {
    drop(frame, DropReason::no_destination);
  }
}

}  // namespace

void forward(std::span<Frame> burst, PortIndex ingress, const SwitchTable& table, Seconds now) noexcept {
  if (table.fdb() != nullptr) {
    for (const Frame& frame : burst) {
      if (frame.action != Action::undecided) continue;
      const std::uint64_t destination = load_be48(frame.head);
      if (table.pinned(destination) == nullptr) table.fdb()->prefetch(table.fid(frame.vid), destination);
    }
  }
  for (Frame& frame : burst) {
    if (frame.action == Action::undecided) forward_one(frame, ingress, table, now);
  }
}

}  // namespace patchbay::forwarding
