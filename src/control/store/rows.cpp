#include "control/store/rows.h"

#include <fmt/format.h>

#include <algorithm>

namespace patchbay::store {

Error bad_row(const Sqlite& database, const std::string& noun, const std::string& name, const std::string& why) {
  return make_error(ErrorCode::invalid,
                    fmt::format("state file {}: the stored {} '{}' is not valid ({}); restore a copy of the file, or "
                                "delete the row with sqlite3",
                                database.path(), noun, name, why));
}

Result<void> read_buffer(const Statement& row, int column, model::BufferSettings& read) {
  if (!row.is_null(column)) {
    const auto size = model::parse_buffer(row.text(column));
    if (!size) return fail(size.error());
    read.size = *size;
  }
  if (row.is_null(column + 1)) return {};
  const std::int64_t age = row.number(column + 1);
  if (age < 0 || age > model::buffer_max_age_ms_max) {
    return fail(ErrorCode::invalid, fmt::format("buffer_max_age_ms {}", age));
  }
  read.max_age_ms = static_cast<std::uint32_t>(age);
  return {};
}

void bind_buffer(Statement& statement, int column, const model::BufferSettings& put) {
  if (put.size) {
    statement.bind(column, to_string(*put.size));
  } else {
    statement.bind(column, std::nullopt);
  }
  if (put.max_age_ms) {
    statement.bind(column + 1, std::int64_t{*put.max_age_ms});
  } else {
    statement.bind(column + 1, std::nullopt);
  }
}

std::string joined(const std::set<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(',', at), text.size());
    words.insert(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

Result<void> remove_row(Statement& statement, const std::string& name) {
  return statement.bind(1, name).run();
}

}  // namespace patchbay::store
