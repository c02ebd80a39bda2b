// Where a classified frame goes.
//
// Theory  Group addresses go to every port that hears the VLAN. A pinned address goes to its vnic, a learned one to the
//         port it was heard behind, if that hears the VLAN. Any other goes to the uplink and to the vnics that may have
//         addresses of their own (MAC spoofing); other vnics never see it. From the uplink it goes to those alone.
//         Frames leave with the tag of their VLAN at the uplink and at trunks.
#pragma once
#include <span>

#include "dataplane/forwarding/tables.h"
#include "dataplane/frame/frame.h"

namespace patchbay::forwarding {

// Sets action and target of each frame of `burst` that is still undecided. `ingress` is the port they came from.
void forward(std::span<dataplane::Frame> burst, PortIndex ingress, const SwitchTable& table, Seconds now) noexcept;

// Sets the tag that `frame` leaves with at the port of `egress`: tag_tpid 0 for none.
inline void set_egress_tag(dataplane::Frame& frame, const IngressRule& egress) noexcept {
  constexpr unsigned priority_shift = 13;
  // A priority travels on the wire also where there is no VLAN, in a priority tag.
  const bool tagged =
      egress.uplink ? (frame.vid != vid_untagged || frame.priority != 0) : egress.vlans.leaves_tagged(frame.vid);
  frame.tag_tpid = tagged ? dataplane::tpid_8021q : std::uint16_t{0};
  frame.tag_tci = static_cast<std::uint16_t>(frame.priority << priority_shift | frame.vid);
}

}  // namespace patchbay::forwarding
