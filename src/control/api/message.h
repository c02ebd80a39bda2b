// A request and its answer as the handlers see them: HTTP is already taken off, or not yet put on.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/result.h"

namespace patchbay::api {

struct Request {
  std::string method;                        // "GET", "POST", …
  std::vector<std::string> segments;         // of the path, percent-decoded: {"v1", "vnics", "web"}
  std::map<std::string, std::string> query;  // percent-decoded
  std::string body;
  std::optional<std::uint32_t> uid;  // of the process at the other end of the connection

  // The `{name}` of the path: its third segment.
  [[nodiscard]] const std::string& name() const noexcept { return segments[2]; }
};

struct Response {
  unsigned status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::string allow;  // methods that the path knows, for status 405
};

// Splits a request target ("/v1/vnics/web?format=qemu") and decodes %XX. The body is the caller's to fill in.
// Errors: invalid (not a path, a broken %XX, a query parameter given twice).
[[nodiscard]] Result<Request> parse_target(std::string_view method, std::string_view target);

// The HTTP status that says what `code` says.
[[nodiscard]] unsigned http_status(ErrorCode code) noexcept;

// {"error": {"code": …, "message": …}} with the status of the code, or with `status` where HTTP knows it better.
[[nodiscard]] Response error_response(const Error& error);
[[nodiscard]] Response error_response(unsigned status, const Error& error);

// `text` in double quotes for a sentence, cut to a length that a person can read.
[[nodiscard]] std::string in_quotes(std::string_view text);

}  // namespace patchbay::api
