#include "dataplane/forwarding/classify.h"

#include <cstring>

#include "base/byte_order.h"

namespace patchbay::forwarding {
namespace {

using dataplane::drop;
using dataplane::DropReason;
using dataplane::Frame;

constexpr std::uint16_t vid_mask = 0x0FFF;
constexpr std::uint16_t vid_reserved = 0x0FFF;
constexpr std::uint64_t group_bit = std::uint64_t{1} << 40;

std::uint64_t load_mac(const std::uint8_t* at) noexcept {
  return std::uint64_t{load_be16(at)} << 32 | load_be32(at + 2);
}

bool is_tpid(std::uint16_t type) noexcept {
  return type == dataplane::tpid_8021q || type == dataplane::tpid_8021ad || type == dataplane::tpid_9100;
}

std::uint16_t type_of(const Frame& frame) noexcept {
  return load_be16(frame.head + 12);
}

// Takes the in-band tag out: the addresses move up by four bytes.
void strip_tag(Frame& frame) noexcept {
  std::memmove(frame.head + dataplane::vlan_tag_size, frame.head, 12);
  frame.head += dataplane::vlan_tag_size;
  frame.head_size -= static_cast<std::uint32_t>(dataplane::vlan_tag_size);
  frame.size -= static_cast<std::uint32_t>(dataplane::vlan_tag_size);
}

// The VLAN that the frame's tag names, the tag taken out; vid_untagged without a tag or with a priority tag. Drops the
// frame where the tag is of another kind, or hides another one.
std::uint16_t take_tag(Frame& frame) noexcept {
  std::uint16_t tpid = frame.tag_tpid;
  std::uint16_t tci = frame.tag_tci;
  if (tpid == 0) {
    tpid = type_of(frame);
    if (!is_tpid(tpid)) return vid_untagged;
    if (frame.head_size < dataplane::ethernet_header_size + dataplane::vlan_tag_size) {
      drop(frame, DropReason::frame_too_short);
      return vid_untagged;
    }
    tci = load_be16(frame.head + 14);
    if (tpid == dataplane::tpid_8021q) strip_tag(frame);
  }
  const auto vid = static_cast<std::uint16_t>(tci & vid_mask);
  const bool hides_tag = vid == vid_untagged && is_tpid(type_of(frame));
  if (tpid != dataplane::tpid_8021q || vid == vid_reserved || hides_tag) drop(frame, DropReason::vlan_not_allowed);
  return vid;
}

void classify_one(Frame& frame, const IngressRule& rule, const SwitchTable& table) noexcept {
  if (frame.size < dataplane::ethernet_header_size) return drop(frame, DropReason::frame_too_short);
  const std::uint64_t destination = load_mac(frame.head);
  const std::uint64_t source = load_mac(frame.head + 6);
  if (MacAddr::from_uint64(destination).is_reserved()) return drop(frame, DropReason::reserved_address);
  if ((source & group_bit) != 0 || source == 0) return drop(frame, DropReason::source_multicast);
  if (!rule.uplink && source != rule.mac) return drop(frame, DropReason::source_mac);
  const std::uint16_t vid = take_tag(frame);
  if (frame.action == dataplane::Action::drop) return;
  if (rule.uplink) {
    frame.vid = vid;
    // A pinned address belongs to its vnic; whoever uses it out there is a loop or an impostor.
    if (table.lookup(vid, source)) return drop(frame, DropReason::source_mac);
  } else {
    frame.vid = rule.vid;
    if (vid != vid_untagged) return drop(frame, DropReason::vlan_not_allowed);
  }
  if (frame.size > table.frame_size_limit()) drop(frame, DropReason::oversize);
}

}  // namespace

void classify(std::span<Frame> burst, const IngressRule& rule, const SwitchTable& table) noexcept {
  for (Frame& frame : burst) {
    if (frame.action == dataplane::Action::undecided) classify_one(frame, rule, table);
  }
}

}  // namespace patchbay::forwarding
