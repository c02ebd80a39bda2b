// patchbay completion: scripts for bash and zsh, and what they ask.
#include "completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>
#include <optional>

#include "format.h"

namespace patchbay::cli {
namespace {

constexpr const char* bash_script = R"(# Completion of patchbay for bash; made by `patchbay completion bash`.
_patchbay() {
  local word
  COMPREPLY=()
  while IFS= read -r word; do
    COMPREPLY+=("$word")
  done < <("$1" complete-words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ "${COMPREPLY[*]}" = :files ]; then
    COMPREPLY=()
    compopt -o default 2>/dev/null
  fi
}
complete -F _patchbay patchbay
)";

constexpr const char* zsh_script = R"(#compdef patchbay
# Completion of patchbay for zsh; made by `patchbay completion zsh`.
_patchbay() {
  local -a found
  found=("${(@f)$("${words[1]}" complete-words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ "${found[*]}" == :files ]]; then
    _files
  elif [[ -n "${found[*]}" ]]; then
    compadd -- "${found[@]}"
  fi
}
if [[ "$funcstack[1]" == _patchbay ]]; then
  _patchbay "$@"
else
  compdef _patchbay patchbay
fi
)";

using Words = std::vector<std::string>;

// Options of `app` and of its option groups.
void collect_options(const CLI::App& app, std::vector<const CLI::Option*>& options) {
  for (const CLI::Option* option : app.get_options()) options.push_back(option);
  for (const CLI::App* group : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (group->get_name().empty()) collect_options(*group, options);
  }
}

// Those, and those of the commands before it, which may stand anywhere.
std::vector<const CLI::Option*> options_at(const CLI::App& app) {
  std::vector<const CLI::Option*> options;
  for (const CLI::App* at = &app; at != nullptr; at = at->get_parent()) collect_options(*at, options);
  return options;
}

const CLI::Option* find_option(const CLI::App& app, const std::string& word) {
  for (const CLI::Option* option : options_at(app)) {
    if (option->check_name(word)) return option;
  }
  return nullptr;
}

const CLI::App* find_command(const CLI::App& app, const std::string& word) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!word.empty() && command->get_name() == word) return command;
  }
  return nullptr;
}

// "FORMAT:{qemu,libvirt}" gives both, "VID|none" gives none.
Words words_of_type(const std::string& type) {
  const auto open = type.find('{');
  const auto close = type.find('}');
  const bool is_set = open != std::string::npos && close != std::string::npos && open < close;
  const std::string list = is_set ? type.substr(open + 1, close - open - 1) : type;
  const char separator = is_set ? ',' : '|';
  Words words;
  for (std::size_t at = 0; at <= list.size();) {
    const auto end = std::min(list.find(separator, at), list.size());
    const std::string word = list.substr(at, end - at);
    const bool is_literal = is_set || (!word.empty() && std::islower(static_cast<unsigned char>(word.front())) != 0);
    if (is_literal) words.push_back(word);
    at = end + 1;
  }
  return words;
}

// Paths under which the API lists what an option of `type` names. Not of a VNIC: those are made by the command.
Words lists_of_type(const std::string& type) {
  Words lists;
  if (type.rfind("NIC", 0) == 0) lists.push_back("/v1/nics");
  if (type.find("TEAM") != std::string::npos) lists.push_back("/v1/teams");
  if (type.rfind("SWITCH", 0) == 0) lists.push_back("/v1/switches");
  return lists;
}

// The same of the word after a verb: objects of its noun, unless it makes a new one; for `audit` all that change.
Words lists_of_verb(const CLI::App& verb) {
  const std::string noun = verb.get_parent() != nullptr ? verb.get_parent()->get_name() : "";
  if (verb.get_name() == "create") return {};
  if (noun == "nic") return {"/v1/nics"};
  if (noun == "team") return {"/v1/teams"};
  if (noun == "switch") return {"/v1/switches"};
  if (noun == "vnic") return {"/v1/vnics"};
  if (noun == "policy") return {"/v1/policies"};
  if (verb.get_name() == "audit") return {"/v1/switches", "/v1/teams", "/v1/policies", "/v1/vnics"};
  return {};
}

