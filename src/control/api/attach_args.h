// What to paste into QEMU's command line or into a libvirt domain so that a guest gets a vnic.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"
#include "control/reconcile/service.h"

namespace patchbay::api {

struct AttachOptions {
  enum class Format : std::uint8_t { qemu, libvirt };
  Format format = Format::qemu;
  std::uint64_t memory_mib = 1024;  // of the guest: what its -m says
};

// From query parameters: format=qemu|libvirt, memory=256M|2G (1M to 16T). Errors: invalid, naming the parameter.
[[nodiscard]] Result<AttachOptions> parse_attach_options(const std::map<std::string, std::string>& query);

// Comment lines, then the arguments; for QEMU the arguments are one line, quoted for a shell.
// Errors: invalid (a host vnic has no socket).
[[nodiscard]] Result<std::string> attach_args(const reconcile::VnicView& view, const AttachOptions& options);

}  // namespace patchbay::api
