// What the switches know, frozen: which addresses are pinned to which ports, and who hears a VLAN's broadcasts.
//
// Theory  One table for each switch, keyed by (VLAN, address); vnics do not learn, so it changes only when control
//         makes a new one. Open addressing, at most half full, so that a look-up of an unknown address ends soon.
// Limits  As many entries as vnics; fixed when built.
// Threads Built by control, then immutable: any worker may read.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/mac_addr.h"

namespace patchbay::forwarding {

using PortIndex = std::uint32_t;  // a port's place in its snapshot
inline constexpr std::uint16_t vid_untagged = 0;
inline constexpr std::size_t vids = 4096;

class SwitchTable {
 public:
  struct Member {
    PortIndex port;
    MacAddr mac;        // pinned to it
    std::uint16_t vid;  // vid_untagged or 1 to 4094
  };
  // `members` may hold an address once per VLAN.
  SwitchTable(std::span<const Member> members, std::optional<PortIndex> uplink, std::uint16_t mtu);

  // The port that `mac` is pinned to in VLAN `vid`.
  [[nodiscard]] std::optional<PortIndex> lookup(std::uint16_t vid, std::uint64_t mac) const noexcept {
    const std::uint64_t key = key_of(vid, mac);
    for (std::size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].port;
      if (slots_[slot].key == empty_key) return std::nullopt;
    }
  }
  // The vnics in VLAN `vid`, in the order they were given.
  [[nodiscard]] std::span<const PortIndex> members(std::uint16_t vid) const noexcept { return lists_[list_of_[vid]]; }
  [[nodiscard]] std::optional<PortIndex> uplink() const noexcept { return uplink_; }
  // Longest frame that may enter or leave, without tag: MTU and Ethernet header.
  [[nodiscard]] std::uint32_t frame_size_limit() const noexcept { return frame_size_limit_; }

 private:
  static constexpr std::uint64_t empty_key = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = empty_key;
    PortIndex port = 0;
  };

  [[nodiscard]] static std::uint64_t key_of(std::uint16_t vid, std::uint64_t mac) noexcept {
    return std::uint64_t{vid} << 48 | mac;
  }
  [[nodiscard]] std::size_t slot_of(std::uint64_t key) const noexcept {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15) >> 32) & mask_;  // Fibonacci hashing
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::array<std::uint16_t, vids> list_of_{};
  std::vector<std::vector<PortIndex>> lists_;  // the first one is empty: VLANs without a vnic
  std::optional<PortIndex> uplink_;
  std::uint32_t frame_size_limit_ = 0;
};

// How frames that come in at a port are judged.
struct IngressRule {
  bool uplink = false;
  std::uint16_t vid = vid_untagged;  // vnic: its VLAN
  std::uint64_t mac = 0;             // vnic: the only source address it may use
};

}  // namespace patchbay::forwarding
