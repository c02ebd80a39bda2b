// Frames between workers: lent to the one that owns the way out, and given back.
#include <algorithm>
#include <utility>

#include "dataplane/forwarding/forward.h"
#include "dataplane/worker/worker.h"

namespace patchbay::dataplane {

using forwarding::PortIndex;

// ---- The lender -----------------------------------------------------------------------------------------------------

std::size_t Worker::lend(const Snapshot& snapshot, Port& from, PortIndex target, std::span<const Frame> frames,
                         bool first) noexcept {
  const Snapshot::Entry& egress = snapshot.entries[target];
  Lane& lane = *peers_[egress.worker].to;
  const std::size_t count = std::min<std::size_t>(frames.size(), lane.room(frames.size()));
  if (count == 0) return 0;
  for (const Frame& frame : frames.first(count)) {
    Parcel& parcel = lane.pack(frame, from);
    parcel.to = egress.port;
    if (std::exchange(first, false)) parcel.cut_sent = from.cut_sent;
  }
  lent_ += count;
  posted_ |= std::uint64_t{1} << egress.worker;
  from.loan.out.fetch_add(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
  lane.post();
  return count;
}

void Worker::lend_flood(const Snapshot& snapshot, std::uint32_t switch_index, Port& from, const Frame& frame,
                        std::uint64_t workers) noexcept {
  posted_ |= workers;
  for (; workers != 0; workers &= workers - 1) {
    Lane& lane = *peers_[static_cast<std::size_t>(__builtin_ctzll(workers))].to;
    Parcel& parcel = lane.pack(frame, from);
    parcel.snapshot = &snapshot;
    parcel.switch_index = switch_index;
    ++lent_;
    from.loan.out.fetch_add(1, std::memory_order_relaxed);
    lane.post();
  }
}

bool Worker::lent_is_back(const Port& port) const noexcept {
  return port.loan.out.load(std::memory_order_acquire) == 0;
}

bool Worker::take_back(Port& port) noexcept {
  if (!lent_is_back(port)) return false;
  note(port);
  port.stalled = settle_loan(port) != 0;
  return true;
}

// ---- Who it was lent to ---------------------------------------------------------------------------------------------

std::size_t Worker::deliver_lent() noexcept {
  std::size_t frames = 0;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i].from == nullptr) continue;
    Lane& lane = *peers_[i].from;
    const std::uint32_t waiting = lane.waiting();
    for (std::uint32_t at = 0; at < waiting;) {
      Parcel& parcel = lane.at(at);
      if (parcel.to == nullptr) {
        deliver_flood(parcel);
        ++at;
      } else {
        at += deliver_run(lane, at, waiting);
      }
    }
    delivered_[i] = waiting;
    frames += waiting;
  }
  return frames;
}

// The parcels from `at` on that have one way, at most burst_max. What an uplink refuses goes back at once.
std::uint32_t Worker::deliver_run(Lane& lane, std::uint32_t at, std::uint32_t waiting) noexcept {
  Port& to = *lane.at(at).to;
  const Port* const from = lane.at(at).from;
  std::uint32_t count = 0;
  for (; count < burst_max && at + count < waiting; ++count) {
    const Parcel& parcel = lane.at(at + count);
    if (parcel.to != &to || parcel.from != from) break;
    lent_frames_[count] = parcel.frame;
  }
  note(to);
  std::size_t sent = 0;
  std::uint32_t cut_sent = lane.at(at).cut_sent;
  // Behind a frame that it refused it takes none in this pass: they would overtake it.
  if (!to.congested.load(std::memory_order_relaxed)) {
    sent = finish_and_send(to, std::span(lent_frames_).first(count), cut_sent, true);
  }
  if (sent == count) return count;
  to.congested.store(true, std::memory_order_relaxed);
  Loan& loan = lane.at(at).from->loan;
  std::uint64_t bytes = 0;
  for (std::size_t i = sent; i < count; ++i) bytes += lent_frames_[i].size;
  loan.refused_bytes.fetch_add(bytes, std::memory_order_relaxed);
  // The first of the burst's frames that was refused; later runs of the same burst are behind it.
  if (loan.refused.fetch_add(count - static_cast<std::uint32_t>(sent), std::memory_order_relaxed) == 0) {
    loan.refused_cut.store(cut_sent, std::memory_order_relaxed);
  }
  return count;
}

void Worker::deliver_flood(Parcel& parcel) noexcept {
  const Snapshot& snapshot = *parcel.snapshot;
  for_each_member(snapshot.switches[parcel.switch_index], parcel.frame, [&](PortIndex member) {
    const Snapshot::Entry& entry = snapshot.entries[member];
    if (entry.worker == config_.id && entry.port != parcel.from) {
      static_cast<void>(send_copy(snapshot, member, parcel.frame));
    }
  });
}

// What was delivered can be seen now.
void Worker::give_back_lent() noexcept {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const std::uint32_t count = std::exchange(delivered_[i], 0);
    if (count == 0) continue;
    Lane& lane = *peers_[i].from;
    std::uint32_t run = 0;
    for (std::uint32_t at = 0; at < count; ++at) {
      Port* const from = lane.at(at).from;
      ++run;
      if (at + 1 < count && lane.at(at + 1).from == from) continue;
      from->loan.out.fetch_sub(std::exchange(run, 0), std::memory_order_release);
    }
    lane.release(count);
    posted_ |= std::uint64_t{1} << i;
  }
}

void Worker::look_for_room(const Snapshot& snapshot) noexcept {
  for (const PortIndex index : snapshot.owned[config_.id]) {
    Port& port = *snapshot.entries[index].port;
    if (!port.congested.load(std::memory_order_relaxed)) continue;
    if (port.full()) {
      held_up_ = true;
      continue;
    }
    port.congested.store(false, std::memory_order_relaxed);
    for (std::size_t i = 0; i < peers_.size(); ++i) posted_ |= std::uint64_t{i != config_.id} << i;
  }
}

// Those that sleep say so first and look for work then; we have given them work and look then.
void Worker::wake_peers() noexcept {
  for (std::uint64_t left = std::exchange(posted_, 0); left != 0; left &= left - 1) {
    peers_[static_cast<std::size_t>(__builtin_ctzll(left))].worker->nudge();
  }
}

void Worker::nudge() noexcept {
  if (sleeping_.load(std::memory_order_relaxed) && sleeping_.exchange(false, std::memory_order_acq_rel)) wake();
}

}  // namespace patchbay::dataplane
