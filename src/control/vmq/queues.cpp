#include "control/vmq/queues.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <tuple>

namespace patchbay::vmq {
namespace {

std::string name_of(const std::string& nic, unsigned number) {
  return fmt::format("{}#{}", nic, number);
}

Candidate candidate_of(const WantedVnic& vnic, std::optional<dataplane::QueueFilter> held) {
  return {vnic.name, vnic.mac, vnic.vlan, vnic.weight, held};
}

}  // namespace

bool is_sum_of_queues(const model::Team& team) noexcept {
  return team.mode == model::TeamMode::switch_independent && team.balance != model::TeamBalance::address_hash;
}

// A move that is not possible is a defect of this class.
void Queues::step(Queue& queue, QueueEvent event) {
  const auto next = advance(name_of(queue.nic, queue.number), queue.state, event);
  if (!next) {
    spdlog::critical("{}", next.error().message);
    std::abort();
  }
  queue.state = *next;
}

const Queues::Queue* Queues::find(const std::string& vnic, PortId uplink) const {
  const auto found = queues_.find({vnic, uplink});
  return found == queues_.end() || found->second.state != QueueState::running ? nullptr : &found->second;
}

// ---- What is to be --------------------------------------------------------------------------------------------------

bool Queues::want(const std::vector<WantedUplink>& wanted) {
  targets_.clear();
  reasons_.clear();
  for (const WantedUplink& uplink : wanted) aim(uplink);
  std::erase_if(failures_, [this](const auto& failed) { return !targets_.contains(failed.first); });
  std::erase_if(closed_, [&wanted](const auto& counted) {
    return std::none_of(wanted.begin(), wanted.end(), [&counted](const WantedUplink& uplink) {
      return std::any_of(uplink.places.begin(), uplink.places.end(),
                         [&counted](const Place& place) { return place.port == counted.first; });
    });
  });
  bool any = false;
  for (auto& [key, queue] : queues_) {
    const auto targets = targets_.find(queue.vnic);
    const bool stays =
        targets != targets_.end() && dataplane_.queue_ability(queue.uplink).sorting == queue.sorting &&
        std::any_of(targets->second.begin(), targets->second.end(), [&held = queue](const Target& target) {
          return target.place.port == held.uplink && target.filter == held.filter;
        });
    if (stays) continue;
    clear(queue);
    any = true;
  }
  return any;
}

void Queues::aim(const WantedUplink& uplink) {
  if (uplink.places.empty()) {
    for (const WantedVnic& vnic : uplink.vnics) {
      reasons_[vnic.name] = vnic.weight == 0 ? "vmq_weight is 0" : uplink.name + " is not open";
    }
  } else if (uplink.sum_of_queues) {
    aim_at_homes(uplink);
  } else {
    aim_at_all(uplink);
  }
}

// While no member carries frames, a queue stays where it is.
std::string Queues::home_of(const WantedUplink& uplink, const WantedVnic& vnic) const {
  if (!vnic.home.empty()) return vnic.home;
  for (const Place& place : uplink.places) {
    if (find(vnic.name, place.port) != nullptr) return place.nic;
  }
  return "";
}

void Queues::aim_at_homes(const WantedUplink& uplink) {
  for (const WantedVnic& vnic : uplink.vnics) {
    reasons_[vnic.name] =
        vnic.weight == 0 ? "vmq_weight is 0" : fmt::format("no member of team {} carries frames", uplink.name);
  }
  for (const Place& place : uplink.places) {
    std::vector<Candidate> candidates;
    for (const WantedVnic& vnic : uplink.vnics) {
      if (home_of(uplink, vnic) != place.nic) continue;
      const Queue* const held = find(vnic.name, place.port);
      candidates.push_back(candidate_of(vnic, held == nullptr ? std::nullopt : std::optional(held->filter)));
    }
    for (auto& [vnic, share] : assign(place.nic, dataplane_.queue_ability(place.port), candidates)) {
      reasons_.erase(vnic);
      if (share.filter) {
        targets_[vnic].push_back({place, *share.filter});
      } else {
        reasons_[vnic] = std::move(share.reason);
      }
    }
  }
}

// A NIC that is in no team is the only one.
void Queues::aim_at_all(const WantedUplink& uplink) {
  dataplane::QueueAbility ability = dataplane_.queue_ability(uplink.places.front().port);
  std::string name = uplink.places.front().nic;
  for (const Place& place : uplink.places) {
    const dataplane::QueueAbility other = dataplane_.queue_ability(place.port);
    const bool vlan_only = ability.vlan_only || other.vlan_only;
    if (queues_max_of(other) < queues_max_of(ability)) {
      ability = other;
      name = place.nic;
    }
    ability.vlan_only = vlan_only;
  }
  std::vector<Candidate> candidates;
  for (const WantedVnic& vnic : uplink.vnics) {
    std::optional<dataplane::QueueFilter> held;
    for (const Place& place : uplink.places) {
      if (const Queue* const queue = find(vnic.name, place.port); queue != nullptr) held = queue->filter;
    }
    candidates.push_back(candidate_of(vnic, held));
  }
  for (auto& [vnic, share] : assign(name, ability, candidates)) {
    if (!share.filter) {
      reasons_[vnic] = std::move(share.reason);
      continue;
    }
    for (const Place& place : uplink.places) targets_[vnic].push_back({place, *share.filter});
  }
}

bool Queues::leave(PortId uplink) {
  for (auto& [vnic, targets] : targets_) {
    std::erase_if(targets, [uplink](const Target& target) { return target.place.port == uplink; });
  }
  bool any = false;
  for (auto& [key, queue] : queues_) {
    if (queue.uplink != uplink) continue;
    clear(queue);
    any = true;
  }
  return any;
}

// ---- The way back ---------------------------------------------------------------------------------------------------

void Queues::clear(Queue& queue) {
  if (queue.state != QueueState::running) return;
  dataplane_.clear_queue_filter(queue.port);
  step(queue, QueueEvent::clear_last_filter);
}

void Queues::close_freed() {
  for (auto& [key, queue] : queues_) {
    if (queue.state == QueueState::paused) close(queue);
  }
  std::erase_if(queues_, [](const auto& queue) { return queue.second.state == QueueState::undefined; });
}

// It has no filter, and is in no layout: nothing fills it, and nobody has a frame of it.
void Queues::close(Queue& queue) {
  step(queue, QueueEvent::free_queue);
  step(queue, QueueEvent::dma_stopped);
  const dataplane::PortCounters counted = dataplane_.counters(queue.port);
  QueueCount& closed = closed_[queue.uplink];
  closed.traffic.frames += counted.ingress.frames;
  closed.traffic.bytes += counted.ingress.bytes;
  closed.drops = std::accumulate(counted.drops.begin(), counted.drops.end(), closed.drops);
  dataplane_.close_port(queue.port, false);
  numbers_[queue.uplink].erase(queue.number);
  step(queue, QueueEvent::all_returned);
}

// ---- The way there --------------------------------------------------------------------------------------------------

bool Queues::allocate() {
  bool any = false;
  for (const auto& [vnic, targets] : targets_) {
    for (const Target& target : targets) {
      if (find(vnic, target.place.port) != nullptr) continue;
      auto opened = open(vnic, target);
      if (!opened) continue;
      queues_[{vnic, target.place.port}] = std::move(*opened);
      any = true;
    }
  }
  return any;
}

std::optional<Queues::Queue> Queues::open(const std::string& vnic, const Target& target) {
  const dataplane::QueueSorting sorting = dataplane_.queue_ability(target.place.port).sorting;
  const auto port = dataplane_.open_queue(target.place.port);
  if (!port) {
    note_failure(vnic, target.place.nic, port.error());
    return std::nullopt;
  }
  Queue queue{.nic = target.place.nic,
              .uplink = target.place.port,
              .number = take_number(target.place.port),
              .vnic = vnic,
              .filter = target.filter,
              .port = *port,
              .sorting = sorting};
  step(queue, QueueEvent::allocate_queue);
  if (const auto ok = dataplane_.set_queue_filter(queue.port, queue.filter); !ok) {
    note_failure(vnic, queue.nic, ok.error());
    close(queue);
    return std::nullopt;
  }
  step(queue, QueueEvent::set_filter);
  failures_[vnic].erase(queue.nic);
  return queue;
}

void Queues::complete() {
  for (auto& [key, queue] : queues_) {
    if (queue.state == QueueState::set) step(queue, QueueEvent::allocation_complete);
  }
}

void Queues::note_failure(const std::string& vnic, const std::string& nic, const Error& error) {
  std::string& noted = failures_[vnic][nic];
  if (noted != error.message) spdlog::warn("vnic {} has no queue of {}: {}", vnic, nic, error.message);
  noted = error.message;
}

unsigned Queues::take_number(PortId uplink) {
  std::set<unsigned>& taken = numbers_[uplink];
  unsigned number = 1;
  for (const unsigned other : taken) {
    if (other != number) break;
    ++number;
  }
  taken.insert(number);
  return number;
}

// ---- What is --------------------------------------------------------------------------------------------------------

std::vector<PortId> Queues::of(const std::string& vnic) const {
  std::vector<PortId> ports;
  for (auto at = queues_.lower_bound({vnic, PortId{}}); at != queues_.end() && at->first.first == vnic; ++at) {
    const QueueState state = at->second.state;
    if (state == QueueState::set || state == QueueState::running) ports.push_back(at->second.port);
  }
  return ports;
}

std::vector<QueueStatus> Queues::status() const {
  std::vector<QueueStatus> all;
  for (const auto& [key, queue] : queues_) {
    all.push_back({queue.nic, queue.number, queue.vnic, queue.filter, queue.state, queue.port, queue.sorting});
  }
  std::sort(all.begin(), all.end(), [](const QueueStatus& a, const QueueStatus& b) {
    return std::tie(a.nic, a.number) < std::tie(b.nic, b.number);
  });
  return all;
}

std::string Queues::reason(const std::string& vnic) const {
  if (const auto found = reasons_.find(vnic); found != reasons_.end()) return found->second;
  std::string text;
  if (const auto failed = failures_.find(vnic); failed != failures_.end()) {
    for (const auto& [nic, message] : failed->second) text += (text.empty() ? "" : "; ") + message;
  }
  return text;
}

QueueCount Queues::closed(PortId uplink) const {
  const auto found = closed_.find(uplink);
  return found == closed_.end() ? QueueCount{} : found->second;
}

}  // namespace patchbay::vmq
