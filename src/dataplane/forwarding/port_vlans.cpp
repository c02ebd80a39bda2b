#include "dataplane/forwarding/port_vlans.h"

namespace patchbay::forwarding {

PortVlans PortVlans::of(const model::VlanMode& mode) {
  if (const auto* access = std::get_if<model::Access>(&mode)) {
    return {access->vid.raw(), access->vid.raw(), access->vid.raw()};
  }
  if (const auto* isolated = std::get_if<model::Isolated>(&mode)) {
    return {isolated->secondary.raw(), isolated->primary.raw(), isolated->primary.raw()};
  }
  if (const auto* community = std::get_if<model::Community>(&mode)) {
    return {community->secondary.raw(), community->primary.raw(), community->secondary.raw()};
  }
  if (const auto* promiscuous = std::get_if<model::Promiscuous>(&mode)) {
    const std::uint16_t primary = promiscuous->primary.raw();
    PortVlans vlans(primary, primary, primary);
    vlans.more_ = std::make_shared<const VlanSet>(promiscuous->secondaries);
    return vlans;
  }
  if (const auto* trunk = std::get_if<model::Trunk>(&mode)) {
    std::uint16_t native = vid_none;
    if (trunk->native) native = *trunk->native ? (*trunk->native)->raw() : vid_untagged;
    PortVlans vlans(native, native, native);
    vlans.trunk_ = true;
    vlans.more_ = std::make_shared<const VlanSet>(trunk->carried());
    return vlans;
  }
  return {};
}

}  // namespace patchbay::forwarding
