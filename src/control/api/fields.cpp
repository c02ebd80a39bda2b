#include "control/api/fields.h"

#include <set>
#include <utility>

#include "control/api/message.h"
#include "model/name.h"

namespace patchbay::api {
namespace {

using nlohmann::json;

constexpr int nesting_max = 16;
constexpr std::size_t text_bytes_max = 4096;
constexpr std::size_t texts_max = 256;
constexpr std::size_t list_bytes_max = 16384;  // 2047 ids that are no neighbours

// Counted before parsing: a megabyte of brackets would become a megabyte of nested objects.
bool nests_too_deep(std::string_view body) noexcept {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > nesting_max) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

bool has_control_character(std::string_view text) noexcept {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return true;
  }
  return false;
}

// The value as it stood in the body, short enough for a sentence.
std::string shown(const json& value) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return value.dump();
}

}  // namespace

Fields::Fields(std::string_view body) {
  if (body.empty()) {
    error_ = make_error(ErrorCode::invalid, "the request has no body; send a JSON object");
    return;
  }
  if (nests_too_deep(body)) {
    error_ = make_error(ErrorCode::invalid, "the body nests deeper than 16 levels; send one flat JSON object");
    return;
  }
  std::set<std::pair<int, std::string>> keys;
  std::string twice;
  try {
    object_ = json::parse(body.begin(), body.end(), [&](int depth, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && twice.empty()) {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys.emplace(depth, key).second) twice = key;
      }
      return true;
    });
  } catch (const json::exception&) {
    error_ = make_error(ErrorCode::invalid, "the body is not JSON; send one JSON object in UTF-8");
    return;
  }
  if (!object_.is_object()) {
    error_ = make_error(ErrorCode::invalid, "the body is JSON, but not an object; send { … }");
  } else if (!twice.empty()) {
    error_ = make_error(ErrorCode::invalid, "field " + in_quotes(twice) + " is given twice; give it once");
  }
}

const json* Fields::find(const char* name) {
  asked_.push_back(name);
  if (error_ || !object_.is_object()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &*found;
}

void Fields::about(const char* noun, const std::string& name) {
  if (model::check_name(noun, name)) about_ = std::string(noun) + " " + name + ": ";
}

void Fields::wrong(const char* name, const std::string& what) {
  if (error_) return;
  where_ = prefix_ + name;
  error_ = make_error(ErrorCode::invalid, where_ + ": " + what);
}

std::optional<std::string> Fields::text(const char* name) {
  return text(name, text_bytes_max);
}

std::optional<std::string> Fields::text(const char* name, std::size_t bytes_max) {
  const json* value = find(name);
  return value == nullptr ? std::nullopt : text(*value, name, bytes_max);
}

std::optional<std::string> Fields::text(const json& value, const char* name, std::size_t bytes_max) {
  if (!value.is_string()) {
    wrong(name, shown(value) + " is not a text; write it in double quotes");
    return std::nullopt;
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > bytes_max) {
    wrong(name, in_quotes(text) + " is " + std::to_string(text.size()) + " bytes long; give at most " +
                    std::to_string(bytes_max));
    return std::nullopt;
  }
  if (has_control_character(text)) {
    wrong(name, in_quotes(text) + " holds a control character; leave it out");
    return std::nullopt;
  }
  return text;
}

std::optional<std::string> Fields::text_or_null(const char* name) {
  const json* value = find(name);
  if (value != nullptr && value->is_null()) return "";
  asked_.pop_back();  // text() asks again
  return text(name);
}

std::optional<std::set<std::string>> Fields::texts(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) {
    wrong(name, shown(*value) + R"( is not a list; write ["one", "two"], or [] for none)");
    return std::nullopt;
  }
  std::set<std::string> read;
  for (const json& each : *value) {
    const auto checked = text(each, name, text_bytes_max);
    if (!checked) return std::nullopt;
    if (read.insert(*checked).second) continue;
    wrong(name, in_quotes(*checked) + " is given twice; give it once");
    return std::nullopt;
  }
  return read;
}

std::string Fields::required_text(const char* name) {
  auto given = text(name);
  if (!given) {
    wrong(name, "this field is required; give a text");
    return {};
  }
  return std::move(*given);
}

