// Asks patchbayd: one HTTP request over its unix socket, one answer.
#pragma once
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace patchbay::cli {

using Json = nlohmann::ordered_json;

// The JSON of a successful answer (null if it has no body; YAML is one text), or one sentence for people that ends with
// the way out.
using Answer = tl::expected<Json, std::string>;

inline constexpr std::chrono::seconds answer_time{60};

struct Question {
  std::string method = "GET";
  std::string path = {};         // percent-encoded
  Json body = nullptr;           // null: none
  std::string yaml = {};         // in place of `body`, if it is not empty
  std::string about_lines = {};  // put before a refusal that names a line: "host.yaml, " before "line 3: …"
  std::chrono::seconds time = answer_time;  // to wait at most
};

// The sentence of a refusal is the server's own.
[[nodiscard]] Answer ask(const std::string& socket_path, const Question& question);

// `text` as one segment of a path, or as a value in a query: everything but letters, digits and "-._~" becomes %XX.
[[nodiscard]] std::string percent_encode(std::string_view text);

}  // namespace patchbay::cli
