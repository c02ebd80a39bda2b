#include "control/store/audit_table.h"

namespace patchbay::store {
namespace {

void bind_or_null(Statement& statement, int position, const std::string& text) {
  if (text.empty()) {
    statement.bind(position, std::nullopt);
  } else {
    statement.bind(position, text);
  }
}

Result<void> put(Statement& statement, const AuditEntry& entry) {
  statement.bind(1, entry.at).bind(3, entry.user).bind(4, entry.verb).bind(5, entry.kind).bind(6, entry.name);
  if (entry.uid) {
    statement.bind(2, std::int64_t{*entry.uid});
  } else {
    statement.bind(2, std::nullopt);
  }
  statement.bind(7, std::int64_t{entry.apply});
  bind_or_null(statement, 8, entry.before);
  bind_or_null(statement, 9, entry.after);
  return statement.run();
}

Result<void> run_with(Sqlite& database, const char* sql, std::int64_t number) {
  auto statement = database.prepare(sql);
  if (!statement) return fail(statement.error());
  return statement->bind(1, number).run();
}

AuditEntry read(const Statement& row) {
  AuditEntry entry;
  entry.id = row.number(0);
  entry.at = row.text(1);
  if (!row.is_null(2)) entry.uid = static_cast<std::uint32_t>(row.number(2));
  entry.user = row.text(3);
  entry.verb = row.text(4);
  entry.kind = row.text(5);
  entry.name = row.text(6);
  entry.apply = row.number(7) != 0;
  entry.before = row.text(8);
  entry.after = row.text(9);
  return entry;
}

}  // namespace

Result<void> save_audit(Sqlite& database, const Change& change) {
  if (change.audit_taken_back > 0) {
    const char* sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id DESC LIMIT ?)";
    if (auto ok = run_with(database, sql, static_cast<std::int64_t>(change.audit_taken_back)); !ok) return ok;
  }
  if (change.audit.empty()) return {};
  auto insert = database.prepare(
      "INSERT INTO audit (at, uid, user, verb, kind, name, apply, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
  if (!insert) return fail(insert.error());
  for (const AuditEntry& entry : change.audit) {
    if (auto ok = put(*insert, entry); !ok) return ok;
  }
  // By the primary key alone: as cheap with 100,000 rows as with one.
  return run_with(database, "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", audit_rows_max);
}

Result<std::vector<AuditEntry>> load_audit(Sqlite& database, std::size_t count_max, const std::string& name) {
  auto rows =
      database.prepare(name.empty() ? "SELECT id, at, uid, user, verb, kind, name, apply, before, after FROM audit "
                                      "ORDER BY id DESC LIMIT ?"
                                    : "SELECT id, at, uid, user, verb, kind, name, apply, before, after FROM audit "
                                      "WHERE name = ?2 ORDER BY id DESC LIMIT ?1");
  if (!rows) return fail(rows.error());
  rows->bind(1, static_cast<std::int64_t>(count_max));
  if (!name.empty()) rows->bind(2, name);
  std::vector<AuditEntry> entries;
  for (;;) {
    const auto row = rows->step();
    if (!row) return fail(row.error());
    if (!*row) return entries;
    entries.push_back(read(*rows));
  }
}

}  // namespace patchbay::store
