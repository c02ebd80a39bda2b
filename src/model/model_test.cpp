#include <gtest/gtest.h>

#include <set>

#include "model/host.h"
#include "model/mac_pool.h"
#include "model/name.h"

namespace patchbay::model {
namespace {

Switch make_switch(const std::string& name, SwitchType type, const std::string& uplink = "") {
  Switch made;
  made.name = name;
  made.type = type;
  made.uplink = uplink;
  return made;
}

Vnic make_vnic(const std::string& name, const std::string& on, std::uint64_t mac) {
  Vnic made;
  made.name = name;
  made.switch_name = on;
  made.mac = MacAddr::from_uint64(0x020000000000 + mac);
  return made;
}

// External sw1 on eth1, internal in1, private pr1; vm1 (VLAN 101) and vm2 on sw1.
Host example() {
  Host host;
  host = *add_switch(host, make_switch("sw1", SwitchType::external, "eth1"));
  host = *add_switch(host, make_switch("in1", SwitchType::internal));
  host = *add_switch(host, make_switch("pr1", SwitchType::private_));
  Vnic vm1 = make_vnic("vm1", "sw1", 1);
  vm1.vlan = Access{*VlanId::from(101)};
  host = *add_vnic(host, vm1);
  return *add_vnic(host, make_vnic("vm2", "sw1", 2));
}

// Expects a refusal with `code` whose sentence has every one of `parts`.
template <typename T>
void expect_refused(const Result<T>& result, ErrorCode code, std::initializer_list<std::string> parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const auto& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << " in: " << result.error().message;
  }
}

TEST(Name, takes_63_characters_of_the_set_and_nothing_else) {
  for (const std::string& good :
       {std::string("a"), std::string("0"), std::string("vm-1.web_A"), std::string(63, 'x')}) {
    EXPECT_TRUE(check_name("vnic", good)) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("-a"), std::string("a/b"), std::string("a b"),
        std::string("_a"), std::string("a\n"), std::string("a\0b", 3), std::string("\xc3\xa4"), std::string(64, 'x')}) {
    expect_refused(check_name("vnic", bad), ErrorCode::invalid, {"vnic"});
  }
  EXPECT_TRUE(check_name("vnic", std::string(15, 'x'), interface_name_size_max));
  expect_refused(check_name("vnic", std::string(16, 'x'), interface_name_size_max), ErrorCode::invalid, {"16", "15"});
  expect_refused(check_name("switch", "a\nb"), ErrorCode::invalid, {"switch name 'a?b'"});
}

TEST(Switch, of_type_external_has_exactly_one_uplink_and_others_none) {
  expect_refused(add_switch({}, make_switch("s", SwitchType::external)), ErrorCode::invalid, {"switch s", "NIC"});
  expect_refused(add_switch({}, make_switch("s", SwitchType::internal, "eth1")), ErrorCode::invalid, {"switch s"});
  expect_refused(add_switch({}, make_switch("s", SwitchType::private_, "eth1")), ErrorCode::invalid, {"switch s"});
  expect_refused(add_switch({}, make_switch("s", SwitchType::external, "a/b")), ErrorCode::invalid, {"a/b"});
  EXPECT_TRUE(add_switch({}, make_switch("s", SwitchType::external, "eth1")));
}

TEST(Switch, second_external_on_a_nic_is_refused_naming_the_first) {
  expect_refused(add_switch(example(), make_switch("sw2", SwitchType::external, "eth1")), ErrorCode::exists,
                 {"eth1", "sw1"});
  EXPECT_TRUE(add_switch(example(), make_switch("sw2", SwitchType::external, "eth2")));
}

TEST(Switch, name_is_unique) {
  expect_refused(add_switch(example(), make_switch("in1", SwitchType::private_)), ErrorCode::exists, {"switch in1"});
}

TEST(Switch, mtu_has_both_limits) {
  for (const auto& [mtu, good] : {std::pair{575, false}, {576, true}, {9000, true}, {9001, false}}) {
    Switch changed = make_switch("in1", SwitchType::internal);
    changed.mtu = static_cast<std::uint16_t>(mtu);
    EXPECT_EQ(set_switch(example(), changed).has_value(), good) << mtu;
  }
}

