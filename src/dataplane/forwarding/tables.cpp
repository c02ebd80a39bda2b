#include "dataplane/forwarding/tables.h"

#include <bit>

#include "dataplane/frame/frame.h"

namespace patchbay::forwarding {

SwitchTable::SwitchTable(std::span<const Member> members, std::optional<PortIndex> uplink, std::uint16_t mtu)
    : slots_(std::bit_ceil(2 * members.size() + 2)),
      mask_(slots_.size() - 1),
      lists_(1),
      uplink_(uplink),
      frame_size_limit_(static_cast<std::uint32_t>(mtu + dataplane::ethernet_header_size)) {
  for (const Member& member : members) {
    const std::uint64_t key = key_of(member.vid, member.mac.to_uint64());
    std::size_t slot = slot_of(key);
    while (slots_[slot].key != empty_key) slot = (slot + 1) & mask_;
    slots_[slot] = {key, member.port};
    if (list_of_[member.vid] == 0) {
      list_of_[member.vid] = static_cast<std::uint16_t>(lists_.size());
      lists_.emplace_back();
    }
    lists_[list_of_[member.vid]].push_back(member.port);
  }
}

}  // namespace patchbay::forwarding
