// Requests about teams through the router into a Service that lives in memory.
#include <gtest/gtest.h>

#include "control/api/fake_service.h"
#include "control/api/router.h"

namespace patchbay::api {
namespace {

struct Answer {
  unsigned status = 0;
  Json body;
  [[nodiscard]] std::string message() const { return body.contains("error") ? body["error"]["message"] : Json(""); }
};

Answer ask(FakeService& service, const char* method, const std::string& target, const std::string& body = "") {
  auto request = parse_target(method, target);
  if (!request) return {0, request.error().message};
  request->body = body;
  const Response response = route(service, *request);
  return {response.status, response.body.empty() ? Json() : Json::parse(response.body)};
}

constexpr const char* up1 = R"({"name":"up1","nics":["eth1","eth2"]})";

TEST(Teams, a_created_team_comes_back_whole_with_what_is_not_given) {
  FakeService service;
  const auto made = ask(service, "POST", "/v1/teams", up1);
  ASSERT_EQ(made.status, 201U) << made.body;
  EXPECT_EQ(made.body["nics"].dump(), R"(["eth1","eth2"])");
  EXPECT_EQ(made.body["mode"], "switch-independent");
  EXPECT_EQ(made.body["balance"], "dynamic");
  EXPECT_EQ(made.body["standby"], nullptr);
  EXPECT_EQ(made.body["lacp_timer"], nullptr);
  EXPECT_EQ(made.body["failback_delay_ms"], 1000);
  EXPECT_EQ(made.body["switch"], nullptr);
  EXPECT_EQ(made.body["state"], "degraded");
  EXPECT_EQ(made.body["state_reason"], "eth2: no carrier");
  EXPECT_EQ(made.body["queue_model"], "min-queues");
  EXPECT_EQ(made.body["failovers"], 3);
  EXPECT_EQ(made.body["announcements"], 4);
  EXPECT_EQ(made.body["counters"]["from_wire"]["frames"], 301);
  const Json& members = made.body["members"];
  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0]["nic"], "eth1");
  EXPECT_EQ(members[0]["state"], "active");
  EXPECT_EQ(members[0]["primary"], true);
  EXPECT_EQ(members[0]["driver"], "packet");
  EXPECT_EQ(members[0]["speed_mbps"], 10000);
  EXPECT_EQ(members[0]["counters"]["to_wire"]["bytes"], 204);
  EXPECT_EQ(members[0]["counters"]["merged_frames"], 207);
  EXPECT_EQ(members[0]["counters"]["drops"].size(), dataplane::drop_reason_count);
  EXPECT_EQ(members[0]["lacp"], nullptr);
  EXPECT_EQ(members[1]["state"], "down");
  EXPECT_EQ(members[1]["state_reason"], "no carrier");
  EXPECT_EQ(members[1]["driver"], nullptr);
  EXPECT_EQ(members[1]["carrier"], false);
  EXPECT_EQ(ask(service, "GET", "/v1/teams/up1").body, made.body);
  EXPECT_EQ(ask(service, "GET", "/v1/teams").body, Json::array({made.body}));
  EXPECT_EQ(ask(service, "GET", "/v1/show").body["teams"], Json::array({made.body}));
  EXPECT_EQ(ask(service, "GET", "/v1/nics/eth1").body["team"], "up1");
}

TEST(Teams, a_member_shows_lacp_with_its_state_in_words) {
  FakeService service;
  const auto made = ask(service, "POST", "/v1/teams",
                        R"({"name":"up1","nics":["eth1"],"mode":"lacp","balance":"address-hash","lacp_timer":"slow"})");
  ASSERT_EQ(made.status, 201U) << made.body;
  EXPECT_EQ(made.body["lacp_timer"], "slow");
  EXPECT_EQ(made.body["members"][0]["lacp"].dump(),
            R"({"actor":{"system":"02:00:00:00:00:01","system_priority":32768,"key":1,"port":2,"port_priority":32769,)"
            R"("state":["active","short-timeout","aggregation","in-sync","collecting","distributing"]},)"
            R"("partner":{"system":"02:00:00:00:00:02","system_priority":3,"key":4,"port":6,"port_priority":5,)"
            R"("state":["active","aggregation","defaulted","expired"]},"receive":"current","mux":"attached","sent":7,)"
            R"("received":8,"malformed":9})");
}

