// What went wrong, in a form both programs and people can use.
//
// A code from one short list, and one sentence that names the object and the way out. Programs test the code (the API
// turns it into an HTTP status); people read the sentence, which the CLI prints as it is.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

namespace patchbay {

enum class ErrorCode : std::uint8_t {
  invalid,      // a value is malformed or out of range
  not_found,    // the named object does not exist
  exists,       // the name, address or resource is taken already
  in_use,       // something else still needs the object
  no_resource,  // memory, descriptors, addresses of a pool, CPUs: there is none left
  unavailable,  // the world is not ready: a NIC is gone, a peer does not answer
  internal,     // a defect of ours, or of the system below us
};

// The code's name as it stands in API answers: "invalid", "not_found", …
[[nodiscard]] const char* to_string(ErrorCode code) noexcept;

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;
};

[[nodiscard]] inline Error make_error(ErrorCode code, std::string message) {
  return Error{code, std::move(message)};
}

// As system_error(); where permission was refused (EPERM) the sentence names `capability` ("CAP_NET_RAW") and the way out.
[[nodiscard]] Error privileged_error(const std::string& what, int errno_value, const char* capability);

// "<what>: <strerror(errno_value)>" with a code that fits the errno value.
[[nodiscard]] Error system_error(const std::string& what, int errno_value);

}  // namespace patchbay