// Where the words before the last one lead to.
struct Position {
  const CLI::App* app = nullptr;
  const CLI::Option* value_of = nullptr;  // the last word is a value of this option
  std::size_t arguments = 0;              // plain words after the verb
  std::string socket_path;
};

Position position_of(const CLI::App& app, const Context& context, const Words& words) {
  Position at{&app, nullptr, 0, context.socket_path};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "=") continue;  // bash takes --option=value apart
    if (at.value_of != nullptr) {
      if (at.value_of->check_name("--api")) at.socket_path = word;
      at.value_of = nullptr;
    } else if (word.size() > 1 && word.front() == '-') {
      const CLI::Option* option = find_option(*at.app, word);
      if (option != nullptr && option->get_items_expected_max() > 0) at.value_of = option;
    } else if (const CLI::App* command = find_command(*at.app, word)) {
      at.app = command;
    } else {
      ++at.arguments;
    }
  }
  return at;
}

const CLI::Option* argument(const CLI::App& app, std::size_t index) {
  std::vector<const CLI::Option*> options;
  collect_options(app, options);
  for (const CLI::Option* option : options) {
    if (option->get_positional() && index-- == 0) return option;
  }
  return nullptr;
}

Words option_words(const CLI::App& app) {
  Words words;
  for (const CLI::Option* option : options_at(app)) {
    for (const auto& name : option->get_lnames()) words.push_back("--" + name);
    if (option->get_lnames().empty()) {
      for (const auto& name : option->get_snames()) words.push_back("-" + name);
    }
  }
  return words;
}

}  // namespace

Words candidates(const CLI::App& app, const Context& context, const Words& words, const Names& names) {
  const std::string last = words.empty() || words.back() == "=" ? "" : words.back();
  const Position at = position_of(app, context, words.empty() ? Words{""} : words);
  Words found;
  Words lists;
  const CLI::Option* option = at.value_of;
  if (option != nullptr) {
    lists = lists_of_type(option->get_type_name());
  } else if (last.rfind('-', 0) == 0) {
    found = option_words(*at.app);
  } else {
    option = argument(*at.app, at.arguments);
    if (option != nullptr) lists = lists_of_verb(*at.app);
    for (const CLI::App* command : at.app->get_subcommands([](const CLI::App*) { return true; })) {
      if (at.arguments == 0 && !command->get_name().empty()) found.push_back(command->get_name());
    }
    if (option == nullptr && found.empty()) found = option_words(*at.app);
  }
  if (option != nullptr) {
    const std::string type = option->get_type_name();
    if (type == "FILE" || type == "PATH" || type == "SOCKET") return {files};
    found = words_of_type(type);
  }
  for (const auto& list : lists) {
    for (auto& name : names(at.socket_path, list)) found.push_back(std::move(name));
  }
  std::erase_if(found, [&last](const std::string& word) { return word.rfind(last, 0) != 0; });
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

int complete(const CLI::App& app, const Context& context, const Words& words) {
  const auto names = [](const std::string& socket_path, const std::string& path) {
    Words found;
    const auto answer = ask(socket_path, {.path = path, .time = names_time});
    if (!answer || !answer->is_array()) return found;
    for (const Json& object : *answer) {
      if (const auto name = text_of(object, "name"); name != "-") found.push_back(printable(name));
    }
    return found;
  };
  Context with_environment = context;
  if (const char* socket = std::getenv("PATCHBAY_API")) with_environment.socket_path = socket;
  for (const auto& word : candidates(app, with_environment, words, names)) fmt::print("{}\n", word);
  return exit_done;
}

void add_completion(CLI::App& app, Context& context) {
  auto* verb = add_verb(app, "completion", "Print a script that makes the shell complete this command's words",
                        "patchbay completion bash > /etc/bash_completion.d/patchbay");
  auto shell = std::make_shared<std::string>();
  verb->add_option("SHELL", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}))->type_name("");
  verb->callback([&context, shell] {
    context.run = [shell] {
      fmt::print("{}", *shell == "bash" ? bash_script : zsh_script);
      return exit_done;
    };
  });
}

}  // namespace patchbay::cli
