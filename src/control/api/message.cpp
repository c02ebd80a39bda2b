#include "control/api/message.h"

#include <nlohmann/json.hpp>
#include <optional>

namespace patchbay::api {
namespace {

constexpr std::size_t quoted_bytes_max = 64;

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    plain += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return plain;
}

// Calls `each(part)` for the parts of `text` between `separator`s until one call gives false.
template <typename Each>
bool for_each_part(std::string_view text, char separator, Each each) {
  for (;;) {
    const auto end = text.find(separator);
    if (!each(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Result<Request> parse_target(std::string_view method, std::string_view target) {
  Request request;
  request.method = method;
  const auto question = target.find('?');
  const auto path = target.substr(0, question);
  if (path.empty() || path.front() != '/') {
    return fail(ErrorCode::invalid, "request target " + in_quotes(target) + " is not a path; write it like /v1/show");
  }
  const bool path_good = for_each_part(path.substr(1), '/', [&](std::string_view part) {
    auto plain = percent_decode(part);
    if (plain) request.segments.push_back(std::move(*plain));
    return plain.has_value();
  });
  if (!path_good)
    return fail(ErrorCode::invalid, "path " + in_quotes(path) + " holds a % without two hex digits after it");
  if (question == std::string_view::npos) return request;

  const auto query = target.substr(question + 1);
  const bool query_good = for_each_part(query, '&', [&](std::string_view part) {
    if (part.empty()) return true;
    const auto equals = part.find('=');
    auto key = percent_decode(part.substr(0, equals));
    auto value = percent_decode(equals == std::string_view::npos ? std::string_view() : part.substr(equals + 1));
    return key && value && request.query.emplace(std::move(*key), std::move(*value)).second;
  });
  if (!query_good) {
    return fail(ErrorCode::invalid,
                "query " + in_quotes(query) + " names a parameter twice, or holds a % without two hex digits after it");
  }
  return request;
}

unsigned http_status(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::exists:
    case ErrorCode::in_use:
      return 409;
    case ErrorCode::no_resource:
    case ErrorCode::unavailable:
      return 503;
    case ErrorCode::internal:
      return 500;
  }
  return 500;
}

Response error_response(const Error& error) {
  return error_response(http_status(error.code), error);
}

Response error_response(unsigned status, const Error& error) {
  const nlohmann::ordered_json body = {{"error", {{"code", to_string(error.code)}, {"message", error.message}}}};
  Response response;
  response.status = status;
  // A sentence may quote bytes of a path that are no UTF-8: they are replaced rather than thrown at.
  response.body = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  return response;
}

std::string in_quotes(std::string_view text) {
  const bool cut = text.size() > quoted_bytes_max;
  std::string shown = "\"";
  for (const char c : text.substr(0, quoted_bytes_max)) {
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return shown + (cut ? "…\"" : "\"");
}

}  // namespace patchbay::api
