#include "dataplane/virtqueue/guest_queues.h"

#include <algorithm>
#include <utility>

#include "base/monotonic.h"
#include "dataplane/virtqueue/flow.h"

namespace patchbay::dataplane {
namespace {

void add(Puts& sum, const Puts& more) noexcept {
  sum.delivered += more.delivered;
  sum.bytes += more.bytes;
  sum.ring_full += more.ring_full;
  sum.bad_buffer += more.bad_buffer;
}

}  // namespace

Result<std::unique_ptr<GuestQueues>> GuestQueues::create(const GuestLink& link, RingRecords* records) {
  std::unique_ptr<GuestQueues> queues(new GuestQueues);
  if (records == nullptr && (link.features & virtio_f_ring_packed) != 0) {
    queues->own_records_ = std::make_unique<RingRecords>();
    records = queues->own_records_.get();
  }
  for (std::size_t i = 0; i < queue_pairs_max; ++i) {
    const bool receives = QueuePair::is_complete(link.rings[2 * i]);
    const bool runs = receives || QueuePair::is_complete(link.rings[2 * i + 1]);
    if (runs) queues->running_[queues->running_count_++] = static_cast<PairIndex>(i);
    if (receives) queues->receiving_[queues->receiving_count_++] = static_cast<PairIndex>(i);
    if (runs && i != 0 && queues->more_ == nullptr) queues->more_ = std::make_unique<More>();
  }
  for (std::size_t i = 0; i < (queues->several() ? queue_pairs_max : 1); ++i) {
    auto created = QueuePair::create(link, i, records);
    if (!created) return fail(created.error());
    queues->pair(i) = std::move(*created);
  }
  // All are greeted. The first one is, in any case: it says whether that is due.
  queues->touch(0);
  for (std::size_t i = 0; i < queues->running_count_; ++i) queues->touch(queues->running_[i]);
  for (std::size_t i = 0; i < guest_rings_max; ++i) queues->given_[i] = link.rings[i].position;
  return queues;
}

void GuestQueues::catch_up() noexcept {
  each_running([](QueuePair& pair) { pair.catch_up(); });
}

void GuestQueues::take_over(const GuestQueues& old) noexcept {
  if (!several()) return first_.take_over(old.first_);
  for (std::size_t i = 0; i < running_count_; ++i) {
    const std::size_t at = running_[i];
    if (at == 0 || old.several()) {
      pair(at).take_over(old.pair(at));
    } else {
      pair(at).catch_up();
    }
  }
}

RingPositions GuestQueues::positions() const noexcept {
  RingPositions positions = given_;
  for (std::size_t i = 0; i < running_count_; ++i) {
    const std::size_t at = running_[i];
    pair(at).read_positions(positions[2 * at], positions[2 * at + 1]);
  }
  return positions;
}

bool GuestQueues::broken() const noexcept {
  if (!several()) return first_.broken();
  return std::any_of(running_.begin(), running_.begin() + running_count_,
                     [this](PairIndex i) { return pair(i).broken(); });
}

std::size_t GuestQueues::take_in_turn(Burst& burst) noexcept {
  for (std::size_t asked = 0; asked < running_count_; ++asked) {
    taken_turn_ = turn_;
    turn_ = static_cast<std::uint8_t>(turn_ + 1 < running_count_ ? turn_ + 1 : 0);
    taken_count_ = pair(running_[taken_turn_]).take(burst);
    if (taken_count_ != 0) return taken_count_;
  }
  return 0;
}

void GuestQueues::give_back_in_turn(std::size_t count) noexcept {
  const std::size_t from = running_[taken_turn_];
  pair(from).give_back(count);
  touch(from);
  if (count < taken_count_) turn_ = taken_turn_;  // the first of them may be a piece that has left in part
}

Puts GuestQueues::keep(std::size_t pair, Puts puts, std::span<const Frame> frames, VnicBuffer& waiting) noexcept {
  puts.ring_full -= waiting.keep(pair, frames.last(puts.ring_full), monotonic_ns());
  return puts;
}

Puts GuestQueues::put_to(std::size_t at, std::span<const Frame> frames, VnicBuffer& waiting) noexcept {
  touch(at);
  const Puts puts = waiting.empty(at) ? pair(at).put(frames) : Puts{.ring_full = frames.size()};
  return puts.ring_full == 0 ? puts : keep(at, puts, frames, waiting);
}

std::size_t GuestQueues::ring_for(std::size_t at) const noexcept {
  return !several() ? 0 : pair(at).receives() ? at : receiving_[0];
}

std::uint8_t GuestQueues::receiving_pairs() const noexcept {
  unsigned pairs = 0;
  for (std::size_t i = 0; i < receiving_count_; ++i) pairs |= 1U << receiving_[i];
  return static_cast<std::uint8_t>(pairs);
}

Puts GuestQueues::drain(VnicBuffer& waiting, std::size_t& too_old) noexcept {
  constexpr std::size_t bursts_max = 8;
  Puts sum;
  too_old = 0;
  for (std::size_t at = 0; at < queue_pairs_max && !waiting.empty(); ++at) {
    for (std::size_t burst = 0; burst < bursts_max && !waiting.empty(at); ++burst) {
      const std::uint64_t now_ns = monotonic_ns();
      std::size_t old = 0;
      const auto frames = waiting.peek(at, now_ns, old);
      too_old += old;
      const std::size_t ring = ring_for(at);
      touch(ring);
      const Puts puts = pair(ring).put(frames);
      waiting.pop(at, frames.size() - puts.ring_full, now_ns);
      add(sum, puts);
      if (puts.ring_full != 0) break;
    }
  }
  return sum;
}

bool GuestQueues::enable_room_kicks(const VnicBuffer& waiting) noexcept {
  bool work = false;
  for (std::size_t at = 0; at < queue_pairs_max; ++at) {
    if (!waiting.empty(at)) work = pair(ring_for(at)).enable_room_kicks() || work;
  }
  return work;
}

Puts GuestQueues::put_by_flow(std::span<const Frame> frames, VnicBuffer& waiting) noexcept {
  Puts puts;
  if (receiving_count_ == 0) {
    puts.ring_full = frames.size();
    return puts;
  }
  while (!frames.empty()) {
    const auto part = frames.first(std::min(frames.size(), burst_max));
    put_spread(part, waiting, puts);
    frames = frames.subspan(part.size());
  }
  return puts;
}

void GuestQueues::put_spread(std::span<const Frame> frames, VnicBuffer& waiting, Puts& puts) noexcept {
  std::array<std::uint8_t, burst_max> share;
  std::array<std::size_t, queue_pairs_max> counts{};
  for (std::size_t i = 0; i < frames.size(); ++i) {
    share[i] = receiving_count_ == 1 ? std::uint8_t{0}
                                     : static_cast<std::uint8_t>(share_of(flow_of(frames[i]), receiving_count_));
    ++counts[share[i]];
  }
  for (std::size_t to = 0; to < receiving_count_; ++to) {
    if (counts[to] == 0) continue;
    if (counts[to] == frames.size()) return add(puts, put_to(receiving_[to], frames, waiting));
    std::size_t count = 0;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      if (share[i] == to) more_->sorted[count++] = frames[i];
    }
    add(puts, put_to(receiving_[to], std::span(more_->sorted).first(count), waiting));
  }
}

}  // namespace patchbay::dataplane
