// /v1/audit: who changed what.
#include <charconv>

#include "control/api/handlers.h"
#include "model/name.h"

namespace patchbay::api {
namespace {

constexpr std::size_t limit_default = 100;
constexpr std::size_t limit_max = 10'000;

struct Query {
  std::size_t limit = limit_default;
  std::string object;
};

Result<Query> parse_query(const std::map<std::string, std::string>& query) {
  Query parsed;
  for (const auto& [key, value] : query) {
    if (key == "limit") {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed.limit);
      const bool is_whole = error == std::errc() && end == value.data() + value.size();
      if (!is_whole || parsed.limit < 1 || parsed.limit > limit_max) {
        return fail(ErrorCode::invalid, "limit: " + in_quotes(value) + " is not a count of rows; give 1 to 10000");
      }
    } else if (key == "object") {
      if (auto ok = model::check_name("object", value); !ok) return fail(ok.error());
      parsed.object = value;
    } else {
      return fail(ErrorCode::invalid, "unknown query parameter " + in_quotes(key) + "; known here: limit, object");
    }
  }
  return parsed;
}

Json to_json(const store::AuditEntry& entry) {
  return {{"id", entry.id},
          {"at", entry.at},
          {"uid", entry.uid ? Json(*entry.uid) : Json(nullptr)},
          {"user", entry.user.empty() ? Json(nullptr) : Json(entry.user)},
          {"verb", entry.verb},
          {"kind", entry.kind},
          {"name", entry.name},
          {"apply", entry.apply},
          {"before", stored_json(entry.before)},
          {"after", stored_json(entry.after)}};
}

}  // namespace

Response list_audit(reconcile::Service& service, const Request& request) {
  const auto query = parse_query(request.query);
  if (!query) return error_response(query.error());
  const auto entries = service.list_audit(query->limit, query->object);
  if (!entries) return error_response(entries.error());
  Json rows = Json::array();
  for (const auto& entry : *entries) rows.push_back(to_json(entry));
  return json_response(200, rows);
}

}  // namespace patchbay::api
