// Builds the daemon's objects, hands each what it needs, and runs them until told to stop.
#pragma once
#include "base/result.h"
#include "daemon/options.h"

namespace patchbay::daemon {

// Returns after SIGTERM or SIGINT, everything closed: sockets are gone, host interfaces stay for the next run.
[[nodiscard]] Result<void> run(const Options& options);

}  // namespace patchbay::daemon
