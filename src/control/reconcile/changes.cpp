#include "control/reconcile/changes.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pwd.h>

#include <array>
#include <chrono>

#include "control/reconcile/settable.h"

namespace patchbay::reconcile {
namespace {

template <typename Value>
std::string text_of(const Value& value) {
  return settable(value).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

template <typename Value>
void add_gone(const char* kind, const std::map<std::string, Value>& from, const std::map<std::string, Value>& to,
              std::vector<ObjectChange>& changes) {
  for (const auto& [name, value] : from) {
    if (!to.contains(name)) changes.push_back({"delete", kind, name, text_of(value), ""});
  }
}

template <typename Value>
void add_new_and_changed(const char* kind, const std::map<std::string, Value>& from,
                         const std::map<std::string, Value>& to, std::vector<ObjectChange>& changes) {
  for (const auto& [name, value] : to) {
    const auto before = from.find(name);
    if (before == from.end()) {
      changes.push_back({"create", kind, name, "", text_of(value)});
    } else if (before->second != value) {
      changes.push_back({"set", kind, name, text_of(before->second), text_of(value)});
    }
  }
}

// "2026-01-31T23:59:59.999Z"
std::string now_text() {
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto ms = now.time_since_epoch().count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), ms);
}

// Empty if the uid has no name. Asks the system's user database, at most once for a change.
std::string user_name(std::uint32_t uid) {
  std::array<char, 16 * 1024> room{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, room.data(), room.size(), &found) != 0 || found == nullptr) return {};
  return found->pw_name;
}

}  // namespace

std::vector<ObjectChange> changes_between(const model::Host& from, const model::Host& to) {
  std::vector<ObjectChange> changes;
  add_gone("policy", from.policies, to.policies, changes);
  add_gone("vnic", from.vnics, to.vnics, changes);
  add_gone("switch", from.switches, to.switches, changes);
  add_gone("team", from.teams, to.teams, changes);
  if (from.settings != to.settings) {
    changes.push_back({"set", "host", "host", text_of(from.settings), text_of(to.settings)});
  }
  add_new_and_changed("team", from.teams, to.teams, changes);
  add_new_and_changed("switch", from.switches, to.switches, changes);
  add_new_and_changed("policy", from.policies, to.policies, changes);
  add_new_and_changed("vnic", from.vnics, to.vnics, changes);
  return changes;
}

std::vector<store::AuditEntry> audit_of(const std::vector<ObjectChange>& changes, const Actor& actor, bool apply) {
  if (changes.empty()) return {};
  const std::string at = now_text();
  const std::string user = actor.uid ? user_name(*actor.uid) : "patchbayd";
  std::vector<store::AuditEntry> entries;
  for (const ObjectChange& change : changes) {
    entries.push_back(
        {0, at, actor.uid, user, change.verb, change.kind, change.name, apply, change.before, change.after});
  }
  return entries;
}

}  // namespace patchbay::reconcile
