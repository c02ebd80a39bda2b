// What a switch or a vnic may be called.
//
// Names end up in file names, socket paths and command lines, so they keep to letters, digits, '.', '_' and '-', and
// start with a letter or digit. A host vnic's name is also the name of its network interface, hence shorter.
#pragma once
#include <cstddef>
#include <string_view>

#include "base/result.h"

namespace patchbay::model {

inline constexpr std::size_t name_size_max = 63;
inline constexpr std::size_t interface_name_size_max = 15;  // IFNAMSIZ - 1

// Errors: invalid, with a sentence that starts with `noun` ("switch", "vnic") and quotes `name`.
[[nodiscard]] Result<void> check_name(std::string_view noun, std::string_view name,
                                      std::size_t size_max = name_size_max);

}  // namespace patchbay::model
