// The whole host in and out, and the audit, through the router.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <set>
#include <stdexcept>

#include "control/api/fake_service.h"
#include "control/api/fields.h"
#include "control/api/openapi.h"
#include "control/api/router.h"
#include "control/api/specs.h"
#include "control/reconcile/settable.h"

namespace patchbay::api {
namespace {

struct Answer {
  unsigned status = 0;
  std::string body;
  [[nodiscard]] Json json() const { return Json::parse(body); }
  [[nodiscard]] std::string message() const { return json()["error"]["message"]; }
};

Answer ask(FakeService& service, const char* method, const std::string& target, const std::string& body = "",
           std::optional<std::uint32_t> uid = std::nullopt) {
  auto request = parse_target(method, target);
  if (!request) return {0, request.error().message};
  request->body = body;
  request->uid = uid;
  const auto response = route(service, *request);
  return {response.status, response.body};
}

constexpr const char* lan_and_web = R"(switches:
  lan:
    type: private
    mtu: 9000
vnics:
  web1:
    switch: lan
    mac: 02:00:00:00:00:01
    vlan:
      mode: access
      vid: 101
  web2:
    switch: lan
)";

// lan_and_web with `from` in place of `to`.
std::string with(const std::string& from, const std::string& to) {
  std::string text = lan_and_web;
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from);
  return text.replace(at, from.size(), to);
}

TEST(Apply, makes_an_empty_host_what_the_file_says) {
  FakeService service;
  const auto answer = ask(service, "POST", "/v1/apply", lan_and_web);
  ASSERT_EQ(answer.status, 200U) << answer.body;
  EXPECT_EQ(service.host.switches.at("lan").mtu, 9000);
  EXPECT_EQ(service.host.vnics.at("web1").mac.to_string(), "02:00:00:00:00:01");
  EXPECT_EQ(service.host.vnics.at("web1").mac_origin, model::MacOrigin::static_);
  EXPECT_EQ(service.host.vnics.at("web2").mac_origin, model::MacOrigin::dynamic);
  const auto changes = answer.json()["changes"];
  ASSERT_EQ(changes.size(), 3U);
  EXPECT_EQ(changes[0].dump(),
            R"({"verb":"create","kind":"switch","name":"lan","before":null,"after":{"type":"private","mtu":9000}})");
  EXPECT_EQ(changes[1]["name"], "web1");
  EXPECT_EQ(changes[1]["after"]["vlan"]["vid"], 101);
}

TEST(Apply, of_an_export_changes_nothing_in_either_format) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/apply", lan_and_web).status, 200U);
  for (const char* target : {"/v1/export", "/v1/export?format=yaml", "/v1/export?format=json"}) {
    const auto exported = ask(service, "GET", target);
    ASSERT_EQ(exported.status, 200U);
    const auto again = ask(service, "POST", "/v1/apply", exported.body);
    EXPECT_EQ(again.body, "{\"dry_run\":false,\"changes\":[]}\n") << exported.body;
    FakeService other;
    ASSERT_EQ(ask(other, "POST", "/v1/apply", exported.body).status, 200U);
    EXPECT_EQ(other.host, service.host) << exported.body;
  }
  EXPECT_EQ(service.changes, 1);
}

TEST(Apply, of_an_empty_host_takes_sections_that_say_so) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/apply", lan_and_web).status, 200U);
  EXPECT_EQ(ask(service, "POST", "/v1/apply", "switches: {}\nvnics: {}\n").json()["changes"].size(), 3U);
  EXPECT_EQ(service.host, model::Host{});
  EXPECT_EQ(ask(service, "GET", "/v1/export").body,
            "# The whole host. Give it back with: patchbay apply -f FILE\n"
            "host: {}\nteams: {}\nswitches: {}\npolicies: {}\nvnics: {}\n");
}

constexpr const char* policies_and_host = R"(host:
  buffer_limit: 512M
switches:
  lan: {type: private}
policies:
  base: {buffer: auto, apply_to: [host]}
  storage:
    buffer: 4M
    buffer_max_age_ms: 500
    apply_to:
      - label:tier=gold
      - switch:lan
