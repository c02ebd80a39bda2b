// patchbay worker: the threads that move frames.
#include <fmt/format.h>

#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

std::string busy_text(const Json& worker) {
  const Json& busy_cycles = member_of(worker, "busy_cycles");
  const Json& idle_cycles = member_of(worker, "idle_cycles");
  if (!busy_cycles.is_number() || !idle_cycles.is_number()) return "-";
  const double busy = busy_cycles.get<double>();
  const double all = busy + idle_cycles.get<double>();
  return all > 0 ? fmt::format("{:.1f} %", 100 * busy / all) : "-";
}

}  // namespace

std::string worker_table(const Json& workers) {
  Table table({{"WORKER", true},
               {"CPU", true},
               {"BUSY", true},
               {"BUSY CYCLES", true},
               {"IDLE CYCLES", true},
               {"FRAMES", true},
               {"SLEEPS", true},
               {"PORTS", true}});
  for (const Json& worker : workers) {
    table.add({text_of(worker, "id"), text_of(worker, "cpu"), busy_text(worker), text_of(worker, "busy_cycles"),
               text_of(worker, "idle_cycles"), text_of(worker, "frames"), text_of(worker, "sleeps"),
               text_of(worker, "ports")});
  }
  return table.text("no workers");
}

void add_worker(CLI::App& app, Context& context) {
  auto* noun = app.add_subcommand("worker", "Threads that move frames");
  noun->require_subcommand(1);
  noun->footer("Example:\n  patchbay worker list");
  auto* list =
      add_verb(*noun, "list", "List the workers: busy and idle TSC cycles, frames, sleeps, ports; sleep is not idle",
               "patchbay worker list");
  list->callback([&context] {
    context.run = [&context] { return ask_and_print(context, {.path = "/v1/workers"}, worker_table); };
  });
}

}  // namespace patchbay::cli
