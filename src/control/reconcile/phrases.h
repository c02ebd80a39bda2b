// Pieces of sentences for people.
#pragma once
#include <string>
#include <vector>

#include "model/nic.h"
#include "model/switch.h"
#include "model/team.h"

namespace patchbay::reconcile {

// "a, b and 7 more"
[[nodiscard]] std::string some_of(const std::vector<std::string>& all);
// What it means that a NIC carries less than the switch on it does; empty if it does not.
[[nodiscard]] std::string nic_mtu_phrase(const model::Switch& on, const model::Nic& nic);

// "sum-of-queues", "min-queues"
[[nodiscard]] const char* queue_model_of(const model::Team& team) noexcept;

}  // namespace patchbay::reconcile
