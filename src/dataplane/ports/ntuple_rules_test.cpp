// Rules as bytes, and what is asked of a driver in which order.
#include "dataplane/ports/ntuple_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <vector>

#include "model/uplink_driver.h"
#include "tests/support/ntuple_fixture.h"

namespace patchbay::dataplane {
namespace {

using test::foreign_rule;
using test::lo_index;
using test::mac;
using test::other_mac;
using test::Table;
using NtupleRulesTest = test::NtupleFixture;

// ---- Bytes ----------------------------------------------------------------------------------------------------------

TEST(NtupleRule, names_an_address_and_a_vlan_with_masks_of_ones_in_network_order) {
  const ethtool_rx_flow_spec spec = flow_spec_of({{mac, 0x123}, true, 3}, 9);
  EXPECT_EQ(spec.flow_type, ETHER_FLOW | FLOW_EXT);
  EXPECT_EQ(spec.ring_cookie, 3U);
  EXPECT_EQ(spec.location, 9U);
  const auto bytes_of = [](const auto& part) {
    const auto* const first = reinterpret_cast<const std::uint8_t*>(&part);
    return std::vector<std::uint8_t>(first, first + sizeof part);
  };
  std::vector<std::uint8_t> ether(sizeof spec.h_u), mask(sizeof spec.m_u);
  std::copy(mac.bytes().begin(), mac.bytes().end(), ether.begin());
  std::fill_n(mask.begin(), 6, std::uint8_t{0xFF});
  EXPECT_EQ(bytes_of(spec.h_u), ether);
  EXPECT_EQ(bytes_of(spec.m_u), mask);
  std::vector<std::uint8_t> ext(sizeof spec.h_ext), ext_mask(sizeof spec.m_ext);
  constexpr std::size_t tci = offsetof(ethtool_flow_ext, vlan_tci);
  ext[tci] = 0x01;
  ext[tci + 1] = 0x23;
  ext_mask[tci] = 0x0F;
  ext_mask[tci + 1] = 0xFF;
  EXPECT_EQ(bytes_of(spec.h_ext), ext);
  EXPECT_EQ(bytes_of(spec.m_ext), ext_mask);
}

TEST(NtupleRule, of_frames_without_a_tag_names_the_address_alone) {
  const ethtool_rx_flow_spec spec = flow_spec_of({{mac, 0}, false, 1}, 0);
  EXPECT_EQ(spec.flow_type, static_cast<std::uint32_t>(ETHER_FLOW));
  EXPECT_EQ(std::memcmp(spec.h_u.ether_spec.h_dest, mac.bytes().data(), 6), 0);
  const ethtool_flow_ext nothing{};
  EXPECT_EQ(std::memcmp(&spec.h_ext, &nothing, sizeof nothing), 0);
  EXPECT_EQ(std::memcmp(&spec.m_ext, &nothing, sizeof nothing), 0);
}

TEST(NtupleRule, of_somebody_else_is_not_taken_for_ours) {
  const NtupleRule tagged{{mac, 101}, true, 3};
  const NtupleRule plain{{mac, 101}, false, 3};
  EXPECT_TRUE(is_rule(flow_spec_of(tagged, 7), tagged));
  EXPECT_TRUE(is_rule(flow_spec_of(plain, 0), plain));
  EXPECT_FALSE(is_rule(flow_spec_of(plain, 0), tagged));
  EXPECT_FALSE(is_rule(flow_spec_of(tagged, 0), plain));
  EXPECT_FALSE(is_rule(flow_spec_of({{mac, 102}, true, 3}, 0), tagged));
  EXPECT_FALSE(is_rule(flow_spec_of({{other_mac, 101}, true, 3}, 0), tagged));
  EXPECT_FALSE(is_rule(flow_spec_of({{mac, 101}, true, 2}, 0), tagged));
  EXPECT_FALSE(is_rule(foreign_rule(), tagged));
  const auto changed = [&](auto change) {
    ethtool_rx_flow_spec spec = flow_spec_of(tagged, 0);
    change(spec);
    return spec;
  };
  using Spec = ethtool_rx_flow_spec;
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_u.ether_spec.h_dest[5] = 0xF0; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_u.ether_spec.h_source[0] = 1; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_u.ether_spec.h_proto = 0xFFFF; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_ext.vlan_tci = 0xFFFF; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_ext.vlan_etype = 0xFFFF; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.m_ext.data[0] = 1; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.ring_cookie = RX_CLS_FLOW_DISC; }), tagged));
  EXPECT_FALSE(is_rule(changed([](Spec& spec) { spec.flow_type |= FLOW_RSS; }), tagged));
}

