// Rules as bytes, and what is asked of a driver in which order. There is no NIC here: Driver only answers ethtool's requests as
// linux/ethtool.h says, and what a NIC does with its rules is seen nowhere but on one.
#include "dataplane/ports/ntuple_rules.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "tests/support/temp_dir.h"

namespace patchbay::dataplane {
namespace {

constexpr MacAddr mac{std::array<std::uint8_t, 6>{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}};
constexpr MacAddr other_mac{std::array<std::uint8_t, 6>{0x02, 0x11, 0x22, 0x33, 0x44, 0x56}};
using Table = std::vector<std::uint32_t>;

class Driver {
 public:
  bool has_rules = true;
  bool filters_on = false;
  bool filters_fixed = false;
  bool takes_vlan = true;
  bool takes_address = true;
  bool chooses_place = false;
  bool has_rss = true;
  std::uint32_t size = 16;
  std::uint32_t queues = 4;
  Table rss = {0, 1, 2, 3, 0, 1, 2, 3};
  bool rss_is_set = false;  // by somebody, and not the kernel's own
  std::map<std::uint32_t, ethtool_rx_flow_spec> rules;

  [[nodiscard]] NtupleRules::Ask asks() {
    return [this](void* command) {
      const int error = answer(command);
      errno = error;
      return error == 0;
    };
  }

 private:
  int answer(void* command) {
    std::uint32_t what = 0;
    std::memcpy(&what, command, sizeof what);
    switch (what) {
      case ETHTOOL_GDRVINFO:
        std::strcpy(static_cast<ethtool_drvinfo*>(command)->driver, "ixy");
        return 0;
      case ETHTOOL_GFLAGS:
        static_cast<ethtool_value*>(command)->data = ETH_FLAG_RXHASH | (filters_on ? ETH_FLAG_NTUPLE : 0);
        return 0;
      case ETHTOOL_SFLAGS: {
        const std::uint32_t flags = static_cast<ethtool_value*>(command)->data;
        EXPECT_NE(flags & ETH_FLAG_RXHASH, 0U) << "what is not ours is left alone";
        if (filters_fixed) return EOPNOTSUPP;
        filters_on = (flags & ETH_FLAG_NTUPLE) != 0;
        return 0;
      }
      case ETHTOOL_GRXFHINDIR:
      case ETHTOOL_SRXFHINDIR:
        return has_rss ? answer_rss(what, static_cast<std::uint32_t*>(command)) : EOPNOTSUPP;
      default:
        return answer_rules(what, static_cast<ethtool_rxnfc*>(command));
    }
  }

  int answer_rss(std::uint32_t what, std::uint32_t* words) {
    const auto length = static_cast<std::uint32_t>(rss.size());
    const std::uint32_t asked = std::exchange(words[1], length);
    if (what == ETHTOOL_GRXFHINDIR) {
      if (asked == 0) return 0;
      if (asked < length) return EINVAL;
      std::copy(rss.begin(), rss.end(), words + 2);
      return 0;
    }
    if (asked != 0 && asked != length) return EINVAL;
    rss_is_set = asked != 0;
    for (std::uint32_t i = 0; i < length; ++i) rss[i] = asked == 0 ? i % queues : words[2 + i];
    return 0;
  }

  int answer_rules(std::uint32_t what, ethtool_rxnfc* request) {
    if (what == ETHTOOL_GRXRINGS) {
      request->data = queues;
      return 0;
    }
    if (!has_rules) return EOPNOTSUPP;
    switch (what) {
      case ETHTOOL_GRXCLSRLCNT:
        request->data = chooses_place ? size | RX_CLS_LOC_SPECIAL : 0;
        request->rule_cnt = static_cast<std::uint32_t>(rules.size());
        return 0;
      case ETHTOOL_GRXCLSRLALL: {
        if (request->rule_cnt < rules.size()) return EMSGSIZE;
        request->data = size;
        request->rule_cnt = static_cast<std::uint32_t>(rules.size());
        auto* at = reinterpret_cast<std::uint8_t*>(request) + offsetof(ethtool_rxnfc, rule_locs);
        for (const auto& [place, rule] : rules) {
          std::memcpy(at, &place, sizeof place);
          at += sizeof place;
        }
        return 0;
      }
      case ETHTOOL_GRXCLSRULE:
        if (!rules.contains(request->fs.location)) return ENOENT;
        request->fs = rules.at(request->fs.location);
        return 0;
      case ETHTOOL_SRXCLSRLDEL:
        return rules.erase(request->fs.location) == 1 ? 0 : ENOENT;
      case ETHTOOL_SRXCLSRLINS:
        return insert(request->fs);
      default:
        return EOPNOTSUPP;
    }
  }

