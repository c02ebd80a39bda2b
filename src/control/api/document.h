// YAML as the values that JSON has, with the line that each came from; and back.
//
// Theory  The parser's events build the values, so nothing is expanded or resolved behind our back: anchors, aliases,
//         tags, a key that stands twice and a second document are refused where they stand. A plain scalar is null, a
//         truth value, a number or a text by the core schema of YAML 1.2, so `on`, `no` and 02:00:00:00:00:01 are texts.
//         What to_yaml() writes reads back to the same values here and in readers of YAML 1.1, for it quotes what those
//         would take for something else. JSON is YAML: what the API answers with can be given back.
// Limits  Nesting: 16 levels. UTF-8 only. The size is that of a body.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace patchbay::api {

struct Document {
  nlohmann::json value;
  std::map<std::string, int> lines;  // from 1 on, by path: "", "/vnics", "/vnics/web/vlan/vid"

  // Of the value at `path`, or of the nearest one around it that is there.
  [[nodiscard]] int line_of(std::string path) const;
};

// Errors: invalid, "line 12: …".
[[nodiscard]] Result<Document> parse_yaml(const std::string& text);

// `value` is an object, of objects; from the third level on it is written in one line.
[[nodiscard]] std::string to_yaml(const nlohmann::ordered_json& value);

}  // namespace patchbay::api
