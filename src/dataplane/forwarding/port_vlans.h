// Which VLANs a port speaks and hears, and which of them with a tag: PVID, member set and untagged set of IEEE 802.1Q,
// made of a vnic's mode once and asked for each frame.
//
// Threads Built by control, then immutable.
// Source  IEEE 802.1Q-2018, 8.8.10 and 12.10; the modes' table in model/vlan.h.
#pragma once
#include <array>
#include <cstdint>
#include <memory>

#include "base/vlan_set.h"
#include "model/vlan.h"

namespace patchbay::forwarding {

inline constexpr std::uint16_t vid_untagged = 0;     // of frames that are in no VLAN
inline constexpr std::uint16_t vid_none = 0xFFFF;    // no frame has it
inline constexpr std::uint16_t vid_reserved = 4095;  // nor this one, by IEEE 802.1Q

class PortVlans {
 public:
  // Untagged.
  PortVlans() = default;
  [[nodiscard]] static PortVlans of(const model::VlanMode& mode);

  // The VLAN of frames that enter without a tag, or with a priority tag; vid_none: they may not enter.
  [[nodiscard]] std::uint16_t untagged_vid() const noexcept { return untagged_vid_; }
  // Frames with a tag may enter, if the port hears their VLAN; and frames leave with their tag.
  [[nodiscard]] bool is_trunk() const noexcept { return trunk_; }
  [[nodiscard]] bool hears(std::uint16_t vid) const noexcept {
    return vid == heard_[0] || vid == heard_[1] || (more_ != nullptr && more_->contains(vid));
  }
  [[nodiscard]] bool leaves_tagged(std::uint16_t vid) const noexcept {
    return trunk_ && vid != untagged_vid_ && vid != vid_untagged;
  }
  // The VLANs that it hears are few: these one or two (equal ones count once). Else only hears() tells.
  [[nodiscard]] bool hears_few() const noexcept { return more_ == nullptr; }
  [[nodiscard]] const std::array<std::uint16_t, 2>& few() const noexcept { return heard_; }

 private:
  PortVlans(std::uint16_t untagged_vid, std::uint16_t first, std::uint16_t second) noexcept
      : untagged_vid_(untagged_vid), heard_{first, second} {}

  std::uint16_t untagged_vid_ = vid_untagged;
  std::array<std::uint16_t, 2> heard_{vid_untagged, vid_untagged};
  bool trunk_ = false;
  std::shared_ptr<const VlanSet> more_;  // copied by control only
};

}  // namespace patchbay::forwarding
