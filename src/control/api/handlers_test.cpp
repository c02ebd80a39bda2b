// Requests through the router into a Service that lives in memory: answers, and what is refused with which sentence.
#include <gtest/gtest.h>

#include "control/api/fake_service.h"
#include "control/api/router.h"

namespace patchbay::api {
namespace {

struct Answer {
  unsigned status = 0;
  Json body;
  std::string message() const { return body.contains("error") ? body["error"]["message"] : Json(""); }
};

Answer ask(FakeService& service, const char* method, const std::string& target, const std::string& body = "") {
  auto request = parse_target(method, target);
  Response response;
  if (request) {
    request->body = body;
    response = route(service, *request);
  } else {
    response = error_response(request.error());
  }
  return {response.status, response.body.empty() ? Json() : Json::parse(response.body)};
}

void make_lan_with_web(FakeService& service) {
  ASSERT_EQ(ask(service, "POST", "/v1/switches", R"({"name":"lan","type":"external","uplink":"eth1"})").status, 201u);
  ASSERT_EQ(ask(service, "POST", "/v1/vnics",
                R"({"name":"web","switch":"lan","mac":"02-00-00-00-00-AA","vlan":{"mode":"access","vid":101}})")
                .status,
            201u);
}

TEST(Handlers, a_created_switch_comes_back_whole) {
  FakeService service;
  const auto made = ask(service, "POST", "/v1/switches",
                        R"({"name":"lan","type":"external","uplink":"eth1","force_vlan":4094,"mtu":9000})");
  EXPECT_EQ(made.status, 201u);
  EXPECT_EQ(made.body["name"], "lan");
  EXPECT_EQ(made.body["type"], "external");
  EXPECT_EQ(made.body["force_vlan"], 4094);
  EXPECT_EQ(made.body["mtu"], 9000);
  EXPECT_EQ(made.body["vnics"], Json::array());
  EXPECT_EQ(made.body["uplink"]["nic"], "eth1");
  EXPECT_EQ(made.body["uplink"]["state"], "up");
  EXPECT_EQ(made.body["uplink"]["counters"]["from_wire"]["frames"], 8);
  EXPECT_EQ(made.body["uplink"]["counters"]["to_wire"]["bytes"], 11);
  EXPECT_EQ(ask(service, "GET", "/v1/switches/lan").body, made.body);
  EXPECT_EQ(ask(service, "GET", "/v1/switches").body, Json::array({made.body}));
  EXPECT_EQ(ask(service, "GET", "/v1/nics/eth1").body["switch"], "lan");
}

TEST(Handlers, a_switch_shows_the_driver_that_was_asked_for_and_the_one_in_use) {
  FakeService service;
  const auto made =
      ask(service, "POST", "/v1/switches", R"({"name":"lan","type":"external","uplink":"eth1","driver":"packet"})");
  EXPECT_EQ(made.body["driver"], "packet");
  EXPECT_EQ(made.body["uplink"]["driver"], "packet");
  EXPECT_EQ(made.body["uplink"]["driver_reason"], "veth is a virtual device");
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"driver":"auto"})").body["driver"], "auto");
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"mtu":1400})").body["driver"], "auto")
      << "what is not named stays";
  const auto wrong = ask(service, "PATCH", "/v1/switches/lan", R"({"driver":"dpdk"})");
  EXPECT_EQ(wrong.status, 400u);
  EXPECT_EQ(wrong.message(), R"(switch lan: driver: "dpdk" is not a driver; give auto, packet or xdp)");
  EXPECT_EQ(ask(service, "POST", "/v1/switches", R"({"name":"in","type":"internal"})").body["driver"], nullptr);
  EXPECT_EQ(ask(service, "POST", "/v1/switches", R"({"name":"i2","type":"internal","driver":"xdp"})").status, 400u);
  const auto nic = ask(service, "GET", "/v1/nics/eth1").body;
  EXPECT_EQ(nic["uplink_driver"], "packet");
  EXPECT_EQ(nic["uplink_driver_reason"], "veth is a virtual device and loses VLAN tags over AF_XDP");
  EXPECT_EQ(nic["rx_vlan_offload"], nullptr);
}