TEST(Teams, a_switch_on_a_team_names_it_and_keeps_it_from_being_deleted) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/teams", up1).status, 201U);
  const auto lan = ask(service, "POST", "/v1/switches", R"({"name":"lan","type":"external","uplink":"up1"})");
  ASSERT_EQ(lan.status, 201U) << lan.body;
  EXPECT_EQ(lan.body["uplink"]["nic"], nullptr);
  EXPECT_EQ(lan.body["uplink"]["team"], "up1");
  EXPECT_EQ(lan.body["uplink"]["state"], "degraded");
  EXPECT_EQ(lan.body["uplink"]["driver"], nullptr);
  EXPECT_EQ(ask(service, "GET", "/v1/teams/up1").body["switch"], "lan");
  const auto refused = ask(service, "DELETE", "/v1/teams/up1");
  EXPECT_EQ(refused.status, 409U);
  EXPECT_EQ(refused.body["error"]["code"], "in_use");
  EXPECT_EQ(ask(service, "DELETE", "/v1/switches/lan").status, 204U);
  EXPECT_EQ(ask(service, "DELETE", "/v1/teams/up1").status, 204U);
  EXPECT_EQ(ask(service, "DELETE", "/v1/teams/up1").status, 404U);
}

TEST(Teams, a_change_leaves_what_it_does_not_name) {
  FakeService service;
  ask(service, "POST", "/v1/teams", up1);
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"standby":"eth2"})").body["standby"], "eth2");
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"mode":"lacp","lacp_timer":"slow"})").body["standby"], "eth2");
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"balance":"vnic-port"})").body["lacp_timer"], "slow");
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"failback_delay_ms":0})").body["balance"], "vnic-port");
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"standby":null})").body["standby"], nullptr);
  EXPECT_EQ(ask(service, "PATCH", "/v1/teams/up1", R"({"nics":["eth3"]})").body["nics"].dump(), R"(["eth3"])");
  EXPECT_EQ(service.host.teams.at("up1").failback_delay_ms, 0U);
}

struct Refusal {
  const char* name;
  const char* method;
  const char* target;
  std::string body;
  unsigned status;
  const char* says;
};
class RefusedTeam : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedTeam, with_a_sentence_and_without_a_change) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/teams", up1).status, 201U);
  const int changes = service.changes;
  const auto& refusal = GetParam();
  const auto answer = ask(service, refusal.method, refusal.target, refusal.body);
  EXPECT_EQ(answer.status, refusal.status) << answer.body;
  EXPECT_NE(answer.message().find(refusal.says), std::string::npos) << answer.body;
  EXPECT_EQ(service.changes, changes);
}

