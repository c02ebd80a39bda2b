#include "model/policy.h"

#include <gtest/gtest.h>

#include "model/host.h"

namespace patchbay::model {
namespace {

constexpr std::uint64_t mib = 1 << 20;

Vnic vnic(const std::string& name, std::set<std::string> labels, std::uint64_t mac) {
  Vnic made;
  made.name = name;
  made.switch_name = "lan";
  made.mac = MacAddr::from_uint64(0x020000000000 + mac);
  made.labels = std::move(labels);
  return made;
}

Policy policy(const std::string& name, std::optional<std::uint64_t> size_mib,
              std::initializer_list<const char*> targets, std::optional<std::uint32_t> max_age_ms = std::nullopt) {
  Policy made{name, {std::nullopt, max_age_ms}, {}};
  if (size_mib) made.buffer.size = Buffer{*size_mib * mib, false};
  for (const char* target : targets) made.apply_to.insert(*parse_target(target));
  return made;
}

// Switches lan and lab; on lan a (label storage), b (labels storage and tier=gold), c (none), and the host vnic mgmt, with
// the labels of b.
Host example() {
  Host host;
  host.switches["lan"] = {"lan", SwitchType::internal, "", std::nullopt, 1500};
  host.switches["lab"] = {"lab", SwitchType::private_, "", std::nullopt, 1500};
  for (const auto& each : {vnic("a", {"storage"}, 1), vnic("b", {"storage", "tier=gold"}, 2), vnic("c", {}, 3),
                           vnic("mgmt", {"storage", "tier=gold"}, 4)}) {
    host.vnics[each.name] = each;
  }
  host.vnics["mgmt"].kind = VnicKind::host;
  return host;
}

Host with(Host host, std::initializer_list<Policy> policies) {
  for (const Policy& each : policies) host.policies[each.name] = each;
  return host;
}

// "4M from policy gold, 0 ms from built_in"
std::string in_force_of(const Host& host, const std::string& name) {
  const PolicyIndex policies(host.policies);
  const Vnic& of = host.vnics.at(name);
  const auto found = buffer_in_force(policies, host.switches.at(of.switch_name), of);
  return to_string(found.size) + " from " + to_string(found.size_from) + ", " + std::to_string(found.max_age_ms) +
         " ms from " + to_string(found.max_age_from);
}

template <typename Value>
void expect_refused(const Result<Value>& result, ErrorCode code, std::initializer_list<const char*> parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const char* part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << " in: " << result.error().message;
  }
  EXPECT_LT(result.error().message.size(), 400U);
}

TEST(Labels, are_words_like_names_with_or_without_a_value) {
  for (const char* label : {"storage", "tier=gold", "a", "9.x_y-z=0.1", "none=x", "nonesuch"}) {
    EXPECT_TRUE(check_label(label)) << label;
  }
  for (const char* label : {"", "=", "=gold", "tier=", "a b", "a=b c", "a=b=c", "a,b", "-a", "a/b", "none", "\n"}) {
    EXPECT_FALSE(check_label(label)) << label;
  }
  EXPECT_TRUE(check_label(std::string(63, 'x') + "=" + std::string(63, 'y')));
  EXPECT_FALSE(check_label(std::string(64, 'x')));
  EXPECT_FALSE(check_label("x=" + std::string(64, 'y')));
}

TEST(Labels, of_a_vnic_have_each_key_once_and_a_limit) {
  EXPECT_TRUE(check_labels({"tier=gold", "tier-x", "tiers"}));
  expect_refused(check_labels({"tier=gold", "tier=silver"}), ErrorCode::invalid, {"tier=gold", "tier=silver"});
  expect_refused(check_labels({"tier", "tier=gold"}), ErrorCode::invalid, {"label tier is there twice"});
  std::set<std::string> labels;
  while (labels.size() < labels_max) labels.insert("x" + std::to_string(labels.size()));
  EXPECT_TRUE(check_labels(labels));
  labels.insert("one-more");
  expect_refused(check_labels(labels), ErrorCode::invalid, {"33", "at most 32"});
}

TEST(PolicyTarget, is_read_and_written_the_same) {
  for (const char* text : {"host", "switch:lan", "label:storage", "label:tier=gold", "switch:host"}) {
    const auto target = parse_target(text);
    ASSERT_TRUE(target) << text;
    EXPECT_EQ(to_string(*target), text);
  }
  for (const char* text : {"", "Host", "host:", "lan", "switch:", "switch:a/b", "label:", "label:a=", "label:none",
                           "all", "vnic:web", "none"}) {
    EXPECT_FALSE(parse_target(text)) << text;
  }
}

TEST(Policy, the_more_specific_target_counts_and_each_setting_by_itself) {
  const Host host =
      with(example(), {policy("base", 2, {"host"}, 500), policy("wide", 3, {"switch:lan"}),
                       policy("storage", 4, {"label:storage"}), policy("gold", {}, {"label:tier=gold"}, 9)});
  EXPECT_EQ(in_force_of(host, "a"), "4M from policy storage, 500 ms from policy base");
  EXPECT_EQ(in_force_of(host, "b"), "4M from policy storage, 9 ms from policy gold");
  EXPECT_EQ(in_force_of(host, "c"), "3M from policy wide, 500 ms from policy base");
  const std::map<std::string, std::vector<std::string>> users = {
      {"base", {"a", "c"}}, {"wide", {"c"}}, {"storage", {"a", "b"}}, {"gold", {"b"}}};
  EXPECT_EQ(vnics_by_policy(host), users);
}

TEST(Policy, what_vnic_or_switch_say_is_stronger) {
  Host host = with(example(), {policy("storage", 4, {"label:storage"}, 50)});
  host.switches["lan"].buffer.size = Buffer{8 * mib, false};
  host.vnics["b"].buffer.max_age_ms = 0;
  EXPECT_EQ(in_force_of(host, "a"), "8M from switch, 50 ms from policy storage");
  EXPECT_EQ(in_force_of(host, "b"), "8M from switch, 0 ms from vnic");
  EXPECT_EQ(in_force_of(host, "c"), "8M from switch, 0 ms from built_in");
}

TEST(Policy, two_of_one_level_must_agree_whoever_comes_first) {
  struct Case {
    const char* name;
    Policy one;
    Policy two;
    const char* says;  // of the refusal; nullptr: they go together
  };
  for (const auto& c : std::vector<Case>{
           {"host", policy("p1", 2, {"host"}), policy("p2", 4, {"host"}),
            "policies p1 and p2 give the host different values of buffer, 2M and 4M"},
           {"same value", policy("p1", 2, {"host"}), policy("p2", 2, {"host"}), nullptr},
           {"other settings", policy("p1", 2, {"host"}), policy("p2", {}, {"host"}, 7), nullptr},
           {"age", policy("p1", {}, {"host"}, 0), policy("p2", {}, {"host"}, 7), "buffer max age, 0 ms and 7 ms"},
           {"switch", policy("p1", 2, {"switch:lan"}), policy("p2", 4, {"switch:lan"}), "give switch lan different"},
           {"empty switch", policy("p1", 2, {"switch:lab"}), policy("p2", 4, {"switch:lab"}),
            "give switch lab different"},
           {"two switches", policy("p1", 2, {"switch:lan"}), policy("p2", 4, {"switch:lab"}), nullptr},
           {"label", policy("p1", 2, {"label:storage"}), policy("p2", 4, {"label:storage"}),
            "give label storage different"},
           {"unused label", policy("p1", 2, {"label:x"}), policy("p2", 4, {"label:x"}), "give label x different"},
           {"two labels of one vnic", policy("p1", 2, {"label:storage"}), policy("p2", 4, {"label:tier=gold"}),
            "policies p1 (label storage) and p2 (label tier=gold) give vnic b different values of buffer, 2M and 4M"},
           {"two labels of two", policy("p1", 2, {"label:storage"}), policy("p2", 4, {"label:tier=silver"}), nullptr},
           {"two levels", policy("p1", 2, {"host"}), policy("p2", 4, {"label:storage"}), nullptr},
           {"two levels of one", policy("p1", 2, {"host", "label:storage"}), policy("p2", 4, {"switch:lan"}),
            nullptr}}) {
    for (const auto& [first, second] : {std::pair{c.one, c.two}, std::pair{c.two, c.one}}) {
      const auto one = add_policy(example(), first);
      ASSERT_TRUE(one) << c.name << one.error().message;
      const auto both = add_policy(*one, second);
      // The same by making the second one so later, and with everything at once.
      Policy silent = second;
      silent.buffer = {};
      const auto set = set_policy(*add_policy(*one, silent), second);
      const Host host = example();
      std::vector<Switch> switches;
      for (const auto& [name, on] : host.switches) switches.push_back(on);
      std::vector<Vnic> vnics;
      for (const auto& [name, each] : host.vnics) vnics.push_back(each);
      const auto made = make_host(switches, vnics, {}, {first, second});
      if (c.says == nullptr) {
        ASSERT_TRUE(both && set && made) << c.name;
        EXPECT_EQ(*both, *set);
        EXPECT_EQ(*both, *made);
      } else {
        expect_refused(both, ErrorCode::in_use, {("policy " + second.name + ": policies p1").c_str(), c.says});
        expect_refused(set, ErrorCode::in_use, {c.says});
        ASSERT_FALSE(made) << c.name;
        EXPECT_NE(made.error().error.message.find(c.says), std::string::npos) << made.error().error.message;
      }
    }
  }
}

TEST(Policy, a_vnic_that_would_get_two_values_is_refused_by_name) {
  const Host host = with(example(), {policy("p1", 2, {"label:storage"}), policy("p3", 4, {"label:tier=silver"})});
  const auto refused = {"vnic d: policies p1 (label storage) and p3 (label tier=silver)", "2M and 4M"};
  expect_refused(add_vnic(host, vnic("d", {"storage", "tier=silver"}, 9)), ErrorCode::in_use, refused);
  const auto added = add_vnic(host, vnic("d", {"tier=silver"}, 9));
  ASSERT_TRUE(added) << added.error().message;
  expect_refused(set_vnic(*added, vnic("d", {"storage", "tier=silver"}, 9)), ErrorCode::in_use, refused);
  EXPECT_EQ(set_vnic(*added, vnic("d", {"storage"}, 9))->vnics.at("d").labels, std::set<std::string>{"storage"});
  expect_refused(set_vnic(*added, vnic("d", {"a b"}, 9)), ErrorCode::invalid, {"vnic d: label name 'a b'"});
  Vnic of_host = vnic("d", {"storage", "tier=silver"}, 9);
  of_host.kind = VnicKind::host;
  EXPECT_TRUE(add_vnic(host, of_host)) << "a host vnic has no buffer to disagree about";
}

TEST(Policy, is_refused_with_what_is_wrong) {
  const Host host = with(example(), {policy("base", 2, {"host", "switch:lan", "label:storage"})});
  expect_refused(add_policy(host, policy("base", 2, {})), ErrorCode::exists, {"policy base exists already"});
  expect_refused(add_policy(host, policy("a/b", 2, {})), ErrorCode::invalid, {"policy name 'a/b'"});
  expect_refused(add_policy(host, policy("new", 17, {})), ErrorCode::invalid, {"policy new", "17M is out of range"});
  expect_refused(add_policy(host, policy("new", 2, {"switch:wan"})), ErrorCode::not_found,
                 {"policy new: switch wan does not exist"});
  expect_refused(set_policy(host, policy("new", 2, {})), ErrorCode::not_found, {"policy new does not exist"});
  expect_refused(remove_policy(host, "new"), ErrorCode::not_found, {"policy list"});
  expect_refused(remove_policy(host, "base"), ErrorCode::in_use,
                 {"policy base applies to label storage, switch lan, the host", "policy set base --apply-to none"});
  expect_refused(find_policy(host, ""), ErrorCode::invalid, {"policy without a name"});
  Policy many = policy("new", 2, {});
  for (std::size_t i = 0; i <= policy_targets_max; ++i) {
    many.apply_to.insert({TargetKind::label, "x" + std::to_string(i)});
  }
  expect_refused(add_policy(host, many), ErrorCode::invalid, {"257", "at most 256"});
  many.apply_to.erase(many.apply_to.begin());
  const auto added = add_policy(host, many);
  ASSERT_TRUE(added);
  expect_refused(remove_policy(*added, "new"), ErrorCode::in_use, {"and 246 more"});
  const auto freed = set_policy(host, policy("base", 2, {}));
  ASSERT_TRUE(freed);
  EXPECT_EQ(*remove_policy(*freed, "base"), example());
}

TEST(Policy, holds_the_switch_that_it_applies_to) {
  const Host host = with(example(), {policy("p1", 2, {"switch:lab"})});
  expect_refused(remove_switch(host, "lab"), ErrorCode::in_use,
                 {"switch lab: policy p1 applies to it", "policy set p1"});
  expect_refused(remove_switch(with(host, {policy("p2", 2, {"switch:lab"})}), "lab"), ErrorCode::in_use,
                 {"switch lab: policies p1, p2 apply to it"});
  EXPECT_TRUE(remove_switch(*set_policy(host, policy("p1", 2, {"host"})), "lab"));
  const auto made = make_host({}, {}, {}, {policy("p1", 2, {"switch:lab"})});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().noun, std::string("policy"));
  EXPECT_EQ(made.error().name, "p1");
}

TEST(HostSettings, keep_to_their_limits) {
  const auto limited = [](std::uint64_t bytes) { return set_settings(example(), {bytes}); };
  EXPECT_TRUE(limited(buffer_limit_min));
  EXPECT_TRUE(limited(buffer_limit_max));
  expect_refused(limited(buffer_limit_min - 1), ErrorCode::invalid, {"host: buffer limit 1048575", "1M to 64G"});
  expect_refused(limited(buffer_limit_max + 1), ErrorCode::invalid, {"1M to 64G"});
  EXPECT_EQ(*set_settings(*limited(buffer_limit_min), {}), example());
  const auto made = make_host({}, {}, {}, {}, {0});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().noun, std::string("host"));
}

}  // namespace
}  // namespace patchbay::model
