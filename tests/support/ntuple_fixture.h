// What ntuple rules are tested against. There is no NIC: NtupleDriver only answers ethtool's requests as linux/ethtool.h says, and
// what a NIC does with its rules is seen nowhere but on one.
#pragma once
#include <gtest/gtest.h>
#include <linux/ethtool.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/ports/ntuple_rules.h"
#include "tests/support/temp_dir.h"

namespace patchbay::dataplane::test {

inline constexpr MacAddr mac{std::array<std::uint8_t, 6>{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}};
inline constexpr MacAddr other_mac{std::array<std::uint8_t, 6>{0x02, 0x11, 0x22, 0x33, 0x44, 0x56}};
constexpr unsigned lo_index = 1;             // there is such an interface on every system
constexpr unsigned gone_index = 0x7FFFFFFF;  // and never such a one
using Table = std::vector<std::uint32_t>;

class NtupleDriver {
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
  int error = 0;           // what it answers to everything
  int delete_error = 0;    // …to requests that delete a rule
  bool deletes = true;     // false: it only says so
  bool tells_vlan = true;  // false: of rules with a VLAN it tells another
  bool tells_rules = true;
  std::uint32_t foreign_count = 0;  // rules that it counts beside those above

  [[nodiscard]] NtupleRules::Ask asks() {
    return [this](void* command) {
      const int answered = error != 0 ? error : answer(command);
      errno = answered;
      return answered == 0;
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
        if (!filters_on) rules.clear();  // as igb, igc and atlantic do
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
        request->rule_cnt = static_cast<std::uint32_t>(rules.size()) + foreign_count;
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
        if (!tells_rules || (!tells_vlan && (request->fs.flow_type & FLOW_EXT) != 0)) request->fs.ring_cookie = 0;
        return 0;
      case ETHTOOL_SRXCLSRLDEL:
        if (delete_error != 0) return delete_error;
        if (!deletes) return rules.contains(request->fs.location) ? 0 : ENOENT;
        return rules.erase(request->fs.location) == 1 ? 0 : ENOENT;
      case ETHTOOL_SRXCLSRLINS:
        return insert(request->fs);
      default:
        return EOPNOTSUPP;
    }
  }

  int insert(ethtool_rx_flow_spec& spec) {
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

inline ethtool_rx_flow_spec foreign_rule() {
  ethtool_rx_flow_spec spec{};
  spec.flow_type = TCP_V4_FLOW;
  spec.ring_cookie = 2;
  return spec;
}

class NtupleFixture : public testing::Test {
 protected:
  [[nodiscard]] NtupleNote note() const { return NtupleNote::of(dir_.path(), lo_index); }
  [[nodiscard]] Result<NtupleNote> read_note() const { return NtupleNote::read(note().path); }
  [[nodiscard]] ErrorCode read_error() const {
    const auto read = read_note();
    return read ? ErrorCode::internal : read.error().code;
  }
  [[nodiscard]] bool has_notes() const { return !std::filesystem::is_empty(dir_.path()); }
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

  patchbay::test::TempDir dir_;
  NtupleDriver driver_;
};

}  // namespace patchbay::dataplane::test