std::string team(const std::string& more) {
  return R"({"name":"new","nics":["eth5","eth6"],)" + more + "}";
}
std::string many(std::size_t count) {
  std::string list;
  for (std::size_t i = 0; i < count; ++i) list += (i == 0 ? "\"n" : ",\"n") + std::to_string(i) + "\"";
  return R"({"name":"new","nics":[)" + list + "]}";
}

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedTeam,
    testing::ValuesIn(std::vector<Refusal>{
        {"no_name", "POST", "/v1/teams", R"({"nics":["eth1"]})", 400, "name: this field is required"},
        {"no_nics", "POST", "/v1/teams", R"({"name":"new"})", 400, "team new: nics: this field is required"},
        {"nics_text", "POST", "/v1/teams", R"({"name":"new","nics":"eth5,eth6"})", 400,
         "team new: nics: \"eth5,eth6\" is not a list"},
        {"nics_null", "POST", "/v1/teams", R"({"name":"new","nics":null})", 400, "nics: null is not a list"},
        {"nics_of_numbers", "POST", "/v1/teams", R"({"name":"new","nics":[5]})", 400, "nics: 5 is not a text"},
        {"nics_nested", "POST", "/v1/teams", R"({"name":"new","nics":[["eth5"]]})", 400,
         "nics: an array is not a text"},
        {"nics_control", "POST", "/v1/teams", R"({"name":"new","nics":["a\u0000"]})", 400, "control character"},
        {"nics_0", "POST", "/v1/teams", R"({"name":"new","nics":[]})", 400, "0 NICs; give 1 to 32"},
        {"nics_33", "POST", "/v1/teams", many(33), 400, "33 NICs; give 1 to 32"},
        {"nics_257", "POST", "/v1/teams", many(257), 400, "nics: it has 257 entries"},
        {"nic_twice", "POST", "/v1/teams", R"({"name":"new","nics":["eth5","eth5"]})", 400, "eth5 is given twice"},
        {"nic_name", "POST", "/v1/teams", R"({"name":"new","nics":["../x"]})", 400, "../x"},
        {"nic_empty", "POST", "/v1/teams", R"({"name":"new","nics":[""]})", 400, "team new: nic without a name"},
        {"nic_taken", "POST", "/v1/teams", R"({"name":"new","nics":["eth2"]})", 409, "eth2 is in team up1 already"},
        {"name_taken", "POST", "/v1/teams", R"({"name":"up1","nics":["eth5"]})", 409, "up1 exists already"},
        {"bad_name", "POST", "/v1/teams", R"({"name":"a/b","nics":["eth5"]})", 400, "a/b"},
        {"mode", "POST", "/v1/teams", team(R"("mode":"bond")"), 400,
         "team new: mode: \"bond\" is not a mode of teams; give switch-independent, static or lacp"},
        {"mode_number", "POST", "/v1/teams", team(R"("mode":4)"), 400, "mode: 4 is not a text"},
        {"balance", "POST", "/v1/teams", team(R"("balance":"rr")"), 400,
         "balance: \"rr\" is not a way to balance; give address-hash, vnic-port or dynamic"},
        {"standby", "POST", "/v1/teams", team(R"("standby":"eth7")"), 400, "standby eth7 is none of its NICs"},
        {"standby_static", "POST", "/v1/teams", team(R"("standby":"eth5","mode":"static")"), 400, "mode static has no"},
        {"timer", "POST", "/v1/teams", team(R"("mode":"lacp","lacp_timer":"1s")"), 400,
         "lacp_timer: \"1s\" is not a timer of LACP; give fast or slow"},
        {"timer_alone", "POST", "/v1/teams", team(R"("lacp_timer":"slow")"), 400, "only mode lacp has a timer"},
        {"delay", "POST", "/v1/teams", team(R"("failback_delay_ms":600001)"), 400,
         "failback_delay_ms: 600001 is out of range; give a whole number from 0 to 600000"},
        {"delay_negative", "POST", "/v1/teams", team(R"("failback_delay_ms":-1)"), 400, "-1 is out of range"},
        {"delay_text", "POST", "/v1/teams", team(R"("failback_delay_ms":"1s")"), 400, "not a whole number"},
        {"unknown_field", "POST", "/v1/teams", team(R"("bond":1)"), 400, "unknown field \"bond\"; known here: name"},
        {"patch_name", "PATCH", "/v1/teams/up1", R"({"name":"up2"})", 400, "unknown field \"name\""},
        {"patch_standby", "PATCH", "/v1/teams/up1", R"({"standby":"eth9"})", 400, "standby eth9"},
        {"patch_nics", "PATCH", "/v1/teams/up1", R"({"nics":[]})", 400, "team up1: it has 0 NICs"},
        {"patch_unknown", "PATCH", "/v1/teams/up9", "{}", 404, "up9"},
        {"show_unknown", "GET", "/v1/teams/up9", "", 404, "patchbay team list"},
        {"put", "PUT", "/v1/teams/up1", "", 405, "GET, PATCH, DELETE"},
        {"member_as_uplink", "POST", "/v1/switches", R"({"name":"lan","type":"external","uplink":"eth1"})", 409,
         "eth1 is in team up1"},
        {"shared_team", "POST", "/v1/switches",
         R"({"name":"lan","type":"external","uplink":"up1","share_with_host":"host0"})", 400, "up1 is a team"},
    }),
    [](const auto& test) { return test.param.name; });

