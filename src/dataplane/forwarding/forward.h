// Where a classified frame goes.
//
// Theory  Group addresses go to every vnic of the VLAN and to the uplink. A known address goes to the port it is pinned
//         to. An unknown one goes from a vnic to the uplink, and from the uplink nowhere: other vnics never see it.
#pragma once
#include <span>

#include "dataplane/forwarding/tables.h"
#include "dataplane/frame/frame.h"

namespace patchbay::forwarding {

// Sets action and target of each frame of `burst` that is still undecided. `ingress` is the port they came from.
void forward(std::span<dataplane::Frame> burst, PortIndex ingress, const SwitchTable& table) noexcept;

}  // namespace patchbay::forwarding
