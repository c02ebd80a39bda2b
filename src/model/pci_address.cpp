#include "model/pci_address.h"

#include <cstddef>

namespace patchbay::model {

bool is_pci_address(std::string_view text) noexcept {
  constexpr std::string_view shape = "xxxx:xx:1x.7";  // x: a digit; 1: 0 or 1; 7: 0 to 7; else the sign itself
  if (text.size() != shape.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const char c = text[i];
    const bool digit = c >= '0' && c <= '9';
    switch (shape[i]) {
      case 'x':
        if (!digit && (c < 'a' || c > 'f')) return false;
        break;
      case '1':
      case '7':
        if (!digit || c > shape[i]) return false;
        break;
      default:
        if (c != shape[i]) return false;
    }
  }
  return true;
}

}  // namespace patchbay::model
