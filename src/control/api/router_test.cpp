// openapi.yaml and the router's table describe the same API.
#include "control/api/router.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <set>

#include "control/api/fake_service.h"
#include "control/api/openapi.h"

namespace patchbay::api {
namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

TEST(Router, table_equals_the_paths_of_openapi_yaml) {
  std::set<std::string> described;
  const YAML::Node document = YAML::Load(std::string(openapi_yaml()));
  for (const auto& path : document["paths"]) {
    for (const auto& method : path.second) {
      const auto name = method.first.as<std::string>();
      if (name != "parameters") described.insert(upper(name) + " " + path.first.as<std::string>());
    }
  }
  std::set<std::string> routed;
  for (const Route& route : routes()) routed.insert(std::string(route.method) + " " + std::string(route.path));
  EXPECT_EQ(described, routed);
  EXPECT_EQ(routed.size(), routes().size()) << "a route stands twice";
}

TEST(Router, openapi_yaml_lists_every_drop_reason_and_error_code) {
  const YAML::Node schemas = YAML::Load(std::string(openapi_yaml()))["components"]["schemas"];
  const auto reasons = schemas["Drops"]["required"].as<std::vector<std::string>>();
  ASSERT_EQ(reasons.size(), dataplane::drop_reason_count);
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    EXPECT_EQ(reasons[i], dataplane::to_string(static_cast<dataplane::DropReason>(i)));
  }
  const auto codes = schemas["Error"]["properties"]["error"]["properties"]["code"]["enum"];
  ASSERT_EQ(codes.size(), static_cast<std::size_t>(ErrorCode::internal) + 1);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    EXPECT_EQ(codes[i].as<std::string>(), to_string(static_cast<ErrorCode>(i)));
  }
}

TEST(Router, serves_its_own_description) {
  FakeService service;
  const auto request = parse_target("GET", "/v1/openapi.yaml");
  ASSERT_TRUE(request);
  const auto response = route(service, *request);
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(response.body, openapi_yaml());
  EXPECT_EQ(response.body.rfind("openapi: 3.0", 0), 0u);
}

TEST(Router, decodes_each_segment_after_splitting) {
  const auto request = parse_target("GET", "/v1/vnics/a%2Fb%20c?format=qe%6du&memory=");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->segments, (std::vector<std::string>{"v1", "vnics", "a/b c"}));
  EXPECT_EQ(request->query, (std::map<std::string, std::string>{{"format", "qemu"}, {"memory", ""}}));
}

}  // namespace
}  // namespace patchbay::api