  int insert(ethtool_rx_flow_spec spec) {
    EXPECT_TRUE(filters_on);
    if (!takes_address || ((spec.flow_type & FLOW_EXT) != 0 && !takes_vlan)) return EINVAL;
    if (chooses_place) {
      if (spec.location != RX_CLS_LOC_ANY) return EINVAL;
      spec.location = rules.empty() ? 100 : rules.rbegin()->first + 1;
    }
    if (!chooses_place && spec.location >= size) return EINVAL;
    if (rules.contains(spec.location)) ADD_FAILURE() << "a rule is taken over";
    rules[spec.location] = spec;
    return 0;
  }
};

ethtool_rx_flow_spec foreign_rule() {
  ethtool_rx_flow_spec spec{};
  spec.flow_type = TCP_V4_FLOW;
  spec.ring_cookie = 2;
  return spec;
}

class NtupleRulesTest : public testing::Test {
 protected:
  [[nodiscard]] NtupleNote note() const { return NtupleNote::of(dir_.path(), "lo"); }
  std::unique_ptr<NtupleRules> open() {
    auto opened = NtupleRules::open(driver_.asks(), driver_.queues, note());
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  std::string refusal(std::uint32_t queues = 4) {
    const auto opened = NtupleRules::open(driver_.asks(), queues, note());
    return opened ? "" : opened.error().message;
  }
  [[nodiscard]] bool has(const NtupleRule& rule) const {
    return std::count_if(driver_.rules.begin(), driver_.rules.end(),
                         [&rule](const auto& there) { return is_rule(there.second, rule); }) == 1;
  }

  test::TempDir dir_;
  Driver driver_;
};

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

// ---- After a crash --------------------------------------------------------------------------------------------------

TEST_F(NtupleRulesTest, that_a_killed_run_left_go_by_its_note_and_others_stay) {
  driver_.rss = {1, 1, 2, 2, 3, 3, 0, 0};
  driver_.rss_is_set = true;
  auto rules = open();
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  ASSERT_TRUE(rules->set(3, {other_mac, 0}));
  EXPECT_EQ(NtupleNote::nics_in(dir_.path()), std::vector<std::string>{"lo"});
  auto noted = NtupleNote::read(dir_.path(), "lo");
  ASSERT_TRUE(noted);
  Driver killed = driver_;
  rules.reset();
  killed.rules[0] = foreign_rule();
  killed.rules[1] = flow_spec_of({{mac, 101}, true, 2}, 1);  // nearly ours
  ASSERT_TRUE(noted->write());
  NtupleRules::put_back(killed.asks(), *noted);
  EXPECT_EQ(killed.rules.size(), 2U);
  EXPECT_TRUE(killed.rules.contains(0) && killed.rules.contains(1));
  EXPECT_EQ(killed.rss, (Table{1, 1, 2, 2, 3, 3, 0, 0}));
  EXPECT_FALSE(killed.filters_on);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(NtupleRulesTest, have_a_note_that_says_nothing_of_another_boot_or_if_it_is_not_whole) {
  NtupleNote made = note();
  made.switched_on = true;
  made.rss = {0, 1};
  made.rules = {{{mac, 101}, true, 1}, {{other_mac, 0}, false, 2}};
  ASSERT_TRUE(made.write());
  EXPECT_EQ(NtupleNote::read(dir_.path(), "lo"), made);
  std::ifstream file(made.path);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  for (std::size_t size = 0; size + 1 < whole.size(); ++size) {
    std::ofstream(made.path, std::ios::trunc) << whole.substr(0, size);
    ASSERT_FALSE(NtupleNote::read(dir_.path(), "lo")) << whole.substr(0, size);
  }
  made.about += "0";
  ASSERT_TRUE(made.write());
  EXPECT_FALSE(NtupleNote::read(dir_.path(), "lo"));
  EXPECT_FALSE(NtupleNote::read(dir_.path(), "eth7"));
  made.remove();
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(NtupleRulesTest, are_not_set_where_nothing_can_be_noted) {
  const auto opened = NtupleRules::open(driver_.asks(), 4, NtupleNote::of(dir_.path() + "/none", "lo"));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("/none/ntuple+lo"), std::string::npos) << opened.error().message;
  EXPECT_FALSE(driver_.filters_on || driver_.rss_is_set);
}

}  // namespace
}  // namespace patchbay::dataplane
