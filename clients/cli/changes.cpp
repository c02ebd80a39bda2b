#include "changes.h"

#include "format.h"

namespace patchbay::cli {
namespace {

std::string value_text(const Json& value) {
  if (value.is_null()) return "none";
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void add(std::string& text, const std::string& part) {
  text += (text.empty() ? "" : ", ") + part;
}

std::string all_fields(const Json& object) {
  std::string text;
  if (!object.is_object()) return text;
  for (const auto& [field, value] : object.items()) add(text, field + " " + value_text(value));
  return text;
}

}  // namespace

std::string what_changed(const Json& change) {
  const Json& before = member_of(change, "before");
  const Json& after = member_of(change, "after");
  if (!before.is_object()) return all_fields(after);
  if (!after.is_object()) return all_fields(before);
  std::string text;
  for (const auto& [field, was] : before.items()) {
    const Json& is = member_of(after, field.c_str());
    if (is != was) add(text, field + " " + value_text(was) + " -> " + value_text(is));
  }
  for (const auto& [field, is] : after.items()) {
    if (!before.contains(field)) add(text, field + " none -> " + value_text(is));
  }
  return text;
}

}  // namespace patchbay::cli