TEST(Switch, set_changes_neither_type_nor_uplink) {
  Switch changed = make_switch("sw1", SwitchType::private_);
  changed.mtu = 1400;
  const auto host = set_switch(example(), changed);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->switches.at("sw1").uplink, "eth1");
  EXPECT_EQ(host->switches.at("sw1").type, SwitchType::external);
  EXPECT_EQ(host->switches.at("sw1").mtu, 1400);
  expect_refused(set_switch(example(), make_switch("nope", SwitchType::internal)), ErrorCode::not_found, {"nope"});
}

TEST(Switch, forced_vlan_is_refused_while_vnics_have_another) {
  Switch changed = make_switch("sw1", SwitchType::external, "eth1");
  changed.force_vlan = VlanId::from(102);
  expect_refused(set_switch(example(), changed), ErrorCode::in_use, {"sw1", "102", "vm1 (VLAN 101)"});
  changed.force_vlan = VlanId::from(101);
  const auto host = set_switch(example(), changed);
  ASSERT_TRUE(host);
  EXPECT_EQ(effective_vlan(host->switches.at("sw1"), host->vnics.at("vm2")), VlanMode(Access{*VlanId::from(101)}));
}

TEST(Switch, with_vnics_cannot_be_removed_and_names_them_up_to_a_limit) {
  Host host = example();
  expect_refused(remove_switch(host, "sw1"), ErrorCode::in_use, {"sw1", "2 vnics: vm1, vm2;"});
  for (int i = 3; i <= 12; ++i) {
    host = *add_vnic(host, make_vnic("vn" + std::to_string(i + 10), "sw1", static_cast<unsigned>(i)));
  }
  expect_refused(remove_switch(host, "sw1"), ErrorCode::in_use, {"12 vnics: vm1, vm2, vn13", "vn20 and 2 more;"});
  EXPECT_TRUE(remove_switch(host, "in1"));
  expect_refused(remove_switch(host, "nope"), ErrorCode::not_found, {"switch nope"});
}

TEST(Vnic, needs_a_switch_that_exists_and_a_free_name) {
  expect_refused(add_vnic(example(), make_vnic("vm3", "nope", 3)), ErrorCode::not_found, {"vm3", "switch nope"});
  expect_refused(add_vnic(example(), make_vnic("vm1", "in1", 3)), ErrorCode::exists, {"vnic vm1"});
}

TEST(Vnic, of_the_host_is_not_possible_on_a_private_switch) {
  Vnic mgmt = make_vnic("mgmt", "pr1", 3);
  mgmt.kind = VnicKind::host;
  expect_refused(add_vnic(example(), mgmt), ErrorCode::invalid, {"mgmt", "pr1", "private"});
  mgmt.switch_name = "in1";
  EXPECT_TRUE(add_vnic(example(), mgmt));
}

TEST(Vnic, of_the_host_has_an_interface_name) {
  Vnic mgmt = make_vnic(std::string(16, 'm'), "in1", 3);
  EXPECT_TRUE(add_vnic(example(), mgmt));
  mgmt.kind = VnicKind::host;
  expect_refused(add_vnic(example(), mgmt), ErrorCode::invalid, {mgmt.name, "15"});
}

TEST(Vnic, of_the_host_and_a_nic_never_share_a_name) {
  Vnic mgmt = make_vnic("eth1", "in1", 3);
  mgmt.kind = VnicKind::host;
  expect_refused(add_vnic(example(), mgmt), ErrorCode::exists, {"eth1", "sw1"});
  mgmt.name = "eth2";
  const Host host = *add_vnic(example(), mgmt);
  expect_refused(add_switch(host, make_switch("sw2", SwitchType::external, "eth2")), ErrorCode::exists,
                 {"sw2", "eth2", "host vnic of switch in1"});
}

