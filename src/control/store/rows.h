// What the tables of the store have in common: columns that several have, lists in one text, and running a statement for
// many rows.
#pragma once
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/result.h"
#include "control/store/sqlite.h"
#include "model/buffer.h"

namespace patchbay::store {

// What is stored breaks a rule. `why`: a phrase.
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

// From the columns buffer, which is `column`, and buffer_max_age_ms. Errors: a phrase for bad_row().
[[nodiscard]] Result<void> read_buffer(const Statement& row, int column, model::BufferSettings& read);
// Binds the same columns.
void bind_buffer(Statement& statement, int column, const model::BufferSettings& put);

// "a,b" and back. No word has a comma in it; none is empty.
[[nodiscard]] std::string joined(const std::set<std::string>& words);
[[nodiscard]] std::set<std::string> words_of(const std::string& text);

// Binds the name, which is all that `statement` asks for, and runs it.
[[nodiscard]] Result<void> remove_row(Statement& statement, const std::string& name);

// Runs `sql` once for each of `values`, bound by `put`.
template <typename Value, typename Put>
[[nodiscard]] Result<void> for_each(Sqlite& database, const char* sql, const std::vector<Value>& values, Put put) {
  if (values.empty()) return {};
  auto statement = database.prepare(sql);
  if (!statement) return fail(statement.error());
  for (const Value& value : values) {
    if (auto ok = put(*statement, value); !ok) return ok;
  }
  return {};
}

}  // namespace patchbay::store
