#include "model/policy.h"

#include <fmt/format.h>

#include <utility>

#include "model/name.h"

namespace patchbay::model {
namespace {

constexpr std::string_view switch_prefix = "switch:";
constexpr std::string_view label_prefix = "label:";

std::string_view key_of(std::string_view label) noexcept {
  return label.substr(0, label.find('='));
}

std::string value_text(const Buffer& size) {
  return to_string(size);
}
std::string value_text(std::uint32_t max_age_ms) {
  return fmt::format("{} ms", max_age_ms);
}

// The first among `matches`, of which all should agree.
std::optional<Disagreement> disagreement_among(const std::vector<PolicyMatch>& matches) {
  std::optional<Disagreement> found;
  for_each_setting([&](const char* called, auto setting, auto, auto) {
    const PolicyMatch* first = nullptr;  // that has this setting
    for (const PolicyMatch& match : matches) {
      const auto& value = match.policy->buffer.*setting;
      if (!value || found) continue;
      if (first == nullptr) first = &match;
      const auto& agreed = first->policy->buffer.*setting;
      if (value != agreed) found = {*first, match, called, value_text(*agreed), value_text(*value)};
    }
  });
  if (found && found->second.policy->name < found->first.policy->name) {  // the same pair in the same words
    std::swap(found->first, found->second);
    std::swap(found->first_value, found->second_value);
  }
  return found;
}

}  // namespace

Result<void> check_label(std::string_view label) {
  const std::string_view key = key_of(label);
  if (auto ok = check_name("label", key); !ok) return ok;
  if (label == "none") {
    return fail(ErrorCode::invalid, "label 'none' would read as no label; choose another word");
  }
  return key.size() == label.size() ? Result<void>() : check_name("label value", label.substr(key.size() + 1));
}

Result<void> check_labels(const std::set<std::string>& labels) {
  if (labels.size() > labels_max) {
    return fail(ErrorCode::invalid, fmt::format("{} labels: at most {} are possible", labels.size(), labels_max));
  }
  std::map<std::string_view, const std::string*> by_key;
  for (const std::string& label : labels) {
    if (auto ok = check_label(label); !ok) return ok;
    const auto [known, is_new] = by_key.emplace(key_of(label), &label);
    if (is_new) continue;
    return fail(ErrorCode::invalid, fmt::format("label {} is there twice, as {} and as {}; give one of them",
                                                known->first, *known->second, label));
  }
  return {};
}

Result<PolicyTarget> parse_target(std::string_view text) {
  if (text == "host") return PolicyTarget{};
  PolicyTarget target;
  if (text.starts_with(switch_prefix)) {
    target = {TargetKind::switch_, std::string(text.substr(switch_prefix.size()))};
    if (auto ok = check_name("switch", target.name); !ok) return fail(ok.error());
    return target;
  }
  if (text.starts_with(label_prefix)) {
    target = {TargetKind::label, std::string(text.substr(label_prefix.size()))};
    if (auto ok = check_label(target.name); !ok) return fail(ok.error());
    return target;
  }
  return fail(ErrorCode::invalid, fmt::format("\"{}\" is nothing that a policy applies to; write host, switch:NAME, "
                                              "label:KEY or label:KEY=VALUE",
                                              text.substr(0, 80)));
}

std::string to_string(const PolicyTarget& target) {
  switch (target.kind) {
    case TargetKind::label:
      return std::string(label_prefix) + target.name;
    case TargetKind::switch_:
      return std::string(switch_prefix) + target.name;
    case TargetKind::host:
      return "host";
  }
  return "?";
}

std::string describe(const PolicyTarget& target) {
  switch (target.kind) {
    case TargetKind::label:
      return "label " + target.name;
    case TargetKind::switch_:
      return "switch " + target.name;
    case TargetKind::host:
      return "the host";
  }
  return "?";
}

Result<void> check(const Policy& policy) {
  if (auto ok = check_name("policy", policy.name); !ok) return ok;
  if (auto ok = check(policy.buffer); !ok) {
    return fail(ok.error().code, fmt::format("policy {}: {}", policy.name, ok.error().message));
  }
  if (policy.apply_to.size() > policy_targets_max) {
    return fail(ErrorCode::invalid, fmt::format("policy {}: it applies to {} switches and labels: at most {} are "
                                                "possible; use a label for more vnics",
                                                policy.name, policy.apply_to.size(), policy_targets_max));
  }
  return {};
}

PolicyIndex::PolicyIndex(const std::map<std::string, Policy>& policies) {
  for (const auto& [name, policy] : policies) {
    for (const PolicyTarget& target : policy.apply_to) by_target_[target].push_back({&policy, &target});
  }
}

void PolicyIndex::append(const PolicyTarget& target, std::vector<PolicyMatch>& matches) const {
  if (const auto found = by_target_.find(target); found != by_target_.end()) {
    matches.insert(matches.end(), found->second.begin(), found->second.end());
  }
}

std::vector<PolicyMatch> PolicyIndex::by_label(const Vnic& vnic) const {
  std::vector<PolicyMatch> matches;
  for (const std::string& label : vnic.labels) append({TargetKind::label, label}, matches);
  return matches;
}

std::vector<PolicyMatch> PolicyIndex::reaching(const Vnic& vnic) const {
  if (by_target_.empty()) return {};
  std::vector<PolicyMatch> matches = by_label(vnic);
  append({TargetKind::switch_, vnic.switch_name}, matches);
  append({TargetKind::host}, matches);
  return matches;
}

std::optional<Disagreement> disagreement(const PolicyIndex& policies) {
  for (const auto& [target, matches] : policies.by_target()) {
    if (auto found = disagreement_among(matches)) return found;
  }
  return std::nullopt;
}

std::optional<Disagreement> disagreement(const PolicyIndex& policies, const Vnic& vnic) {
  if (vnic.kind == VnicKind::host) return std::nullopt;  // it has none of these settings
  auto found = disagreement_among(policies.by_label(vnic));
  if (found) found->vnic = vnic.name;
  return found;
}

std::string describe(const Disagreement& found) {
  const std::string& first = found.first.policy->name;
  const std::string& second = found.second.policy->name;
  if (found.vnic.empty()) {
    return fmt::format(
        "policies {} and {} give {} different values of {}, {} and {}; make them the same, or apply one of them to "
        "something else with `patchbay policy set {} --apply-to`",
        first, second, describe(*found.first.target), found.setting, found.first_value, found.second_value, second);
  }
  return fmt::format(
      "policies {} ({}) and {} ({}) give vnic {} different values of {}, {} and {}; make them the same, or take one of "
      "the labels from the vnic",
      first, describe(*found.first.target), second, describe(*found.second.target), found.vnic, found.setting,
      found.first_value, found.second_value);
}

BufferInForce buffer_in_force(const PolicyIndex& policies, const Switch& on, const Vnic& vnic) {
  std::vector<BufferLevel> levels = {{&vnic.buffer, {Level::vnic}}, {&on.buffer, {Level::switch_}}};
  for (const PolicyMatch& match : policies.reaching(vnic)) {
    levels.push_back({&match.policy->buffer, {Level::policy, match.policy->name}});
  }
  return in_force(levels);
}

}  // namespace patchbay::model
