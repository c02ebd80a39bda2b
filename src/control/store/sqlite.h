// The little of SQLite that the store uses, with owners and Results around it.
//
// Theory  A Statement binds by position from 1 and reads columns from 0, as SQLite does. Every error carries the file's
//         path and SQLite's own words.
// Threads control's only; the library is used without a mutex of its own.
#pragma once
#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"

namespace patchbay::store {

class Statement {
 public:
  Statement& bind(int position, const std::string& text);
  Statement& bind(int position, std::int64_t number);
  Statement& bind(int position, std::nullopt_t nothing);

  // True: a row is there. False: done. Errors: no_resource (disk full), internal.
  [[nodiscard]] Result<bool> step();
  // Runs to the end and makes ready to be bound anew.
  [[nodiscard]] Result<void> run();

  [[nodiscard]] std::string text(int column) const;  // empty for NULL
  [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(handle_.get(), column); }
  [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }

 private:
  friend class Sqlite;
  struct Finalize {
    void operator()(sqlite3_stmt* handle) const noexcept { sqlite3_finalize(handle); }
  };
  Statement(sqlite3_stmt* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  std::string path_;
};

class Sqlite {
 public:
  // Opens or creates the file `path`, mode 0600. Errors: internal and as the file system says.
  [[nodiscard]] static Result<Sqlite> open(const std::string& path);

  [[nodiscard]] Result<Statement> prepare(const char* sql);
  // One or more statements without parameters whose rows do not matter.
  [[nodiscard]] Result<void> execute(const char* sql);
  // True outside of a transaction.
  [[nodiscard]] bool autocommit() const noexcept { return sqlite3_get_autocommit(handle_.get()) != 0; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
  };
  Sqlite(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

  std::unique_ptr<sqlite3, Close> handle_;
  std::string path_;
};

// Begins a transaction, and rolls it back unless commit() succeeded.
class Transaction {
 public:
  [[nodiscard]] static Result<Transaction> begin(Sqlite& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  [[nodiscard]] Result<void> commit();

 private:
  explicit Transaction(Sqlite& database) noexcept : database_(&database) {}

  Sqlite* database_;
};

}  // namespace patchbay::store