// ---- Whether a NIC sorts --------------------------------------------------------------------------------------------

TEST_F(NtupleRulesTest, are_not_used_where_something_is_missing_and_the_reason_says_what) {
  EXPECT_EQ(refusal(1), "it has one receive queue");
  driver_.has_rules = false;
  EXPECT_EQ(refusal(), "driver ixy has no ntuple filters");
  driver_ = {};
  driver_.error = EBADF;
  EXPECT_EQ(refusal(), "driver (unknown) does not tell its ntuple rules (Bad file descriptor)");
  driver_ = {};
  driver_.foreign_count = 4097;
  EXPECT_EQ(refusal(), "it has more than 4096 ntuple rules");
  driver_ = {};
  driver_.filters_fixed = true;
  EXPECT_EQ(refusal(), "the ntuple filters of driver ixy are off and fixed");
  driver_ = {};
  driver_.takes_address = false;
  EXPECT_EQ(refusal(), "driver ixy takes no ntuple rule for an address (Invalid argument)");
  EXPECT_FALSE(driver_.filters_on) << "switched off again";
  driver_ = {};
  driver_.has_rss = false;
  EXPECT_EQ(refusal(), "driver ixy has no RSS table that can be set");
  EXPECT_TRUE(driver_.rules.empty() && !driver_.filters_on);
  driver_ = {};
  driver_.rules[3] = foreign_rule();
  EXPECT_EQ(refusal(), "it has 1 ntuple rule that is not Patchbay's");
  driver_.rules[5] = flow_spec_of({{mac, 101}, true, 3}, 5);
  EXPECT_EQ(refusal(), "it has 2 ntuple rules that are not Patchbay's");
  EXPECT_EQ(driver_.rules.size(), 2U);
  EXPECT_FALSE(driver_.rss_is_set);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(NtupleRulesTest, are_not_used_if_the_trial_shows_that_they_could_not_be_found_again) {
  for (const bool chooses : {false, true}) {
    driver_ = {};
    driver_.chooses_place = chooses;
    driver_.tells_rules = false;
    EXPECT_EQ(refusal(), "driver ixy tells an ntuple rule otherwise than it was set");
    EXPECT_TRUE(driver_.rules.empty()) << "deleted by its place";
    EXPECT_FALSE(driver_.filters_on || driver_.rss_is_set || has_notes());
  }
  driver_ = {};
  driver_.tells_vlan = false;
  auto rules = open();
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->reason(), "driver ixy sorts by ntuple filters, which name the address and not the VLAN");
  rules.reset();
  EXPECT_TRUE(driver_.rules.empty() && !has_notes());
}

TEST_F(NtupleRulesTest, are_not_used_if_the_trial_leaves_one_and_that_one_stays_noted) {
  for (const int error : {0, EBUSY}) {
    driver_ = {};
    driver_.deletes = false;
    driver_.delete_error = error;
    EXPECT_EQ(refusal(), "driver ixy keeps an ntuple rule that was deleted");
    EXPECT_EQ(driver_.rules.size(), 1U) << "and no second trial";
    ASSERT_TRUE(read_note());
    EXPECT_EQ(read_note()->rules.size(), 1U);
    EXPECT_TRUE(read_note()->switched_on && driver_.filters_on) << "later, when there are no rules";
    driver_.deletes = true;
    driver_.delete_error = 0;
    EXPECT_EQ(NtupleRules::put_back(driver_.asks(), *read_note()), 0);
    EXPECT_FALSE(!driver_.rules.empty() || driver_.filters_on || has_notes());
  }
  driver_ = {};
  driver_.deletes = driver_.tells_rules = false;
  EXPECT_EQ(refusal(), "driver ixy keeps an ntuple rule that was deleted");
}