// ---- Apply and export ------------------------------------------------------------------------------------------------

constexpr const char* file = R"(teams:
  up1:
    nics: [eth1, eth2]
    mode: lacp
    lacp_timer: slow
    standby: eth2
  up2:
    nics:
      - eth3
switches:
  lan:
    type: external
    uplink: up1
vnics: {}
)";

TEST(Teams, apply_and_export_give_the_same_host) {
  FakeService service;
  const auto applied = ask(service, "POST", "/v1/apply", file);
  ASSERT_EQ(applied.status, 200U) << applied.body;
  EXPECT_EQ(applied.body["changes"][0]["kind"], "team");
  EXPECT_EQ(service.host.teams.at("up1").standby, "eth2");
  EXPECT_EQ(service.host.teams.at("up2").nics, std::vector<std::string>{"eth3"});
  for (const char* target : {"/v1/export?format=yaml", "/v1/export?format=json"}) {
    auto request = parse_target("GET", target);
    const std::string text = route(service, *request).body;
    EXPECT_EQ(ask(service, "POST", "/v1/apply", text).body["changes"], Json::array()) << text;
    FakeService other;
    ASSERT_EQ(ask(other, "POST", "/v1/apply", text).status, 200U) << text;
    EXPECT_EQ(other.host, service.host) << text;
  }
}

TEST(Teams, a_file_without_the_section_leaves_them_and_one_with_an_empty_section_removes_them) {
  FakeService service;
  ASSERT_EQ(ask(service, "POST", "/v1/teams", up1).status, 201U);
  EXPECT_EQ(ask(service, "POST", "/v1/apply", "switches: {}\nvnics: {}\n").body["changes"], Json::array());
  const auto gone = ask(service, "POST", "/v1/apply", "teams: {}\nswitches: {}\nvnics: {}\n").body["changes"];
  ASSERT_EQ(gone.size(), 1U);
  EXPECT_EQ(gone[0]["verb"], "delete");
  EXPECT_EQ(gone[0]["kind"], "team");
  EXPECT_EQ(gone[0]["before"].dump(),
            R"({"nics":["eth1","eth2"],"mode":"switch-independent","balance":"dynamic","failback_delay_ms":1000})");
}

TEST(Teams, a_wrong_file_is_refused_with_its_line) {
  const std::string good = file;
  const auto with = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  struct Case {
    std::string text;
    const char* says;
  };
  for (const Case& c :
       {Case{with("mode: lacp", "mode: bond"), "line 4: teams.up1.mode: \"bond\" is not a mode"},
        Case{with("[eth1, eth2]", "eth1"), "line 3: teams.up1.nics: \"eth1\" is not a list"},
        Case{with("- eth3", "- eth2"), "line 7: team up2: nic eth2 is in team up1 already"},
        Case{with("standby: eth2", "standby: eth9"), "line 2: team up1: the standby eth9"},
        Case{with("uplink: up1", "uplink: eth1"), "line 11: switch lan: nic eth1 is in team up1"},
        Case{with("    nics:\n      - eth3\n", "    mode: static\n"), "line 7: teams.up2.nics: this field"},
        Case{with("  up2:\n    nics:\n      - eth3\n", "  up2: {}\n"), "line 7: teams.up2.nics: this"},
        Case{with("teams:", "bonds:"), "line 1: unknown section \"bonds\"; known here: host, teams"}}) {
    FakeService service;
    const auto answer = ask(service, "POST", "/v1/apply", c.text);
    EXPECT_NE(answer.message().find(c.says), std::string::npos) << answer.body;
    EXPECT_EQ(service.changes, 0);
  }
}

}  // namespace
}  // namespace patchbay::api
