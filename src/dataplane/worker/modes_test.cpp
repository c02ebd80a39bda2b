// Every VLAN mode beside every other on one switch: frames in, frames out, through the worker and fake ports. The table
// is docs/reference/forwarding.md's, frame by frame.
#include <gtest/gtest.h>

#include <map>

#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;
using test::SwitchBench;
using test::tag;

constexpr const char* everyone = "ff:ff:ff:ff:ff:ff";
constexpr const char* outside = "02:aa:00:00:00:01";
constexpr std::size_t wire = 0;

VlanId id(std::uint16_t raw) {
  return *VlanId::from(raw);
}
VlanSet ids(const char* list) {
  return *VlanSet::parse(list);
}
model::VlanMode access(std::uint16_t vid) {
  return model::Access{id(vid)};
}

struct Named {
  const char* name;
  model::VlanMode mode;
};
// Port i of the switch is vnic i - 1 here.
const std::vector<Named>& vnics() {
  static const std::vector<Named> all = {
      {"plain", model::Untagged{}},
      {"a10", access(10)},
      {"b10", access(10)},
      {"a20", access(20)},
      {"trunk", model::Trunk{ids("10,20,30"), {}, std::optional(id(10))}},            // native 10
      {"pruned", model::Trunk{ids("10,20,30"), ids("20"), std::optional<VlanId>()}},  // native: untagged
      {"strict", model::Trunk{ids("20,30"), {}, std::nullopt}},                       // no native
      {"iso1", model::Isolated{id(100), id(101)}},
      {"iso2", model::Isolated{id(100), id(101)}},
      {"com1", model::Community{id(100), id(102)}},
      {"com2", model::Community{id(100), id(102)}},
      {"other", model::Community{id(100), id(103)}},
      {"prom", model::Promiscuous{id(100), ids("101-103")}},
      {"a100", access(100)},
  };
  return all;
}

std::size_t port_of(const std::string& name) {
  if (name == "wire") return wire;
  for (std::size_t i = 0; i < vnics().size(); ++i) {
    if (name == vnics()[i].name) return i + 1;
  }
  ADD_FAILURE() << "no port is called " << name;
  return 0;
}

std::unique_ptr<SwitchBench> make_bench() {
  std::vector<SwitchBench::Vnic> made;
  for (const Named& vnic : vnics()) {
    SwitchBench::Vnic one;
    one.vlan = vnic.mode;
    made.push_back(one);
  }
  return std::make_unique<SwitchBench>(std::move(made));
}

// What comes out where: {"trunk": "20", "a20": ""} is with a tag of VLAN 20 at one and without at the other.
using Seen = std::map<std::string, std::string>;

Seen parse(const std::string& text) {
  Seen seen;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    const std::size_t slash = word.find('/');
    seen[word.substr(0, slash)] = slash == std::string::npos ? "" : word.substr(slash + 1);
    at = end + 1;
  }
  return seen;
}

struct Row {
  const char* from;
  std::string tags;  // that the frame comes with
  std::string seen;  // "a20 trunk/20 wire/20"; empty: dropped
  DropReason reason = DropReason::vlan_not_allowed;
};

const DropReason nobody = DropReason::no_destination;

