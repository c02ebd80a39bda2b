// What a daemon asks of the operating system before it starts.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace patchbay::daemon {

// Makes `path` and what is missing above it; what is new gets `mode`. What is there already stays as it is.
// Errors: as the file system says, naming the directory.
[[nodiscard]] Result<void> make_directories(const std::string& path, mode_t mode);

// The id of a group given by name or number. Errors: not_found.
[[nodiscard]] Result<gid_t> find_group(const std::string& group);

// As many descriptors as we may have.
// A capability that this process lacks, and what it cannot do without.
struct MissingCapability {
  const char* name;
  const char* loss;
};
[[nodiscard]] std::vector<MissingCapability> missing_capabilities();

// Tells the service manager that we are ready ("READY=1", sd_notify(3)); does nothing where nobody asked for it
// ($NOTIFY_SOCKET is not set).
void notify_ready();

// As many descriptors as we may have: a guest's vnic needs about ten.
void raise_descriptor_limit();
// The limit that there is now.
[[nodiscard]] std::uint64_t descriptor_limit();
// A sentence for the log if `guest_vnics` may need more descriptors than `limit`; nothing if they do not.
[[nodiscard]] std::optional<std::string> descriptor_shortage(std::size_t guest_vnics, std::uint64_t limit);

}  // namespace patchbay::daemon
