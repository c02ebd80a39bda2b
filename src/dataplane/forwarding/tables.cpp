#include "dataplane/forwarding/tables.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "dataplane/frame/frame.h"

namespace patchbay::forwarding {

SwitchTable::SwitchTable(std::span<const Member> members, std::optional<Uplink> uplink, std::uint16_t mtu, Fdb* fdb)
    : slots_(std::bit_ceil(2 * members.size() + 2)),
      mask_(slots_.size() - 1),
      lists_(1),
      frame_size_limit_(static_cast<std::uint32_t>(mtu + dataplane::ethernet_header_size)),
      fdb_(fdb) {
  vnics_.reserve(members.size());  // learning_ points into it
  for (const Member& member : members) {
    const Vnic& vnic = vnics_.emplace_back(Vnic{member.port, PortVlans::of(member.vlan)});
    add_pinned(member.mac.to_uint64(), static_cast<std::uint32_t>(vnics_.size() - 1));
    add_to_lists(vnic);
    if (member.mac_spoofing) spoofing_.push_back(vnic);
    if (member.learner != nullptr) learning_.push_back({member.port, member.learner, &vnic.vlans});
    add_fids(member.vlan);
  }
  if (uplink) {
    uplink_ = uplink->port;
    if (uplink->learner != nullptr) learning_.push_back({uplink->port, uplink->learner, nullptr});
  }
  std::sort(learning_.begin(), learning_.end(),
            [](const LearningPort& a, const LearningPort& b) { return a.learner->id() < b.learner->id(); });
}

void SwitchTable::add_pinned(std::uint64_t mac, std::uint32_t vnic) noexcept {
  std::size_t slot = slot_of(mac);
  while (slots_[slot].mac != empty_mac) slot = (slot + 1) & mask_;
  slots_[slot] = {mac, vnic};
}

void SwitchTable::add_to_lists(const Vnic& vnic) {
  if (!vnic.vlans.hears_few()) {
    wide_.push_back(vnic);
    return;
  }
  const auto& [first, second] = vnic.vlans.few();
  for (const std::uint16_t vid : {first, second}) {
    if (list_of_[vid] == 0) {
      list_of_[vid] = static_cast<std::uint16_t>(lists_.size());
      lists_.emplace_back();
    }
    auto& list = lists_[list_of_[vid]];
    if (list.empty() || list.back() != vnic.port) list.push_back(vnic.port);
  }
}

void SwitchTable::add_fids(const model::VlanMode& mode) {
  const auto share = [this](std::uint16_t secondary, VlanId primary) {
    if (fids_.empty()) {
      fids_.resize(vids);
      std::iota(fids_.begin(), fids_.end(), std::uint16_t{0});
    }
    fids_[secondary] = primary.raw();
  };
  if (const auto* isolated = std::get_if<model::Isolated>(&mode)) share(isolated->secondary.raw(), isolated->primary);
  if (const auto* community = std::get_if<model::Community>(&mode)) {
    share(community->secondary.raw(), community->primary);
  }
  if (const auto* promiscuous = std::get_if<model::Promiscuous>(&mode)) {
    for (std::uint16_t vid = VlanId::min; vid <= VlanId::max; ++vid) {
      if (promiscuous->secondaries.contains(vid)) share(vid, promiscuous->primary);
    }
  }
}

const SwitchTable::LearningPort* SwitchTable::learning_port(LearnerId id) const noexcept {
  const auto less = [](const LearningPort& port, LearnerId wanted) { return port.learner->id() < wanted; };
  const auto found = std::lower_bound(learning_.begin(), learning_.end(), id, less);
  return found != learning_.end() && found->learner->id() == id ? &*found : nullptr;
}

}  // namespace patchbay::forwarding
