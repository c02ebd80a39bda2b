// What the nouns share: each adds its verbs to the command line; the verb that was typed leaves its work in
// Context::run, and main() runs it once the whole line has been read.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace patchbay::cli {

struct Context {
  std::string socket_path = "/run/patchbay/api.sock";
  bool json = false;
  std::function<int()> run;  // gives the exit code
};

inline constexpr int exit_done = 0;
inline constexpr int exit_refused = 1;
inline constexpr int exit_usage = 2;

// nic.cpp, team.cpp, switch.cpp, vnic.cpp, worker.cpp, show.cpp
void add_nic(CLI::App& app, Context& context);
void add_team(CLI::App& app, Context& context);
void add_switch(CLI::App& app, Context& context);
void add_vnic(CLI::App& app, Context& context);
void add_policy(CLI::App& app, Context& context);  // policy.cpp
void add_host(CLI::App& app, Context& context);    // host.cpp
void add_vmq(CLI::App& app, Context& context);     // vmq.cpp
void add_worker(CLI::App& app, Context& context);
void add_show(CLI::App& app, Context& context);
void add_stats(CLI::App& app, Context& context);       // stats.cpp
void add_audit(CLI::App& app, Context& context);       // audit.cpp
void add_host_file(CLI::App& app, Context& context);   // apply and export: host_file.cpp
void add_completion(CLI::App& app, Context& context);  // completion.cpp

// What a list and a `show NAME` print; show.cpp prints the lists too.
[[nodiscard]] std::string nic_table(const Json& nics);
[[nodiscard]] std::string team_table(const Json& teams);
[[nodiscard]] std::string switch_table(const Json& switches);
[[nodiscard]] std::string vnic_table(const Json& vnics);
[[nodiscard]] std::string policy_table(const Json& policies);
[[nodiscard]] std::string worker_table(const Json& workers);
[[nodiscard]] std::string audit_table(const Json& rows);

// A verb of `noun` with its help; `example` is a whole command line.
[[nodiscard]] CLI::App* add_verb(CLI::App& noun, const std::string& verb, const std::string& help,
                                 const std::string& example);

// The required name of an object, the first word after a verb.
void add_name(CLI::App& verb, std::string& name, const std::string& what);

// Asks the server and prints the answer: as JSON with --json, else what `to_text` makes of it.
[[nodiscard]] int ask_and_print(const Context& context, const Question& question,
                                const std::function<std::string(const Json&)>& to_text);

// Options whose text must be a whole number, or (`or_none`) the word "none"; whether the number is one that the host
// takes, the server decides. Anything else is a usage error that names the text and the range.
void check_vlan_id(CLI::Option& option, bool or_none);
void check_mtu(CLI::Option& option);
void check_count(CLI::Option& option);
void check_limit(CLI::Option& option);
void check_queues(CLI::Option& option);
void check_failback_delay(CLI::Option& option);
void check_vmq_weight(CLI::Option& option);
void check_worker(CLI::Option& option);  // or "auto"
// Options --buffer and --buffer-max-age; `whose` ends their descriptions.
void add_buffer(CLI::App& to, std::string& size, std::string& max_age, const std::string& whose);
// What they say, if they were given.
void put_buffer(Json& body, const std::string& size, const std::string& max_age);
// An option that may stand several times, with one word each.
void add_list(CLI::App& to, const std::string& option, std::vector<std::string>& words, const std::string& help,
              const std::string& type);
// Those words; none for the one word "none".
[[nodiscard]] Json list_or_none(const std::vector<std::string>& words);
// The number in `text`, or the text itself: what is not a number the server refuses by name.
[[nodiscard]] Json number_or_text(const std::string& text);
// The number in a checked text, null for "none".
[[nodiscard]] Json number_or_null(const std::string& text);

}  // namespace patchbay::cli
