// Source  YAML 1.2.2, 10.3 (core schema); YAML 1.1, "Language-Independent Types" (what its readers take for something).
#include "control/api/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "control/api/message.h"

namespace patchbay::api {
namespace {

using nlohmann::json;

constexpr std::size_t nesting_max = 16;

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what) {
  throw Refused("line " + std::to_string(mark.line + 1) + ": " + what);
}

template <typename Number>
bool read_number(std::string_view text, json& value) {
  if (text.size() > 1 && text.front() == '+') text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  value = number;
  return true;
}

// A plain scalar by the core schema. Whole numbers beyond 64 bits stay texts: no field takes them.
json resolved(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return text;
  if (text.find_first_of("0123456789") == std::string::npos) return text;
  json value = text;
  if (text.find_first_of(".eE") != std::string::npos) {
    read_number<double>(text, value);
  } else if (!read_number<std::int64_t>(text, value)) {
    read_number<std::uint64_t>(text, value);
  }
  return value;
}

bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(json(text).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

// The line of the first character that YAML does not take as it is (5.1): a control character. 0 if there is none. The parser
// would guess another encoding from zeros at the start.
std::size_t line_of_control_character(const std::string& text) {
  const auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < ' ' && c != '\t' && c != '\n' && c != '\r';
  };
  const auto found = std::find_if(text.begin(), text.end(), is_control);
  if (found == text.end()) return 0;
  return 1 + static_cast<std::size_t>(std::count(text.begin(), found, '\n'));
}

// Puts the events of one document together. What is open (a map, a sequence) is a frame of the stack.
class Builder final : public YAML::EventHandler {
 public:
  // `text` is what is parsed, without a byte order mark, and outlives the builder.
  explicit Builder(const std::string& text) : text_(text) {}

  Document document;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    if (wants_key()) refuse(mark, "a key is empty; write `name: value`");
    take(mark, nullptr);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not taken; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    refuse_open_quote(mark);
    if (wants_key()) return take_key(mark, text);
    take(mark, tag == "?" ? resolved(text) : json(text));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, json::array());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, json::object());
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    json value;
    std::string path;
    std::string key;
    bool has_key = false;
    YAML::Mark mark;
  };

  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "anchors (&name) are not taken; leave it out");
  }
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag != "?" && tag != "!" && !tag.empty()) refuse(mark, "tags (!name) are not taken; leave it out");
  }
  // The parser takes the end of the file for the end of a quote: half a file would pass.
  void refuse_open_quote(const YAML::Mark& mark) const {
    const auto begin = static_cast<std::size_t>(mark.pos);
    if (begin >= text_.size() || (text_[begin] != '"' && text_[begin] != '\'')) return;
    const char quote = text_[begin];
    for (std::size_t at = begin + 1; at < text_.size(); ++at) {
      if (quote == '"' && text_[at] == '\\') {
        ++at;
      } else if (text_[at] == quote) {
        if (quote == '"' || at + 1 >= text_.size() || text_[at + 1] != quote) return;
        ++at;
      }
    }
    refuse(mark, "this quote is not closed; put another one where the text ends");
  }
  [[nodiscard]] bool wants_key() const {
    return !open_.empty() && open_.back().value.is_object() && !open_.back().has_key;
  }
  // Of the value that comes next.
  [[nodiscard]] std::string path() const {
    if (open_.empty()) return "";
    const Open& in = open_.back();
    return in.path + "/" + (in.value.is_object() ? in.key : std::to_string(in.value.size()));
  }

  void take_key(const YAML::Mark& mark, const std::string& key) {
    Open& in = open_.back();
    if (in.value.contains(key)) {
      const int first = document.lines.at(in.path + "/" + key);
      refuse(mark, in_quotes(key) + " is given twice, first in line " + std::to_string(first) + "; give it once");
    }
    in.key = key;
    in.has_key = true;
    document.lines[path()] = mark.line + 1;
  }
  void take(const YAML::Mark& mark, json value) {
    document.lines.emplace(path(), mark.line + 1);  // a key's own line is there already
    put(std::move(value));
  }
  void put(json value) {
    if (open_.empty()) {
      document.value = std::move(value);
      return;
    }
    Open& in = open_.back();
    if (in.value.is_object()) {
      in.value[in.key] = std::move(value);
      in.has_key = false;
    } else {
      in.value.push_back(std::move(value));
    }
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, json empty) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (wants_key()) refuse(mark, "a key must be a plain text; write `name: value`");
    if (open_.size() >= nesting_max) refuse(mark, "this nests deeper than 16 levels; no host does");
    const std::string at = path();
    document.lines.emplace(at, mark.line + 1);
    open_.push_back({std::move(empty), at, {}, false, mark});
  }
  void close() {
    json value = std::move(open_.back().value);
    open_.pop_back();
    put(std::move(value));
  }

  const std::string& text_;
  std::vector<Open> open_;
};

