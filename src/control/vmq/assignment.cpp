#include "control/vmq/assignment.h"

#include <fmt/format.h>

#include <algorithm>

namespace patchbay::vmq {
namespace {

using dataplane::QueueSorting;

constexpr std::uint16_t vid_untagged = 0;

// The one VLAN in which the wire may bring frames to the vnic, or why there is none.
struct VidOnWire {
  std::uint16_t vid = vid_untagged;
  std::string reason = {};
};
struct FindVid {
  VidOnWire operator()(const model::Untagged&) const { return {}; }
  VidOnWire operator()(const model::Access& mode) const { return {mode.vid.raw()}; }
  VidOnWire operator()(const model::Trunk& mode) const {
    const VlanSet carried = mode.carried();
    const bool hears_untagged = mode.native && !*mode.native;
    for (std::uint16_t vid = 1; carried.size() == 1 && !hears_untagged; ++vid) {
      if (carried.contains(vid)) return {vid};
    }
    return {0, "a trunk hears many VLANs, and a queue's filter names one"};
  }
  VidOnWire operator()(const model::Isolated& mode) const { return {mode.primary.raw()}; }
  VidOnWire operator()(const model::Community& mode) const {
    return {0, fmt::format("it hears VLAN {} and VLAN {}, and a queue's filter names one", mode.primary.raw(),
                           mode.secondary.raw())};
  }
  VidOnWire operator()(const model::Promiscuous& mode) const {
    return {0, fmt::format("it hears VLAN {} and the secondary VLANs {}, and a queue's filter names one",
                           mode.primary.raw(), mode.secondaries.to_string())};
  }
};

std::string taken_text(const std::string& uplink, std::size_t queues) {
  if (queues == 1) return fmt::format("the one queue of {} is taken (first come, first served)", uplink);
  return fmt::format("all {} queues of {} are taken (first come, first served)", queues, uplink);
}

// One distribution of the queues of an uplink.
class Distribution {
 public:
  Distribution(const std::string& uplink, const dataplane::QueueAbility& ability)
      : uplink_(uplink), ability_(ability), queues_(queues_max_of(ability)) {}

  // Nothing: no queue can be for this one, however many are free.
  [[nodiscard]] Share wish_of(const Candidate& candidate) const {
    if (candidate.weight == 0) return {{}, "vmq_weight is 0"};
    Share wish = filter_for(candidate.mac, candidate.vlan);
    if (!wish.filter) return wish;
    if (queues_ == 0) {
      return {{},
              fmt::format("{} has no queue beside the default one{}{}", uplink_, ability_.reason.empty() ? "" : ": ",
                          ability_.reason)};
    }
    if (ability_.vlan_only && wish.filter->vid == vid_untagged) {
      return {{}, fmt::format("{} sorts by VLAN alone, and frames for it have no tag", uplink_)};
    }
    return wish;
  }

  [[nodiscard]] Share take(const std::string& vnic, const Share& wish) {
    if (ability_.vlan_only) {
      if (const auto holder = vnic_of_vid_.find(wish.filter->vid); holder != vnic_of_vid_.end()) {
        return {{},
                fmt::format("{} sorts by VLAN alone, and VLAN {} has the queue of vnic {}", uplink_, wish.filter->vid,
                            holder->second)};
      }
    }
    if (taken_ == queues_) return {{}, taken_text(uplink_, queues_)};
    ++taken_;
    vnic_of_vid_[wish.filter->vid] = vnic;
    return wish;
  }

 private:
  const std::string& uplink_;
  const dataplane::QueueAbility& ability_;
  const std::size_t queues_;
  std::size_t taken_ = 0;
  std::map<std::uint16_t, std::string> vnic_of_vid_;
};

}  // namespace

std::size_t queues_max_of(const dataplane::QueueAbility& ability) noexcept {
  return ability.sorting == QueueSorting::software ? software_queues_max : ability.queues;
}

Share filter_for(MacAddr mac, const model::VlanMode& vlan) {
  VidOnWire found = std::visit(FindVid{}, vlan);
  if (!found.reason.empty()) return {{}, std::move(found.reason)};
  return {dataplane::QueueFilter{mac, found.vid}, ""};
}

std::map<std::string, Share> assign(const std::string& uplink, const dataplane::QueueAbility& ability,
                                    const std::vector<Candidate>& candidates) {
  Distribution distribution(uplink, ability);
  std::map<std::string, Share> shares;
  std::vector<const Candidate*> asking;
  for (const Candidate& candidate : candidates) {
    Share& wish = shares[candidate.vnic];
    wish = distribution.wish_of(candidate);
    if (wish.filter) asking.push_back(&candidate);
  }
  const auto keeps = [&shares](const Candidate& candidate) {
    return candidate.held.has_value() && candidate.held == shares[candidate.vnic].filter;
  };
  std::sort(asking.begin(), asking.end(), [&keeps](const Candidate* a, const Candidate* b) {
    if (keeps(*a) != keeps(*b)) return keeps(*a);
    if (a->weight != b->weight) return a->weight > b->weight;
    return a->vnic < b->vnic;
  });
  for (const Candidate* candidate : asking) {
    Share& share = shares[candidate->vnic];
    share = distribution.take(candidate->vnic, share);
  }
  return shares;
}

}  // namespace patchbay::vmq
