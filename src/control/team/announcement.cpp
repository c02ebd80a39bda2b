#include "control/team/announcement.h"

#include <algorithm>
#include <array>

#include "base/rarp.h"

namespace patchbay::team {

std::vector<std::uint8_t> announcement(MacAddr mac, std::uint16_t vid) {
  constexpr std::size_t addresses_size = 12;
  const auto rarp = rarp_announcement(mac);
  std::vector<std::uint8_t> frame(rarp.begin(), rarp.end());
  if (vid == 0) return frame;
  const std::array<std::uint8_t, 4> tag{0x81, 0x00, static_cast<std::uint8_t>(vid >> 8),
                                        static_cast<std::uint8_t>(vid)};
  frame.insert(frame.begin() + addresses_size, tag.begin(), tag.end());
  return frame;
}

std::vector<std::uint16_t> sending_vlans(const model::VlanMode& mode) {
  if (const auto* access = std::get_if<model::Access>(&mode)) return {access->vid.raw()};
  if (const auto* isolated = std::get_if<model::Isolated>(&mode)) return {isolated->secondary.raw()};
  if (const auto* community = std::get_if<model::Community>(&mode)) return {community->secondary.raw()};
  if (const auto* promiscuous = std::get_if<model::Promiscuous>(&mode)) return {promiscuous->primary.raw()};
  const auto* trunk = std::get_if<model::Trunk>(&mode);
  if (trunk == nullptr) return {0};
  std::vector<std::uint16_t> vlans;
  if (trunk->native) vlans.push_back(*trunk->native ? (*trunk->native)->raw() : std::uint16_t{0});
  const VlanSet carried = trunk->carried();
  for (std::uint16_t vid = VlanId::min; vid <= VlanId::max && vlans.size() <= announced_vlans_max; ++vid) {
    const bool is_new = std::find(vlans.begin(), vlans.end(), vid) == vlans.end();
    if (is_new && carried.contains(vid)) vlans.push_back(vid);
  }
  return vlans;
}

}  // namespace patchbay::team