bool is_plain(const std::string& text) {
  static constexpr const char* taken[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  const auto is_letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
  const auto is_inner = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' || c == '/';
  };
  if (text.empty() || (!is_letter(text.front()) && text.front() != '/')) return false;
  if (!std::all_of(text.begin(), text.end(), is_inner)) return false;
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(std::begin(taken), std::end(taken), lower) == std::end(taken);
}

std::string scalar(const nlohmann::ordered_json& value) {
  if (value.is_string() && is_plain(value.get_ref<const std::string&>())) return value.get<std::string>();
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);  // a JSON text is a YAML one
}

std::string in_one_line(const nlohmann::ordered_json& value) {
  if (!value.is_structured()) return scalar(value);
  std::string text;
  for (const auto& [key, each] : value.items()) {
    text += (text.empty() ? "" : ", ") + (value.is_object() ? scalar(key) + ": " : "") + in_one_line(each);
  }
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

void write(const nlohmann::ordered_json& object, std::size_t level, std::string& text) {
  for (const auto& [key, value] : object.items()) {
    text += std::string(2 * level, ' ') + scalar(key) + ":";
    if (level < 2 && value.is_object() && !value.empty()) {
      text += "\n";
      write(value, level + 1, text);
    } else {
      text += " " + in_one_line(value) + "\n";
    }
  }
}

}  // namespace

int Document::line_of(std::string path) const {
  for (;;) {
    const auto found = lines.find(path);
    if (found != lines.end()) return found->second;
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return 1;
    path.resize(slash);
  }
}

Result<Document> parse_yaml(const std::string& given) {
  // The parser leaves a byte order mark out of its positions.
  const std::string text = given.starts_with("\xef\xbb\xbf") ? given.substr(3) : given;
  if (!is_utf8(text)) return fail(ErrorCode::invalid, "this is not UTF-8 text; give a YAML file");
  if (const auto line = line_of_control_character(text); line != 0) {
    return fail(ErrorCode::invalid, "line " + std::to_string(line) + ": a control character stands here; take it out");
  }
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Builder builder(text);
    if (!parser.HandleNextDocument(builder)) return fail(ErrorCode::invalid, "line 1: nothing stands here");
    Builder second(text);
    if (parser.HandleNextDocument(second)) {
      return fail(ErrorCode::invalid,
                  "line " + std::to_string(second.document.line_of("")) + ": a second document begins here; give one");
    }
    return std::move(builder.document);
  } catch (const Refused& refused) {
    return fail(ErrorCode::invalid, refused.what());
  } catch (const YAML::Exception& thrown) {
    return fail(ErrorCode::invalid, "line " + std::to_string(thrown.mark.line + 1) + ", column " +
                                        std::to_string(thrown.mark.column + 1) + ": this is not YAML (" + thrown.msg +
                                        "); look at its indentation, brackets and quotes");
  }
}

std::string to_yaml(const nlohmann::ordered_json& value) {
  std::string text;
  write(value, 0, text);
  return text;
}

}  // namespace patchbay::api
