#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace patchbay {

const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid:
      return "invalid";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::exists:
      return "exists";
    case ErrorCode::in_use:
      return "in_use";
    case ErrorCode::no_resource:
      return "no_resource";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

Error privileged_error(const std::string& what, int errno_value, const char* capability) {
  if (errno_value != EPERM) return system_error(what, errno_value);
  return Error{ErrorCode::unavailable, what + " is not permitted to patchbayd: it needs " + capability +
                                           "; start it by its systemd unit, which gives it that, or as root"};
}

Error system_error(const std::string& what, int errno_value) {
  ErrorCode code = ErrorCode::internal;
  switch (errno_value) {
    case EINVAL:
      code = ErrorCode::invalid;
      break;
    case ENOENT:
    case ENODEV:
    case ENXIO:
      code = ErrorCode::not_found;
      break;
    case EEXIST:
      code = ErrorCode::exists;
      break;
    case EBUSY:
    case EADDRINUSE:
      code = ErrorCode::in_use;
      break;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
      code = ErrorCode::no_resource;
      break;
    case ECONNREFUSED:
    case ENETDOWN:
    case EAGAIN:
      code = ErrorCode::unavailable;
      break;
    default:
      break;
  }
  // The one cause whose way out is always the same.
  const char* const way_out = errno_value == EMFILE ? "; raise the limit of open files (LimitNOFILE=, ulimit -n)" : "";
  return Error{code, what + ": " + std::strerror(errno_value) + way_out};
}

}  // namespace patchbay
