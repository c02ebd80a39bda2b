// All virtqueues of a connected guest: one queue pair, or several.
//
// Theory  What comes from the guest is taken from its pairs in turn, a burst a turn; a burst that could not go on whole
//         comes again first. What goes to it is spread over the pairs whose receive ring runs, by flow (flow.h), so that
//         the frames of a flow stay in one ring, in order. Which pairs run never changes here: when the guest switches one
//         on or off it gets new queues, and flows may move to another ring at that moment.
//         What a receive ring has no room for waits in the vnic's buffer, in order, and goes first when there is room.
//         A guest with one pair pays nothing for the others: everything goes straight to the first.
// Limits  queue_pairs_max pairs. Uplinks hold back the whole vnic, not a queue of it.
// Threads The worker that owns the vnic.
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "dataplane/buffer/vnic_buffer.h"
#include "dataplane/virtqueue/queue_pair.h"

namespace patchbay::dataplane {

class GuestQueues {
 public:
  // Rings that are not complete are left out: they move nothing. `records` outlives the queues; null: nothing of packed
  // rings is kept. Errors: as QueuePair::create().
  [[nodiscard]] static Result<std::unique_ptr<GuestQueues>> create(const GuestLink& link,
                                                                   RingRecords* records = nullptr);

  // As those of QueuePair, for all pairs.
  void catch_up() noexcept;
  void take_over(const GuestQueues& old) noexcept;
  [[nodiscard]] std::size_t take(Burst& burst) noexcept { return several() ? take_in_turn(burst) : first_.take(burst); }
  void give_back(std::size_t count) noexcept {
    if (several()) return give_back_in_turn(count);
    first_.give_back(count);
  }
  [[nodiscard]] bool waiting() noexcept {
    bool any = false;
    each_running([&](QueuePair& pair) { any = any || pair.waiting(); });
    return any;
  }
  [[nodiscard]] Offloads takes() const noexcept { return first_.takes(); }
  // What the ring of its pair has no room for, and what follows it there, goes to `waiting`; Puts::ring_full counts those
  // that found no room there either.
  [[nodiscard]] Puts put(std::span<const Frame> frames, VnicBuffer& waiting) noexcept {
    if (several()) return put_by_flow(frames, waiting);
    const Puts puts = waiting.empty() ? first_.put(frames) : Puts{.ring_full = frames.size()};
    return puts.ring_full == 0 ? puts : keep(0, puts, frames, waiting);
  }
  // Frames of `waiting` for which there is room now, some bursts of each pair; `too_old`: those that were dropped instead.
  [[nodiscard]] Puts drain(VnicBuffer& waiting, std::size_t& too_old) noexcept;
  void show_deliveries() noexcept {
    each_touched([](QueuePair& pair) { pair.show_deliveries(); });
  }
  void show_returns() noexcept {
    each_touched([](QueuePair& pair) { pair.show_returns(); });
  }
  void call(CallSignal& calls) noexcept {
    each_touched([&](QueuePair& pair) { pair.call(calls); });
    touched_ = 0;
  }
  void publish(CallSignal& calls) noexcept {
    show_deliveries();
    show_returns();
    std::atomic_thread_fence(std::memory_order_seq_cst);
    call(calls);
  }
  void prefetch() const noexcept {
    if (!several()) return first_.prefetch();
    for (std::size_t i = 0; i < running_count_; ++i) pair(running_[i]).prefetch();
  }
  [[nodiscard]] bool greeting_due() const noexcept { return first_.greeting_due(); }
  [[nodiscard]] bool enable_kicks() noexcept {
    bool work = false;
    each_running([&](QueuePair& pair) { work = pair.enable_kicks() || work; });
    return work;
  }
  void disable_kicks() noexcept {
    each_running([](QueuePair& pair) { pair.disable_kicks(); });
  }
  // The same for receive rings whose frames wait in `waiting`. True: there is more room than they found.
  [[nodiscard]] bool enable_room_kicks(const VnicBuffer& waiting) noexcept;
  void disable_room_kicks() noexcept {
    each_running([](QueuePair& pair) { pair.disable_room_kicks(); });
  }
  [[nodiscard]] bool broken() const noexcept;
  [[nodiscard]] bool memory_lost() const noexcept { return first_.memory_lost(); }
  // A ring that put() writes to is there.
  [[nodiscard]] bool receives() const noexcept { return several() ? receiving_count_ != 0 : first_.receives(); }
  // Pairs with such a ring, a bit for each.
  [[nodiscard]] std::uint8_t receiving_pairs() const noexcept;
  [[nodiscard]] RingPositions positions() const noexcept;