TEST(Vnic, mac_is_a_station_address_and_unique_on_the_host) {
  struct Case {
    const char* mac;
    ErrorCode code;
    const char* part;
  };
  for (const Case& c : {Case{"01:00:5e:00:00:01", ErrorCode::invalid, "multicast"},
                        Case{"ff:ff:ff:ff:ff:ff", ErrorCode::invalid, "multicast"},
                        Case{"00:00:00:00:00:00", ErrorCode::invalid, "zeros"},
                        Case{"02:00:00:00:00:01", ErrorCode::exists, "vnic vm1 already"}}) {
    Vnic added = make_vnic("vm3", "in1", 3);
    added.mac = *MacAddr::parse(c.mac);
    expect_refused(add_vnic(example(), added), c.code, {"vm3", c.mac, c.part});
    Vnic changed = example().vnics.at("vm2");
    changed.mac = added.mac;
    expect_refused(set_vnic(example(), changed), c.code, {"vm2", c.mac, c.part});
  }
  EXPECT_TRUE(set_vnic(example(), example().vnics.at("vm1"))) << "its own address is no duplicate";
}

TEST(Vnic, with_another_vlan_than_the_forced_one_is_refused) {
  Switch forced = make_switch("in1", SwitchType::internal);
  forced.force_vlan = VlanId::from(101);
  const Host host = *set_switch(example(), forced);
  Vnic added = make_vnic("vm3", "in1", 3);
  const auto untagged = add_vnic(host, added);
  ASSERT_TRUE(untagged);
  added.vlan = Access{*VlanId::from(101)};
  EXPECT_TRUE(add_vnic(host, added));
  added.vlan = Access{*VlanId::from(102)};
  expect_refused(add_vnic(host, added), ErrorCode::invalid, {"vm3", "in1", "101", "102"});
  expect_refused(set_vnic(*untagged, added), ErrorCode::invalid, {"vm3", "in1", "101", "102"});
}

TEST(Vnic, connects_to_an_absolute_path_that_no_other_uses) {
  Vnic added = make_vnic("vm3", "in1", 3);
  for (const auto& [path, good] : {std::pair{std::string("/a"), true},
                                   {std::string("a"), false},
                                   {"/" + std::string(106, 'a'), true},
                                   {"/" + std::string(107, 'a'), false},
                                   {std::string("/a\0b", 4), false}}) {
    added.connect = path;
    EXPECT_EQ(add_vnic(example(), added).has_value(), good) << path;
  }
  added.connect = "/a";
  const Host host = *add_vnic(example(), added);
  Vnic second = make_vnic("vm4", "in1", 4);
  second.connect = "/a";
  expect_refused(add_vnic(host, second), ErrorCode::exists, {"vm4", "vm3", "/a"});
  for (const char* other : {"//a", "/./a", "/x/../a"}) {
    second.connect = other;
    EXPECT_EQ(add_vnic(host, second).error().code, ErrorCode::exists) << other;
  }
  second.connect = "/b";
  second.kind = VnicKind::host;
  expect_refused(add_vnic(host, second), ErrorCode::invalid, {"vm4", "host vnic"});
}

TEST(Vnic, has_one_to_eight_queue_pairs_and_of_the_host_one) {
  const Host host = example();
  for (const std::uint16_t queues : std::initializer_list<std::uint16_t>{1, 2, 8}) {
    Vnic vnic = make_vnic("new", "sw1", 9);
    vnic.queues = queues;
    EXPECT_TRUE(add_vnic(host, vnic)) << queues;
  }
  for (const std::uint16_t queues : std::initializer_list<std::uint16_t>{0, 9, 65535}) {
    Vnic vnic = make_vnic("new", "sw1", 9);
    vnic.queues = queues;
    expect_refused(add_vnic(host, vnic), ErrorCode::invalid, {"vnic new", "queues", "1 to 8"});
  }
  Vnic vnic = make_vnic("new", "sw1", 9);
  vnic.kind = VnicKind::host;
  EXPECT_TRUE(add_vnic(host, vnic));
  vnic.queues = 2;
  expect_refused(add_vnic(host, vnic), ErrorCode::invalid, {"vnic new", "one queue pair", "--queues"});
}

TEST(Vnic, set_changes_queues_and_worker) {
  const Host host = example();
  Vnic changed = host.vnics.at("vm1");
  changed.queues = 4;
  changed.worker = 3;
  const auto set = set_vnic(host, changed);
  ASSERT_TRUE(set);
  EXPECT_EQ(set->vnics.at("vm1"), changed);
  changed.queues = 9;
  expect_refused(set_vnic(host, changed), ErrorCode::invalid, {"vnic vm1", "1 to 8"});
}

