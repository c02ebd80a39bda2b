// What the rules about switches and vnics (host.cpp) ask about teams.
#pragma once
#include <string>

#include "base/result.h"
#include "model/host.h"

namespace patchbay::model {

// That no other switch than `switch_name` is on the team. Errors: exists.
[[nodiscard]] Result<void> check_team_unused(const Host& host, const std::string& team, const std::string& switch_name);
// That a host vnic may be called `vnic`, which is then the name of a network interface. Errors: exists.
[[nodiscard]] Result<void> check_no_team_name(const Host& host, const std::string& vnic);

}  // namespace patchbay::model
