// What all tables of the state file are read and written with.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/store/sqlite.h"

namespace patchbay::store {

// Why a stored row is not taken, and the way out. Code: invalid.
[[nodiscard]] Error bad_row(const Sqlite& database, const std::string& noun, const std::string& name,
                            const std::string& why);

// Column `column` as one of `values`, by its name; nothing if it is none of them.
template <typename Value, std::size_t size>
std::optional<Value> read_name(const Statement& row, int column, const Value (&values)[size]) {
  const std::string text = row.text(column);
  for (const Value value : values) {
    if (text == to_string(value)) return value;
  }
  return std::nullopt;
}

// Runs `sql` once for each of `values`, bound by `put`.
template <typename Value, typename Put>
Result<void> for_each(Sqlite& database, const char* sql, const std::vector<Value>& values, Put put) {
  if (values.empty()) return {};
  auto statement = database.prepare(sql);
  if (!statement) return fail(statement.error());
  for (const Value& value : values) {
    if (auto ok = put(*statement, value); !ok) return ok;
  }
  return {};
}

// For for_each(): the name is all that the statement asks for.
[[nodiscard]] Result<void> remove_row(Statement& statement, const std::string& name);

}  // namespace patchbay::store