TEST(Vnic, set_changes_neither_switch_nor_kind) {
  Vnic changed = example().vnics.at("vm1");
  changed.switch_name = "in1";
  changed.kind = VnicKind::host;
  changed.vlan = Untagged{};
  const auto host = set_vnic(example(), changed);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->vnics.at("vm1").switch_name, "sw1");
  EXPECT_EQ(host->vnics.at("vm1").kind, VnicKind::guest);
  EXPECT_EQ(host->vnics.at("vm1").vlan, VlanMode(Untagged{}));
  expect_refused(remove_vnic(*host, "nope"), ErrorCode::not_found, {"vnic nope"});
  EXPECT_FALSE(remove_vnic(*host, "vm1")->vnics.contains("vm1"));
}

// ---- A whole host ----------------------------------------------------------------------------------------------------

std::vector<Switch> switches_of(const Host& host) {
  std::vector<Switch> switches;
  for (const auto& [name, on] : host.switches) switches.push_back(on);
  return switches;
}
std::vector<Vnic> vnics_of(const Host& host) {
  std::vector<Vnic> vnics;
  for (const auto& [name, vnic] : host.vnics) vnics.push_back(vnic);
  return vnics;
}

TEST(Host, made_at_once_is_the_same_as_made_one_by_one) {
  const Host host = example();
  const auto made = make_host(switches_of(host), vnics_of(host));
  ASSERT_TRUE(made) << made.error().error.message;
  EXPECT_EQ(*made, host);
  EXPECT_EQ(*make_host({}, {}), Host{});
}

TEST(Host, made_at_once_keeps_every_rule_and_names_who_breaks_it) {
  const auto refused = [](std::vector<Switch> switches, std::vector<Vnic> vnics, const std::string& object,
                          const std::string& part) {
    const auto made = make_host(switches, vnics);
    ASSERT_FALSE(made) << object;
    EXPECT_EQ(std::string(made.error().noun) + " " + made.error().name, object);
    EXPECT_NE(made.error().error.message.find(part), std::string::npos) << made.error().error.message;
  };
  const auto switches = switches_of(example());
  const auto vnics = vnics_of(example());
  auto more = switches;
  more.push_back(make_switch("sw2", SwitchType::external, "eth1"));
  refused(more, vnics, "switch sw2", "eth1");
  more.back() = make_switch("in1", SwitchType::private_);
  refused(more, vnics, "switch in1", "exists already");
  refused({}, vnics, "vnic vm1", "switch sw1 does not exist");
  auto others = vnics;
  others.push_back(make_vnic("vm3", "in1", 1));
  refused(switches, others, "vnic vm3", "belongs to vnic vm1");
  others.back() = make_vnic("vm1", "in1", 9);
  refused(switches, others, "vnic vm1", "exists already");
  others.back() = make_vnic("eth1", "in1", 9);
  others.back().kind = VnicKind::host;
  refused(switches, others, "vnic eth1", "name of switch sw1's NIC");
  others.back() = make_vnic("vm3", "in1", 9);
  others.back().vlan = Trunk{};
  refused(switches, others, "vnic vm3", "a trunk needs VLANs");
  others.back().vlan = Isolated{*VlanId::from(100), *VlanId::from(101)};
  others.push_back(others.back());
  others.back().name = "vm4";
  others.back().mac = MacAddr::from_uint64(0x02000000000a);
  EXPECT_TRUE(make_host(switches, others));
  others.back().vlan = Community{*VlanId::from(200), *VlanId::from(101)};
  refused(switches, others, "vnic vm4", "with vnic vm3, secondary VLAN 101 would belong to two primaries");
  others.back().switch_name = "sw1";
  EXPECT_TRUE(make_host(switches, others)) << "on another switch it is another VLAN";
  others.pop_back();
  more = switches;
  for (Switch& on : more) {
    if (on.type == SwitchType::external) on.share_with_host = "vm3";
  }
  refused(more, others, "switch sw1", "no host vnic of this switch");
  others.back() = make_vnic("vm3", "in1", 9);
  others.back().connect = "/run//x.sock";
  others.push_back(make_vnic("vm4", "in1", 10));
  others.back().connect = "/run/y/../x.sock";
  refused(switches, others, "vnic vm4", "vnic vm3 connects to");
}

