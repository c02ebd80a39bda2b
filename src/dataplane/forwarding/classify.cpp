#include "dataplane/forwarding/classify.h"

#include <cstring>

#include "base/byte_order.h"

namespace patchbay::forwarding {
namespace {

using dataplane::drop;
using dataplane::DropReason;
using dataplane::Frame;

constexpr std::uint16_t vid_mask = 0x0FFF;
constexpr unsigned priority_shift = 13;
constexpr std::uint64_t group_bit = std::uint64_t{1} << 40;

bool is_tpid(std::uint16_t type) noexcept {
  return type >= dataplane::tpid_8021q &&  // most types are less
         (type == dataplane::tpid_8021q || type == dataplane::tpid_8021ad || type == dataplane::tpid_9100);
}

std::uint16_t type_of(const Frame& frame) noexcept {
  return load_be16(frame.head + dataplane::addresses_size);
}

// Takes the in-band tag out: the addresses move up by four bytes. What the frame still needs lies behind the tag.
void strip_tag(Frame& frame) noexcept {
  std::memmove(frame.head + dataplane::vlan_tag_size, frame.head, dataplane::addresses_size);
  frame.head += dataplane::vlan_tag_size;
  frame.head_size -= static_cast<std::uint32_t>(dataplane::vlan_tag_size);
  frame.size -= static_cast<std::uint32_t>(dataplane::vlan_tag_size);
  if (frame.needs.offloads == 0) return;
  frame.needs.csum_start = static_cast<std::uint16_t>(frame.needs.csum_start - dataplane::vlan_tag_size);
  if (frame.needs.gso_size == 0) return;
  frame.needs.header_size = static_cast<std::uint16_t>(frame.needs.header_size - dataplane::vlan_tag_size);
}

struct Tag {
  std::uint16_t vid = vid_untagged;  // also of a frame without a tag
  std::uint8_t priority = 0;
};

Tag take_tag_of_tagged(Frame& frame, std::uint16_t tpid) noexcept {
  std::uint16_t tci = frame.tag_tci;
  if (frame.tag_tpid == 0) {
    if (frame.head_size < dataplane::ethernet_header_size + dataplane::vlan_tag_size) {
      drop(frame, DropReason::frame_too_short);
      return {};
    }
    tci = load_be16(frame.head + 14);
    if (tpid == dataplane::tpid_8021q) strip_tag(frame);
  }
  const Tag tag{static_cast<std::uint16_t>(tci & vid_mask), static_cast<std::uint8_t>(tci >> priority_shift)};
  const bool hides_tag = tag.vid == vid_untagged && is_tpid(type_of(frame));
  if (tpid != dataplane::tpid_8021q || tag.vid == vid_reserved || hides_tag) drop(frame, DropReason::vlan_not_allowed);
  return tag;
}

// What the frame's tag says, the tag taken out. Drops the frame where the tag is of another kind.
inline Tag take_tag(Frame& frame) noexcept {
  const std::uint16_t tpid = frame.tag_tpid != 0 ? frame.tag_tpid : type_of(frame);
  return frame.tag_tpid != 0 || is_tpid(tpid) ? take_tag_of_tagged(frame, tpid) : Tag{};
}

void judge_wire(Frame& frame, std::uint64_t source, const IngressRule& rule, const SwitchTable& table) noexcept {
  const Tag tag = take_tag(frame);
  frame.vid = tag.vid;
  frame.priority = tag.priority;
  if (frame.action == dataplane::Action::drop) return;
  // A pinned address belongs to its vnic; whoever uses it out there is a loop or an impostor. The VLANs of a private vnic
  // are those of its primary VLAN; but what is secondary for one may be the plain VLAN of another.
  const SwitchTable::Vnic* const holder = table.pinned(source);
  if (holder == nullptr) return;
  if (holder->vlans.hears(frame.vid) || holder->vlans.hears(table.fid(frame.vid))) {
    drop(frame, rule.reflects ? DropReason::reflected : DropReason::source_mac);
  }
}

void judge_vnic(Frame& frame, std::uint64_t source, const IngressRule& rule, const SwitchTable& table) noexcept {
  if (source != rule.mac && (!rule.mac_spoofing || table.pinned(source) != nullptr)) {
    return drop(frame, DropReason::source_mac);
  }
  const Tag tag = take_tag(frame);
  frame.priority = rule.trust_priority ? tag.priority : std::uint8_t{0};
  if (frame.action == dataplane::Action::drop) return;
  if (tag.vid == vid_untagged) {
    frame.vid = rule.vlans.untagged_vid();
    if (frame.vid == vid_none) drop(frame, DropReason::vlan_not_allowed);
    return;
  }
  frame.vid = tag.vid;
  const bool hides_tag = tag.vid == rule.vlans.untagged_vid() && is_tpid(type_of(frame));
  if (!rule.vlans.is_trunk() || !rule.vlans.hears(tag.vid) || hides_tag) drop(frame, DropReason::vlan_not_allowed);
}

bool is_behind_vnic(std::uint16_t fid, std::uint64_t mac, const SwitchTable& table, Seconds now) noexcept {
  if (table.pinned(mac) != nullptr) return true;
  const auto learner = table.fdb()->lookup(fid, mac, now);
  const auto* const port = learner ? table.learning_port(*learner) : nullptr;
  return port != nullptr && port->vlans != nullptr;
}

// What comes from an address behind a vnic, and is for one that is not, was sent from here, and the other end sends it to
// all, for it does not know where that one is. (What is for groups, the team tells by itself.)
bool is_reflected(const Frame& frame, std::uint64_t source, const SwitchTable& table, Seconds now) noexcept {
  const std::uint64_t destination = load_be48(frame.head);
  const std::uint16_t fid = table.fid(frame.vid);
  return (destination & group_bit) == 0 && is_behind_vnic(fid, source, table, now) &&
         !is_behind_vnic(fid, destination, table, now);
}

void classify_one(Frame& frame, const IngressRule& rule, const SwitchTable& table) noexcept {
  if (frame.size < dataplane::ethernet_header_size) return drop(frame, DropReason::frame_too_short);
  const std::uint64_t destination = load_be48(frame.head);
  const std::uint64_t source = load_be48(frame.head + 6);
  if (MacAddr::is_reserved(destination)) return drop(frame, DropReason::reserved_address);
  if ((source & group_bit) != 0 || source == 0) return drop(frame, DropReason::source_multicast);
  if (rule.uplink) {
    judge_wire(frame, source, rule, table);
  } else {
    judge_vnic(frame, source, rule, table);
  }
  if (frame.action == dataplane::Action::drop) return;
  if (frame_size_of(frame) > table.frame_size_limit()) drop(frame, DropReason::oversize);
}

}  // namespace

void classify(std::span<Frame> burst, const IngressRule& rule, const SwitchTable& table) noexcept {
  for (Frame& frame : burst) {
    if (frame.action == dataplane::Action::undecided) classify_one(frame, rule, table);
  }
}

void learn(std::span<Frame> burst, const IngressRule& rule, const SwitchTable& table, Seconds now) noexcept {
  if (rule.learner == nullptr || table.fdb() == nullptr) return;
  for (const Frame& frame : burst) {
    if (frame.action == dataplane::Action::undecided) {
      table.fdb()->prefetch(table.fid(frame.vid), load_be48(frame.head + 6));
    }
  }
  for (Frame& frame : burst) {
    if (frame.action != dataplane::Action::undecided) continue;
    const std::uint64_t source = load_be48(frame.head + 6);
    // An address that is pinned, in whichever VLAN, is not learned: it has its place.
    if (source == rule.mac || table.pinned(source) != nullptr) continue;
    if (rule.reflects && is_reflected(frame, source, table, now)) {
      drop(frame, DropReason::reflected);
      continue;
    }
    table.fdb()->learn(table.fid(frame.vid), source, *rule.learner, now, table);
  }
}

}  // namespace patchbay::forwarding
