#include "control/store/team_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/store/rows.h"

namespace patchbay::store {
namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const auto end = std::min(list.find(',', at), list.size());
    parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

Result<model::Team> read(const Sqlite& database, const Statement& row) {
  using model::LacpTimer;
  using model::TeamBalance;
  using model::TeamMode;
  model::Team team;
  team.name = row.text(0);
  const auto bad = [&](const char* what, int column) {
    return fail(bad_row(database, "team", team.name, fmt::format("{} '{}'", what, row.text(column))));
  };
  team.nics = split(row.text(1));
  const auto mode = read_name(row, 2, {TeamMode::switch_independent, TeamMode::static_, TeamMode::lacp});
  if (!mode) return bad("mode", 2);
  team.mode = *mode;
  const auto balance = read_name(row, 3, {TeamBalance::address_hash, TeamBalance::vnic_port, TeamBalance::dynamic});
  if (!balance) return bad("balance", 3);
  team.balance = *balance;
  team.standby = row.text(4);
  const auto timer = read_name(row, 5, {LacpTimer::fast, LacpTimer::slow});
  if (!timer) return bad("lacp_timer", 5);
  team.lacp_timer = *timer;
  const std::int64_t delay = row.number(6);
  if (delay < 0 || delay > model::failback_delay_max_ms) return bad("failback_delay_ms", 6);
  team.failback_delay_ms = static_cast<std::uint32_t>(delay);
  return team;
}

Result<void> put(Statement& statement, const model::Team& team) {
  return statement.bind(1, team.name)
      .bind(2, fmt::format("{}", fmt::join(team.nics, ",")))
      .bind(3, std::string(to_string(team.mode)))
      .bind(4, std::string(to_string(team.balance)))
      .bind(5, team.standby)
      .bind(6, std::string(to_string(team.lacp_timer)))
      .bind(7, std::int64_t{team.failback_delay_ms})
      .run();
}

}  // namespace

Result<void> save_teams(Sqlite& database, const Change& change) {
  if (auto ok = for_each(database, "DELETE FROM teams WHERE name = ?", change.removed_teams, remove_row); !ok)
    return ok;
  return for_each(database,
                  "INSERT OR REPLACE INTO teams (name, nics, mode, balance, standby, lacp_timer, failback_delay_ms) "
                  "VALUES (?, ?, ?, ?, ?, ?, ?)",
                  change.put_teams, put);
}

Result<std::vector<model::Team>> load_teams(Sqlite& database) {
  std::vector<model::Team> teams;
  auto rows = database.prepare(
      "SELECT name, nics, mode, balance, standby, lacp_timer, failback_delay_ms FROM teams ORDER BY name");
  if (!rows) return fail(rows.error());
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return teams;
    auto team = read(database, *rows);
    if (!team) return fail(team.error());
    teams.push_back(std::move(*team));
  }
}

}  // namespace patchbay::store
