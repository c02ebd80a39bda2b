#include "control/store/sqlite.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "base/unique_fd.h"

namespace patchbay::store {
namespace {

Error error_of(sqlite3* handle, const std::string& path) {
  const int code = sqlite3_extended_errcode(handle);
  const char* words = sqlite3_errmsg(handle);
  // What grows the shared index of the log says so in its own way.
  switch (code == SQLITE_IOERR_SHMSIZE ? SQLITE_FULL : code & 0xff) {
    case SQLITE_FULL:
      return make_error(
          ErrorCode::no_resource,
          fmt::format("state file {}: the disk is full; nothing was changed, make room and try again", path));
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return make_error(
          ErrorCode::internal,
          fmt::format("state file {} is damaged ({}); restore a copy of it, or move it away to start with "
                      "an empty host",
                      path, words));
    default:
      return make_error(ErrorCode::internal, fmt::format("state file {}: {}", path, words));
  }
}

}  // namespace

Statement& Statement::bind(int position, const std::string& text) {
  sqlite3_bind_text(handle_.get(), position, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::bind(int position, std::int64_t number) {
  sqlite3_bind_int64(handle_.get(), position, number);
  return *this;
}

Statement& Statement::bind(int position, std::nullopt_t) {
  sqlite3_bind_null(handle_.get(), position);
  return *this;
}

Result<bool> Statement::step() {
  switch (sqlite3_step(handle_.get())) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      return fail(error_of(sqlite3_db_handle(handle_.get()), path_));
  }
}

Result<void> Statement::run() {
  Result<bool> more = step();
  while (more && *more) more = step();
  sqlite3_reset(handle_.get());
  if (!more) return fail(more.error());
  return {};
}

std::string Statement::text(int column) const {
  const void* bytes = sqlite3_column_blob(handle_.get(), column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column));
  return bytes == nullptr ? std::string() : std::string(static_cast<const char*>(bytes), size);
}

Result<Sqlite> Sqlite::open(const std::string& path) {
  // Made here, not by SQLite, for its mode; the journal's files take theirs from it.
  const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!made) return fail(system_error("state file " + path, errno));
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  if (handle == nullptr) return fail(ErrorCode::no_resource, fmt::format("state file {}: out of memory", path));
  Sqlite database(handle, path);
  if (code != SQLITE_OK) return fail(error_of(handle, path));
  sqlite3_busy_timeout(handle, 2000);  // somebody may look into the file with a tool of their own
  return database;
}

Result<Statement> Sqlite::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(handle_.get(), sql, -1, &statement, nullptr) != SQLITE_OK) {
    return fail(error_of(handle_.get(), path_));
  }
  return Statement(statement, path_);
}

Result<void> Sqlite::execute(const char* sql) {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return fail(error_of(handle_.get(), path_));
  }
  return {};
}

Result<Transaction> Transaction::begin(Sqlite& database) {
  if (auto ok = database.execute("BEGIN IMMEDIATE"); !ok) return fail(ok.error());
  return Transaction(database);
}

Result<void> Transaction::commit() {
  if (auto ok = database_->execute("COMMIT"); !ok) return ok;
  database_ = nullptr;
  return {};
}

Transaction::~Transaction() {
  if (database_ == nullptr || database_->autocommit()) return;  // SQLite rolls back by itself after some errors
  // Nothing is left to be done if even this fails: the file keeps its old state, the journal is undone at next open.
  [[maybe_unused]] const auto ignored = database_->execute("ROLLBACK");
}

}  // namespace patchbay::store
