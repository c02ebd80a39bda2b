// What a daemon asks of the operating system before it starts.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"

namespace patchbay::daemon {

// Makes `path` and what is missing above it; what is new gets `mode`. What is there already stays as it is.
// Errors: as the file system says, naming the directory.
[[nodiscard]] Result<void> make_directories(const std::string& path, mode_t mode);

// The id of a group given by name or number. Errors: not_found.
[[nodiscard]] Result<gid_t> find_group(const std::string& group);

// As many descriptors as we may have: a guest's vnic needs about ten.
void raise_descriptor_limit();

}  // namespace patchbay::daemon
