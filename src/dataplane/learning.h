// Who learns in which switch: makes and keeps forwarding databases and learners, from layout to layout.
//
// Theory  A switch has a forwarding database while some vnic of it may use addresses of its own (MAC spoofing); its
//         uplink learns then too, so that frames for the wire are not shown to those vnics. A port keeps its learner as
//         long as its switch, VLAN mode and limit stay; else it gets a new one, and what the old one learned is void.
//         What a layout drops is freed by forget_old(), once no worker can use it.
// Limits  learned_max addresses a switch, half of them on the wire.
// Threads control's.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/dataplane.h"
#include "dataplane/forwarding/fdb.h"

namespace patchbay::dataplane {

class Learning {
 public:
  static constexpr std::uint32_t learned_max = 131072;

  // Makes what `layout` needs.
  void prepare(const Layout& layout);
  // Frees what the last prepared layout does not need. A grace period has passed since that was published.
  void forget_old();

  // For the prepared layout; null if the switch, or the port, does not learn.
  [[nodiscard]] forwarding::Fdb* fdb(const std::string& switch_name) const;
  [[nodiscard]] forwarding::Learner* learner(PortId port) const;

  [[nodiscard]] PortLearning of(PortId port) const;
  [[nodiscard]] std::vector<LearnedAddress> addresses(const std::string& switch_name) const;

 private:
  struct Kept {
    std::string switch_name;
    model::VlanMode vlan;  // of an uplink: untagged
    std::unique_ptr<forwarding::Learner> learner;
    bool wanted = true;
  };
  void want(PortId port, const std::string& switch_name, const model::VlanMode& vlan, std::uint32_t limit);

  std::map<std::string, std::unique_ptr<forwarding::Fdb>> fdbs_;  // by switch
  std::map<std::uint32_t, Kept> kept_;                            // by port
  std::vector<std::string> switches_;                             // that learn by the prepared layout
  std::vector<std::unique_ptr<forwarding::Learner>> old_;
  forwarding::LearnerId next_id_ = 1;
};

}  // namespace patchbay::dataplane