vnics:
  web: {switch: lan, labels: [tier=gold, "yes"]}
)";

TEST(Apply, takes_policies_labels_and_settings_and_gives_them_back) {
  FakeService service;
  const auto answer = ask(service, "POST", "/v1/apply", policies_and_host);
  ASSERT_EQ(answer.status, 200U) << answer.body;
  const auto changes = answer.json()["changes"];
  EXPECT_EQ(changes[0].dump(),
            R"({"verb":"set","kind":"host","name":"host","before":{},"after":{"buffer_limit":"512M"}})");
  EXPECT_EQ(service.host.policies.at("storage").apply_to.size(), 2U);
  EXPECT_EQ(service.host.vnics.at("web").labels, (std::set<std::string>{"tier=gold", "yes"}));
  const auto exported = ask(service, "GET", "/v1/export").body;
  EXPECT_EQ(ask(service, "POST", "/v1/apply", exported).json()["changes"].size(), 0U) << exported;
  const auto host = service.host;
  EXPECT_EQ(ask(service, "POST", "/v1/apply", "switches: {}\nvnics: {}\npolicies: {}\nhost: {}\n").status, 200U);
  EXPECT_EQ(service.host, model::Host{});
  EXPECT_EQ(ask(service, "POST", "/v1/apply", exported).status, 200U);
  EXPECT_EQ(service.host.policies, host.policies);
  EXPECT_EQ(service.host.settings, host.settings);
  EXPECT_EQ(YAML::Load(exported)["vnics"]["web"]["labels"][1].Tag(), "!") << "a text for readers of YAML 1.1 too";
}

TEST(Apply, leaves_policies_and_settings_alone_without_their_sections) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/apply", policies_and_host).status, 200U);
  const auto host = service.host;
  ASSERT_EQ(ask(service, "POST", "/v1/apply", "switches: {lan: {type: private}}\nvnics: {}\n").status, 200U);
  EXPECT_EQ(service.host.policies, host.policies);
  EXPECT_EQ(service.host.settings, host.settings);
  const auto refused = ask(service, "POST", "/v1/apply", "switches: {}\nvnics: {}\n");
  EXPECT_EQ(refused.status, 404U);
  EXPECT_NE(refused.message().find("policy storage: switch lan does not exist"), std::string::npos) << refused.body;
}

TEST(Apply, says_what_it_would_do_and_does_not) {
  FakeService service;
  const auto answer = ask(service, "POST", "/v1/apply?dry_run=true", lan_and_web).json();
  EXPECT_EQ(answer["dry_run"], true);
  EXPECT_EQ(answer["changes"].size(), 3U);
  EXPECT_EQ(service.changes, 0);
}

