#include "base/vlan_set.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace patchbay {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::optional<VlanId> parse_id(std::string_view text) {
  int raw = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), raw);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return VlanId::from(raw);
}

// At most as much of what somebody wrote as fits into a sentence.
std::string_view shown(std::string_view text) {
  constexpr std::size_t shown_max = 40;
  return text.substr(0, shown_max);
}

}  // namespace

Result<VlanSet> VlanSet::parse(std::string_view text) {
  VlanSet set;
  for (bool more = true; more;) {
    const auto comma = text.find(',');
    more = comma != std::string_view::npos;
    const auto part = trimmed(text.substr(0, comma));
    if (more) text.remove_prefix(comma + 1);
    const auto dash = part.find('-');
    const auto low = parse_id(part.substr(0, dash));
    const auto high = dash == std::string_view::npos ? low : parse_id(part.substr(dash + 1));
    if (!low || !high || *high < *low) {
      return fail(ErrorCode::invalid, fmt::format("\"{}\" is no VLAN id from 1 to 4094 and no range of them; write a "
                                                  "list like 10,20-29",
                                                  shown(part)));
    }
    for (unsigned raw = low->raw(); raw <= high->raw(); ++raw) set.bits_.set(raw);
  }
  return set;
}

std::string VlanSet::to_string() const {
  std::string text;
  for (unsigned low = VlanId::min; low <= VlanId::max; ++low) {
    if (!bits_.test(low)) continue;
    unsigned high = low;
    while (high < VlanId::max && bits_.test(high + 1)) ++high;
    text += text.empty() ? "" : ",";
    text += low == high ? fmt::format("{}", low) : fmt::format("{}{}{}", low, high == low + 1 ? "," : "-", high);
    low = high;
  }
  return text;
}

}  // namespace patchbay
