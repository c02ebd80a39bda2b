// Where the administrator's wishes outlive the daemon.
//
// Theory  The stored state is one value. Control works on copies of it in memory; what differs between two of them is a
//         Change, and a Change is saved whole or not at all.
// Threads control's only.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/store/audit.h"
#include "model/host.h"
#include "model/mac_pool.h"
#include "model/nic.h"

namespace patchbay::store {

struct StoredState {
  model::Host host;
  std::optional<model::MacPool> mac_pool;  // nothing: this state was never used

  friend bool operator==(const StoredState&, const StoredState&) = default;
};

struct Change {
  std::vector<model::Switch> put_switches;  // new, or in place of those of the same name
  std::vector<model::Vnic> put_vnics;
  std::vector<std::string> removed_vnics;
  std::vector<std::string> removed_switches;
  std::vector<model::Team> put_teams = {};
  std::vector<std::string> removed_teams = {};
  std::vector<model::Policy> put_policies = {};
  std::vector<std::string> removed_policies = {};
  std::optional<model::HostSettings> settings = {};
  std::optional<model::MacPool> mac_pool;
  // Rows to write with it; they alone are no change. difference() leaves both to its caller.
  std::vector<AuditEntry> audit;
  std::size_t audit_taken_back = 0;  // the newest so many rows go: the change that they tell of is taken back

  [[nodiscard]] bool empty() const noexcept {
    return put_switches.empty() && put_vnics.empty() && removed_vnics.empty() && removed_switches.empty() &&
           put_teams.empty() && removed_teams.empty() && put_policies.empty() && removed_policies.empty() &&
           !settings && !mac_pool;
  }
};

// Offloads that we switched off on NICs and that were on before, by NIC: not a wish of the administrator, but what has to be
// put right again, perhaps by the next run.
using SwitchedOff = std::map<std::string, std::set<model::NicOffload>>;

// What turns `from` into `to`.
[[nodiscard]] Change difference(const StoredState& from, const StoredState& to);

class Store {
 public:
  virtual ~Store() = default;

  // Everything, checked by the model's rules. Errors: invalid (what is stored breaks a rule; names it), internal.
  [[nodiscard]] virtual Result<StoredState> load() = 0;
  // All of `change` or, with an error, nothing of it. Durable when it returns. Errors: no_resource, internal.
  [[nodiscard]] virtual Result<void> save(const Change& change) = 0;
  // The newest `count_max` audit rows, newest first; only those of objects called `name`, if it is not empty.
  // Errors: internal.
  [[nodiscard]] virtual Result<std::vector<AuditEntry>> audit(std::size_t count_max, const std::string& name) = 0;

  // Errors: as load() and save().
  [[nodiscard]] virtual Result<SwitchedOff> load_switched_off() = 0;
  // All of the NIC's; none: they are as they were.
  [[nodiscard]] virtual Result<void> save_switched_off(const std::string& nic,
                                                       const std::set<model::NicOffload>& offloads) = 0;
};

}  // namespace patchbay::store
