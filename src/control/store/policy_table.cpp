#include "control/store/policy_table.h"

#include <fmt/format.h>

#include "control/store/rows.h"

namespace patchbay::store {
namespace {

Result<model::Policy> read_policy(const Sqlite& database, const Statement& row) {
  model::Policy read;
  read.name = row.text(0);
  for (const std::string& word : words_of(row.text(1))) {
    auto target = model::parse_target(word);
    if (!target) return fail(bad_row(database, "policy", read.name, target.error().message));
    read.apply_to.insert(std::move(*target));
  }
  if (auto ok = read_buffer(row, 2, read.buffer); !ok) {
    return fail(bad_row(database, "policy", read.name, ok.error().message));
  }
  return read;
}

Result<void> put_policy(Statement& statement, const model::Policy& put) {
  std::set<std::string> targets;
  for (const model::PolicyTarget& target : put.apply_to) targets.insert(to_string(target));
  bind_buffer(statement, 3, put.buffer);
  return statement.bind(1, put.name).bind(2, joined(targets)).run();
}

Result<void> put_settings(Statement& statement, const model::HostSettings& put) {
  if (put.buffer_limit_bytes) {
    statement.bind(1, static_cast<std::int64_t>(*put.buffer_limit_bytes));
  } else {
    statement.bind(1, std::nullopt);
  }
  return statement.run();
}

}  // namespace

Result<std::vector<model::Policy>> load_policies(Sqlite& database) {
  std::vector<model::Policy> policies;
  auto rows = database.prepare("SELECT name, apply_to, buffer, buffer_max_age_ms FROM policies ORDER BY name");
  if (!rows) return fail(rows.error());
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return policies;
    auto read = read_policy(database, *rows);
    if (!read) return fail(read.error());
    policies.push_back(std::move(*read));
  }
}

Result<model::HostSettings> load_settings(Sqlite& database) {
  auto rows = database.prepare("SELECT buffer_limit FROM host");
  if (!rows) return fail(rows.error());
  const auto row = rows->step();
  if (!row) return fail(row.error());
  model::HostSettings settings;
  if (!*row || rows->is_null(0)) return settings;
  if (rows->number(0) < 0) {
    return fail(bad_row(database, "host", "1", fmt::format("buffer limit {}", rows->number(0))));
  }
  settings.buffer_limit_bytes = static_cast<std::uint64_t>(rows->number(0));
  return settings;
}

Result<void> save_policies(Sqlite& database, const Change& change) {
  if (auto ok = for_each(database, "DELETE FROM policies WHERE name = ?", change.removed_policies, remove_row); !ok) {
    return ok;
  }
  if (auto ok = for_each(database,
                         "INSERT OR REPLACE INTO policies (name, apply_to, buffer, buffer_max_age_ms) VALUES "
                         "(?, ?, ?, ?)",
                         change.put_policies, put_policy);
      !ok) {
    return ok;
  }
  if (!change.settings) return {};
  return for_each(database, "INSERT OR REPLACE INTO host (id, buffer_limit) VALUES (1, ?)",
                  std::vector<model::HostSettings>{*change.settings}, put_settings);
}

}  // namespace patchbay::store
