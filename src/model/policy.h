// Policies: named settings for vnics that leave them open, and the labels by which vnics are picked out.
//
// Theory  A policy applies to any number of targets: the host, switches, labels. What a vnic or its switch says itself is
//         stronger than any policy. Of several policies that give a vnic the same setting, the more specific target
//         counts: label, then switch, then host. Two that reach a vnic by targets of the same kind must agree about it
//         (host.h refuses the change that would make them disagree), so no result depends on an order.
//         A new setting of policies: here, for_each_setting() in buffer.h has it; api/specs.h lists the other places.
// Limits  labels_max of a vnic, policy_targets_max of a policy: more are refused.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/buffer.h"
#include "model/switch.h"
#include "model/vnic.h"

namespace patchbay::model {

inline constexpr std::size_t labels_max = 32;
inline constexpr std::size_t policy_targets_max = 256;

// KEY or KEY=VALUE, both like names. Errors: invalid (a sentence without the object's name).
[[nodiscard]] Result<void> check_label(std::string_view label);
// Of one vnic: a key is there once. Errors: as check_label().
[[nodiscard]] Result<void> check_labels(const std::set<std::string>& labels);

enum class TargetKind : std::uint8_t { label, switch_, host };  // the more specific first
struct PolicyTarget {
  TargetKind kind = TargetKind::host;
  std::string name = {};  // of the switch; the label

  friend auto operator<=>(const PolicyTarget&, const PolicyTarget&) = default;
};
// "host", "switch:lan", "label:storage", "label:tier=gold". Errors: as check_label().
[[nodiscard]] Result<PolicyTarget> parse_target(std::string_view text);
[[nodiscard]] std::string to_string(const PolicyTarget& target);  // as that reads it
[[nodiscard]] std::string describe(const PolicyTarget& target);   // "the host", "switch lan", "label storage"

struct Policy {
  std::string name;  // see name.h
  BufferSettings buffer = {};
  std::set<PolicyTarget> apply_to = {};

  friend bool operator==(const Policy&, const Policy&) = default;
};
// Of one by itself: what it applies to need not be there. Errors: invalid.
[[nodiscard]] Result<void> check(const Policy& policy);

// A policy, and the target by which it was found.
struct PolicyMatch {
  const Policy* policy = nullptr;
  const PolicyTarget* target = nullptr;
};
// Two policies that give different values to a vnic, or to all that one target stands for.
struct Disagreement {
  PolicyMatch first;
  PolicyMatch second;
  std::string setting;  // as people call it
  std::string first_value;
  std::string second_value;
  std::string vnic = {};  // empty: the targets are the same
};
[[nodiscard]] std::string describe(const Disagreement& found);  // a sentence that begins with the policies

// Policies by what they apply to. They outlive it, unchanged.
class PolicyIndex {
 public:
  explicit PolicyIndex(const std::map<std::string, Policy>& policies);

  // By target, then by name.
  [[nodiscard]] const std::map<PolicyTarget, std::vector<PolicyMatch>>& by_target() const noexcept {
    return by_target_;
  }
  // Of those that reach `vnic` by one of its labels, by name of the label, then of the policy.
  [[nodiscard]] std::vector<PolicyMatch> by_label(const Vnic& vnic) const;
  // All that reach `vnic`, the strongest first.
  [[nodiscard]] std::vector<PolicyMatch> reaching(const Vnic& vnic) const;

 private:
  void append(const PolicyTarget& target, std::vector<PolicyMatch>& matches) const;

  std::map<PolicyTarget, std::vector<PolicyMatch>> by_target_;
};

// Of two policies that apply to the same target; of two that reach `vnic` by its labels, whatever it says itself.
[[nodiscard]] std::optional<Disagreement> disagreement(const PolicyIndex& policies);
[[nodiscard]] std::optional<Disagreement> disagreement(const PolicyIndex& policies, const Vnic& vnic);

// What is in force for the guest vnic `vnic` on `on`.
[[nodiscard]] BufferInForce buffer_in_force(const PolicyIndex& policies, const Switch& on, const Vnic& vnic);

}  // namespace patchbay::model