TEST(MacPool, gives_256_addresses_and_then_says_why_not) {
  MacPool pool{{0x0a, 0x0b}, 0xfe};
  std::set<MacAddr> used;
  const auto in_use = [&used](MacAddr mac) { return used.contains(mac); };
  EXPECT_EQ(draw(pool, in_use)->to_string(), "00:15:5d:0a:0b:fe");
  used.insert(mac_of(pool, 0xfe));
  used.insert(mac_of(pool, 0x00));  // static
  EXPECT_EQ(draw(pool, in_use)->to_string(), "00:15:5d:0a:0b:ff");
  used.insert(mac_of(pool, 0xff));
  while (used.size() < mac_pool_size) {
    const auto mac = draw(pool, in_use);
    ASSERT_TRUE(mac);
    EXPECT_TRUE(used.insert(*mac).second) << "twice: " << mac->to_string();
  }
  const MacPool before = pool;
  expect_refused(draw(pool, in_use), ErrorCode::no_resource,
                 {"00:15:5d:0a:0b:00", "00:15:5d:0a:0b:ff", "--mac", "delete"});
  EXPECT_EQ(pool, before);
}

TEST(MacPool, does_not_reuse_a_freed_address_at_once) {
  MacPool pool{{1, 2}, 0};
  const auto none = [](MacAddr) { return false; };
  EXPECT_EQ(draw(pool, none)->to_string(), "00:15:5d:01:02:00");
  EXPECT_EQ(draw(pool, none)->to_string(), "00:15:5d:01:02:01");
}

TEST(Host, the_vnic_of_a_shared_nic_comes_and_goes_with_the_sharing) {
  Vnic host0 = make_vnic("host0", "sw1", 9);
  host0.kind = VnicKind::host;
  const Host before = *remove_vnic(*remove_vnic(example(), "vm1"), "vm2");
  const auto shared = share_nic(before, host0);
  ASSERT_TRUE(shared) << shared.error().message;
  EXPECT_EQ(shared->switches.at("sw1").share_with_host, "host0");
  EXPECT_TRUE(check_shares(*shared));
  expect_refused(remove_vnic(*shared, "host0"), ErrorCode::in_use, {"host0", "eth1", "--share-with-host none"});
  Vnic changed = host0;
  changed.mac = MacAddr::from_uint64(0x020000000077);
  expect_refused(set_vnic(*shared, changed), ErrorCode::in_use, {"host0", host0.mac.to_string()});
  changed = host0;
  changed.vlan = Access{*VlanId::from(101)};
  EXPECT_TRUE(set_vnic(*shared, changed));
  Vnic other = make_vnic("other", "sw1", 10);
  other.kind = VnicKind::host;
  expect_refused(share_nic(*shared, other), ErrorCode::exists, {"sw1", "host0"});
  EXPECT_EQ(*unshare_nic(*shared, "sw1"), before);
  EXPECT_EQ(*unshare_nic(before, "sw1"), before);
  Host without = before;
  without.switches.erase("sw1");
  EXPECT_EQ(*remove_switch(*shared, "sw1"), without);
  expect_refused(remove_switch(*add_vnic(*shared, make_vnic("vm3", "sw1", 3)), "sw1"), ErrorCode::in_use,
                 {"1 vnic: vm3"});
}

TEST(Host, a_nic_is_shared_by_a_host_vnic_of_its_external_switch_only) {
  Vnic host0 = make_vnic("host0", "in1", 9);
  host0.kind = VnicKind::host;
  expect_refused(share_nic(example(), host0), ErrorCode::invalid, {"in1", "external", "host0"});
  host0.switch_name = "none";
  expect_refused(share_nic(example(), host0), ErrorCode::not_found, {"none"});
  host0.switch_name = "sw1";
  host0.name = "a-name-of-16-byt";
  expect_refused(share_nic(example(), host0), ErrorCode::invalid, {"a-name-of-16-byt", "15"});
  host0.name = "eth1";
  expect_refused(share_nic(example(), host0), ErrorCode::exists, {"eth1"});
  host0.name = "vm1";
  expect_refused(share_nic(example(), host0), ErrorCode::exists, {"vm1"});
  Vnic guest = make_vnic("g", "sw1", 9);
  expect_refused(share_nic(example(), guest), ErrorCode::invalid, {"sw1", "no host vnic"});
  Switch loaded = make_switch("sw2", SwitchType::external, "eth2");
  loaded.share_with_host = "host2";
  expect_refused(check_shares(*add_switch(example(), loaded)), ErrorCode::invalid, {"sw2", "host2"});
}