TEST(Handlers, gro_is_on_unless_it_is_switched_off_and_only_external_switches_have_it) {
  FakeService service;
  const auto made = ask(service, "POST", "/v1/switches", R"({"name":"lan","type":"external","uplink":"eth1"})");
  EXPECT_EQ(made.body["gro"], true);
  EXPECT_EQ(made.body["uplink"]["counters"]["merged_frames"], 14);
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"gro":false})").body["gro"], false);
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"mtu":1400})").body["gro"], false);
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"gro":"off"})").status, 400u);
  EXPECT_EQ(ask(service, "POST", "/v1/switches", R"({"name":"in","type":"internal"})").body["gro"], nullptr);
  EXPECT_EQ(ask(service, "POST", "/v1/switches", R"({"name":"i2","type":"internal","gro":false})").status, 400u);
}

TEST(Handlers, a_created_vnic_comes_back_whole) {
  FakeService service;
  make_lan_with_web(service);
  const auto web = ask(service, "GET", "/v1/vnics/web");
  EXPECT_EQ(web.status, 200u);
  EXPECT_EQ(web.body["switch"], "lan");
  EXPECT_EQ(web.body["kind"], "guest");
  EXPECT_EQ(web.body["mac"], "02:00:00:00:00:aa");
  EXPECT_EQ(web.body["mac_origin"], "static");
  EXPECT_EQ(web.body["vlan"].dump(), R"({"mode":"access","vid":101,"forced":false})");
  EXPECT_EQ(web.body["state"], "waiting_for_guest");
  EXPECT_EQ(web.body["vhost_role"], "listen");
  EXPECT_EQ(web.body["mtu"], 1500);
  EXPECT_EQ(web.body["buffer"].dump(),
            R"({"size":"1M","size_from":"built_in","max_age_ms":0,"max_age_from":"built_in","limit_bytes":1048576,)"
            R"("used_bytes":7,"peak_bytes":8,"frames":2,"waited":{"frames":9,"p50_us":10,"p99_us":11,"max_us":12},)"
            R"("stalls":{"count":3,"longest_us":13,"now_us":0},"advice":"more"})");
}

TEST(Handlers, a_vnic_shows_every_counter_under_its_own_name) {
  FakeService service;
  make_lan_with_web(service);
  const auto counters = ask(service, "GET", "/v1/vnics/web").body["counters"];
  EXPECT_EQ(counters["from_guest"].dump(), R"({"frames":101,"bytes":102})");
  EXPECT_EQ(counters["to_guest"].dump(), R"({"frames":103,"bytes":104})");
  EXPECT_EQ(counters["flood_copies"], 105);
  ASSERT_EQ(counters["drops"].size(), dataplane::drop_reason_count);
  for (std::size_t i = 0; i < dataplane::drop_reason_count; ++i) {
    EXPECT_EQ(counters["drops"][dataplane::to_string(static_cast<dataplane::DropReason>(i))], 110 + i);
  }
}

TEST(Handlers, a_host_vnic_has_no_socket) {
  FakeService service;
  make_lan_with_web(service);
  const auto mgmt = ask(service, "POST", "/v1/vnics", R"({"name":"mgmt","switch":"lan","kind":"host"})");
  EXPECT_EQ(mgmt.status, 201u);
  EXPECT_EQ(mgmt.body["vhost_socket"], nullptr);
  EXPECT_EQ(mgmt.body["vhost_role"], nullptr);
  EXPECT_EQ(mgmt.body["vlan"].dump(), R"({"mode":"untagged","vid":null,"forced":false})");
  EXPECT_EQ(mgmt.body["mac_origin"], "dynamic");
}

TEST(Handlers, a_forced_vlan_shows_at_the_vnic_and_can_be_taken_back) {
  FakeService service;
  ask(service, "POST", "/v1/switches", R"({"name":"in","type":"internal","force_vlan":7})");
  ask(service, "POST", "/v1/vnics", R"({"name":"a","switch":"in"})");
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/a").body["vlan"].dump(), R"({"mode":"access","vid":7,"forced":true})");
  const auto set = ask(service, "PATCH", "/v1/switches/in", R"({"force_vlan":null})");
  EXPECT_EQ(set.status, 200u);
  EXPECT_EQ(set.body["force_vlan"], nullptr);
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/a").body["vlan"]["mode"], "untagged");
}