std::optional<std::vector<std::string>> Fields::text_list(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) {
    wrong(name, shown(*value) + " is not a list; write its texts in brackets, with commas between");
    return std::nullopt;
  }
  if (value->size() > texts_max) {
    wrong(name, "it has " + std::to_string(value->size()) + " entries; give at most " + std::to_string(texts_max));
    return std::nullopt;
  }
  std::vector<std::string> read;
  for (const json& each : *value) {
    if (!each.is_string()) {
      wrong(name, shown(each) + " is not a text; write it in double quotes");
      return std::nullopt;
    }
    const auto& text = each.get_ref<const std::string&>();
    if (text.size() > text_bytes_max || has_control_character(text)) {
      wrong(name, in_quotes(text) + " is too long, or holds a control character; give a shorter text without");
      return std::nullopt;
    }
    read.push_back(text);
  }
  return read;
}

std::vector<std::string> Fields::required_text_list(const char* name) {
  auto given = text_list(name);
  if (!given) {
    wrong(name, "this field is required; give a list of texts");
    return {};
  }
  return std::move(*given);
}

std::optional<std::int64_t> Fields::integer(const char* name, std::int64_t min, std::int64_t max) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::string range = "give a whole number from " + std::to_string(min) + " to " + std::to_string(max);
  if (!value->is_number_integer()) {
    wrong(name, shown(*value) + " is not a whole number; " + range);
    return std::nullopt;
  }
  const bool beyond_int64 = value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX;
  if (beyond_int64 || value->get<std::int64_t>() < min || value->get<std::int64_t>() > max) {
    wrong(name, value->dump() + " is out of range; " + range);
    return std::nullopt;
  }
  return value->get<std::int64_t>();
}

std::optional<std::optional<std::int64_t>> Fields::integer_or_auto(const char* name, std::int64_t min,
                                                                   std::int64_t max) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (*value == "auto") return std::optional<std::int64_t>();
  if (!value->is_number_integer()) {
    wrong(name, shown(*value) + " is neither a whole number nor auto; give auto, or a number from " +
                    std::to_string(min) + " to " + std::to_string(max));
    return std::nullopt;
  }
  asked_.pop_back();  // integer() asks again
  const auto number = integer(name, min, max);
  if (!number) return std::nullopt;
  return number;
}

std::optional<std::optional<std::int64_t>> Fields::integer_or_null(const char* name, std::int64_t min,
                                                                   std::int64_t max) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_null()) return std::optional<std::int64_t>();
  asked_.pop_back();  // integer() asks again
  const auto number = integer(name, min, max);
  if (!number) return std::nullopt;
  return number;
}

std::optional<std::optional<std::string>> Fields::number_or_text_or_null(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_null()) return std::optional<std::string>();
  if (value->is_number_integer()) return value->dump();
  const auto checked = text(*value, name, text_bytes_max);
  if (!checked) return std::nullopt;
  return checked;
}

std::optional<std::optional<model::Buffer>> Fields::buffer_or_null(const char* name) {
  const auto given = number_or_text_or_null(name);
  if (!given) return std::nullopt;
  if (!*given) return std::optional<model::Buffer>();
  const auto parsed = model::parse_buffer(**given);
  if (parsed) return *parsed;
  wrong(name, parsed.error().message);
  return std::nullopt;
}

std::optional<std::optional<std::uint64_t>> Fields::buffer_limit_or_null(const char* name) {
  const auto given = number_or_text_or_null(name);
  if (!given) return std::nullopt;
  if (!*given) return std::optional<std::uint64_t>();
  const auto parsed = model::parse_buffer_limit(**given);
  if (parsed) return *parsed;
  wrong(name, parsed.error().message);
  return std::nullopt;
}

std::optional<MacAddr> Fields::mac(const char* name) {
  const auto given = text(name);
  if (!given) return std::nullopt;
  const auto mac = MacAddr::parse(*given);
  if (!mac) wrong(name, in_quotes(*given) + " is not a MAC address; write it like 02:00:00:00:00:01");
  return mac;
}

