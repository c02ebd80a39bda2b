// What was changed, in words: for the answer of `apply`, and for the audit.
#pragma once
#include <string>

#include "client.h"

namespace patchbay::cli {

// The fields in which `change`'s before and after differ: "vlan {"mode":"access","vid":101} -> {"mode":"untagged"}".
// Of what is new, or gone, all its fields: "type private, mtu 1500".
[[nodiscard]] std::string what_changed(const Json& change);

}  // namespace patchbay::cli
