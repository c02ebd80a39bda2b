// patchbay stats: what moves and what waits, vnic by vnic; with --watch live.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Words {
  bool watch = false;
  unsigned every_s = 1;
  unsigned times = 0;  // 0: for ever
};

// Frames of each vnic at one moment.
struct Sample {
  struct Frames {
    std::uint64_t to_guest = 0;
    std::uint64_t from_guest = 0;
  };
  Clock::time_point at;
  std::map<std::string, Frames> frames;
};

Sample sample_of(const Json& vnics) {
  Sample sample{Clock::now(), {}};
  for (const Json& vnic : vnics) {
    const Json& counters = member_of(vnic, "counters");
    sample.frames[text_of(vnic, "name")] = {number_of(member_of(counters, "to_guest"), "frames"),
                                            number_of(member_of(counters, "from_guest"), "frames")};
  }
  return sample;
}

// Since `before`, which may be later: the counters of a vnic that was made anew start at zero.
std::string rate_text(std::uint64_t now, std::uint64_t before, double seconds) {
  return now < before || seconds <= 0 ? "-" : fmt::format("{:.0f}", static_cast<double>(now - before) / seconds);
}

std::string used_text(const Json& buffer) {
  if (text_of(buffer, "size") == "-") return "-";
  return fmt::format("{} of {}", text_of(buffer, "used_bytes"), text_of(buffer, "limit_bytes"));
}

// Null: no sample before this one, and totals in place of rates.
std::string stats_table(const Json& vnics, const Sample* before, const Sample& now) {
  const char* const unit = before != nullptr ? "/S" : "";
  Table table({{"VNIC"},
               {fmt::format("TO GUEST{}", unit), true},
               {fmt::format("FROM GUEST{}", unit), true},
               {"BUFFER", true},
               {"PEAK", true},
               {"WAITING", true},
               {"P99 WAIT", true},
               {"STALLS", true},
               {"LONGEST", true},
               {"DROPS"}});
  for (const Json& vnic : vnics) {
    const auto name = text_of(vnic, "name");
    const Sample::Frames frames = now.frames.at(name);
    std::string to_guest = std::to_string(frames.to_guest);
    std::string from_guest = std::to_string(frames.from_guest);
    if (before != nullptr) {
      const auto found = before->frames.find(name);
      const Sample::Frames old = found != before->frames.end() ? found->second : frames;
      const double seconds = std::chrono::duration<double>(now.at - before->at).count();
      to_guest = rate_text(frames.to_guest, old.to_guest, seconds);
      from_guest = rate_text(frames.from_guest, old.from_guest, seconds);
    }
    const Json& buffer = member_of(vnic, "buffer");
    const Json& stalls = member_of(buffer, "stalls");
    table.add({name, to_guest, from_guest, used_text(buffer), text_of(buffer, "peak_bytes"), text_of(buffer, "frames"),
               duration_text(number_of(member_of(buffer, "waited"), "p99_us")), text_of(stalls, "count"),
               duration_text(number_of(stalls, "longest_us")), drops_text(member_of(vnic, "counters"))});
  }
  return table.text("no vnics");
}

int watch(const Context& context, const Words& words) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  std::optional<Sample> before;
  for (std::uint64_t round = 0; words.times == 0 || round < words.times; ++round) {
    if (round != 0) std::this_thread::sleep_for(std::chrono::seconds(words.every_s));
    const auto vnics = ask(context.socket_path, {.path = "/v1/vnics"});
    if (!vnics) {
      fmt::print(stderr, "{}\n", vnics.error());
      return exit_refused;
    }
    Sample now = sample_of(*vnics);
    // Home, the new lines, and nothing behind them: the picture does not flicker.
    const std::string text = stats_table(*vnics, before ? &*before : nullptr, now);
    fmt::print("{}{}{}", terminal ? "\x1b[H\x1b[2J" : round != 0 ? "\n" : "", text, terminal ? "\x1b[J" : "");
    if (std::fflush(stdout) != 0) return exit_refused;
    before = std::move(now);
  }
  return exit_done;
}

}  // namespace

void add_stats(CLI::App& app, Context& context) {
  auto* verb = add_verb(app, "stats", "Frames, buffers, stalls and drops of each vnic",
                        "patchbay stats\n  patchbay stats --watch --every 2");
  auto words = std::make_shared<Words>();
  auto* live = verb->add_flag("--watch", words->watch, "Go on, with frames a second, until Ctrl-C");
  verb->add_option("--every", words->every_s, "Seconds from one look to the next, 1 to 3600; default 1")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 3600))
      ->needs(live);
  verb->add_option("--times", words->times, "End after so many looks")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1'000'000))
      ->needs(live);
  verb->callback([&context, words] {
    context.run = [&context, words] {
      if (!words->watch) {
        return ask_and_print(context, {.path = "/v1/vnics"},
                             [](const Json& vnics) { return stats_table(vnics, nullptr, sample_of(vnics)); });
      }
      if (context.json) {
        fmt::print(stderr, "patchbay stats: --watch draws a table; leave it or --json out\n");
        return exit_usage;
      }
      return watch(context, *words);
    };
  });
}

}  // namespace patchbay::cli
