// specs.h, of teams.
#include "control/api/message.h"
#include "control/api/specs.h"

namespace patchbay::api {
namespace {

// One of `known` by its word; `what` and `words` are for the sentence about another one.
template <typename Value, std::size_t size>
std::optional<Value> read_word(Fields& fields, const char* name, const Value (&known)[size], const char* what,
                               const char* words) {
  const auto given = fields.text(name);
  if (!given) return std::nullopt;
  for (const Value value : known) {
    if (*given == model::to_string(value)) return value;
  }
  fields.wrong(name, in_quotes(*given) + " is not " + what + "; give " + words);
  return std::nullopt;
}

// But for the NICs.
reconcile::TeamChange read_team_settings(Fields& fields) {
  using model::LacpTimer;
  using model::TeamBalance;
  using model::TeamMode;
  reconcile::TeamChange change;
  change.mode = read_word(fields, "mode", {TeamMode::switch_independent, TeamMode::static_, TeamMode::lacp},
                          "a mode of teams", "switch-independent, static or lacp");
  change.balance =
      read_word(fields, "balance", {TeamBalance::address_hash, TeamBalance::vnic_port, TeamBalance::dynamic},
                "a way to balance", "address-hash, vnic-port or dynamic");
  change.standby = fields.text_or_null("standby");
  change.lacp_timer =
      read_word(fields, "lacp_timer", {LacpTimer::fast, LacpTimer::slow}, "a timer of LACP", "fast or slow");
  if (const auto delay = fields.integer("failback_delay_ms", 0, model::failback_delay_max_ms)) {
    change.failback_delay_ms = static_cast<std::uint32_t>(*delay);
  }
  return change;
}

}  // namespace

model::Team read_team(Fields& fields, const std::string& name) {
  model::Team team;
  team.name = name;
  team.nics = fields.required_text_list("nics");
  return reconcile::changed(std::move(team), read_team_settings(fields));
}

reconcile::TeamChange read_team_change(Fields& fields) {
  auto nics = fields.text_list("nics");
  reconcile::TeamChange change = read_team_settings(fields);
  change.nics = std::move(nics);
  return change;
}

}  // namespace patchbay::api