TEST(Handlers, a_change_leaves_what_it_does_not_name) {
  FakeService service;
  make_lan_with_web(service);
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"force_vlan":101})").status, 200u);
  EXPECT_EQ(ask(service, "PATCH", "/v1/switches/lan", R"({"mtu":2000})").body["force_vlan"], 101);
  EXPECT_EQ(ask(service, "PATCH", "/v1/vnics/web", R"({"mac":"02:00:00:00:00:ab"})").body["vlan"]["vid"], 101);
  const auto set = ask(service, "PATCH", "/v1/vnics/web", R"({"vlan":{"mode":"untagged"}})");
  EXPECT_EQ(set.body["mac"], "02:00:00:00:00:ab");
  EXPECT_TRUE(std::holds_alternative<model::Untagged>(service.host.vnics.at("web").vlan));
}

TEST(Handlers, a_policy_is_made_shown_changed_and_deleted) {
  FakeService service;
  make_lan_with_web(service);
  const auto made = ask(service, "POST", "/v1/policies",
                        R"({"name":"storage","buffer":"4M","apply_to":["switch:lan","label:tier=gold","host"]})");
  EXPECT_EQ(made.status, 201u) << made.body;
  EXPECT_EQ(made.body.dump(), R"({"name":"storage","buffer":"4M","buffer_max_age_ms":null,)"
                              R"("apply_to":["label:tier=gold","switch:lan","host"],"vnics":["web"]})");
  EXPECT_EQ(ask(service, "GET", "/v1/policies/storage").body, made.body);
  EXPECT_EQ(ask(service, "GET", "/v1/policies").body, Json::array({made.body}));
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/web").body["buffer"]["size_from"], "policy storage");
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/web").body["buffer"]["max_age_from"], "built_in");
  EXPECT_EQ(ask(service, "PATCH", "/v1/policies/storage", R"({"buffer_max_age_ms":7})").body["buffer"], "4M");
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/web").body["buffer"]["max_age_from"], "policy storage");
  const auto set = ask(service, "PATCH", "/v1/policies/storage", R"({"buffer":null,"apply_to":[]})");
  EXPECT_EQ(set.body.dump(), R"({"name":"storage","buffer":null,"buffer_max_age_ms":7,"apply_to":[],"vnics":[]})");
  EXPECT_EQ(ask(service, "DELETE", "/v1/policies/storage").status, 204u);
  EXPECT_EQ(ask(service, "DELETE", "/v1/policies/storage").status, 404u);
}

TEST(Handlers, labels_are_replaced_as_a_whole) {
  FakeService service;
  make_lan_with_web(service);
  EXPECT_EQ(ask(service, "GET", "/v1/vnics/web").body["labels"], Json::array());
  const auto set = ask(service, "PATCH", "/v1/vnics/web", R"({"labels":["tier=gold","storage"]})");
  EXPECT_EQ(set.body["labels"].dump(), R"(["storage","tier=gold"])");
  EXPECT_EQ(ask(service, "PATCH", "/v1/vnics/web", R"({"queues":2})").body["labels"], set.body["labels"]);
  EXPECT_EQ(ask(service, "PATCH", "/v1/vnics/web", R"({"labels":["a"]})").body["labels"].dump(), R"(["a"])");
  EXPECT_EQ(ask(service, "PATCH", "/v1/vnics/web", R"({"labels":[]})").body["labels"], Json::array());
  const auto made = ask(service, "POST", "/v1/vnics", R"({"name":"db","switch":"lan","labels":["storage"]})");
  EXPECT_EQ(made.body["labels"].dump(), R"(["storage"])");
}

