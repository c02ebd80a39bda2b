// Policies, labels and the host's settings through the service.
#include <gtest/gtest.h>

#include "tests/support/host_service_fixture.h"

namespace patchbay::reconcile {
namespace {

constexpr std::uint64_t mib = 1 << 20;

class PolicyServiceTest : public HostServiceTest {
 protected:
  // Internal switch lan with guests a (label storage) and b (none).
  void fill_lan() {
    ASSERT_TRUE(create_switch("lan", model::SwitchType::internal));
    VnicSpec a;
    a.name = "a";
    a.switch_name = "lan";
    a.labels = {"storage"};
    ASSERT_TRUE(service->create_vnic(a));
    ASSERT_TRUE(create_vnic("b", "lan"));
    dataplane.calls.clear();
    endpoints.calls.clear();
  }
  static model::Policy policy(const std::string& name, std::uint64_t size_mib, const char* target) {
    return {name, {model::Buffer{size_mib * mib, false}, std::nullopt}, {*model::parse_target(target)}};
  }
  std::string buffer_of(const std::string& vnic) {
    const auto buffer = service->show_vnic(vnic)->buffer;
    return to_string(buffer.size) + " from " + to_string(buffer.size_from);
  }
  std::uint64_t told(const std::string& vnic) { return dataplane.buffers.at(vnic).limit_bytes / mib; }
};

TEST_F(PolicyServiceTest, a_policy_reaches_running_vnics_at_once_and_closes_nothing) {
  start();
  fill_lan();
  ASSERT_TRUE(service->create_policy(policy("base", 2, "host")));
  ASSERT_TRUE(service->create_policy(policy("storage", 4, "label:storage")));
  EXPECT_EQ(told("a"), 4U);
  EXPECT_EQ(told("b"), 2U);
  EXPECT_EQ(buffer_of("a"), "4M from policy storage");
  EXPECT_EQ(service->show_policy("storage")->vnics, Lines{"a"});
  PolicyChange change;
  change.buffer.size = std::optional(model::Buffer{8 * mib, false});
  ASSERT_TRUE(service->set_policy("storage", change));
  EXPECT_EQ(told("a"), 8U);
  VnicChange labelled;
  labelled.labels = {"storage", "tier=gold"};
  ASSERT_TRUE(service->set_vnic("b", labelled));
  EXPECT_EQ(told("b"), 8U);
  labelled.labels = std::set<std::string>();
  ASSERT_TRUE(service->set_vnic("b", labelled));
  EXPECT_EQ(told("b"), 2U);
  PolicyChange nowhere;
  nowhere.apply_to = std::set<model::PolicyTarget>();
  ASSERT_TRUE(service->set_policy("base", nowhere));
  EXPECT_EQ(buffer_of("b"), "1M from built_in");
  EXPECT_EQ(service->list_policies().size(), 2U);
  ASSERT_TRUE(service->delete_policy("base"));
  EXPECT_EQ(endpoints.calls, Lines{}) << "no guest noticed";
  for (const auto& call : dataplane.calls) EXPECT_EQ(call.rfind("publish", 0), 0U) << call;
  stop();
  start();
  EXPECT_EQ(buffer_of("a"), "8M from policy storage") << "stored";
  EXPECT_EQ(told("a"), 8U);
}

TEST_F(PolicyServiceTest, a_refused_policy_changes_and_stores_nothing) {
  start();
  fill_lan();
  ASSERT_TRUE(service->create_policy(policy("base", 2, "host")));
  const auto before = store.stored;
  const auto saves = store.saves;
  dataplane.calls.clear();
  expect_error(service->create_policy(policy("other", 4, "host")), ErrorCode::in_use, {"other", "base", "2M and 4M"});
  expect_error(service->create_policy(policy("other", 4, "switch:wan")), ErrorCode::not_found, {"other", "wan"});
  expect_error(service->delete_policy("base"), ErrorCode::in_use, {"base", "the host", "--apply-to none"});
  expect_error(service->delete_policy("nobody"), ErrorCode::not_found, {"nobody"});
  expect_error(service->set_policy("nobody", {}), ErrorCode::not_found, {"nobody"});
  EXPECT_FALSE(service->show_policy("nobody"));
  EXPECT_EQ(store.stored, before);
  EXPECT_EQ(store.saves, saves);
  EXPECT_EQ(dataplane.calls, Lines{});
}

TEST_F(PolicyServiceTest, the_limit_of_all_buffers_is_told_stored_and_told_again) {
  start();
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "the built-in one needs no word";
  ASSERT_TRUE(service->set_settings({std::optional(64 * mib)}));
  EXPECT_EQ(dataplane.take_calls(), Lines{"buffer_limit 67108864"});
  ASSERT_TRUE(service->set_settings({std::optional(64 * mib)}));
  ASSERT_TRUE(service->set_settings({}));
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "the same again";
  stop();
  EXPECT_EQ(dataplane.take_calls(), Lines{});
  dataplane.use.limit_bytes = model::buffer_limit_default;  // a new process
  start();
  EXPECT_EQ(dataplane.take_calls(), Lines{"buffer_limit 67108864"});
  EXPECT_EQ(service->show_settings().buffers.limit_bytes, 64 * mib);
  EXPECT_EQ(service->show_settings().desired.buffer_limit_bytes, 64 * mib);
  ASSERT_TRUE(service->set_settings({std::optional<std::uint64_t>()}));
  EXPECT_EQ(dataplane.take_calls(), Lines{"buffer_limit 268435456"});
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_EQ(store.rows.back().kind, "host");
  EXPECT_EQ(store.rows.back().before, R"({"buffer_limit":"64M"})");
  EXPECT_EQ(store.rows.back().after, "{}");
}

TEST_F(PolicyServiceTest, a_limit_below_what_is_used_is_refused) {
  start();
  dataplane.use.used_bytes = 3 * mib + 65536;
  expect_error(service->set_settings({std::optional(3 * mib)}), ErrorCode::in_use, {"host", "3M", "3136K"});
  expect_error(service->set_settings({std::optional(mib - 1)}), ErrorCode::invalid, {"1M to 64G"});
  HostSpec spec;
  spec.settings = model::HostSettings{3 * mib};
  const auto applied = service->apply(spec, true);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().noun, "host");
  EXPECT_EQ(applied.error().error.code, ErrorCode::in_use);
  EXPECT_EQ(dataplane.calls, Lines{});
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_TRUE(service->set_settings({std::optional(3 * mib + 65536)}));
  dataplane.use.used_bytes = 200 * mib;  // buffers filled up, and nothing is changed
  EXPECT_TRUE(service->set_settings({std::optional(3 * mib + 65536)}));
}

TEST_F(PolicyServiceTest, a_limit_for_which_there_is_no_memory_is_taken_back) {
  start();
  dataplane.refusals["buffer_limit 68719476736"] = {ErrorCode::no_resource, "no address space"};
  expect_error(service->set_settings({std::optional(std::uint64_t{64} << 30)}), ErrorCode::no_resource, {"no address"});
  EXPECT_EQ(store.stored.host, model::Host{});
  EXPECT_TRUE(store.rows.empty());
  EXPECT_EQ(service->show_settings().buffers.limit_bytes, model::buffer_limit_default);
}

TEST_F(PolicyServiceTest, apply_keeps_policies_and_settings_that_it_says_nothing_about) {
  start();
  fill_lan();
  ASSERT_TRUE(service->create_policy(policy("storage", 4, "label:storage")));
  ASSERT_TRUE(service->set_settings({std::optional(64 * mib)}));
  HostSpec spec;
  spec.switches.push_back({"lan", model::SwitchType::internal, "", std::nullopt, 1500});
  ASSERT_TRUE(service->apply(spec, false));
  EXPECT_EQ(service->desired().policies.size(), 1U);
  EXPECT_EQ(service->desired().settings.buffer_limit_bytes, 64 * mib);
  EXPECT_TRUE(service->apply(spec, false)->empty());
  spec.policies = {policy("base", 2, "switch:lan")};
  spec.settings = model::HostSettings{};
  const auto applied = service->apply(spec, false);
  ASSERT_TRUE(applied) << applied.error().error.message;
  Lines lines;
  for (const auto& change : *applied) lines.push_back(std::string(change.verb) + " " + change.kind + " " + change.name);
  EXPECT_EQ(lines, (Lines{"delete policy storage", "set host host", "create policy base"}));
  EXPECT_EQ(dataplane.use.limit_bytes, model::buffer_limit_default);
  EXPECT_TRUE(service->apply(spec, false)->empty());
  HostSpec without;  // the switch that the policy applies to
  const auto refused = service->apply(without, false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().noun + " " + refused.error().name, "policy base");
}

}  // namespace
}  // namespace patchbay::reconcile
