#include "format.h"

#include <gtest/gtest.h>

#include "command.h"
#include "picture.h"

namespace patchbay::cli {
namespace {

TEST(Table, is_as_wide_as_its_widest_cells) {
  Table table({{"NAME"}, {"FRAMES", true}, {"STATE"}});
  table.add({"a", "1", "up"});
  table.add({"långt", "1234567", ""});
  EXPECT_EQ(table.text("nothing"),
            "NAME    FRAMES  STATE\n"
            "a            1  up\n"
            "långt  1234567\n");
}

TEST(Table, without_rows_is_a_phrase) {
  EXPECT_EQ(Table({{"NAME"}}).text("no vnics"), "no vnics\n");
}

TEST(Format, keeps_control_characters_from_the_terminal) {
  Table table({{"N"}});
  table.add({"a\x1b[31mb\n"});
  EXPECT_EQ(table.text(""), "N\na?[31mb?\n");
}

TEST(Format, shows_what_is_missing_or_of_another_kind_as_a_dash) {
  const Json object = {{"null", nullptr}, {"empty", ""}, {"number", 5}};
  EXPECT_EQ(text_of(object, "null"), "-");
  EXPECT_EQ(text_of(object, "empty"), "-");
  EXPECT_EQ(text_of(object, "none"), "-");
  EXPECT_EQ(text_of(object, "number"), "5");
  EXPECT_EQ(text_of(Json(7), "x"), "-");
  EXPECT_EQ(vlan_text(Json::object()), "-");
  EXPECT_EQ(drops_text(Json::object()), "none");
  EXPECT_EQ(vnic_table(Json::parse("[{}]")).find("VNIC"), 0u);
}

TEST(Format, lists_only_the_drops_that_happened) {
  const Json counters = Json::parse(R"({"drops": {"oversize": 0, "source_mac": 2, "no_destination": 40}})");
  EXPECT_EQ(drops_text(counters), "source_mac 2, no_destination 40");
  EXPECT_EQ(drops_total(counters), "42");
}

TEST(Format, lists_texts_and_says_what_is_set_of_buffers) {
  const Json object = {{"labels", {"storage", "tier=gold"}}, {"none", Json::array()}, {"odd", {5}}};
  EXPECT_EQ(list_text(object, "labels"), "storage, tier=gold");
  EXPECT_EQ(list_text(object, "none"), "none");
  EXPECT_EQ(list_text(object, "odd"), "?");
  EXPECT_EQ(list_text(object, "not there"), "none");
  EXPECT_EQ(buffer_setting_text({{"buffer", "4M"}, {"buffer_max_age_ms", 5}}), "4M, no frame longer than 5 ms");
  EXPECT_EQ(buffer_setting_text({{"buffer", nullptr}, {"buffer_max_age_ms", 0}}), "default, of any age");
  EXPECT_EQ(buffer_setting_text({{"buffer", nullptr}, {"buffer_max_age_ms", nullptr}}), "default");
}

TEST(Format, names_trunks_and_private_vlans) {
  const auto shown = [](const char* vlan) { return vlan_text({{"vlan", Json::parse(vlan)}}); };
  EXPECT_EQ(shown(R"({"mode": "trunk", "allowed": "10,20-29", "pruned": "", "native": null})"), "trunk 10,20-29");
  EXPECT_EQ(shown(R"({"mode": "trunk", "allowed": "10,20", "pruned": "20", "native": 10})"),
            "trunk 10,20 without 20, native 10");
  EXPECT_EQ(shown(R"({"mode": "isolated", "primary": 100, "secondary": 101})"), "isolated 100:101");
  EXPECT_EQ(shown(R"({"mode": "promiscuous", "primary": 100, "secondaries": "101-103"})"), "promiscuous 100:101-103");
}

TEST(Format, names_vlans) {
  EXPECT_EQ(vlan_text(Json::parse(R"({"vlan":{"mode":"untagged","vid":null,"forced":false}})")), "untagged");
  EXPECT_EQ(vlan_text(Json::parse(R"({"vlan":{"mode":"access","vid":5,"forced":false}})")), "5");
  EXPECT_EQ(vlan_text(Json::parse(R"({"vlan":{"mode":"access","vid":5,"forced":true}})")), "5 (forced)");
}

TEST(Format, says_a_state_and_its_reason_once) {
  EXPECT_EQ(state_text(Json::parse(R"({"state": "connected", "state_reason": ""})")), "connected");
  EXPECT_EQ(state_text(Json::parse(R"({"state": "down", "state_reason": "no carrier"})")), "down: no carrier");
  EXPECT_EQ(state_text(Json::parse(R"({"state": "waiting_for_guest", "state_reason": "waiting for a guest on /x"})")),
            "waiting for a guest on /x");
}

TEST(Client, encodes_all_but_plain_characters) {
  EXPECT_EQ(percent_encode("web-1._~"), "web-1._~");
  EXPECT_EQ(percent_encode("a/b c?%\xff"), "a%2Fb%20c%3F%25%FF");
  EXPECT_EQ(percent_encode(""), "");
}

TEST(Client, says_how_to_go_on_when_nobody_answers) {
  const auto answer = ask("/nonexistent/api.sock", {.path = "/v1/show"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(
      answer.error(),
      "no answer from patchbayd at /nonexistent/api.sock (No such file or directory); is it running? start it, or "
      "name its socket with --api");
  const auto long_path = ask("/" + std::string(107, 'x'), {.path = "/v1/show"});
  ASSERT_FALSE(long_path);
  EXPECT_NE(long_path.error().find("108 bytes"), std::string::npos);
}

TEST(Picture, shows_uplink_switch_vnics_and_free_nics) {
  const Json host = Json::parse(R"({
    "nics": [{"name": "eth0", "switch": null}, {"name": "eth1", "switch": "lan"}],
    "switches": [
      {"name": "lab", "type": "private", "uplink": null, "force_vlan": 7, "mtu": 9000, "vnics": []},
      {"name": "lan", "type": "external", "force_vlan": null, "mtu": 1500, "vnics": ["mgmt", "web"],
       "uplink": {"nic": "eth1", "state": "down", "state_reason": "no carrier"}}],
    "vnics": [
      {"name": "mgmt", "switch": "lan", "kind": "host", "mac": "02:00:00:00:00:01", "state": "up", "state_reason": "",
       "vlan": {"mode": "access", "vid": 101, "forced": false}},
      {"name": "web", "switch": "lan", "kind": "guest", "mac": "02:00:00:00:00:02", "state": "waiting_for_guest",
       "state_reason": "nobody came", "vlan": {"mode": "untagged", "vid": null, "forced": false}}]})");
  EXPECT_EQ(picture(host, true),
            "[lab]  private switch, MTU 9000, every vnic in VLAN 7\n"
            "└─ no vnics\n"
            "\n"
            "eth1  down: no carrier\n"
            "│\n"
            "[lan]  external switch, MTU 1500\n"
            "├─ mgmt (host)  02:00:00:00:00:01  VLAN 101  up\n"
            "└─ web          02:00:00:00:00:02  untagged  nobody came\n"
            "\n"
            "NICs without a switch: eth0\n");
  EXPECT_NE(picture(host, false).find("`- web "), std::string::npos);
}

TEST(Picture, draws_a_team_with_its_nics) {
  const Json host = Json::parse(R"({
    "nics": [{"name": "eth0", "switch": null, "team": null}, {"name": "eth1", "switch": "lan", "team": "up1"},
             {"name": "eth10", "switch": "lan", "team": "up1"}, {"name": "eth3", "switch": null, "team": "up2"}],
    "teams": [
      {"name": "up1", "mode": "lacp", "switch": "lan", "state": "degraded", "members": [
        {"nic": "eth1", "state": "active", "state_reason": ""},
        {"nic": "eth10", "state": "down", "state_reason": "no carrier"}]},
      {"name": "up2", "mode": "static", "switch": null, "state": "down", "members": []}],
    "switches": [
      {"name": "lan", "type": "external", "force_vlan": null, "mtu": 1500, "vnics": [],
       "uplink": {"nic": null, "team": "up1", "state": "degraded", "state_reason": "eth10: no carrier"}}],
    "vnics": []})");
  EXPECT_EQ(picture(host, true),
            "┌─ eth1   active\n"
            "├─ eth10  down: no carrier\n"
            "up1  team, lacp, degraded\n"
            "│\n"
            "[lan]  external switch, MTU 1500\n"
            "└─ no vnics\n"
            "\n"
            "NICs without a switch: eth0\n"
            "Teams without a switch: up2\n");
  EXPECT_NE(picture(host, false).find(",- eth1 "), std::string::npos);
}

TEST(Picture, of_an_empty_host_says_what_to_do_first) {
  EXPECT_NE(picture(Json::object(), false).find("patchbay switch create"), std::string::npos);
}

}  // namespace
}  // namespace patchbay::cli
