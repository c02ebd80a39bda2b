// patchbay policy: named settings for vnics that leave them open.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

struct Words {
  std::string name;
  std::string buffer;
  std::string buffer_max_age;
  std::vector<std::string> apply_to;
};

std::string path_of(const std::string& name) {
  return "/v1/policies/" + percent_encode(name);
}

std::string applies_text(const Json& policy) {
  const auto targets = list_text(policy, "apply_to");
  return targets == "none" ? "nothing" : targets;
}

std::string policy_text(const Json& policy) {
  return field_list({{"name", text_of(policy, "name")},
                     {"buffer", buffer_setting_text(policy)},
                     {"applies to", applies_text(policy)},
                     {"used by vnics", list_text(policy, "vnics")}});
}

// What create and set have in common.
void add_settings(CLI::App& to, Words& words, const std::string& more, const std::string& type) {
  add_buffer(to, words.buffer, words.buffer_max_age, "a guest");
  add_list(to, "--apply-to", words.apply_to,
           "For which vnics: host (all), switch:NAME, label:KEY or label:KEY=VALUE; once for each" + more, type);
}

void put_settings(Json& body, const Words& words) {
  put_buffer(body, words.buffer, words.buffer_max_age);
  if (!words.apply_to.empty()) body["apply_to"] = list_or_none(words.apply_to);
}

void add_create(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "create", "Create a policy",
                        "patchbay policy create storage --buffer 4M --apply-to label:storage\n"
                        "  patchbay policy create base --buffer auto --apply-to host");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the new policy");
  add_settings(*verb, *words, "; default: for none yet", "WHAT|host");
  verb->callback([&context, words] {
    context.run = [&context, words] {
      Json body = {{"name", words->name}};
      put_settings(body, *words);
      return ask_and_print(context, {.method = "POST", .path = "/v1/policies", .body = body}, [](const Json& made) {
        return fmt::format("policy {} created: buffer {}, applies to {}\n", text_of(made, "name"),
                           buffer_setting_text(made), applies_text(made));
      });
    };
  });
}

void add_set(CLI::App& noun, Context& context) {
  auto* verb = add_verb(noun, "set", "Change a policy, also while its guests run; what is not named stays",
                        "patchbay policy set storage --buffer 8M\n"
                        "  patchbay policy set storage --apply-to label:storage --apply-to switch:lan\n"
                        "  patchbay policy set storage --apply-to none");
  auto words = std::make_shared<Words>();
  add_name(*verb, words->name, "Name of the policy");
  auto* change = verb->add_option_group("Change", "At least one of");
  add_settings(*change, *words, ", in place of all so far; none: for no vnic any more", "WHAT|host|none");
  change->require_option(1, 0);
  verb->callback([&context, words] {
    context.run = [&context, words] {
      Json body = Json::object();
      put_settings(body, *words);
      return ask_and_print(context, {.method = "PATCH", .path = path_of(words->name), .body = body}, policy_text);
    };
  });
}

}  // namespace

std::string policy_table(const Json& policies) {
  Table table({{"POLICY"}, {"BUFFER"}, {"APPLIES TO"}, {"USED BY VNICS", true}});
  for (const Json& policy : policies) {
    table.add({text_of(policy, "name"), buffer_setting_text(policy), applies_text(policy),
               std::to_string(member_of(policy, "vnics").size())});
  }
  return table.text("no policies");
}

void add_policy(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("policy", "Named settings for vnics that leave them open");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay policy create storage --buffer 4M --apply-to label:storage");
  add_create(*noun, context);
  add_set(*noun, context);

  auto* list = add_verb(*noun, "list", "List the policies", "patchbay policy list");
  list->callback([&context] {
    context.run = [&context] { return ask_and_print(context, {.path = "/v1/policies"}, policy_table); };
  });

  auto* show = add_verb(*noun, "show", "Show one policy and the vnics that use it", "patchbay policy show storage");
  auto* gone = add_verb(*noun, "delete", "Delete a policy that applies to nothing", "patchbay policy delete storage");
  auto name = std::make_shared<std::string>();
  add_name(*show, *name, "Name of the policy");
  add_name(*gone, *name, "Name of the policy");
  show->callback([&context, name] {
    context.run = [&context, name] { return ask_and_print(context, {.path = path_of(*name)}, policy_text); };
  });
  gone->callback([&context, name] {
    context.run = [&context, name] {
      return ask_and_print(context, {.method = "DELETE", .path = path_of(*name)},
                           [&](const Json&) { return fmt::format("policy {} deleted\n", *name); });
    };
  });
}

}  // namespace patchbay::cli
