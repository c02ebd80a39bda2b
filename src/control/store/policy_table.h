// The tables of policies and of what is set for the host as a whole.
#pragma once
#include <vector>

#include "base/result.h"
#include "control/store/sqlite.h"
#include "control/store/store.h"

namespace patchbay::store {

// Errors: invalid (a row is no policy; names it), internal.
[[nodiscard]] Result<std::vector<model::Policy>> load_policies(Sqlite& database);
[[nodiscard]] Result<model::HostSettings> load_settings(Sqlite& database);

// Inside a transaction: what `change` says of both.
[[nodiscard]] Result<void> save_policies(Sqlite& database, const Change& change);

}  // namespace patchbay::store
