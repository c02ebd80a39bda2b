// What a switch, a team or a vnic may be called, and how a NIC is named.
//
// Names end up in file names, socket paths and command lines, so they keep to letters, digits, '.', '_' and '-', and
// start with a letter or digit. A host vnic's name is also the name of its network interface, hence shorter.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace patchbay::model {

inline constexpr std::size_t name_size_max = 63;
inline constexpr std::size_t interface_name_size_max = 15;  // IFNAMSIZ - 1

// Errors: invalid, with a sentence that starts with `noun` ("switch", "team", "vnic") and quotes `name`.
[[nodiscard]] Result<void> check_name(std::string_view noun, std::string_view name,
                                      std::size_t size_max = name_size_max);
// Of a NIC: an interface of the kernel's, or a PCI address. Errors: invalid.
[[nodiscard]] Result<void> check_nic_name(const std::string& name);

}  // namespace patchbay::model