 private:
  using PairIndex = std::uint8_t;
  using PairMask = std::uint8_t;
  static_assert(queue_pairs_max <= 8, "PairMask has a bit for each");

  GuestQueues() = default;
  [[nodiscard]] bool several() const noexcept { return more_ != nullptr; }
  [[nodiscard]] QueuePair& pair(std::size_t i) noexcept { return i == 0 ? first_ : more_->pairs[i - 1]; }
  [[nodiscard]] const QueuePair& pair(std::size_t i) const noexcept { return i == 0 ? first_ : more_->pairs[i - 1]; }
  template <typename What>
  void each_running(What what) noexcept {
    if (!several()) return what(first_);
    for (std::size_t i = 0; i < running_count_; ++i) what(pair(running_[i]));
  }
  // Of several pairs, those that this pass had to do with.
  template <typename What>
  void each_touched(What what) noexcept {
    if (!several()) return what(first_);
    for (auto left = touched_; left != 0; left = static_cast<PairMask>(left & (left - 1))) {
      what(pair(static_cast<std::size_t>(std::countr_zero(left))));
    }
  }
  void touch(std::size_t i) noexcept { touched_ = static_cast<PairMask>(touched_ | 1U << i); }
  [[nodiscard]] std::size_t take_in_turn(Burst& burst) noexcept;
  void give_back_in_turn(std::size_t count) noexcept;
  // The last frames of `frames`, which `puts` says did not fit.
  [[nodiscard]] static Puts keep(std::size_t pair, Puts puts, std::span<const Frame> frames,
                                 VnicBuffer& waiting) noexcept;
  [[nodiscard]] Puts put_to(std::size_t pair, std::span<const Frame> frames, VnicBuffer& waiting) noexcept;
  [[nodiscard]] Puts put_by_flow(std::span<const Frame> frames, VnicBuffer& waiting) noexcept;
  // At most burst_max frames.
  void put_spread(std::span<const Frame> frames, VnicBuffer& waiting, Puts& puts) noexcept;
  // Whose ring what waits for `pair` goes to: its own, if that runs.
  [[nodiscard]] std::size_t ring_for(std::size_t pair) const noexcept;

  // What a guest with one pair does without.
  struct More {
    std::array<QueuePair, queue_pairs_max - 1> pairs;
    std::array<Frame, burst_max> sorted;  // frames for one pair
  };

  std::unique_ptr<More> more_;  // null: only the first pair runs
  PairMask touched_ = 0;
  std::uint8_t running_count_ = 0;
  std::uint8_t receiving_count_ = 0;
  std::uint8_t turn_ = 0;        // place in running_ of the pair that is asked first
  std::uint8_t taken_turn_ = 0;  // of the last take()
  std::size_t taken_count_ = 0;
  std::array<PairIndex, queue_pairs_max> running_{};    // pairs that have a ring
  std::array<PairIndex, queue_pairs_max> receiving_{};  // those of them that have a receive ring
  QueuePair first_;
  RingPositions given_{};                     // by the link
  std::unique_ptr<RingRecords> own_records_;  // of nobody else's interest
};

}  // namespace patchbay::dataplane