std::vector<Row> rows() {
  const std::string private_all = "iso1 iso2 com1 com2 other prom a100";
  const std::string ten = "a10 b10 trunk pruned/10 wire/10";
  const std::string twenty = "a20 trunk/20 strict/20 wire/20";
  return {
      {"plain", "", "pruned wire"},
      {"plain", tag(0), "pruned wire"},
      {"plain", tag(10), ""},
      {"a10", "", ten},
      {"a10", tag(0, 0x8100, 5), ten},
      {"a10", tag(10), ""},
      {"a10", tag(20), ""},
      {"a10", tag(0) + tag(20), ""},
      {"a20", "", twenty},
      {"trunk", "", ten},
      {"trunk", tag(0), ten},
      {"trunk", tag(10), ten},
      {"trunk", tag(20), twenty},
      {"trunk", tag(30), "pruned/30 strict/30 wire/30"},
      {"trunk", tag(40), ""},
      {"trunk", tag(4095), ""},
      {"trunk", tag(20, 0x88A8), ""},
      {"trunk", tag(10) + tag(20), ""},  // would be VLAN 20 wherever 10 leaves without its tag
      {"trunk", tag(20) + tag(30), twenty},
      {"pruned", "", "plain wire"},
      {"pruned", tag(10), ten},
      {"pruned", tag(20), ""},
      {"pruned", tag(30), "trunk/30 strict/30 wire/30"},
      {"strict", "", ""},
      {"strict", tag(0), ""},
      {"strict", tag(10), ""},
      {"strict", tag(20), twenty},
      {"iso1", "", "prom wire/101"},
      {"iso1", tag(101), ""},
      {"iso1", tag(100), ""},
      {"com1", "", "com2 prom wire/102"},
      {"other", "", "prom wire/103"},
      {"prom", "", private_all + " wire/100"},
      {"prom", tag(101), ""},
      {"a100", "", private_all + " wire/100"},
      {"wire", "", "plain pruned"},
      {"wire", tag(0, 0x8100, 5), "plain pruned"},
      {"wire", tag(10), ten},
      {"wire", tag(20, 0x8100, 7), twenty},
      {"wire", tag(30), "trunk/30 pruned/30 strict/30"},
      {"wire", tag(100), private_all},
      {"wire", tag(101), "prom"},
      {"wire", tag(102), "com1 com2 prom"},
      {"wire", tag(103), "other prom"},
      {"wire", tag(40), "", nobody},
      {"wire", tag(4095), ""},
      {"wire", tag(0) + tag(10), ""},
  };
}

std::string mac_of(std::size_t port) {
  return port == wire ? outside : SwitchBench::mac(port);
}

Seen collect(const SwitchBench& bench) {
  Seen seen;
  for (std::size_t port = 0; port < bench.fakes.size(); ++port) {
    const auto sent = bench.fakes[port]->sent();
    EXPECT_LE(sent.size(), 1U) << "more than one copy at port " << port;
    if (sent.empty()) continue;
    const std::string name = port == wire ? "wire" : vnics()[port - 1].name;
    seen[name] = sent[0].tagged ? std::to_string(sent[0].tci & 0x0FFF) : "";
  }
  return seen;
}

std::string name_of(const Row& row, const std::string& what) {
  std::string name = std::string(row.from) + " sends " + what + ", tags";
  for (const char c : row.tags) name += " " + std::to_string(static_cast<unsigned char>(c));
  return name;
}

TEST(VlanModes, a_broadcast_reaches_whom_the_table_says_and_nobody_else) {
  for (const Row& row : rows()) {
    SCOPED_TRACE(name_of(row, "to all"));
    const auto bench = make_bench();
    const std::size_t from = port_of(row.from);
    bench->fakes[from]->arrive(ethernet(everyone, mac_of(from).c_str(), row.tags));
    bench->worker->poll_once();
    Seen wanted = parse(row.seen);
    wanted.erase(row.from);
    EXPECT_EQ(collect(*bench), wanted);
    const auto drops = bench->port(from).counters().drops;
    if (wanted.empty()) {
      EXPECT_EQ(drops[static_cast<std::size_t>(row.reason)], 1U);
    }
    EXPECT_EQ(bench->imbalance(), 0);
  }
}

// To each of the other ports' addresses: it gets the frame exactly if it hears the sender's broadcasts, in the same form.
TEST(VlanModes, unicast_reaches_a_vnic_exactly_if_broadcasts_do) {
  const auto bench = make_bench();
  for (const Row& row : rows()) {
    const std::size_t from = port_of(row.from);
    const Seen hears = parse(row.seen);
    for (std::size_t to = 1; to <= vnics().size(); ++to) {
      if (to == from) continue;
      const std::string name = vnics()[to - 1].name;
      SCOPED_TRACE(name_of(row, "to " + name));
      for (const auto& fake : bench->fakes) fake->forget_sent();
      bench->fakes[from]->arrive(ethernet(mac_of(to).c_str(), mac_of(from).c_str(), row.tags));
      bench->worker->poll_once();
      Seen wanted;
      if (const auto found = hears.find(name); found != hears.end()) {
        wanted.insert(*found);
      } else if (const auto out = hears.find("wire"); out != hears.end() && from != wire) {
        wanted.insert(*out);  // whoever has that address in this VLAN is out there
      }
      EXPECT_EQ(collect(*bench), wanted);
      EXPECT_EQ(bench->imbalance(), 0);
    }
  }
}

