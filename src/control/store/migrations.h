// The schema of patchbay.db, as the list of steps that lead to it.
//
// Theory  Step n turns a file of version n into one of version n + 1. A step that was released is never edited; a
//         change of the schema is a new step at the end.
#pragma once
#include "base/result.h"
#include "control/store/sqlite.h"

namespace patchbay::store {

// The version that migrate() leads to.
[[nodiscard]] int schema_version() noexcept;

// Errors: invalid (the file is newer than this program), and what SQLite says; then the file is as it was before the
// step that failed.
[[nodiscard]] Result<void> migrate(Sqlite& database);

}  // namespace patchbay::store