TEST_F(NtupleRulesTest, are_set_and_cleared_and_all_is_as_it_was_when_they_go) {
  auto rules = open();
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->queues(), 3U);
  EXPECT_EQ(rules->reason(), "driver ixy sorts by ntuple filters");
  EXPECT_TRUE(driver_.filters_on);
  EXPECT_EQ(driver_.rss, Table(8, 0));
  EXPECT_TRUE(driver_.rules.empty()) << "the trial's";
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  ASSERT_TRUE(rules->set(3, {other_mac, 0}));
  EXPECT_EQ(driver_.rules.size(), 2U);
  EXPECT_TRUE(has({{mac, 101}, true, 1}));
  EXPECT_TRUE(has({{other_mac, 0}, false, 3}));
  rules->clear(1);
  rules->clear(2);
  EXPECT_EQ(driver_.rules.size(), 1U);
  EXPECT_TRUE(has({{other_mac, 0}, false, 3}));
  rules.reset();
  EXPECT_TRUE(driver_.rules.empty());
  EXPECT_EQ(driver_.rss, (Table{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_FALSE(driver_.rss_is_set) << "the kernel's own table, and not one that looks like it";
  EXPECT_FALSE(driver_.filters_on);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(NtupleRulesTest, leave_filters_that_were_on_and_a_table_that_somebody_had_set) {
  for (const Table& set : {Table{0, 1, 0, 1, 0, 1, 0, 1}, Table{3, 3, 3, 3, 3, 3, 3, 3}, Table(8, 0)}) {
    driver_.filters_on = true;
    driver_.rss = set;
    driver_.rss_is_set = true;
    open().reset();
    EXPECT_TRUE(driver_.filters_on);
    EXPECT_TRUE(driver_.rss_is_set);
    EXPECT_EQ(driver_.rss, set);
  }
  auto rules = open();
  driver_.rss = {2, 2, 2, 2, 2, 2, 2, 2};  // meanwhile
  rules.reset();
  EXPECT_EQ(driver_.rss, Table(8, 2));
}

TEST_F(NtupleRulesTest, name_the_address_alone_where_the_driver_takes_no_vlan) {
  driver_.takes_vlan = false;
  auto rules = open();
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->reason(), "driver ixy sorts by ntuple filters, which name the address and not the VLAN");
  ASSERT_TRUE(rules->set(2, {mac, 101}));
  EXPECT_TRUE(has({{mac, 101}, false, 2}));
  driver_.takes_vlan = true;
  ASSERT_TRUE(rules->set(3, {other_mac, 101}));
  EXPECT_TRUE(has({{other_mac, 101}, false, 3}));
}

TEST_F(NtupleRulesTest, that_the_driver_refuses_leave_all_as_it_was) {
  auto rules = open();
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  driver_.takes_vlan = false;  // later
  ASSERT_TRUE(rules->set(2, {other_mac, 101}));
  EXPECT_TRUE(has({{other_mac, 101}, false, 2}));
  driver_.takes_address = false;
  const auto refused = rules->set(3, {mac, 102});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(mac.to_string()), std::string::npos) << refused.error().message;
  EXPECT_EQ(driver_.rules.size(), 2U);
}

TEST_F(NtupleRulesTest, of_somebody_else_that_come_later_are_neither_taken_over_nor_deleted) {
  auto rules = open();
  driver_.rules[15] = foreign_rule();
  driver_.rules[13] = foreign_rule();
  for (std::uint32_t queue = 1; queue <= 3; ++queue)
    ASSERT_TRUE(rules->set(queue, {mac, static_cast<std::uint16_t>(queue)}));
  ASSERT_EQ(driver_.rules.size(), 5U);
  for (auto& [place, rule] : driver_.rules) {
    if (rule.ring_cookie == 3 && rule.flow_type != TCP_V4_FLOW) rule.ring_cookie = 1;  // ours, and changed since
  }
  rules.reset();
  EXPECT_EQ(driver_.rules.size(), 3U);
  EXPECT_TRUE(driver_.rules.contains(13) && driver_.rules.contains(15));
  EXPECT_TRUE(driver_.filters_on) << "switched off, it would drop them";
  EXPECT_FALSE(has_notes());
}

TEST_F(NtupleRulesTest, that_the_driver_does_not_delete_stay_noted_until_it_does) {
  const NtupleRule kept{{mac, 101}, true, 1};
  for (const bool says_so : {true, false}) {
    driver_ = {};
    auto rules = open();
    ASSERT_TRUE(rules);
    ASSERT_TRUE(rules->set(1, kept.filter));
    driver_.delete_error = says_so ? EBUSY : 0;
    driver_.deletes = says_so;
    rules->clear(1);
    ASSERT_TRUE(read_note());
    EXPECT_EQ(read_note()->rules, std::vector{kept});
    ASSERT_TRUE(rules->set(1, {other_mac, 102}));
    driver_.delete_error = 0;
    driver_.deletes = true;
    rules->clear(1);
    EXPECT_TRUE(driver_.rules.empty()) << "all of that queue";
    EXPECT_TRUE(read_note()->rules.empty());
    rules.reset();
    EXPECT_FALSE(has_notes());
  }
}

TEST_F(NtupleRulesTest, that_the_driver_does_not_delete_are_no_more_than_a_note_takes) {
  driver_.size = 1000;
  auto rules = open();
  ASSERT_TRUE(rules);
  driver_.delete_error = EBUSY;
  for (std::uint16_t vid = 1; vid <= model::xdp_queues_max; ++vid) {
    ASSERT_TRUE(rules->set(1, {mac, vid}));
    rules->clear(1);
  }
  ASSERT_TRUE(read_note());
  EXPECT_EQ(read_note()->rules.size(), model::xdp_queues_max);
  EXPECT_FALSE(rules->set(1, {mac, 1000}));
  driver_.delete_error = 0;
  rules.reset();
  EXPECT_TRUE(driver_.rules.empty() && !has_notes());
}

TEST_F(NtupleRulesTest, are_at_most_as_many_as_the_driver_has_places_for) {
  driver_.size = 2;
  auto rules = open();
  EXPECT_EQ(rules->queues(), 2U);
  ASSERT_TRUE(rules->set(1, {mac, 1}));
  ASSERT_TRUE(rules->set(2, {mac, 2}));
  EXPECT_FALSE(rules->set(3, {mac, 3}));
}

TEST_F(NtupleRulesTest, lie_where_the_driver_puts_them_if_it_chooses_itself) {
  driver_.chooses_place = true;
  auto rules = open();
  ASSERT_TRUE(rules);
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  ASSERT_TRUE(rules->set(2, {other_mac, 0}));
  EXPECT_EQ(driver_.rules.size(), 2U);
  rules->clear(1);
  EXPECT_EQ(driver_.rules.size(), 1U);
  rules.reset();
  EXPECT_TRUE(driver_.rules.empty());
}

TEST_F(NtupleRulesTest, are_not_set_where_nothing_can_be_noted) {
  const auto opened = NtupleRules::open(driver_.asks(), 4, NtupleNote::of(dir_.path() + "/none", lo_index));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message, dir_.path() + "/none/ntuple+1 cannot be written: No such file or directory");
  EXPECT_FALSE(driver_.filters_on || driver_.rss_is_set);
  driver_.filters_on = true;  // so the first to be noted is the trial's rule
  const auto in_trial = NtupleRules::open(driver_.asks(), 4, NtupleNote::of(dir_.path() + "/none", lo_index));
  ASSERT_FALSE(in_trial);
  EXPECT_EQ(in_trial.error().message, opened.error().message);
  EXPECT_TRUE(driver_.rules.empty() && driver_.filters_on && !driver_.rss_is_set);
}

}  // namespace
}  // namespace patchbay::dataplane
