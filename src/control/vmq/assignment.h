// Which vnics have a queue of an uplink, and why the others have none.
//
// Theory  Who holds a queue keeps it while it is asked for as it is: first come, first served. Queues that are free go to
//         those that wait, by weight and then by name. A filter names one address and one VLAN, so what the wire may bring to
//         a vnic has to come in one VLAN. Addresses that were learned behind a vnic are none of its queue's: frames for them
//         take the default queue, as groups of stations do.
// Threads a pure function.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "dataplane/dataplane.h"
#include "model/vlan.h"
#include "model/vnic.h"

namespace patchbay::vmq {

// Counters are all that a queue is where the worker itself sorts.
inline constexpr std::size_t software_queues_max = 1024;
// That can be open at a time, beside the default one.
[[nodiscard]] std::size_t queues_max_of(const dataplane::QueueAbility& ability) noexcept;

// A vnic of the switch that the uplink is of.
struct Candidate {
  std::string vnic;
  MacAddr mac;
  model::VlanMode vlan;  // in force
  std::uint32_t weight = model::vmq_weight_default;
  std::optional<dataplane::QueueFilter> held = {};  // of the queue that it has
};
// Either a filter, or the reason for the default queue, as a phrase for people.
struct Share {
  std::optional<dataplane::QueueFilter> filter = {};
  std::string reason = {};
};

// What a vnic's filter would be, whoever sorts.
[[nodiscard]] Share filter_for(MacAddr mac, const model::VlanMode& vlan);

// By vnic. `uplink`: its name, for the reasons.
[[nodiscard]] std::map<std::string, Share> assign(const std::string& uplink, const dataplane::QueueAbility& ability,
                                                  const std::vector<Candidate>& candidates);

}  // namespace patchbay::vmq