// ---- Buffers --------------------------------------------------------------------------------------------------------

TEST(Buffer, is_read_and_written_the_same) {
  for (const auto& [text, bytes, grows] :
       {std::tuple{"0", 0U, false}, std::tuple{"256K", 256U << 10, false}, std::tuple{"1M", 1U << 20, false},
        std::tuple{"1048577", 1048577U, false}, std::tuple{"1536K", 1536U << 10, false},
        std::tuple{"auto", 16U << 20, true}, std::tuple{"auto:1M", 1U << 20, true}}) {
    const auto buffer = parse_buffer(text);
    ASSERT_TRUE(buffer) << text;
    EXPECT_EQ(*buffer, (Buffer{bytes, grows})) << text;
    EXPECT_EQ(to_string(*buffer), text);
  }
  EXPECT_EQ(to_string(*parse_buffer("2048K")), "2M");
  EXPECT_EQ(to_string(*parse_buffer("auto:16M")), "auto");
  for (const char* text :
       {"", "M", "1G", "1 M", "-1", "+1M", "0x100000", "1M ", "auto:", "auto:0", "auto1M", "255K", "16385K"}) {
    EXPECT_FALSE(parse_buffer(text)) << text;
  }
}

TEST(Buffer, the_first_level_that_says_something_counts) {
  const Buffer two{2 << 20, false};
  const Buffer four{4 << 20, false};
  const BufferSettings only_size{two, std::nullopt};
  const BufferSettings only_age{std::nullopt, 0};
  const BufferSettings both{four, 100};
  const BufferSettings nothing;
  const auto of = [](std::initializer_list<BufferLevel> levels) { return in_force({levels.begin(), levels.size()}); };
  auto from = of({{&only_size, {Level::vnic}}, {&nothing, {Level::switch_}}, {&both, {Level::policy, "p"}}});
  EXPECT_EQ(from.size, two);
  EXPECT_EQ(to_string(from.size_from), "vnic");
  EXPECT_EQ(from.max_age_ms, 100U);
  EXPECT_EQ(to_string(from.max_age_from), "policy p");
  from = of({{&nothing, {Level::vnic}}, {&only_age, {Level::switch_}}, {&both, {Level::policy, "p"}}});
  EXPECT_EQ(from.size, four);
  EXPECT_EQ(from.max_age_ms, 0U) << "none is a choice, too";
  EXPECT_EQ(to_string(from.max_age_from), "switch");
  from = of({{&nothing, {Level::vnic}}});
  EXPECT_EQ(from.size, (Buffer{1 << 20, false}));
  EXPECT_EQ(to_string(from.size_from), "built_in");
}

TEST(Buffer, a_limit_of_all_is_read_and_written_the_same) {
  for (const auto& [text, bytes] :
       {std::pair{"1M", std::uint64_t{1} << 20}, std::pair{"256M", std::uint64_t{256} << 20},
        std::pair{"1G", std::uint64_t{1} << 30}, std::pair{"64G", std::uint64_t{64} << 30},
        std::pair{"1048577", std::uint64_t{1048577}}}) {
    const auto parsed = parse_buffer_limit(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, bytes);
    EXPECT_EQ(buffer_limit_text(bytes), text);
  }
  EXPECT_EQ(buffer_limit_text(*parse_buffer_limit("1024M")), "1G");
  for (const char* text : {"", "G", "1T", "-1", "auto", "1.5G", "65G", "4294967295G", "99999999999M", "1MG"}) {
    const auto parsed = parse_buffer_limit(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().message.find("1M to 64G"), std::string::npos) << parsed.error().message;
  }
}

TEST(Buffer, advice_is_a_size_that_people_write) {
  EXPECT_EQ(buffer_for(1), 256U << 10);
  EXPECT_EQ(buffer_for((1 << 20) + 1), 2U << 20);
  EXPECT_EQ(buffer_for(16 << 20), 16U << 20);
  EXPECT_EQ(buffer_for((16 << 20) + 1), std::nullopt);
}

}  // namespace
}  // namespace patchbay::model
