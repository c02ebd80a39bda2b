// The table of the audit: writing, bounding and reading it.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "control/store/sqlite.h"
#include "control/store/store.h"

namespace patchbay::store {

// Inside a transaction: takes back, writes and prunes what `change` says of the audit.
[[nodiscard]] Result<void> save_audit(Sqlite& database, const Change& change);

// As Store::audit().
[[nodiscard]] Result<std::vector<AuditEntry>> load_audit(Sqlite& database, std::size_t count_max,
                                                         const std::string& name);

}  // namespace patchbay::store
