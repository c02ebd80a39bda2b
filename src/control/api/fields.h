// Reads the fields of one JSON object strictly: every field is asked for by name and type, and whatever nobody asked
// for is an error.
//
// Theory  The reader remembers the first thing that is wrong and goes on giving empty values, so that a handler asks
//         for all its fields in a row and tests once, with finish().
// Limits  Nesting of a body: 16 levels. A text: 4096 bytes, a list of VLANs 16384; no control characters.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mac_addr.h"
#include "base/result.h"
#include "base/vlan_id.h"
#include "model/vnic.h"

namespace patchbay::api {

class Fields {
 public:
  // The body of a request; what is wrong with it as a whole comes out of finish().
  explicit Fields(std::string_view body);
  // The fields of `object`, which is one, and came from elsewhere than a body.
  [[nodiscard]] static Fields of(nlohmann::json object) { return {std::move(object), ""}; }

  // Nothing if the field is absent.
  [[nodiscard]] std::optional<std::string> text(const char* name);
  // As text(); null is an empty text.
  [[nodiscard]] std::optional<std::string> text_or_null(const char* name);
  // A list of texts, of at most 256.
  [[nodiscard]] std::optional<std::vector<std::string>> text_list(const char* name);
  // A list of texts, none of them twice.
  [[nodiscard]] std::optional<std::set<std::string>> texts(const char* name);
  [[nodiscard]] std::optional<std::int64_t> integer(const char* name, std::int64_t min, std::int64_t max);
  // The same, or "auto", which is the inner nothing.
  [[nodiscard]] std::optional<std::optional<std::int64_t>> integer_or_auto(const char* name, std::int64_t min,
                                                                           std::int64_t max);
  // As integer(), or null, which is the inner nothing.
  [[nodiscard]] std::optional<std::optional<std::int64_t>> integer_or_null(const char* name, std::int64_t min,
                                                                           std::int64_t max);
  // Bytes, or a text as model::parse_buffer() takes it, or null, which is the inner nothing.
  [[nodiscard]] std::optional<std::optional<model::Buffer>> buffer_or_null(const char* name);
  // The same with model::parse_buffer_limit().
  [[nodiscard]] std::optional<std::optional<std::uint64_t>> buffer_limit_or_null(const char* name);
  [[nodiscard]] std::optional<MacAddr> mac(const char* name);
  // Outer nothing: absent. Inner nothing: null.
  [[nodiscard]] std::optional<std::optional<VlanId>> vlan_id_or_null(const char* name);
  [[nodiscard]] std::optional<bool> boolean(const char* name);
  // {"mode": "untagged"}, {"mode": "access", "vid": 1-4094}, {"mode": "trunk", "allowed": "10,20-29", "pruned": "…",
  // "native": 1-4094 | "untagged" | null}, {"mode": "isolated" or "community", "primary": …, "secondary": …},
  // {"mode": "promiscuous", "primary": …, "secondaries": "…"}
  [[nodiscard]] std::optional<model::VlanMode> vlan_mode(const char* name);
  // As text() and text_list(), and the absence is an error.
  [[nodiscard]] std::string required_text(const char* name);
  [[nodiscard]] std::vector<std::string> required_text_list(const char* name);

  // Whom finish()'s sentences are about: "vnic web: …". A name that nobody could have is left out.
  void about(const char* noun, const std::string& name);
  // Notes that the field `name` is wrong: "<name>: <what>".
  void wrong(const char* name, const std::string& what);

  // The first thing that was wrong: the body, a field, or one that nobody asked for.
  [[nodiscard]] Result<void> finish();
  // After finish() gave an error: the field that was wrong, like "vlan.vid"; empty: none in particular.
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

 private:
  Fields(nlohmann::json object, std::string prefix) : object_(std::move(object)), prefix_(std::move(prefix)) {}
  [[nodiscard]] const nlohmann::json* find(const char* name);
  [[nodiscard]] std::optional<std::string> text(const char* name, std::size_t bytes_max);
  // Checked, of the field `name`.
  [[nodiscard]] std::optional<std::string> text(const nlohmann::json& value, const char* name, std::size_t bytes_max);
  // A whole number as it stands, or a text. Outer nothing: absent. Inner nothing: null.
  [[nodiscard]] std::optional<std::optional<std::string>> number_or_text_or_null(const char* name);
  [[nodiscard]] VlanId vlan_id(const nlohmann::json& value, const char* name);
  [[nodiscard]] VlanId required_vlan_id(const char* name);
  [[nodiscard]] VlanSet vlan_list(const char* name, bool required);
  [[nodiscard]] model::Trunk trunk();

  nlohmann::json object_;
  std::string about_;               // "vnic web: "
  std::string prefix_;              // "vlan." for the fields of a nested object
  std::vector<const char*> asked_;  // names that somebody asked for
  std::optional<Error> error_;
  std::string where_;
};

}  // namespace patchbay::api
