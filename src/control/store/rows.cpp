#include "control/store/rows.h"

#include <fmt/format.h>

namespace patchbay::store {

Error bad_row(const Sqlite& database, const std::string& noun, const std::string& name, const std::string& why) {
  return make_error(ErrorCode::invalid,
                    fmt::format("state file {}: the stored {} '{}' is not valid ({}); restore a copy of the file, or "
                                "delete the row with sqlite3",
                                database.path(), noun, name, why));
}

Result<void> remove_row(Statement& statement, const std::string& name) {
  return statement.bind(1, name).run();
}

}  // namespace patchbay::store
