// The table of teams.
#pragma once
#include <vector>

#include "control/store/sqlite.h"
#include "control/store/store.h"

namespace patchbay::store {

// In the transaction of the caller.
[[nodiscard]] Result<void> save_teams(Sqlite& database, const Change& change);
// By name. The model's rules are not asked yet. Errors: invalid (a value that no team has), internal.
[[nodiscard]] Result<std::vector<model::Team>> load_teams(Sqlite& database);

}  // namespace patchbay::store
