#include "command.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <optional>

namespace patchbay::cli {
namespace {

std::optional<std::int64_t> whole_number(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// `word`: may be given in place of a number; empty: nothing may.
void check_number(CLI::Option& option, const std::string& what, const std::string& range,
                  const std::string& word = {}) {
  option.check([=](const std::string& text) -> std::string {
    if (whole_number(text) || (!word.empty() && text == word)) return {};
    return fmt::format("\"{}\" is not {}; give a number from {}{}", text, what, range,
                       word.empty() ? "" : ", or " + word);
  });
}

}  // namespace

CLI::App* add_verb(CLI::App& noun, const std::string& verb, const std::string& help, const std::string& example) {
  auto* added = noun.add_subcommand(verb, help);
  added->footer("Example:\n  " + example);
  return added;
}

void add_name(CLI::App& verb, std::string& name, const std::string& what) {
  verb.add_option("NAME", name, what)->required()->type_name("");
}

int ask_and_print(const Context& context, const Question& question,
                  const std::function<std::string(const Json&)>& to_text) {
  const auto answer = ask(context.socket_path, question);
  if (!answer) {
    fmt::print(stderr, "{}\n", answer.error());
    return exit_refused;
  }
  if (!context.json) {
    fmt::print("{}", to_text(*answer));
  } else if (!answer->is_null()) {
    fmt::print("{}\n", answer->dump(2, ' ', false, Json::error_handler_t::replace));
  }
  return exit_done;
}

void check_vlan_id(CLI::Option& option, bool or_none) {
  check_number(option, "a VLAN id", "1 to 4094", or_none ? "none" : "");
}

void check_mtu(CLI::Option& option) {
  check_number(option, "an MTU", "576 to 9000");
}

void check_count(CLI::Option& option) {
  check_number(option, "a number of addresses", "1 to 65536");
}

Json number_or_text(const std::string& text) {
  const auto number = whole_number(text);
  return number ? Json(*number) : Json(text);
}

void check_limit(CLI::Option& option) {
  check_number(option, "a count", "1 to 10000");
}

void check_queues(CLI::Option& option) {
  check_number(option, "a number of queue pairs", "1 to 8");
}

void check_failback_delay(CLI::Option& option) {
  check_number(option, "a number of milliseconds", "0 to 600000");
}

void check_vmq_weight(CLI::Option& option) {
  check_number(option, "a weight", "0 to 100");
}

void check_worker(CLI::Option& option) {
  check_number(option, "a worker", "0 to 255", "auto");
}

void add_buffer(CLI::App& to, std::string& size, std::string& max_age, const std::string& whose) {
  to.add_option("--buffer", size,
                "Bytes of frames that may wait for " + whose +
                    ": 256K to 16M, auto (grows from 1M, to 16M or what auto:SIZE says), 0 for none, or default")
      ->type_name("SIZE|auto|default");
  to.add_option("--buffer-max-age", max_age,
                "How long a frame may wait for " + whose + ", in milliseconds; none: as long as it must; or default")
      ->type_name("MS|none|default")
      ->check([](const std::string& text) {
        if (text == "none" || text == "default" || whole_number(text).value_or(0) != 0) return std::string();
        return fmt::format("\"{}\" is not an age; give milliseconds, 1 to 3600000, none or default", text);
      });
}

void put_buffer(Json& body, const std::string& size, const std::string& max_age) {
  if (!size.empty()) body["buffer"] = size == "default" ? Json(nullptr) : Json(size);
  if (max_age.empty()) return;
  body["buffer_max_age_ms"] = max_age == "default" ? Json(nullptr)
                              : max_age == "none"  ? Json(0)
                                                   : number_or_text(max_age);
}

void add_list(CLI::App& to, const std::string& option, std::vector<std::string>& words, const std::string& help,
              const std::string& type) {
  to.add_option(option, words, help)->allow_extra_args(false)->type_name(type);
}

Json list_or_none(const std::vector<std::string>& words) {
  return words == std::vector<std::string>{"none"} ? Json::array() : Json(words);
}

Json number_or_null(const std::string& text) {
  const auto number = whole_number(text);
  return number ? Json(*number) : Json(nullptr);
}

}  // namespace patchbay::cli
