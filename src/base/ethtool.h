// One request to the kernel about a network interface, in ethtool's own structures (linux/ethtool.h).
#pragma once
#include <string>

#include "base/unique_fd.h"

namespace patchbay {

// About the interface `name`, asked through `socket` (any kind), hence in that socket's network namespace. False, with
// errno, if the kernel refuses it.
[[nodiscard]] bool ask_ethtool(const UniqueFd& socket, const std::string& name, void* command);

}  // namespace patchbay
