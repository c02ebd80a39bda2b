// Moves what one interface carries to another, so that connections of the host live on.
//
// Theory  Make before break: everything is added to the new interface first, and only when all of it is there the old
//         one is emptied. In between both have it, which the kernel allows, so there is no moment in which the source
//         address of an established connection is not the host's. Adding again what is there already changes nothing:
//         a move that was killed anywhere is completed, or undone, by moving again.
//         Gateways need the network they are in: routes that the kernel refuses are tried again after the others.
// Threads control's only.
#pragma once
#include "control/host/carried.h"

namespace patchbay::host {

// Moves `items`, which `from` carries, to `to`. Errors: what the kernel said, naming the item; then all is as it was.
[[nodiscard]] Result<void> move_items(const Channel& channel, const std::vector<Item>& items, const Link& from,
                                      const Link& to);

}  // namespace patchbay::host
