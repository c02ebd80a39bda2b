// The store on one SQLite file, STATE_DIR/patchbay.db.
//
// Theory  PRAGMA user_version counts the migrations that the file has been through; opening runs those it lacks, each
//         in a transaction. Write-ahead log with synchronous=FULL: a save is on the disk when it returns, and a process
//         killed at any moment leaves the last saved state. Rows are read as untrusted values: each goes through the
//         model's rules again.
// Limits  One daemon a state directory (DirectoryLock).
// Threads control's only.
#pragma once
#include <memory>
#include <string>

#include "base/directory_lock.h"
#include "control/store/sqlite.h"
#include "control/store/store.h"

namespace patchbay::store {

class SqliteStore final : public Store {
 public:
  // `state_dir` exists. Errors: in_use (another daemon has the directory), invalid (the file is from a newer release),
  // internal (damaged).
  [[nodiscard]] static Result<std::unique_ptr<SqliteStore>> open(const std::string& state_dir);

  [[nodiscard]] Result<StoredState> load() override;
  [[nodiscard]] Result<void> save(const Change& change) override;
  [[nodiscard]] Result<std::vector<AuditEntry>> audit(std::size_t count_max, const std::string& name) override;
  [[nodiscard]] Result<SwitchedOff> load_switched_off() override;
  [[nodiscard]] Result<void> save_switched_off(const std::string& nic,
                                               const std::set<model::NicOffload>& offloads) override;

 private:
  SqliteStore(DirectoryLock lock, Sqlite database) : lock_(std::move(lock)), database_(std::move(database)) {}

  [[nodiscard]] Result<std::vector<model::Switch>> load_switches();
  [[nodiscard]] Result<std::vector<model::Vnic>> load_vnics();
  [[nodiscard]] Result<void> load_mac_pool(StoredState& state);

  DirectoryLock lock_;
  Sqlite database_;
};

}  // namespace patchbay::store
