#include "model/name.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/pci_address.h"

namespace patchbay::model {
namespace {

bool is_alphanumeric(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name_character(char c) noexcept {
  return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
}

// `name` may hold anything a caller sent: what cannot be printed becomes '?', and it is cut short.
std::string printable(std::string_view name) {
  std::string text(name.substr(0, name_size_max + 1));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  if (name.size() > text.size()) text += "...";
  return text;
}

}  // namespace

Result<void> check_name(std::string_view noun, std::string_view name, std::size_t size_max) {
  if (name.empty()) return fail(ErrorCode::invalid, fmt::format("{} without a name: give it one", noun));
  if (!is_alphanumeric(name.front()) || !std::all_of(name.begin(), name.end(), is_name_character)) {
    return fail(ErrorCode::invalid,
                fmt::format("{} name '{}': use letters, digits, '.', '_' and '-', and start with a letter or digit",
                            noun, printable(name)));
  }
  if (name.size() > size_max) {
    return fail(ErrorCode::invalid, fmt::format("{} name '{}' has {} characters: at most {} are possible", noun,
                                                printable(name), name.size(), size_max));
  }
  return {};
}

Result<void> check_nic_name(const std::string& name) {
  if (is_pci_address(name)) return {};
  if (name.find(':') == std::string::npos) return check_name("nic", name, interface_name_size_max);
  return fail(ErrorCode::invalid,
              fmt::format("nic '{}' is no PCI address; write domain, bus, device and function in lower case, as in "
                          "0000:01:00.0",
                          name.substr(0, 40)));
}

}  // namespace patchbay::model