struct Refusal {
  const char* name;
  std::string file;
  unsigned status;
  const char* says;
};
class RefusedFile : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedFile, names_line_and_field_and_changes_nothing) {
  FakeService service;
  const auto answer = ask(service, "POST", "/v1/apply", GetParam().file);
  EXPECT_EQ(answer.status, GetParam().status) << answer.body;
  EXPECT_NE(answer.message().find(GetParam().says), std::string::npos) << answer.body;
  EXPECT_LT(answer.message().size(), 500U);
  EXPECT_EQ(service.changes, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedFile,
    testing::ValuesIn(std::vector<Refusal>{
        {"vid", with("101", "4095"), 400,
         "line 11: vnics.web1.vlan.vid: 4095 is not a VLAN id; give a whole number from 1 to 4094"},
        {"mac", with("02:00:00:00:00:01", "nonsense"), 400, "line 8: vnics.web1.mac: \"nonsense\" is not a MAC"},
        {"mac_of_group", with("02:00", "01:00"), 400, "line 6: vnic web1: MAC 01:00"},
        {"mtu", with("9000", "9001"), 400, "line 4: switches.lan.mtu: 9001 is out of range"},
        {"mtu_text", with("9000", "big"), 400, "line 4: switches.lan.mtu: \"big\" is not a whole number"},
        {"type", with("private", "hub"), 400, "line 3: switches.lan.type: \"hub\" is not a switch type"},
        {"type_missing", with("    type: private\n", ""), 400, "line 2: switches.lan.type: this field is required"},
        {"unknown_field", with("mtu", "mtv"), 400, "line 4: switches.lan: unknown field \"mtv\"; known here: type"},
        {"unknown_nested", with("vid", "id"), 400, "line 9: vnics.web1.vlan.vid: this field is required"},
        {"name_inside", with("mtu: 9000", "name: lan"), 400, "line 4: switches.lan: unknown field \"name\""},
        {"no_such_switch", with("web2:\n    switch: lan", "web2:\n    switch: wan"), 404,
         "line 12: vnic web2: switch wan does not exist"},
        {"number_for_text", with("web2:\n    switch: lan", "web2:\n    switch: 5"), 400,
         "line 13: vnics.web2.switch: 5 is not a text; write it in double quotes"},
        {"taken_mac", with("web2:\n", "web2:\n    mac: 02:00:00:00:00:01\n"), 409, "line 12: vnic web2: MAC 02:00"},
        {"bad_name", with("web2", "we/b"), 400, "line 12: "},
        {"empty_name", with("web2", "\"\""), 400, "line 12: vnic without a name"},
        {"long_name", with("web2", std::string(5000, 'x')), 400, "line "},
        {"static_without_mac", with("web2:\n", "web2:\n    mac_origin: static\n"), 400,
         "line 13: vnics.web2.mac_origin: static needs a mac"},
        {"no_fields", with("lan:\n    type: private\n    mtu: 9000", "lan: private"), 400,
         "line 2: \"switches.lan\" has no"},
        {"vlan_as_number", with("vlan:\n      mode: access\n      vid: 101", "vlan: 101"), 400,
         "line 9: vnics.web1.vlan: 101 is not a VLAN mode"},
        {"mode", with("mode: access", "mode: hub"), 400, "line 10: vnics.web1.vlan.mode: \"hub\" is not a VLAN mode"},
        {"trunk_of_nothing", with("mode: access\n      vid: 101", "mode: trunk"), 400,
         "line 9: vnics.web1.vlan.allowed: this field is required"},
        {"trunk_list", with("mode: access\n      vid: 101", "mode: trunk\n      allowed: 10,x"), 400,
         "line 11: vnics.web1.vlan.allowed: "},
        {"trunk_native", with("mode: access\n      vid: 101", "mode: trunk\n      allowed: 10-20\n      native: off"),
         400, "line 12: vnics.web1.vlan.native: \"off\" is not a VLAN id"},
        {"trunk_pruned_native",
         with("mode: access\n      vid: 101",
              "mode: trunk\n      allowed: 10-20\n      native: 10\n      pruned: \"10\""),
         400, "line 9: vnics.web1.vlan: VLAN 10 is pruned, so it cannot be the native VLAN"},
        {"secondary", with("mode: access\n      vid: 101", "mode: isolated\n      primary: 100"), 400,
         "line 9: vnics.web1.vlan.secondary: this field is required"},
        {"primary_twice", with("mode: access\n      vid: 101", "mode: isolated\n      primary: 7\n      secondary: 7"),
         400, "line 9: vnics.web1.vlan: VLAN 7 cannot be primary and secondary at once"},
        {"two_primaries",
         with("mode: access\n      vid: 101", "mode: isolated\n      primary: 7\n      secondary: 8") +
             "    vlan: {mode: community, primary: 9, secondary: 8}\n",
         400, "line 13: vnic web2: with vnic web1, secondary VLAN 8 would belong to two primaries"},
        {"field_of_another_mode", with("vid: 101", "vid: 101\n      allowed: 10,20"), 400,
         "line 12: vnics.web1: unknown field \"vlan.allowed\""},
        {"spoofing_in_quotes", with("web2:\n", "web2:\n    mac_spoofing: \"yes\"\n"), 400,
         "line 13: vnics.web2.mac_spoofing: \"yes\" is neither true nor false"},
        {"mac_limit", with("web2:\n", "web2:\n    mac_limit: 65537\n"), 400,
         "line 13: vnics.web2.mac_limit: 65537 is out of range"},
        {"queues", with("web2:\n", "web2:\n    queues: 9\n"), 400, "line 13: vnics.web2.queues: 9 is out of range"},
        {"worker", with("web2:\n", "web2:\n    worker: none\n"), 400,
         "line 13: vnics.web2.worker: \"none\" is neither a whole number nor auto"},
        {"buffer", with("web2:\n", "web2:\n    buffer: 17M\n"), 400,
         "line 13: vnics.web2.buffer: buffer 17M is out of range; give 256K to 16M"},
        {"buffer_auto", with("web2:\n", "web2:\n    buffer: auto:512K\n"), 400,
         "line 13: vnics.web2.buffer: buffer auto:512K: auto grows from 1M"},
        {"buffer_age", with("web2:\n", "web2:\n    buffer_max_age_ms: 1s\n"), 400,
         "line 13: vnics.web2.buffer_max_age_ms: \"1s\" is not a whole number"},
        {"vmq_weight", with("web2:\n", "web2:\n    vmq_weight: 101\n"), 400,
         "line 13: vnics.web2.vmq_weight: 101 is out of range"},
        {"trust_priority", with("web2:\n", "web2:\n    trust_priority: 1\n"), 400,
         "line 13: vnics.web2.trust_priority: 1 is neither true nor false"},
        {"share_of_private", with("mtu: 9000", "share_with_host: host0"), 400,
         "line 2: switch lan: only an external switch has a NIC to share"},
        {"share_by_number", with("mtu: 9000", "share_with_host: 5"), 400,
         "line 4: switches.lan.share_with_host: 5 is not a text"},
        {"labels", with("web2:\n", "web2:\n    labels: storage\n"), 400,
         "line 13: vnics.web2.labels: \"storage\" is not a list"},
        {"label", with("web2:\n", "web2:\n    labels: [a b]\n"), 400, "line 13: vnics.web2.labels: label name 'a b'"},
        {"label_number", with("web2:\n", "web2:\n    labels: [5]\n"), 400,
         "line 13: vnics.web2.labels: 5 is not a text"},
        {"label_twice", with("web2:\n", "web2:\n    labels: [a, a]\n"), 400,
         "line 13: vnics.web2.labels: \"a\" is given twice"},
        {"policy_field", std::string(lan_and_web) + "policies:\n  base:\n    colour: red\n", 400,
         "line 16: policies.base: unknown field \"colour\"; known here: buffer, buffer_max_age_ms, apply_to"},
        {"policy_buffer", std::string(lan_and_web) + "policies:\n  base:\n    buffer: 3G\n", 400,
         "line 16: policies.base.buffer: buffer \"3G\" is not a size"},
        {"policy_target", std::string(lan_and_web) + "policies:\n  base:\n    apply_to: [all]\n", 400,
         "line 16: policies.base.apply_to: \"all\" is nothing that a policy applies to"},
        {"policy_switch", std::string(lan_and_web) + "policies:\n  base:\n    apply_to: [\"switch:wan\"]\n", 404,
         "line 15: policy base: switch wan does not exist"},
        {"policies_disagree",
         std::string(lan_and_web) +
             "policies:\n  p1: {buffer: 1M, apply_to: [host]}\n  p2: {buffer: 2M, apply_to: [host]}\n",
         409, "line 16: policies.p2: policies p1 and p2 give the host different values of buffer, 1M and 2M"},
        {"policies_disagree_for_a_vnic",
         with("web2:\n", "web2:\n    labels: [a, b]\n") +
             "policies:\n  p1: {buffer: 1M, apply_to: [label:a]}\n  p2: {buffer: 2M, apply_to: [label:b]}\n",
         409, "line 12: vnic web2: policies p1 (label a) and p2 (label b) give vnic web2"},
        {"policies_of_nothing", std::string(lan_and_web) + "policies:\n", 400,
         "line 14: policies: write them by name below it, or {} for none"},
        {"host_field", std::string(lan_and_web) + "host:\n  buffers: 1G\n", 400,
         "line 15: host: unknown field \"buffers\"; known here: buffer_limit"},
        {"host_limit", std::string(lan_and_web) + "host:\n  buffer_limit: lots\n", 400,
         "line 15: host.buffer_limit: buffer limit \"lots\" is not a size"},
        {"host_limit_range", std::string(lan_and_web) + "host:\n  buffer_limit: 1K\n", 400,
         "line 14: host: buffer limit 1K is out of range; give 1M to 64G"},
        {"host_of_nothing", std::string(lan_and_web) + "host:\n", 400, "line 14: host: write its fields below it"},
        {"unknown_section", std::string(lan_and_web) + "bonds: {}\n", 400, "line 14: unknown section \"bonds\""},
        {"no_vnics", "switches: {}\n", 400, "vnics: this section is required"},
        {"vnics_of_nothing", "switches: {}\nvnics:\n", 400, "line 2: vnics: this section is required"},
        {"list", "- a\n- b\n", 400, "line 1: write the sections"},
        {"text", "hello\n", 400, "line 1: write the sections"},
        {"nothing", "", 400, "line 1: nothing stands here"},
    }),
    [](const auto& test) { return test.param.name; });

TEST(Apply, refuses_queries_it_does_not_know) {
  FakeService service;
  EXPECT_NE(ask(service, "POST", "/v1/apply?dry_run=maybe", lan_and_web).message().find("give false or true"),
            std::string::npos);
  EXPECT_NE(ask(service, "POST", "/v1/apply?force=true", lan_and_web).message().find("dry_run"), std::string::npos);
  EXPECT_NE(ask(service, "GET", "/v1/export?format=xml").message().find("yaml or json"), std::string::npos);
  EXPECT_EQ(service.changes, 0);
}

// ---- One writer, one reader, one description -------------------------------------------------------------------------

std::set<std::string> described(const char* schema) {
  std::set<std::string> names;
  const YAML::Node document = YAML::Load(std::string(openapi_yaml()));
  for (const auto& field : document["components"]["schemas"][schema]["properties"]) {
    names.insert(field.first.as<std::string>());
  }
  names.erase("name");
  return names;
}

// What `read` asks for, as its sentence about a field that nobody knows lists it. `required`: so that this is what is
// wrong first.
template <typename Read>
std::set<std::string> known_to(Read read, nlohmann::json required) {
  required["nothing known"] = 0;
  Fields fields = Fields::of(required);
  static_cast<void>(read(fields, "x"));
  const auto finished = fields.finish();
  const std::string message = finished ? "" : finished.error().message;
  std::set<std::string> names;
  const auto list = message.find("known here: ");
  for (std::size_t at = list + 12; list != std::string::npos && at < message.size();) {
    const auto end = std::min(message.find(", ", at), message.size());
    names.insert(message.substr(at, end - at));
    at = end + 2;
  }
  return names;
}

// With each of a trunk's fields set and not set.
std::vector<model::VlanMode> every_vlan_mode() {
  const VlanId five = *VlanId::from(5);
  const VlanId six = *VlanId::from(6);
  const VlanSet list = *VlanSet::parse("10,20-29,4094");
  const VlanSet one = *VlanSet::parse("10");
  const std::optional<std::optional<VlanId>> dropped;
  const std::optional<std::optional<VlanId>> untagged{std::optional<VlanId>()};
  const std::optional<std::optional<VlanId>> native{five};
  return {model::Untagged{},
          model::Access{five},
          model::Trunk{list, {}, dropped},
          model::Trunk{one, {}, untagged},
          model::Trunk{list, one, native},
          model::Isolated{five, six},
          model::Community{five, six},
          model::Promiscuous{five, list}};
}

TEST(Apply, of_an_export_gives_back_every_vlan_mode_and_a_shared_nic) {
  FakeService service;
  service.host.switches["lan"] = {"lan", model::SwitchType::external, "eth1", std::nullopt, 1500, "host0"};
  service.host.vnics["host0"] = {
      "host0",           "lan", model::VnicKind::host, MacAddr::from_uint64(0x020000000001), model::MacOrigin::static_,
      model::Untagged{}, ""};
  std::set<std::size_t> modes;
  for (const auto& mode : every_vlan_mode()) {
    modes.insert(mode.index());
    // A switch each: these private VLANs do not go together.
    const std::string name = "x" + std::to_string(service.host.vnics.size());
    service.host.switches[name] = {name, model::SwitchType::private_, "", std::nullopt, 1500};
    const bool is_odd = service.host.vnics.size() % 2 == 1;
    service.host.vnics[name] = {name,
                                name,
                                model::VnicKind::guest,
                                MacAddr::from_uint64(0x525400000000u + service.host.vnics.size()),
                                model::MacOrigin::dynamic,
                                mode,
                                "",
                                is_odd,
                                is_odd ? 65536U : 1U,
                                !is_odd};
  }
  EXPECT_EQ(modes.size(), std::variant_size_v<model::VlanMode>);
  for (const char* target : {"/v1/export?format=yaml", "/v1/export?format=json"}) {
    const auto exported = ask(service, "GET", target);
    const auto again = ask(service, "POST", "/v1/apply", exported.body);
    EXPECT_EQ(again.body, "{\"dry_run\":false,\"changes\":[]}\n") << exported.body;
    FakeService other;
    ASSERT_EQ(ask(other, "POST", "/v1/apply", exported.body).status, 200U);
    EXPECT_EQ(other.host, service.host) << exported.body;
  }
}

TEST(Specs, reader_knows_the_fields_of_openapi_yaml) {
  EXPECT_EQ(known_to(read_switch, {{"type", "private"}}), described("SwitchCreate"));
  EXPECT_EQ(known_to(read_vnic, {{"switch", "lan"}}), described("VnicCreate"));
  EXPECT_EQ(known_to(read_team, {{"nics", {"eth1"}}}), described("TeamCreate"));
  EXPECT_EQ(known_to(read_policy, nlohmann::json::object()), described("PolicyCreate"));
  const auto settings = [](Fields& fields, const std::string&) { return read_settings(fields); };
  EXPECT_EQ(known_to(settings, nlohmann::json::object()), described("HostSettings"));
}

TEST(Specs, writer_writes_the_fields_of_openapi_yaml_and_the_reader_gives_the_object_back) {
  const auto keys = [](const Json& json) {
    std::set<std::string> names;
    for (const auto& [key, value] : json.items()) names.insert(key);
    return names;
  };
  model::Switch on{"lan", model::SwitchType::external, "eth1", VlanId::from(5), 9000, "host0"};
  on.buffer = {model::Buffer{0, false}, 0};
  EXPECT_EQ(keys(reconcile::settable(on)), described("SwitchCreate")) << "an object with every field set";
  Fields of_switch = Fields::of(nlohmann::json::parse(reconcile::settable(on).dump()));
  EXPECT_EQ(reconcile::switch_of(read_switch(of_switch, "lan")), on);
  EXPECT_TRUE(of_switch.finish());
  const model::Team team{
      "up1", {"eth1", "eth2"}, model::TeamMode::lacp, model::TeamBalance::vnic_port, "eth2", model::LacpTimer::slow, 0};
  EXPECT_EQ(keys(reconcile::settable(team)), described("TeamCreate")) << "an object with every field set";
  Fields of_team = Fields::of(nlohmann::json::parse(reconcile::settable(team).dump()));
  EXPECT_EQ(read_team(of_team, "up1"), team);
  EXPECT_TRUE(of_team.finish());
  const model::Policy policy{
      "storage", {model::Buffer{0, false}, 0}, {model::PolicyTarget{}, *model::parse_target("label:tier=gold")}};
  EXPECT_EQ(keys(reconcile::settable(policy)), described("PolicyCreate"));
  Fields of_policy = Fields::of(nlohmann::json::parse(reconcile::settable(policy).dump()));
  EXPECT_EQ(read_policy(of_policy, "storage"), policy);
  EXPECT_TRUE(of_policy.finish());
  const model::HostSettings settings{std::uint64_t{3} << 20};
  EXPECT_EQ(keys(reconcile::settable(settings)), described("HostSettings"));
  Fields of_host = Fields::of(nlohmann::json::parse(reconcile::settable(settings).dump()));
  EXPECT_EQ(read_settings(of_host), settings);
  EXPECT_TRUE(of_host.finish());
  for (const auto& vlan : every_vlan_mode()) {
    for (const auto origin : {model::MacOrigin::dynamic, model::MacOrigin::static_}) {
      model::Vnic vnic;
      vnic.name = "web";
      vnic.switch_name = "lan";
      vnic.mac = MacAddr::from_uint64(0x020000000001);
      vnic.mac_origin = origin;
      vnic.vlan = vlan;
      vnic.connect = "/run/x.sock";
      vnic.mac_spoofing = true;
      vnic.mac_limit = 7;
      vnic.trust_priority = true;
      vnic.queues = 4;
      vnic.worker = 1;
      vnic.buffer = {model::Buffer{4 << 20, true}, 250};
      vnic.labels = {"storage", "tier=gold"};
      vnic.vmq_weight = 40;
      EXPECT_EQ(keys(reconcile::settable(vnic)), described("VnicCreate")) << "an object with every field set";
      Fields of_vnic = Fields::of(nlohmann::json::parse(reconcile::settable(vnic).dump()));
      EXPECT_EQ(reconcile::vnic_of(read_vnic(of_vnic, "web")), vnic);
      EXPECT_TRUE(of_vnic.finish());
    }
  }
}

// ---- Audit -----------------------------------------------------------------------------------------------------------

TEST(Audit, lists_rows_newest_first_and_only_those_that_are_asked_for) {
  FakeService service;
  service.rows = {
      {2, "2026-01-31T23:59:59.999Z", 0, "root", "set", "vnic", "web", true, R"({"mtu":1})", R"({"mtu":2})"},
      {1, "2026-01-31T23:59:59.998Z", std::nullopt, "patchbayd", "create", "switch", "lan", false, "", "{}"}};
  const auto all = ask(service, "GET", "/v1/audit").json();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].dump(),
            R"({"id":2,"at":"2026-01-31T23:59:59.999Z","uid":0,"user":"root","verb":"set","kind":"vnic",)"
            R"("name":"web","apply":true,"before":{"mtu":1},"after":{"mtu":2}})");
  EXPECT_EQ(all[1]["uid"], nullptr);
  EXPECT_EQ(all[1]["before"], nullptr);
  EXPECT_EQ(ask(service, "GET", "/v1/audit?limit=1").json().size(), 1U);
  EXPECT_EQ(ask(service, "GET", "/v1/audit?object=lan").json()[0]["id"], 1);
  EXPECT_EQ(ask(service, "GET", "/v1/audit?object=lan&limit=5").json().size(), 1U);
}

TEST(Audit, refuses_what_is_no_limit_and_no_name) {
  FakeService service;
  for (const char* query : {"limit=0", "limit=10001", "limit=-1", "limit=x", "limit=", "limit=1x",
                            "object=", "object=a/b", "object=a%20b", "uid=0"}) {
    const auto answer = ask(service, "GET", std::string("/v1/audit?") + query);
    EXPECT_EQ(answer.status, 400U) << query << answer.body;
  }
  EXPECT_NE(ask(service, "GET", "/v1/audit?limit=0").message().find("1 to 10000"), std::string::npos);
  EXPECT_EQ(ask(service, "GET", "/v1/audit?limit=10000").status, 200U);
}

TEST(Audit, hears_who_asks) {
  FakeService service;
  ask(service, "GET", "/v1/vnics", "", 1000);
  EXPECT_EQ(service.actor.uid, 1000U);
  ask(service, "GET", "/v1/vnics");
  EXPECT_EQ(service.actor.uid, std::nullopt);
}

}  // namespace
}  // namespace patchbay::api
