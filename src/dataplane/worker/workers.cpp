#include "dataplane/worker/workers.h"

#include <algorithm>
#include <thread>

namespace patchbay::dataplane {

Result<std::unique_ptr<Workers>> Workers::create(std::span<const unsigned> cpus, bool always_poll, dpdk::Rcu& rcu) {
  std::unique_ptr<Workers> workers(new Workers(rcu));
  for (unsigned id = 0; id < std::max<std::size_t>(cpus.size(), 1); ++id) {
    const auto cpu = cpus.empty() ? std::nullopt : std::optional(cpus[id]);
    if (auto added = workers->add({id, cpu, always_poll}); !added) return fail(added.error());
  }
  workers->introduce();
  return workers;
}

Result<std::unique_ptr<Workers>> Workers::create(unsigned count, dpdk::Rcu& rcu) {
  std::unique_ptr<Workers> workers(new Workers(rcu));
  for (unsigned id = 0; id < count; ++id) {
    if (auto added = workers->add({.id = id}); !added) return fail(added.error());
  }
  workers->introduce();
  return workers;
}

Workers::~Workers() {
  for (const auto& worker : workers_) worker->stop();
}

Result<void> Workers::add(const Worker::Config& config) {
  auto worker = Worker::create(config, rcu_);
  if (!worker) return fail(worker.error());
  workers_.push_back(std::move(*worker));
  return {};
}

void Workers::introduce() {
  const std::size_t count = workers_.size();
  if (count == 1) return;
  std::vector<std::vector<Lane*>> lanes(count, std::vector<Lane*>(count, nullptr));  // from, to
  for (std::size_t from = 0; from < count; ++from) {
    for (std::size_t to = 0; to < count; ++to) {
      if (from != to) lanes[from][to] = lanes_.emplace_back(std::make_unique<Lane>()).get();
    }
  }
  for (std::size_t own = 0; own < count; ++own) {
    std::vector<Worker::Peer> peers;
    for (std::size_t i = 0; i < count; ++i) peers.push_back({workers_[i].get(), lanes[own][i], lanes[i][own]});
    workers_[own]->know(std::move(peers));
  }
}

Result<void> Workers::start() {
  for (const auto& worker : workers_) {
    if (auto started = worker->start(); !started) return started;
  }
  return {};
}

void Workers::wake() noexcept {
  for (const auto& worker : workers_) worker->wake();
}

unsigned Workers::least_used(std::span<const std::size_t> more) const {
  unsigned least = 0;
  std::size_t fewest = 0;
  for (unsigned i = 0; i < workers_.size(); ++i) {
    const std::size_t ports = more[i] + (snapshot_ ? snapshot_->owned[i].size() : 0);
    if (i != 0 && ports >= fewest) continue;
    least = i;
    fewest = ports;
  }
  return least;
}

void Workers::publish(std::unique_ptr<Snapshot> snapshot) {
  snapshot->seal(workers_.size());
  for (const auto& worker : workers_) worker->show(snapshot.get());
  rcu_.synchronize();
  drain();
  snapshot_ = std::move(snapshot);
}

void Workers::drain() noexcept {
  std::vector<std::uint32_t> marks;
  for (const auto& lane : lanes_) marks.push_back(lane->posted());
  const auto arrived = [&] {
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      if (!lanes_[i]->has_released(marks[i])) return false;
    }
    return true;
  };
  while (!arrived()) {
    wake();
    std::this_thread::yield();
  }
}

void Workers::pause() noexcept {
  for (const auto& worker : workers_) worker->pause(true);
  while (!rests()) std::this_thread::yield();
}

bool Workers::rests() const noexcept {
  for (const auto& worker : workers_) {
    if (!worker->paused()) return false;
  }
  for (const auto& lane : lanes_) {
    if (!lane->empty()) return false;
  }
  if (snapshot_ == nullptr) return true;
  return std::none_of(snapshot_->entries.begin(), snapshot_->entries.end(), [](const Snapshot::Entry& entry) {
    return entry.port->loan.open.load(std::memory_order_acquire);
  });
}

}  // namespace patchbay::dataplane