TEST(VlanModes, change_while_frames_wait_and_disturb_nobody) {
  const auto bench = make_bench();
  const std::size_t a10 = port_of("a10");
  const std::size_t a20 = port_of("a20");
  for (const Named& vnic : vnics()) {
    SwitchBench::Vnic to;
    to.vlan = vnic.mode;
    // From its mode to every other mode and back, with a frame of two bystanders before each change.
    for (const auto& other : vnics()) {
      SwitchBench::Vnic next;
      next.vlan = other.mode;
      bench->fakes[a20]->arrive(ethernet(everyone, mac_of(a20).c_str()));
      bench->change(a10, next);
      bench->change(a10, to);
      bench->worker->poll_once();
      EXPECT_EQ(bench->fakes[wire]->sent().size(), 1U);
      EXPECT_EQ(bench->fakes[wire]->sent()[0].tci, 20);
      for (const auto& fake : bench->fakes) fake->forget_sent();
    }
  }
  EXPECT_EQ(bench->imbalance(), 0);
}

TEST(VlanModes, priorities_of_a_guest_become_0_unless_they_are_trusted) {
  struct Case {
    bool trusted;
    std::uint16_t vid;
    std::string tags;
    bool tagged;
    std::uint16_t tci;
  };
  for (const Case& c :
       {Case{false, 10, tag(0, 0x8100, 5), true, 10}, Case{true, 10, tag(0, 0x8100, 5), true, 5 << 13 | 10},
        Case{true, 10, "", true, 10}, Case{true, 0, tag(0, 0x8100, 7), true, 7 << 13},
        Case{false, 0, tag(0, 0x8100, 7), false, 0}, Case{true, 0, tag(0), false, 0}}) {
    SwitchBench::Vnic vnic;
    vnic.vid = c.vid;
    vnic.trust_priority = c.trusted;
    SwitchBench bench(std::vector<SwitchBench::Vnic>{vnic});
    bench.fakes[1]->arrive(ethernet(outside, mac_of(1).c_str(), c.tags));
    bench.worker->poll_once();
    ASSERT_EQ(bench.fakes[wire]->sent().size(), 1U);
    const auto& sent = bench.fakes[wire]->sent()[0];
    EXPECT_EQ(sent.tagged, c.tagged);
    EXPECT_EQ(sent.tci, c.tci);
    EXPECT_EQ(sent.text(), ethernet(outside, mac_of(1).c_str()));
  }
}

TEST(VlanModes, priorities_of_the_wire_reach_trunks_and_drop_eligible_does_not) {
  SwitchBench::Vnic trunk;
  trunk.vlan = model::Trunk{ids("20"), {}, std::nullopt};
  SwitchBench bench(std::vector<SwitchBench::Vnic>{trunk});
  bench.fakes[wire]->arrive(
      ethernet(mac_of(1).c_str(), outside, test::be16(0x8100) + test::be16(6 << 13 | 1 << 12 | 20)));
  bench.worker->poll_once();
  ASSERT_EQ(bench.fakes[1]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[1]->sent()[0].tci, 6 << 13 | 20);
}

TEST(VlanModes, a_tag_does_not_count_against_the_mtu) {
  SwitchBench::Vnic trunk;
  trunk.vlan = model::Trunk{ids("20"), {}, std::nullopt};
  for (const std::size_t payload : {1500U, 1501U}) {
    SwitchBench bench(std::vector<SwitchBench::Vnic>{trunk, {20}});
    bench.fakes[1]->arrive(ethernet(mac_of(2).c_str(), mac_of(1).c_str(), tag(20), payload));
    bench.fakes[2]->arrive(ethernet(mac_of(1).c_str(), mac_of(2).c_str(), "", payload));
    bench.worker->poll_once();
    const std::size_t passes = payload == 1500 ? 1 : 0;
    EXPECT_EQ(bench.fakes[1]->sent().size(), passes);
    EXPECT_EQ(bench.fakes[2]->sent().size(), passes);
    for (const std::size_t vnic : {1U, 2U}) {
      EXPECT_EQ(bench.port(vnic).counters().drops[static_cast<std::size_t>(DropReason::oversize)], 1 - passes);
    }
  }
}

}  // namespace
}  // namespace patchbay::dataplane
