// patchbay host: what is set for the host as a whole.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

std::string host_text(const Json& host) {
  const Json& buffer = member_of(host, "buffer");
  return field_list({{"buffer limit", fmt::format("{}{}, {} of {} bytes used", text_of(buffer, "limit"),
                                                  text_of(buffer, "limit_from") == "built_in" ? " (built in)" : "",
                                                  text_of(buffer, "used_bytes"), text_of(buffer, "limit_bytes"))},
                     {"policies", list_text(host, "policies")}});
}

}  // namespace

void add_host(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("host", "What is set for this host as a whole");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay host set --buffer-limit 512M");

  auto* show = add_verb(*noun, "show", "Show what is set, what is used of it, and the policies for the whole host",
                        "patchbay host show");
  show->callback(
      [&context] { context.run = [&context] { return ask_and_print(context, {.path = "/v1/host"}, host_text); }; });

  auto* set = add_verb(*noun, "set", "Change what is set, while guests run; what is not named stays",
                       "patchbay host set --buffer-limit 512M\n  patchbay host set --buffer-limit default");
  auto limit = std::make_shared<std::string>();
  auto* change = set->add_option_group("Change", "At least one of");
  change
      ->add_option("--buffer-limit", *limit,
                   "Memory of all vnics' buffers together: 1M to 64G, not less than they use now; default is 256M")
      ->type_name("SIZE|default");
  change->require_option(1, 0);
  set->callback([&context, limit] {
    context.run = [&context, limit] {
      const Json body = {{"buffer_limit", *limit == "default" ? Json(nullptr) : Json(*limit)}};
      return ask_and_print(context, {.method = "PATCH", .path = "/v1/host", .body = body}, host_text);
    };
  });
}

}  // namespace patchbay::cli
