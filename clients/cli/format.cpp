#include "format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace patchbay::cli {
namespace {

// Characters of UTF-8, not bytes.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to_width, bool right) {
  const std::string blanks(to_width - std::min(to_width, width(text)), ' ');
  return right ? blanks + text : text + blanks;
}

std::string without_trailing_blanks(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

const Json& member_of(const Json& object, const char* member) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto found = object.find(member);
  return found == object.end() ? none : *found;
}

void Table::add(std::vector<std::string> cells) {
  for (auto& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::string_view if_empty) const {
  if (rows_.empty()) return std::string(if_empty) + "\n";
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(width(columns_[i].title));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      text += (i == 0 ? "" : "  ") + padded(cells[i], widths[i], columns_[i].right);
    }
    return without_trailing_blanks(std::move(text)) + "\n";
  };
  std::string text = line(titles);
  for (const auto& row : rows_) text += line(row);
  return text;
}

std::string field_list(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::size_t widest = 0;
  for (const auto& [name, value] : fields) widest = std::max(widest, width(name));
  std::string text;
  for (const auto& [name, value] : fields) text += padded(name, widest, false) + "  " + printable(value) + "\n";
  return text;
}

std::string printable(std::string_view text) {
  std::string shown(text);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return shown;
}

std::uint64_t number_of(const Json& object, const char* member) {
  const Json& value = member_of(object, member);
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

std::string text_of(const Json& object, const char* member) {
  const Json& value = member_of(object, member);
  if (value.is_null()) return "-";
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  return text.empty() ? "-" : text;
}

std::string duration_text(std::uint64_t us) {
  if (us < 1000) return fmt::format("{} us", us);
  return us < 1'000'000 ? fmt::format("{:.1f} ms", static_cast<double>(us) / 1e3)
                        : fmt::format("{:.1f} s", static_cast<double>(us) / 1e6);
}

std::string yes_or_no(const Json& object, const char* member) {
  return member_of(object, member) == Json(true) ? "yes" : "no";
}

std::string list_text(const Json& object, const char* member) {
  std::string text;
  for (const Json& each : member_of(object, member)) {
    text += (text.empty() ? "" : ", ") + (each.is_string() ? each.get<std::string>() : "?");
  }
  return text.empty() ? "none" : text;
}

std::string buffer_setting_text(const Json& object) {
  const auto size = text_of(object, "buffer");
  const auto age = text_of(object, "buffer_max_age_ms");
  std::string text = size == "-" ? "default" : size;
  if (age != "-") text += age == "0" ? ", of any age" : fmt::format(", no frame longer than {} ms", age);
  return text;
}

std::string vlan_text(const Json& vnic) {
  const Json& vlan = member_of(vnic, "vlan");
  const std::string mode = text_of(vlan, "mode");
  if (mode == "access") return text_of(vlan, "vid") + (member_of(vlan, "forced") == Json(true) ? " (forced)" : "");
  if (mode == "trunk") {
    const auto pruned = text_of(vlan, "pruned");
    const auto native = text_of(vlan, "native");
    return fmt::format("trunk {}{}{}", text_of(vlan, "allowed"), pruned == "-" ? "" : " without " + pruned,
                       native == "-" ? "" : ", native " + native);
  }
  if (mode != "isolated" && mode != "community" && mode != "promiscuous") return mode;
  const char* const secondary = mode == "promiscuous" ? "secondaries" : "secondary";
  return fmt::format("{} {}:{}", mode, text_of(vlan, "primary"), text_of(vlan, secondary));
}

std::string vlan_phrase(const Json& vnic) {
  const auto vlan = vlan_text(vnic);
  return text_of(member_of(vnic, "vlan"), "mode") == "access" ? "VLAN " + vlan : vlan;
}

std::string state_text(const Json& object) {
  const std::string state = text_of(object, "state");
  const std::string reason = text_of(object, "state_reason");
  if (reason == "-") return state;
  return state == "waiting_for_guest" ? reason : state + ": " + reason;
}

std::string traffic_text(const Json& counters, const char* direction) {
  const Json& traffic = member_of(counters, direction);
  return fmt::format("{} frames, {} bytes", text_of(traffic, "frames"), text_of(traffic, "bytes"));
}

std::string drops_text(const Json& counters) {
  std::string text;
  for (const auto& [reason, frames] : member_of(counters, "drops").items()) {
    if (frames != Json(0)) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, frames.dump());
  }
  return text.empty() ? "none" : text;
}

std::string drops_total(const Json& counters) {
  std::uint64_t total = 0;
  for (const auto& [reason, frames] : member_of(counters, "drops").items()) {
    if (frames.is_number_unsigned()) total += frames.get<std::uint64_t>();
  }
  return std::to_string(total);
}

}  // namespace patchbay::cli
