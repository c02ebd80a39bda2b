// PCI addresses of NICs: "0000:01:00.0" (domain, bus, device, function), as the kernel writes them.
#pragma once
#include <string_view>

namespace patchbay::model {

// Only the kernel's own spelling, so that one device has one name: four lower-case hexadecimal digits, two, two (00 to
// 1f), and 0 to 7.
[[nodiscard]] bool is_pci_address(std::string_view text) noexcept;

}  // namespace patchbay::model