// Any id will do for a wrong value: wrong() has been noted and the request goes nowhere.
VlanId Fields::vlan_id(const json& value, const char* name) {
  const bool whole = value.is_number_integer();
  const bool beyond_int64 = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
  const auto vid = whole && !beyond_int64 ? VlanId::from(value.get<std::int64_t>()) : std::nullopt;
  if (vid) return *vid;
  wrong(name, shown(value) + " is not a VLAN id; give a whole number from 1 to 4094");
  return *VlanId::from(VlanId::min);
}

std::optional<std::optional<VlanId>> Fields::vlan_id_or_null(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  std::optional<VlanId> vid;
  if (!value->is_null()) vid = vlan_id(*value, name);
  return vid;
}

std::optional<bool> Fields::boolean(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    wrong(name, shown(*value) + " is neither true nor false; give one of them, without quotes");
    return std::nullopt;
  }
  return value->get<bool>();
}

VlanId Fields::required_vlan_id(const char* name) {
  const json* value = find(name);
  if (value != nullptr) return vlan_id(*value, name);
  wrong(name, "this field is required; give a VLAN id from 1 to 4094");
  return *VlanId::from(VlanId::min);
}

VlanSet Fields::vlan_list(const char* name, bool required) {
  const auto given = text(name, list_bytes_max);
  if (!given && required) wrong(name, "this field is required; give a list of VLANs like \"10,20-29\"");
  if (!given || (given->empty() && !required)) return {};
  const auto list = VlanSet::parse(*given);
  if (!list) wrong(name, list.error().message);
  return list ? *list : VlanSet{};
}

model::Trunk Fields::trunk() {
  model::Trunk trunk;
  trunk.allowed = vlan_list("allowed", true);
  trunk.pruned = vlan_list("pruned", false);
  const json* native = find("native");
  if (native == nullptr || native->is_null()) return trunk;
  if (native->is_string() && *native == "untagged") {
    trunk.native = std::optional<VlanId>();
  } else {
    trunk.native = vlan_id(*native, "native");
  }
  return trunk;
}

std::optional<model::VlanMode> Fields::vlan_mode(const char* name) {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    wrong(name, shown(*value) + R"( is not a VLAN mode; write {"mode": "untagged"} or {"mode": "access", "vid": 101})");
    return std::nullopt;
  }
  Fields nested(*value, prefix_ + name + ".");
  const auto mode = nested.required_text("mode");
  model::VlanMode result = model::Untagged{};
  if (mode == "access") {
    result = model::Access{nested.required_vlan_id("vid")};
  } else if (mode == "trunk") {
    result = nested.trunk();
  } else if (mode == "isolated") {
    const VlanId primary = nested.required_vlan_id("primary");
    result = model::Isolated{primary, nested.required_vlan_id("secondary")};
  } else if (mode == "community") {
    const VlanId primary = nested.required_vlan_id("primary");
    result = model::Community{primary, nested.required_vlan_id("secondary")};
  } else if (mode == "promiscuous") {
    const VlanId primary = nested.required_vlan_id("primary");
    result = model::Promiscuous{primary, nested.vlan_list("secondaries", true)};
  } else if (mode == "untagged") {
    const json* vid = nested.find("vid");
    if (vid != nullptr && !vid->is_null()) nested.wrong("vid", "mode untagged takes no VLAN id; use mode access");
  } else {
    nested.wrong("mode", in_quotes(mode) +
                             " is not a VLAN mode; give untagged, access, trunk, isolated, community or "
                             "promiscuous");
  }
  const auto finished = nested.finish();
  if (!finished && !error_) {
    error_ = finished.error();
    where_ = nested.where();
  }
  if (const auto ok = model::check(result); finished && !ok) wrong(name, ok.error().message);
  return result;
}

Result<void> Fields::finish() {
  if (error_) return fail(error_->code, about_ + error_->message);
  for (const auto& [key, value] : object_.items()) {
    bool known = false;
    std::string names;
    for (const char* name : asked_) {
      known = known || key == name;
      names += (names.empty() ? "" : ", ") + prefix_ + name;
    }
    if (!known) {
      where_ = prefix_ + key;
      return fail(ErrorCode::invalid, about_ + "unknown field " + in_quotes(prefix_ + key) + "; known here: " + names);
    }
  }
  return {};
}

}  // namespace patchbay::api
