// Counters of ports that came one after the other, or stand side by side, as those of one thing.
#pragma once
#include "dataplane/dataplane.h"

namespace patchbay::reconcile {

// Of both what only grows.
void add(dataplane::PortCounters& to, const dataplane::PortCounters& counted);
// What was counted since `before`, which was counted by the same port.
[[nodiscard]] dataplane::PortCounters since(dataplane::PortCounters now, const dataplane::PortCounters& before);

}  // namespace patchbay::reconcile
