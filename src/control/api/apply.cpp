// /v1/apply and /v1/export: the whole host as one document.
#include <algorithm>

#include "control/api/document.h"
#include "control/api/fields.h"
#include "control/api/handlers.h"
#include "control/api/specs.h"
#include "control/reconcile/settable.h"

namespace patchbay::api {
namespace {

// What a query may say; anything else is an error that names `words`.
Result<std::string> choice(const Request& request, const std::string& parameter,
                           const std::vector<std::string>& words) {
  std::string known;
  for (const auto& word : words) known += (known.empty() ? "" : " or ") + word;
  std::string chosen = words.front();
  for (const auto& [key, value] : request.query) {
    if (key != parameter) {
      return fail(ErrorCode::invalid, "unknown query parameter " + in_quotes(key) + "; known here: " + parameter);
    }
    if (std::find(words.begin(), words.end(), value) == words.end()) {
      return fail(ErrorCode::invalid, parameter + ": " + in_quotes(value) + " is unknown; give " + known);
    }
    chosen = value;
  }
  return chosen;
}

tl::unexpected<Error> refuse(const Document& document, const std::string& path, const std::string& what) {
  return fail(ErrorCode::invalid, "line " + std::to_string(document.line_of(path)) + ": " + what);
}

// "vnics.web", short enough for a sentence whatever the file calls a name.
std::string shown_path(const std::string& section, const std::string& name) {
  std::string quoted = in_quotes(name);
  return section + "." + quoted.substr(1, quoted.size() - 2);
}

std::string with_slashes(std::string path) {
  std::replace(path.begin(), path.end(), '.', '/');
  return path;
}

// What `fields` were read from, at `path`; `shown`: how a sentence calls it. Errors: what fields.finish() gives.
Result<void> check_read(const Document& document, Fields& fields, const std::string& path, const std::string& shown) {
  const auto ok = fields.finish();
  if (ok) return {};
  const std::string& field = fields.where();
  const bool names_field = !field.empty() && ok.error().message.rfind(field + ":", 0) == 0;
  return refuse(document, field.empty() ? path : path + "/" + with_slashes(field),
                shown + (names_field ? "." : ": ") + ok.error().message);
}

// A section of objects by name. `read(fields, name)` gives a spec.
template <typename Spec, typename Read>
Result<std::vector<Spec>> read_section(const Document& document, const char* section, Read read) {
  const auto found = document.value.find(section);
  const std::string at = std::string("/") + section;
  if (found == document.value.end() || !found->is_object()) {
    return refuse(document, at,
                  std::string(section) + ": this section is required; write the objects by name, or {} for none");
  }
  std::vector<Spec> specs;
  for (const auto& [name, object] : found->items()) {
    const std::string prefix = shown_path(section, name);
    if (!object.is_object()) {
      return refuse(document, at + "/" + name, in_quotes(prefix) + " has no fields; write them below it");
    }
    Fields fields = Fields::of(object);
    specs.push_back(read(fields, name));
    if (auto ok = check_read(document, fields, at + "/" + name, prefix); !ok) return fail(ok.error());
  }
  return specs;
}

// The section `host`, which has no names.
Result<model::HostSettings> read_settings_section(const Document& document) {
  const auto& section = document.value["host"];
  if (!section.is_object()) return refuse(document, "/host", "host: write its fields below it, or {} for none");
  Fields fields = Fields::of(section);
  const auto settings = read_settings(fields);
  if (auto ok = check_read(document, fields, "/host", "host"); !ok) return fail(ok.error());
  return settings;
}

constexpr const char* sections[] = {"host", "teams", "switches", "policies", "vnics"};

Result<reconcile::HostSpec> read_host(const Document& document) {
  if (!document.value.is_object()) return refuse(document, "", "write the sections `switches:` and `vnics:`");
  for (const auto& [key, value] : document.value.items()) {
    if (std::find(std::begin(sections), std::end(sections), key) == std::end(sections)) {
      return refuse(document, "/" + key,
                    "unknown section " + in_quotes(key) + "; known here: host, teams, switches, policies, vnics");
    }
  }
  auto switches = read_section<reconcile::SwitchSpec>(document, "switches", read_switch);
  if (!switches) return fail(switches.error());
  auto vnics = read_section<reconcile::VnicSpec>(document, "vnics", read_vnic);
  if (!vnics) return fail(vnics.error());
  reconcile::HostSpec spec{std::move(*switches), std::move(*vnics)};
  if (document.value.contains("teams")) {
    auto teams = read_section<model::Team>(document, "teams", read_team);
    if (!teams) return fail(teams.error());
    spec.teams = std::move(*teams);
  }
  if (const auto found = document.value.find("policies"); found != document.value.end()) {
    if (!found->is_object()) {
      return refuse(document, "/policies", "policies: write them by name below it, or {} for none");
    }
    auto policies = read_section<model::Policy>(document, "policies", read_policy);
    if (!policies) return fail(policies.error());
    spec.policies = std::move(*policies);
  }
  if (document.value.contains("host")) {
    const auto settings = read_settings_section(document);
    if (!settings) return fail(settings.error());
    spec.settings = *settings;
  }
  return spec;
}

std::string section_of(const std::string& noun) {
  if (noun == "switch") return "switches";
  if (noun == "policy") return "policies";
  return noun == "host" ? noun : noun + "s";
}

// The sentence of a rule that the host as a whole breaks, with the line of the object that is at fault.
Error with_line(const Document& document, const reconcile::ApplyRefusal& refusal) {
  if (refusal.noun.empty()) return refusal.error;
  const std::string section = section_of(refusal.noun);
  const std::string& message = refusal.error.message;
  const bool names_it = refusal.name.empty() || message.rfind(refusal.noun + " " + refusal.name, 0) == 0;
  return make_error(refusal.error.code, "line " + std::to_string(document.line_of("/" + section + "/" + refusal.name)) +
                                            ": " + (names_it ? "" : shown_path(section, refusal.name) + ": ") +
                                            message);
}

Json to_json(const reconcile::ObjectChange& change) {
  return {{"verb", change.verb},
          {"kind", change.kind},
          {"name", change.name},
          {"before", stored_json(change.before)},
          {"after", stored_json(change.after)}};
}

}  // namespace

Response apply_host(reconcile::Service& service, const Request& request) {
  const auto dry_run = choice(request, "dry_run", {"false", "true"});
  if (!dry_run) return error_response(dry_run.error());
  const auto document = parse_yaml(request.body);
  if (!document) return error_response(document.error());
  const auto spec = read_host(*document);
  if (!spec) return error_response(spec.error());
  const auto applied = service.apply(*spec, *dry_run == "true");
  if (!applied) return error_response(with_line(*document, applied.error()));
  Json changes = Json::array();
  for (const auto& change : *applied) changes.push_back(to_json(change));
  return json_response(200, {{"dry_run", *dry_run == "true"}, {"changes", std::move(changes)}});
}

Response export_host(reconcile::Service& service, const Request& request) {
  const auto format = choice(request, "format", {"yaml", "json"});
  if (!format) return error_response(format.error());
  const model::Host& desired = service.desired();
  const auto section = [](const auto& objects) {
    Json json = Json::object();
    for (const auto& [name, object] : objects) json[name] = reconcile::settable(object);
    return json;
  };
  const Json host = {{"host", reconcile::settable(desired.settings)},
                     {"teams", section(desired.teams)},
                     {"switches", section(desired.switches)},
                     {"policies", section(desired.policies)},
                     {"vnics", section(desired.vnics)}};
  if (*format == "json") return json_response(200, host);
  Response response;
  response.body = "# The whole host. Give it back with: patchbay apply -f FILE\n" + to_yaml(host);
  response.content_type = "application/yaml";
  return response;
}

}  // namespace patchbay::api
