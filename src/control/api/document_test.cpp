// YAML in, values and lines out; what is refused where; and out again.
#include "control/api/document.h"

#include <gtest/gtest.h>

#include <chrono>

namespace patchbay::api {
namespace {

using Json = nlohmann::ordered_json;

std::string error_of(const std::string& text) {
  const auto document = parse_yaml(text);
  return document ? "no error, but " + document->value.dump() : document.error().message;
}

TEST(Document, reads_scalars_by_the_core_schema) {
  const auto document = parse_yaml(
      "a: 101\nb: -5\nc: 1.5\nd: true\ne: null\nf:\ng: on\nh: \"101\"\ni: '5'\nj: 02:00:00:00:00:01\nk: 0x10\nl: 1e3\n"
      "m: 18446744073709551615\nn: 18446744073709551616\no: \"\"\np: ~\nq: no\ns: 1.2.3\nt: {u: [1, x]}\n");
  ASSERT_TRUE(document) << document.error().message;
  EXPECT_EQ(document->value, nlohmann::json::parse(R"({"a":101,"b":-5,"c":1.5,"d":true,"e":null,"f":null,"g":"on",
    "h":"101","i":"5","j":"02:00:00:00:00:01","k":"0x10","l":1000.0,"m":18446744073709551615,
    "n":"18446744073709551616","o":"","p":null,"q":"no","s":"1.2.3","t":{"u":[1,"x"]}})"));
}

TEST(Document, knows_the_line_of_each_value_and_of_the_nearest_around_one_that_is_not_there) {
  const auto document =
      parse_yaml("# host\nswitches:\n  lan: {type: private}\nvnics:\n  web:\n    vlan:\n      vid: 5\n");
  ASSERT_TRUE(document) << document.error().message;
  EXPECT_EQ(document->line_of("/switches"), 2);
  EXPECT_EQ(document->line_of("/switches/lan/type"), 3);
  EXPECT_EQ(document->line_of("/vnics/web"), 5);
  EXPECT_EQ(document->line_of("/vnics/web/vlan/vid"), 7);
  EXPECT_EQ(document->line_of("/vnics/web/vlan/mode"), 6);
  EXPECT_EQ(document->line_of("/vnics/web/mac"), 5);
  EXPECT_EQ(document->line_of("/other"), 2) << "the document itself begins there";
}

TEST(Document, reads_json) {
  const std::string json = R"({"switches": {"lan": {"type": "private", "mtu": 1500, "x": "ä\u00e4\n"}}, "vnics": {}})";
  const auto document = parse_yaml(json);
  ASSERT_TRUE(document) << document.error().message;
  EXPECT_EQ(document->value, nlohmann::json::parse(json));
}

struct Refusal {
  const char* name;
  std::string text;
  const char* says;
};
class RefusedDocument : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedDocument, with_its_line) {
  const auto started = std::chrono::steady_clock::now();
  EXPECT_NE(error_of(GetParam().text).find(GetParam().says), std::string::npos) << error_of(GetParam().text);
  // Seconds, not hours: far from what a slow machine needs, and from what an expansion would take.
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(60));
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedDocument,
    testing::ValuesIn(std::vector<Refusal>{
        {"nothing", "", "line 1: nothing stands here"},
        {"only_comments", "# nothing\n", "line 1: nothing stands here"},
        {"key_twice", "a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4: \"b\" is given twice, first in line 2; give it once"},
        {"section_twice", "a: {}\nb: {}\na: {}\n", "line 3: \"a\" is given twice, first in line 1"},
        {"anchor", "a: 1\nb: &x {c: 1}\n", "line 2: anchors"},
        {"alias", "a: *x\n", "line 1"},
        {"bomb", "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "line 1: anchors"},
        {"tag", "a: !!python/object x\n", "line 1: tags"},
        {"own_tag", "a: !thing {b: 1}\n", "line 1: tags"},
        {"merge", "a: 1\nb:\n  <<: *a\n", "line 3"},
        {"second_document", "a: 1\n---\nb: 1\n", "line 3: a second document begins here"},
        {"key_is_a_list", "? [a, b]\n: 1\n", "line 1: a key must be a plain text"},
        {"key_is_empty", "a: 1\n: 2\n", "line 2: a key is empty"},
        {"open_bracket", "a: [1, 2\nb: 3\n", "this is not YAML"},
        {"open_quote", "a: 1\nb: \"1 \\\"\nc: 3\n", "line 2: this quote is not closed"},
        {"open_single_quote", "a: '1''\nb: 3\n", "line 1: this quote is not closed"},
        {"open_quote_behind_others",
         "\xef\xbb\xbf"
         "a: \"ä\"\nb: 'x'\nc: \"",
         "line 3: this quote is not closed"},
        {"tab", "a:\n\tb: 1\n", "line 2"},
        {"indentation", "a:\n    b: 1\n  c: 2\n", "line 3"},
        {"not_utf8", "a: \xff\xfe\n", "not UTF-8"},
        {"looks_like_utf16", std::string("L!\0N:", 5), "line 1: a control character"},
        {"control_character", "a: 1\nb: \x01\n", "line 2: a control character"},
        {"half_a_character", "a: \"\\ud800\"\n", "line 1, column 11: this is not YAML"},
        {"sixteen_bits",
         std::string("\xff\xfe"
                     "a\0:\0",
                     6),
         "not UTF-8"},
        {"nesting", repeated("[", 17) + repeated("]", 17), "deeper than 16 levels"},
        {"brackets", repeated("[", 500'000), "line 1"},
        {"braces", repeated("{", 500'000), "line 1"},
        {"blocks", repeated("- ", 300'000) + "x", "deeper than 16 levels"},
        {"maps_in_lists", repeated("[{a: ", 100'000), "line 1"},
        {"question_marks", repeated("? ", 300'000), "line 1"},
        {"quotes", "a: " + repeated("\"", 500'001), "line 1"},
        {"anchors", repeated("&a ", 100'000), "line 1"},
    }),
    [](const auto& test) { return test.param.name; });

TEST(Document, writes_what_it_reads_back) {
  const Json host = Json::parse(R"({"switches": {"lan": {"type": "external", "uplink": "eth1", "mtu": 1500},
    "007": {"type": "private"}, "no": {}}, "vnics": {"web": {"mac": "52:54:00:12:34:56", "connect": "/run/a b.sock",
    "vlan": {"mode": "trunk", "allowed": [1, 2, "20-29"], "native": null}, "on": true, "text": "# \"quoted\": x",
    "empty": "", "null": "null", "number": "12", "list": [], "minus": "-x", "unicode": "ä"}}})");
  const std::string text = to_yaml(host);
  const auto document = parse_yaml(text);
  ASSERT_TRUE(document) << document.error().message << "\n" << text;
  EXPECT_EQ(document->value, nlohmann::json::parse(host.dump())) << text;
  EXPECT_NE(text.find("  lan:\n    type: external\n    uplink: eth1\n    mtu: 1500\n"), std::string::npos) << text;
  EXPECT_NE(text.find("    mac: \"52:54:00:12:34:56\"\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  \"no\": {}\n"), std::string::npos) << "YAML 1.1 takes a bare no for false\n" << text;
}

}  // namespace
}  // namespace patchbay::api
