#include "control/store/store.h"

namespace patchbay::store {
namespace {

template <typename Value>
void compare(const std::map<std::string, Value>& from, const std::map<std::string, Value>& to, std::vector<Value>& put,
             std::vector<std::string>& removed) {
  for (const auto& [name, value] : to) {
    const auto before = from.find(name);
    if (before == from.end() || before->second != value) put.push_back(value);
  }
  for (const auto& [name, value] : from) {
    if (!to.contains(name)) removed.push_back(name);
  }
}

}  // namespace

Change difference(const StoredState& from, const StoredState& to) {
  Change change;
  compare(from.host.switches, to.host.switches, change.put_switches, change.removed_switches);
  compare(from.host.vnics, to.host.vnics, change.put_vnics, change.removed_vnics);
  compare(from.host.teams, to.host.teams, change.put_teams, change.removed_teams);
  compare(from.host.policies, to.host.policies, change.put_policies, change.removed_policies);
  if (from.host.settings != to.host.settings) change.settings = to.host.settings;
  if (from.mac_pool != to.mac_pool) change.mac_pool = to.mac_pool;
  return change;
}

}  // namespace patchbay::store
