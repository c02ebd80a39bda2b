// A switch with a vnic of each VLAN mode, as forwarding sees it, for fuzzers.
#pragma once
#include <vector>

#include "dataplane/forwarding/classify.h"
#include "dataplane/forwarding/forward.h"

namespace patchbay::test {

class EveryMode {
 public:
  static constexpr forwarding::PortIndex wire = 0;

  EveryMode() {
    const auto vid = [](std::uint16_t raw) { return *VlanId::from(raw); };
    model::Trunk trunk;
    trunk.allowed = *VlanSet::parse("101-110,201");
    trunk.native = vid(102);
    const model::Promiscuous promiscuous{vid(100), *VlanSet::parse("201-202")};
    const std::vector<model::VlanMode> modes = {model::Untagged{},
                                                model::Access{vid(101)},
                                                trunk,
                                                model::Isolated{vid(100), vid(201)},
                                                model::Community{vid(100), vid(202)},
                                                promiscuous};
    rules_.push_back({.uplink = true, .learner = &learners_[0]});
    std::vector<forwarding::SwitchTable::Member> members;
    for (const auto& mode : modes) {
      const auto port = static_cast<forwarding::PortIndex>(rules_.size());
      const bool spoofing = port >= 2 && port <= 3;
      forwarding::Learner* const learner = spoofing ? &learners_[port - 1] : nullptr;
      members.push_back({port, MacAddr::from_uint64(first_mac + port), mode, spoofing, learner});
      rules_.push_back({.mac = first_mac + port,
                        .mac_spoofing = spoofing,
                        .trust_priority = port == 3,
                        .vlans = forwarding::PortVlans::of(mode),
                        .learner = learner});
    }
    table_.emplace_back(members, forwarding::SwitchTable::Uplink{wire, &learners_[0]}, 1500, &fdb_);
  }

  [[nodiscard]] std::size_t ports() const noexcept { return rules_.size(); }
  [[nodiscard]] const forwarding::IngressRule& rule(std::size_t port) const { return rules_[port]; }
  [[nodiscard]] const forwarding::SwitchTable& table() const { return table_.front(); }

  // What a worker does with a burst that came in at `port`. Aborts if a frame that may go on breaks a rule that holds for
  // all of them.
  void decide(std::span<dataplane::Frame> burst, forwarding::PortIndex port) {
    using dataplane::Action;
    const forwarding::IngressRule& rule = rules_[port];
    forwarding::classify(burst, rule, table());
    forwarding::learn(burst, rule, table(), ++now_);
    forwarding::forward(burst, port, table(), now_);
    for (dataplane::Frame& frame : burst) {
      if (frame.action == Action::undecided) std::abort();
      if (frame.action == Action::drop) continue;
      if (!rule.uplink && !rule.vlans.hears(frame.vid) && frame.vid != rule.vlans.untagged_vid()) std::abort();
      if (frame.action != Action::unicast) continue;
      if (frame.target == port || frame.target >= rules_.size()) std::abort();
      const forwarding::IngressRule& egress = rules_[frame.target];
      if (!egress.uplink && !egress.vlans.hears(frame.vid)) std::abort();
      forwarding::set_egress_tag(frame, egress);
      if (frame.tag_tpid != 0 && !egress.uplink && !egress.vlans.is_trunk()) std::abort();
    }
  }

 private:
  static constexpr std::uint64_t first_mac = 0x020000000000;

  std::vector<forwarding::IngressRule> rules_;
  forwarding::Learner learners_[3] = {{1, 64}, {2, 4}, {3, 4}};
  forwarding::Fdb fdb_{128};
  std::vector<forwarding::SwitchTable> table_;  // one
  forwarding::Seconds now_ = 1;
};

}  // namespace patchbay::test
