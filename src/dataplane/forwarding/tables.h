// What the switches know, frozen: which addresses are pinned to which ports, who hears a VLAN, who takes in unknown
// addresses; and where what is learned lies.
//
// Theory  One table for each switch, made anew by control at each change. Pinned addresses are unique in a switch, so
//         they are keyed by address alone, and the port's VLANs are asked afterwards; open addressing, at most half
//         full, so that a look-up of an unknown address ends soon. Ports that hear one or two VLANs stand in a list a
//         VLAN; trunks and promiscuous ports, which hear many, in one list of their own that is searched.
//         A secondary VLAN and its primary share what is learned (one FID), for frames go out in the one and come back
//         in the other.
// Limits  As many entries as vnics; fixed when built.
// Threads Built by control, then immutable: any worker may read. The Fdb that it points to is the worker's.
// Source  IEEE 802.1Q-2018, 8.8; RFC 5517.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/mac_addr.h"
#include "dataplane/forwarding/fdb.h"
#include "dataplane/forwarding/port_vlans.h"

namespace patchbay::forwarding {

using PortIndex = std::uint32_t;  // a port's place in its snapshot
inline constexpr std::size_t vids = 4096;

// How frames that come in at a port are judged, and which leave with a tag.
struct IngressRule {
  bool uplink = false;
  bool reflects = false;        // a team of which the other end knows nothing: frames sent may come back
  std::uint64_t mac = 0;        // vnic: its own address
  bool mac_spoofing = false;    // vnic: it may use others, too
  bool trust_priority = false;  // vnic: its priorities are kept
  PortVlans vlans = {};         // vnic: its VLANs. An uplink carries all
  Learner* learner = nullptr;   // of a port that learns
};

class SwitchTable {
 public:
  struct Member {
    PortIndex port;
    MacAddr mac;  // pinned to it
    model::VlanMode vlan;
    bool mac_spoofing = false;
    Learner* learner = nullptr;  // if it learns
  };
  struct Uplink {
    PortIndex port;
    Learner* learner = nullptr;
  };
  // A vnic, as far as forwarding must know it.
  struct Vnic {
    PortIndex port = 0;
    PortVlans vlans;
  };

  // `fdb`: nothing if no vnic of the switch may learn.
  SwitchTable(std::span<const Member> members, std::optional<Uplink> uplink, std::uint16_t mtu, Fdb* fdb);

  // The vnic that `mac` is pinned to; null if it is nobody's.
  [[nodiscard]] const Vnic* pinned(std::uint64_t mac) const noexcept {
    for (std::size_t slot = slot_of(mac);; slot = (slot + 1) & mask_) {
      if (slots_[slot].mac == mac) return &vnics_[slots_[slot].vnic];
      if (slots_[slot].mac == empty_mac) return nullptr;
    }
  }
  // Vnics that hear VLAN `vid` and few others, in the order they were given.
  [[nodiscard]] std::span<const PortIndex> members(std::uint16_t vid) const noexcept { return lists_[list_of_[vid]]; }
  // Vnics that hear many VLANs.
  [[nodiscard]] std::span<const Vnic> wide_members() const noexcept { return wide_; }
  // Vnics that take in frames for unknown addresses of the VLANs they hear.
  [[nodiscard]] std::span<const Vnic> spoofing_members() const noexcept { return spoofing_; }
  [[nodiscard]] std::optional<PortIndex> uplink() const noexcept { return uplink_; }
  // Longest frame that may enter or leave, without tag: MTU and Ethernet header.
  [[nodiscard]] std::uint32_t frame_size_limit() const noexcept { return frame_size_limit_; }

  [[nodiscard]] Fdb* fdb() const noexcept { return fdb_; }
  // The VLAN under which addresses of `vid` are learned.
  [[nodiscard]] std::uint16_t fid(std::uint16_t vid) const noexcept { return fids_.empty() ? vid : fids_[vid]; }
  // A port that learns, and its VLANs, by the id that the Fdb gives; null if it is gone.
  struct LearningPort {
    PortIndex port = 0;
    Learner* learner = nullptr;
    const PortVlans* vlans = nullptr;  // null: an uplink, which carries all
  };
  [[nodiscard]] const LearningPort* learning_port(LearnerId id) const noexcept;

 private:
  static constexpr std::uint64_t empty_mac = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t mac = empty_mac;
    std::uint32_t vnic = 0;
  };

  [[nodiscard]] std::size_t slot_of(std::uint64_t mac) const noexcept {
    return static_cast<std::size_t>((mac * 0x9E3779B97F4A7C15) >> 32) & mask_;  // Fibonacci hashing
  }
  void add_pinned(std::uint64_t mac, std::uint32_t vnic) noexcept;
  void add_to_lists(const Vnic& vnic);
  void add_fids(const model::VlanMode& mode);

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::vector<Vnic> vnics_;
  std::array<std::uint16_t, vids> list_of_{};
  std::vector<std::vector<PortIndex>> lists_;  // the first one is empty: VLANs without a vnic
  std::vector<Vnic> wide_;
  std::vector<Vnic> spoofing_;
  std::vector<std::uint16_t> fids_;     // by vid; empty: there are no private VLANs
  std::vector<LearningPort> learning_;  // sorted by the learner's id
  std::optional<PortIndex> uplink_;
  std::uint32_t frame_size_limit_ = 0;
  Fdb* fdb_ = nullptr;
};

}  // namespace patchbay::forwarding