TEST(Handlers, vmq_lists_queues_and_who_has_none) {
  FakeService service;
  make_lan_with_web(service);
  const auto answer = ask(service, "GET", "/v1/vmq?nic=" + service.list_nics().front().nic.name);
  EXPECT_EQ(answer.status, 200u) << answer.body;
  const std::string nic = service.list_nics().front().nic.name;
  EXPECT_EQ(answer.body["nics"].dump(),
            R"([{"nic":")" + nic +
                R"(","team":null,"queue_model":null,"switch":"lan","sorting":"kernel","sorting_reason":"why",)"
                R"("queues_max":7,"queues_used":1,"vlan_only":false,"restarts":false}])");
  EXPECT_EQ(answer.body["queues"].dump(),
            R"([{"nic":")" + nic +
                R"(","queue":0,"vnic":null,"mac":null,"vlan":null,"state":"running","worker":0,"frames":30,"bytes":40,)"
                R"("drops":3,"sorting":"kernel"},{"nic":")" +
                nic +
                R"(","queue":1,"vnic":"web","mac":"02:00:00:00:00:01","vlan":101,"state":"running","worker":2,)"
                R"("frames":50,"bytes":60,"drops":4,"sorting":"kernel"}])");
  EXPECT_EQ(answer.body["without_queue"].dump(),
            R"([{"vnic":"db","switch":"lan","uplink":")" + nic + R"(","reason":"vmq_weight is 0"}])");
  EXPECT_EQ(ask(service, "GET", "/v1/vmq").body, answer.body);
  EXPECT_EQ(ask(service, "GET", "/v1/vmq?nic=none").status, 404u);
  EXPECT_EQ(ask(service, "GET", "/v1/vmq?nic=").status, 400u);
  EXPECT_EQ(ask(service, "GET", "/v1/vmq?vnic=web").status, 400u);
  EXPECT_EQ(ask(service, "PATCH", "/v1/vnics/web", R"({"vmq_weight":7})").body["vmq_weight"], 7);
}

TEST(Handlers, the_host_has_a_limit_that_can_be_set_and_taken_back) {
  FakeService service;
  EXPECT_EQ(
      ask(service, "GET", "/v1/host").body.dump(),
      R"({"buffer":{"limit":"256M","limit_from":"built_in","limit_bytes":5,"used_bytes":3},"policies":["base"]})");
  for (const char* same : {R"("1G")", "1073741824", R"("1048576K")"}) {
    const auto set = ask(service, "PATCH", "/v1/host", std::string(R"({"buffer_limit":)") + same + "}");
    EXPECT_EQ(set.status, 200u) << set.body;
    EXPECT_EQ(set.body["buffer"]["limit"], "1G");
    EXPECT_EQ(set.body["buffer"]["limit_from"], "host");
  }
  EXPECT_EQ(ask(service, "PATCH", "/v1/host", "{}").body["buffer"]["limit"], "1G");
  EXPECT_EQ(ask(service, "PATCH", "/v1/host", R"({"buffer_limit":null})").body["buffer"]["limit_from"], "built_in");
}

TEST(Handlers, deleting_answers_204_once_and_404_then) {
  FakeService service;
  make_lan_with_web(service);
  const auto refused = ask(service, "DELETE", "/v1/switches/lan");
  EXPECT_EQ(refused.status, 409u);
  EXPECT_EQ(refused.body["error"]["code"], "in_use");
  EXPECT_NE(refused.message().find("web"), std::string::npos) << "the sentence lists the vnics";
  EXPECT_EQ(ask(service, "DELETE", "/v1/vnics/web").status, 204u);
  EXPECT_EQ(ask(service, "DELETE", "/v1/vnics/web").status, 404u);
  EXPECT_EQ(ask(service, "DELETE", "/v1/switches/lan").status, 204u);
}

TEST(Handlers, show_holds_everything) {
  FakeService service;
  make_lan_with_web(service);
  const auto show = ask(service, "GET", "/v1/show").body;
  EXPECT_EQ(show["nics"], ask(service, "GET", "/v1/nics").body);
  EXPECT_EQ(show["switches"], ask(service, "GET", "/v1/switches").body);
  EXPECT_EQ(show["policies"], ask(service, "GET", "/v1/policies").body);
  EXPECT_EQ(show["host"], ask(service, "GET", "/v1/host").body);
  EXPECT_EQ(show["vnics"], ask(service, "GET", "/v1/vnics").body);
  EXPECT_EQ(show["workers"].dump(),
            R"([{"id":0,"cpu":1,"busy_cycles":10,"idle_cycles":20,"frames":30,"sleeps":40,"ports":2}])");
}

TEST(Handlers, what_a_library_throws_becomes_a_500) {
  FakeService service;
  service.throws = true;
  const auto answer = ask(service, "GET", "/v1/workers");
  EXPECT_EQ(answer.status, 500u);
  EXPECT_EQ(answer.body["error"]["code"], "internal");
}

