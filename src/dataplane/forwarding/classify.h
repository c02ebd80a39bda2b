// Ingress policy: what a frame is, which VLAN it is in, and whether its sender may send it.
//
// Theory  Checks run in a fixed order, and the first that fails names the drop:
//           frame_too_short, reserved_address, source_multicast, source_mac, vlan_not_allowed, oversize.
//         Inside the switch a frame carries no tag: the tag of its VLAN is taken out here, and ports put one in on the
//         way out where it belongs. Only the outer tag counts. A frame that would leave without a tag somewhere and
//         still show one, because it hid a second tag behind a priority tag or behind the tag of a trunk's native VLAN,
//         is dropped: what is inside would act as a VLAN of the sender's choice further on.
// Source  IEEE 802.1Q-2018, 6.9 and 8.6; priority-tagged frames count as untagged.
#pragma once
#include <span>

#include "dataplane/forwarding/tables.h"
#include "dataplane/frame/frame.h"

namespace patchbay::forwarding {

// Sets vid and priority, or drops, for each frame of `burst` that is still undecided.
void classify(std::span<dataplane::Frame> burst, const IngressRule& rule, const SwitchTable& table) noexcept;

// Notes where the burst's sources are, if `rule` has a learner. `burst` was classified; what shows now to have come back is
// dropped.
void learn(std::span<dataplane::Frame> burst, const IngressRule& rule, const SwitchTable& table, Seconds now) noexcept;

}  // namespace patchbay::forwarding
