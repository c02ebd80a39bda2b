// Queues of uplinks: opened and closed, and their filters changed so that no frame overtakes another of its flow.
#include <chrono>
#include <thread>

#include "dataplane/ports/software_queue.h"
#include "dataplane/worker_dataplane.h"

namespace patchbay::dataplane {
namespace {

// A worker takes what is in a ring within this time, or it does not run. On a host without a CPU to spare it may be long
// in coming, and what is left in the ring of a queue that closes would arrive behind its flow.
constexpr std::chrono::seconds take_time{10};

void add_to(PortCounters& sum, const PortCounters& more) {
  sum.ingress.frames += more.ingress.frames;
  sum.ingress.bytes += more.ingress.bytes;
  sum.flood_copies += more.flood_copies;
  sum.merged_frames += more.merged_frames;
  for (std::size_t i = 0; i < drop_reason_count; ++i) sum.drops[i] += more.drops[i];
}

}  // namespace

QueueAbility WorkerDataplane::queue_ability(PortId uplink) const {
  const UplinkPort* const port = find(uplink).uplink;
  require(port != nullptr, "an uplink");
  return port->queue_ability();
}

Result<PortId> WorkerDataplane::open_queue(PortId uplink) {
  PortRecord& record = find(uplink);
  require(record.uplink != nullptr, "an uplink");
  PortRecord queue;
  queue.queue_of = uplink;
  queue.in_software = record.uplink->queue_ability().sorting == QueueSorting::software;
  if (queue.in_software) {
    queue.port = std::make_unique<SoftwareQueue>(next_id(), event_fd_.get());
  } else {
    auto opened = record.uplink->open_queue(next_id());
    if (!opened) return fail(opened.error());
    queue.port = std::move(*opened);
  }
  return add(std::move(queue));
}

Result<void> WorkerDataplane::change_filter(PortRecord& queue, const std::optional<QueueFilter>& filter) {
  UplinkPort& uplink = *find(*queue.queue_of).uplink;
  if (!uplink.queue_ability().restarts) return uplink.set_queue_filter(*queue.port, filter);
  Result<void> done;
  workers_->at_rest([&] { done = uplink.set_queue_filter(*queue.port, filter); });
  workers_->wake();
  return done;
}

Result<void> WorkerDataplane::set_queue_filter(PortId port, const QueueFilter& filter) {
  PortRecord& queue = find(port);
  require(queue.queue_of.has_value(), "a queue");
  if (queue.in_software) return {};
  if (auto ok = change_filter(queue, filter); !ok) return ok;
  const UplinkPort& uplink = *find(*queue.queue_of).uplink;
  wait_until_taken(uplink, uplink.ring_frames());
  return {};
}

void WorkerDataplane::clear_queue_filter(PortId port) {
  PortRecord& queue = find(port);
  require(queue.queue_of.has_value(), "a queue");
  if (queue.in_software) return;
  UplinkPort& uplink = *find(*queue.queue_of).uplink;
  uplink.held.store(true, std::memory_order_release);
  rcu_.synchronize();  // the pass that may still receive from it has ended
  static_cast<void>(change_filter(queue, std::nullopt));
  if (queue.attached) wait_until_taken(*queue.port, uplink.ring_frames());
  uplink.held.store(false, std::memory_order_release);
  workers_->wake();
}

void WorkerDataplane::wait_until_taken(const Port& port, std::size_t ring) {
  const bool is_polled = find(port.id()).attached || find(port.id()).in_team;
  if (!is_polled) return;
  const Port::Looks start = port.looks();
  const std::uint64_t enough = start.all + ring / burst_max + 2;  // one look may have begun before
  const auto give_up = std::chrono::steady_clock::now() + take_time;
  while (std::chrono::steady_clock::now() < give_up) {
    const Port::Looks now = port.looks();
    if (now.all >= enough || now.emptied >= start.emptied + 2) break;
    workers_->wake();
    std::this_thread::yield();
  }
  workers_->drain();
}

void WorkerDataplane::close_queue(PortRecord& queue) {
  PortRecord& uplink = find(*queue.queue_of);
  if (queue.in_software) return;  // the uplink counted its frames, too
  add_to(uplink.closed_queues, queue.port->counters());
  uplink.uplink->close_queue(*queue.port);
}

Snapshot::Entry WorkerDataplane::entry_of_queue(const PortRecord& queue, const Snapshot::Entry& uplink) const {
  Snapshot::Entry entry = uplink;
  entry.port = queue.port.get();
  entry.worker = queue.worker;
  entry.coalesces = uplink.coalesces && queue.port->gives_bare_frames();
  const PortRecord& brings = find(*queue.queue_of);
  if (brings.in_team) {
    entry.team = find(*brings.in_team).team;
    entry.member = brings.uplink;
  }
  return entry;
}

PortCounters WorkerDataplane::counters(PortId port) const {
  const PortRecord& record = find(port);
  PortCounters result = record.port->counters();
  if (record.guest != nullptr) result.buffered = record.guest->buffer().frames();
  if (record.uplink != nullptr) {
    add_to(result, record.closed_queues);
    for (const auto& [id, other] : ports_) {
      if (other.queue_of == port && !other.in_software) add_to(result, other.port->counters());
    }
    result.drops[static_cast<std::size_t>(DropReason::kernel_ring_full)] = record.uplink->kernel_drops();
  }
  return result;
}

}  // namespace patchbay::dataplane