struct Refusal {
  const char* name;
  const char* method;
  std::string target;
  std::string body;
  unsigned status;
  const char* says;  // what the sentence must hold
};

class Refused : public testing::TestWithParam<Refusal> {};

TEST_P(Refused, with_a_sentence_and_without_a_change) {
  FakeService service;
  make_lan_with_web(service);
  const int changes = service.changes;
  const auto& refusal = GetParam();
  const auto answer = ask(service, refusal.method, refusal.target, refusal.body);
  EXPECT_EQ(answer.status, refusal.status) << answer.body;
  EXPECT_NE(answer.message().find(refusal.says), std::string::npos) << answer.body;
  EXPECT_EQ(service.changes, changes);
}

std::string vnic(const std::string& more) {
  return R"({"name":"new","switch":"lan",)" + more + "}";
}
std::string priv(const std::string& more) {
  return R"({"name":"new","type":"private",)" + more + "}";
}

INSTANTIATE_TEST_SUITE_P(
    Table, Refused,
    testing::ValuesIn(std::vector<Refusal>{
        {"no_body", "POST", "/v1/vnics", "", 400, "no body"},
        {"no_json", "POST", "/v1/vnics", "name=web", 400, "not JSON"},
        {"half_json", "POST", "/v1/vnics", R"({"name":"web")", 400, "not JSON"},
        {"bad_utf8", "POST", "/v1/vnics", "{\"name\":\"\xff\xfe\"}", 400, "not JSON"},
        {"array", "POST", "/v1/vnics", "[]", 400, "not an object"},
        {"null", "POST", "/v1/vnics", "null", 400, "not an object"},
        {"deep", "POST", "/v1/vnics", std::string(100000, '['), 400, "16 levels"},
        {"field_twice", "POST", "/v1/vnics", vnic(R"("name":"x")"), 400, "\"name\" is given twice"},
        {"unknown_field", "POST", "/v1/vnics", vnic(R"("vlam":1)"), 400, "unknown field \"vlam\"; known here: name"},
        {"unknown_nested", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"untagged","id":1})"), 400, "\"vlan.id\""},
        {"no_name", "POST", "/v1/vnics", R"({"switch":"lan"})", 400, "name: this field is required"},
        {"no_switch", "POST", "/v1/vnics", R"({"name":"new"})", 400, "switch: this field is required"},
        {"number_name", "POST", "/v1/vnics", R"({"name":5,"switch":"lan"})", 400, "name: 5 is not a text"},
        {"null_name", "POST", "/v1/vnics", R"({"name":null,"switch":"lan"})", 400, "name: null is not a text"},
        {"empty_name", "POST", "/v1/vnics", R"({"name":"","switch":"lan"})", 400, "vnic"},
        {"slash_name", "POST", "/v1/vnics", R"({"name":"a/b","switch":"lan"})", 400, "a/b"},
        {"nul_name", "POST", "/v1/vnics", R"({"name":"a\u0000","switch":"lan"})", 400, "control character"},
        {"long_name", "POST", "/v1/vnics", R"({"name":")" + std::string(5000, 'x') + R"(","switch":"lan"})", 400,
         "name: "},
        {"taken_name", "POST", "/v1/vnics", R"({"name":"web","switch":"lan"})", 409, "exists already"},
        {"unknown_switch", "POST", "/v1/vnics", R"({"name":"new","switch":"wan"})", 404, "wan"},
        {"bad_kind", "POST", "/v1/vnics", vnic(R"("kind":"vm")"), 400, "kind: \"vm\""},
        {"bad_mac", "POST", "/v1/vnics", vnic(R"("mac":"02:00:00:00:00")"), 400, "vnic new: mac: \"02:00:00:00:00\""},
        {"multicast_mac", "POST", "/v1/vnics", vnic(R"("mac":"01:00:00:00:00:01")"), 400, "01:00:00:00:00:01"},
        {"taken_mac", "POST", "/v1/vnics", vnic(R"("mac":"02:00:00:00:00:aa")"), 409, "web"},
        {"vlan_as_number", "POST", "/v1/vnics", vnic(R"("vlan":101)"), 400, "vlan: 101 is not a VLAN mode"},
        {"no_mode", "POST", "/v1/vnics", vnic(R"("vlan":{"vid":5})"), 400, "vlan.mode: this field is required"},
        {"bad_mode", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"hybrid"})"), 400, "vlan.mode: \"hybrid\""},
        {"access_alone", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access"})"), 400,
         "vlan.vid: this field is required"},
        {"trunk_alone", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"trunk"})"), 400, "vlan.allowed: this field"},
        {"trunk_list", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"trunk","allowed":"10,4095"})"), 400, "\"4095\""},
        {"trunk_range", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"trunk","allowed":"20-10"})"), 400, "\"20-10\""},
        {"trunk_native", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"trunk","allowed":"10","native":0})"), 400,
         "vlan.native: 0 is not a VLAN id"},
        {"trunk_pruned_native", "POST", "/v1/vnics",
         vnic(R"("vlan":{"mode":"trunk","allowed":"10","pruned":"5","native":5})"), 400, "VLAN 5 is pruned"},
        {"trunk_empty", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"trunk","allowed":"10","pruned":"10"})"), 400,
         "all of the trunk's VLANs are pruned"},
        {"pvlan_same", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"isolated","primary":9,"secondary":9})"), 400,
         "VLAN 9 cannot be primary and secondary"},
        {"pvlan_alone", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"community","primary":9})"), 400,
         "vlan.secondary: this field is required"},
        {"spoofing_word", "POST", "/v1/vnics", vnic(R"("mac_spoofing":"on")"), 400, "mac_spoofing: \"on\" is neither"},
        {"mac_limit_0", "POST", "/v1/vnics", vnic(R"("mac_limit":0)"), 400, "mac_limit: 0 is out of range"},
        {"queues_0", "POST", "/v1/vnics", vnic(R"("queues":0)"), 400, "queues: 0 is out of range; give a whole"},
        {"queues_9", "POST", "/v1/vnics", vnic(R"("queues":9)"), 400, "queues: 9 is out of range; give a whole"},
        {"queues_text", "POST", "/v1/vnics", vnic(R"("queues":"2")"), 400, "queues: \"2\" is not a whole number"},
        {"queues_of_host", "POST", "/v1/vnics", vnic(R"("kind":"host","queues":2)"), 400, "a host vnic has one queue"},
        {"vmq_weight_101", "POST", "/v1/vnics", vnic(R"("vmq_weight":101)"), 400, "vmq_weight: 101 is out of range"},
        {"vmq_weight_negative", "POST", "/v1/vnics", vnic(R"("vmq_weight":-1)"), 400, "vmq_weight: -1 is out of range"},
        {"worker_256", "POST", "/v1/vnics", vnic(R"("worker":256)"), 400, "worker: 256 is out of range"},
        {"worker_negative", "POST", "/v1/vnics", vnic(R"("worker":-1)"), 400, "worker: -1 is out of range"},
        {"worker_word", "POST", "/v1/vnics", vnic(R"("worker":"any")"), 400, "neither a whole number nor auto"},
        {"buffer_small", "POST", "/v1/vnics", vnic(R"("buffer":"255K")"), 400,
         "buffer: buffer 255K is out of range; give 256K to 16M, auto, or 0 for none"},
        {"buffer_bytes", "POST", "/v1/vnics", vnic(R"("buffer":1000)"), 400, "buffer 1000 is out of range"},
        {"buffer_negative", "POST", "/v1/vnics", vnic(R"("buffer":-1)"), 400, "buffer \"-1\" is not a size"},
        {"buffer_unit", "POST", "/v1/vnics", vnic(R"("buffer":"4MB")"), 400,
         "buffer \"4MB\" is not a size; give bytes"},
        {"buffer_lower", "POST", "/v1/vnics", vnic(R"("buffer":"4m")"), 400, "buffer \"4m\" is not a size"},
        {"buffer_half", "POST", "/v1/vnics", vnic(R"("buffer":"1.5M")"), 400, "is not a size"},
        {"buffer_huge", "POST", "/v1/vnics", vnic(R"("buffer":"4294967296M")"), 400, "is not a size"},
        {"buffer_auto_small", "POST", "/v1/vnics", vnic(R"("buffer":"auto:512K")"), 400,
         "auto grows from 1M to a limit of 1M to 16M; give auto:1M or more"},
        {"buffer_auto_nothing", "POST", "/v1/vnics", vnic(R"("buffer":"auto:")"), 400, "is not a size"},
        {"buffer_auto_word", "POST", "/v1/vnics", vnic(R"("buffer":"automatic")"), 400, "is not a size"},
        {"buffer_true", "POST", "/v1/vnics", vnic(R"("buffer":true)"), 400, "buffer"},
        {"buffer_of_host", "POST", "/v1/vnics", vnic(R"("kind":"host","buffer":"1M")"), 400,
         "a host vnic has no buffer here"},
        {"buffer_age", "POST", "/v1/vnics", vnic(R"("buffer_max_age_ms":3600001)"), 400, "out of range"},
        {"buffer_of_switch", "PATCH", "/v1/switches/lan", R"({"buffer":"32M"})", 400, "switch lan: buffer: buffer 32M"},
        {"labels_text", "POST", "/v1/vnics", vnic(R"("labels":"storage")"), 400,
         "vnic new: labels: \"storage\" is not a list"},
        {"labels_null", "POST", "/v1/vnics", vnic(R"("labels":null)"), 400, "labels: null is not a list"},
        {"label_number", "POST", "/v1/vnics", vnic(R"("labels":["a",5])"), 400, "labels: 5 is not a text"},
        {"label_twice", "POST", "/v1/vnics", vnic(R"("labels":["a","a"])"), 400, "\"a\" is given twice"},
        {"label_key_twice", "POST", "/v1/vnics", vnic(R"("labels":["a=1","a=2"])"), 400, "label a is there twice"},
        {"label_empty", "POST", "/v1/vnics", vnic(R"("labels":[""])"), 400, "labels: label without a name"},
        {"label_none", "PATCH", "/v1/vnics/web", R"({"labels":["none"]})", 400, "would read as no label"},
        {"policy_field", "POST", "/v1/policies", R"({"name":"p","colour":1})", 400,
         "policy p: unknown field \"colour\"; known here: name, buffer, buffer_max_age_ms, apply_to"},
        {"policy_no_name", "POST", "/v1/policies", "{}", 400, "name: this field is required"},
        {"policy_name", "POST", "/v1/policies", R"({"name":"a/b"})", 400, "policy name 'a/b'"},
        {"policy_buffer", "POST", "/v1/policies", R"({"name":"p","buffer":"17M"})", 400,
         "policy p: buffer: buffer 17M"},
        {"policy_target", "POST", "/v1/policies", R"({"name":"p","apply_to":["all"]})", 400,
         "policy p: apply_to: \"all\" is nothing that a policy applies to; write host, switch:NAME"},
        {"policy_switch", "POST", "/v1/policies", R"({"name":"p","apply_to":["switch:wan"]})", 404,
         "policy p: switch wan does not exist"},
        {"policy_unknown", "PATCH", "/v1/policies/p", "{}", 404, "policy p does not exist"},
        {"policy_patch_name", "PATCH", "/v1/policies/p", R"({"name":"q"})", 400, "unknown field \"name\""},
        {"policy_show", "GET", "/v1/policies/p", "", 404, "policy p does not exist"},
        {"host_field", "PATCH", "/v1/host", R"({"buffer":"1G"})", 400,
         "unknown field \"buffer\"; known here: buffer_limit"},
        {"host_limit", "PATCH", "/v1/host", R"({"buffer_limit":"65G"})", 400, "buffer_limit: buffer limit \"65G\""},
        {"host_limit_small", "PATCH", "/v1/host", R"({"buffer_limit":0})", 400, "out of range; give 1M to 64G"},
        {"host_limit_large", "PATCH", "/v1/host", R"({"buffer_limit":68719476737})", 400, "is not a size"},
        {"host_limit_true", "PATCH", "/v1/host", R"({"buffer_limit":true})", 400, "buffer_limit: true is not a text"},
        {"untagged_vid", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"untagged","vid":5})"), 400, "vlan.vid: mode"},
        {"vid_0", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":0})"), 400,
         "vnic new: vlan.vid: 0 is not a VLAN id; give a whole number from 1 to 4094"},
        {"vid_4095", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":4095})"), 400, "4095 is not a VLAN"},
        {"vid_negative", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":-1})"), 400, "1 to 4094"},
        {"vid_huge", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":18446744073709551615})"), 400,
         "18446744073709551615"},
        {"vid_text", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":"5"})"), 400, "\"5\" is not a VLAN"},
        {"vid_fraction", "POST", "/v1/vnics", vnic(R"("vlan":{"mode":"access","vid":5.0})"), 400, "5.0 is not a VLAN"},
        {"no_type", "POST", "/v1/switches", R"({"name":"new"})", 400, "type: this field is required"},
        {"bad_type", "POST", "/v1/switches", R"({"name":"new","type":"nat"})", 400, "type: \"nat\""},
        {"mtu_575", "POST", "/v1/switches", priv(R"("mtu":575)"), 400, "switch new: mtu: 575 is out of range"},
        {"mtu_9001", "POST", "/v1/switches", priv(R"("mtu":9001)"), 400, "576 to 9000"},
        {"mtu_huge", "POST", "/v1/switches", priv(R"("mtu":18446744073709551615)"), 400, "out of range"},
        {"mtu_wraps", "POST", "/v1/switches", priv(R"("mtu":67036)"), 400, "mtu: 67036 is out of range"},
        {"mtu_text", "POST", "/v1/switches", priv(R"("mtu":"1500")"), 400, "not a whole number"},
        {"force_vlan_0", "POST", "/v1/switches", priv(R"("force_vlan":0)"), 400,
         "switch new: force_vlan: 0 is not a VLAN id"},
        {"second_external", "POST", "/v1/switches", R"({"name":"new","type":"external","uplink":"eth1"})", 409, "lan"},
        {"unknown_nic", "POST", "/v1/switches", R"({"name":"new","type":"external","uplink":"eth9"})", 404, "eth9"},
        {"private_uplink", "POST", "/v1/switches", priv(R"("uplink":"eth1")"), 400, "only an external"},
        {"patch_mtu", "PATCH", "/v1/switches/lan", R"({"mtu":1})", 400, "switch lan: mtu: 1 is out of range"},
        {"patch_mac", "PATCH", "/v1/vnics/web", R"({"mac":"x"})", 400, "vnic web: mac: \"x\" is not a MAC address"},
        {"patch_type", "PATCH", "/v1/switches/lan", R"({"type":"private"})", 400, "unknown field \"type\""},
        {"patch_unknown", "PATCH", "/v1/vnics/nobody", R"({})", 404, "nobody"},
        {"show_unknown", "GET", "/v1/vnics/nobody", "", 404, "nobody"},
        {"show_empty", "GET", "/v1/vnics/", "", 400, "vnic"},
        {"show_bad_utf8", "GET", "/v1/nics/%ff%00", "", 404, "nic"},
        {"bad_percent", "GET", "/v1/vnics/%4", "", 400, "two hex digits"},
        {"bad_percent_digit", "GET", "/v1/vnics/%zz", "", 400, "two hex digits"},
        {"no_path", "GET", "http://host/v1/show", "", 400, "not a path"},
        {"unknown_path", "GET", "/v2/show", "", 404, "/v2/show"},
        {"longer_path", "GET", "/v1/show/", "", 404, "no such path"},
        {"root", "GET", "/", "", 404, "no such path"},
        {"bad_method", "PUT", "/v1/vnics/web", "", 405, "GET, PATCH, DELETE"},
        {"query_where_none", "GET", "/v1/vnics?x=1", "", 400, "\"x\""},
        {"query_twice", "GET", "/v1/vnics/web/attach-args?format=qemu&format=qemu", "", 400, "twice"},
        {"query_unknown", "GET", "/v1/vnics/web/attach-args?size=1G", "", 400, "known here: format, memory"},
        {"bad_format", "GET", "/v1/vnics/web/attach-args?format=xen", "", 400, "qemu or libvirt"},
        {"memory_0", "GET", "/v1/vnics/web/attach-args?memory=0M", "", 400, "memory: \"0M\""},
        {"memory_bare", "GET", "/v1/vnics/web/attach-args?memory=256", "", 400, "memory: \"256\""},
        {"memory_huge", "GET", "/v1/vnics/web/attach-args?memory=16385G", "", 400, "16384G"},
        {"memory_text", "GET", "/v1/vnics/web/attach-args?memory=1G,x=y", "", 400, "memory: "},
        {"attach_unknown", "GET", "/v1/vnics/nobody/attach-args", "", 404, "nobody"},
    }),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace patchbay::api
