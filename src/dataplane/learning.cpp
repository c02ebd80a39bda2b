#include "dataplane/learning.h"

#include <algorithm>

namespace patchbay::dataplane {
void Learning::prepare(const Layout& layout) {
  switches_.clear();
  for (auto& [port, kept] : kept_) kept.wanted = false;
  for (const SwitchLayout& one : layout.switches) {
    const auto spoofs = [](const VnicLayout& vnic) { return vnic.mac_spoofing; };
    if (std::none_of(one.vnics.begin(), one.vnics.end(), spoofs)) continue;
    switches_.push_back(one.name);
    auto& fdb = fdbs_[one.name];
    if (fdb == nullptr) fdb = std::make_unique<forwarding::Fdb>(learned_max);
    if (one.uplink) want(*one.uplink, one.name, model::Untagged{}, learned_max / 2);
    for (const VnicLayout& vnic : one.vnics) {
      if (vnic.mac_spoofing) want(vnic.port, one.name, vnic.vlan, vnic.mac_limit);
    }
  }
}

void Learning::want(PortId port, const std::string& switch_name, const model::VlanMode& vlan, std::uint32_t limit) {
  Kept& kept = kept_[raw(port)];
  const bool stays =
      kept.learner != nullptr && kept.switch_name == switch_name && kept.vlan == vlan && kept.learner->limit() == limit;
  kept.wanted = true;
  if (stays) return;
  if (kept.learner != nullptr) old_.push_back(std::move(kept.learner));
  kept.switch_name = switch_name;
  kept.vlan = vlan;
  kept.learner = std::make_unique<forwarding::Learner>(next_id_++, limit);
}

void Learning::forget_old() {
  old_.clear();
  std::erase_if(kept_, [](const auto& entry) { return !entry.second.wanted; });
  std::erase_if(fdbs_, [this](const auto& entry) {
    return std::find(switches_.begin(), switches_.end(), entry.first) == switches_.end();
  });
}

forwarding::Fdb* Learning::fdb(const std::string& switch_name) const {
  if (std::find(switches_.begin(), switches_.end(), switch_name) == switches_.end()) return nullptr;
  return fdbs_.at(switch_name).get();
}

forwarding::Learner* Learning::learner(PortId port) const {
  const auto found = kept_.find(raw(port));
  return found == kept_.end() || !found->second.wanted ? nullptr : found->second.learner.get();
}

PortLearning Learning::of(PortId port) const {
  const auto* const learner = this->learner(port);
  if (learner == nullptr) return {};
  return {learner->count(), learner->limit(), learner->refused()};
}

std::vector<LearnedAddress> Learning::addresses(const std::string& switch_name) const {
  const auto* const fdb = this->fdb(switch_name);
  if (fdb == nullptr) return {};
  std::map<forwarding::LearnerId, std::uint32_t> ports;
  for (const auto& [port, kept] : kept_) {
    if (kept.wanted && kept.switch_name == switch_name) ports[kept.learner->id()] = port;
  }
  std::vector<LearnedAddress> addresses;
  for (const auto& entry : fdb->entries(forwarding::seconds_now())) {
    const auto port = ports.find(entry.learner);
    if (port == ports.end()) continue;  // void
    addresses.push_back({entry.fid, entry.mac, PortId{port->second}, entry.age});
  }
  std::sort(addresses.begin(), addresses.end(), [](const LearnedAddress& a, const LearnedAddress& b) {
    return std::pair(a.vid, a.mac) < std::pair(b.vid, b.mac);
  });
  return addresses;
}

}  // namespace patchbay::dataplane
