// A NIC's receive queues and the offloads that AF_XDP cannot bear: asked, and switched.
//
// Source  linux/ethtool.h; `ethtool -k` and `ethtool -l` show the same.
#pragma once
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "model/nic.h"

namespace patchbay::host {

// Fills in queues, offloads and xdp_multi_buffer of `nic`, asked through `socket` (any kind).
void ask_offloads(const UniqueFd& socket, model::Nic& nic);

// Switches an offload of the NIC `name` and reads it back. Errors: unavailable (it stays as it was).
[[nodiscard]] Result<void> set_offload(const UniqueFd& socket, const std::string& name, model::NicOffload offload,
                                       bool on);

}  // namespace patchbay::host
