// A guest's vnic: frames come from and go into the rings that the guest shares.
//
// Theory  While a guest is connected its queues are exchanged between two passes: control offers new ones, the worker
//         takes them when nothing of the old ones is in its hands. So no frame finds the guest
//         gone because memory was added to it.
//         An announcement (RARP) that control asked for comes in before what waits in the ring, as a burst of its own.
//         A port may be told, when it is opened, to expect() its guest. Until that has come for the first time, frames of
//         guests that themselves came only just now wait for it in their senders' rings, each sender `patience` at most.
//         What a connected guest's rings have no room for waits in the vnic's buffer (VnicBuffer). So does what is sent to a
//         guest that received and does not for now: its virtual machine is paused, or its front-end comes back at once.
//         Control ends that, by give_up(), or by forget_waiting() when the guest that comes is not the one that went.
// States  without queues (nobody connected: frames for it are dropped as not_connected, or wait) <-> connected -> faulted
//         (its ring is broken or its memory gone; moves nothing until control has disconnected it).
// Threads connect() to buffer(): control; disconnect() is followed by a grace period before the queues are freed.
// Source  RFC 903 (RARP); its request for the sender's own address is what hypervisors announce a guest with.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>

#include "base/mac_addr.h"
#include "dataplane/ports/port.h"
#include "dataplane/virtqueue/guest_queues.h"

namespace patchbay::dataplane {

// Descriptors by which a guest wakes us: one a ring; -1: none.
class Kicks {
 public:
  Kicks(int first = -1) noexcept {
    fds_.fill(-1);
    fds_[0] = first;
  }
  // Of the rings that run.
  [[nodiscard]] static Kicks of(const GuestLink& link) noexcept;

  [[nodiscard]] bool has(int fd) const noexcept { return std::find(fds_.begin(), fds_.end(), fd) != fds_.end(); }
  [[nodiscard]] auto begin() const noexcept { return fds_.begin(); }
  [[nodiscard]] auto end() const noexcept { return fds_.end(); }

 private:
  std::array<int, guest_rings_max> fds_;
};

class GuestPort final : public Port {
 public:
  // `pool`: where the memory for frames that wait comes from; null: none wait.
  GuestPort(PortId id, int fault_event_fd, BlockPool* pool = nullptr) noexcept
      : Port(id, fault_event_fd), pool_(pool), waiting_(pool) {}

  // Before the first connect(): a guest is expected here, and when it comes it is patient for so long.
  void expect(std::chrono::milliseconds patience) noexcept;
  // Starts to use `queues`, which the caller keeps, woken by `kicks`. False: the kernel does not let us watch those
  // descriptors, and nothing was started.
  [[nodiscard]] bool connect(GuestQueues* queues, const Kicks& kicks) noexcept;
  // Stops to use them; the worker may still, until a grace period has passed. Null if not connected.
  [[nodiscard]] GuestQueues* disconnect() noexcept;
  // Connected only: the worker is to go on with `queues`, woken by `kicks`, as soon as it can. False: as connect().
  [[nodiscard]] bool offer(GuestQueues* queues, const Kicks& kicks) noexcept;
  // Waits for the worker (which the caller has woken) to take what was offered; nothing of the old queues is used then.
  void wait_until_taken() noexcept;
  // One RARP broadcast from `source` is to come in.
  void announce(MacAddr source) noexcept;
  // After that grace period: whatever was wrong with the queues is gone with them.
  void forget_fault() noexcept { clear_fault(); }
  // No worker has this port. What was received of it last will never be complete().
  void abandon() noexcept;
  // The frames that wait are dropped (buffer_reset) before any other is delivered.
  void forget_waiting() noexcept { forget_.store(true, std::memory_order_release); }
  // The same; and nothing waits any more for a guest that does not receive, until it has received again.
  void give_up() noexcept;
  [[nodiscard]] VnicBuffer& buffer() noexcept { return waiting_; }
  [[nodiscard]] const VnicBuffer& buffer() const noexcept { return waiting_; }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] std::size_t drain() noexcept override;
  [[nodiscard]] Offloads takes() const noexcept override;
  void prepare() noexcept override;
  [[nodiscard]] bool greets() const noexcept override { return touched_ != nullptr; }
  void flush() noexcept override;
  void settle() noexcept override;
  void notify(CallSignal& calls) noexcept override;
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void woke() noexcept override;
  [[nodiscard]] bool is_patient() noexcept override;
  [[nodiscard]] bool is_expected() const noexcept override { return expected_.load(std::memory_order_acquire); }
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;

 private:
  [[nodiscard]] GuestQueues* usable() const noexcept;
  void check(const GuestQueues& queues) noexcept;
  void begin_patience() noexcept;
  void note_arrival() noexcept;  // if the guest can be reached now it is not expected any more
  void take_offered() noexcept;
  void use(GuestQueues* queues) noexcept;
  void count(const Puts& puts) noexcept;
  // For a guest that does not receive: they wait, or are dropped.
  void put_aside(std::span<const Frame> frames) noexcept;
  void forget_if_told() noexcept;
  void forget() noexcept;
  void note_waiting() noexcept;
  [[nodiscard]] std::size_t receive_announcement(Burst& burst, std::uint64_t slot) noexcept;
  void complete_announcement(std::uint64_t announced) noexcept;
  // Watches those of `kicks` that are not in `watched`. False: none of them is.
  [[nodiscard]] bool watch_kicks(const Kicks& kicks, const Kicks& watched) const noexcept;
  // Of `kicks` those that are not in `wanted` are watched no longer.
  void forget_kicks(const Kicks& kicks, const Kicks& wanted) const noexcept;

  std::atomic<GuestQueues*> queues_ = nullptr;
  std::atomic<bool> forget_ = false;             // control sets it, the worker takes it away
  std::atomic<GuestQueues*> offered_ = nullptr;  // control sets it, the worker takes it away
  // Pairs with a receive ring, a bit for each, when there were some last; 0: frames do not wait for the guest.
  std::atomic<std::uint8_t> receiving_pairs_ = 0;
  std::atomic<bool> expected_ = false;               // control's; the worker reads it
  std::atomic<std::uint64_t> patient_until_ns_ = 0;  // monotonic; control sets it once, the worker takes it away
  std::chrono::milliseconds patience_{0};            // control's
  // Low 48 bits: the address to announce; above: how often. Control adds, the worker takes away.
  std::atomic<std::uint64_t> announcements_ = 0;
  std::uint64_t announcing_ = 0;      // the worker's, between receive() and complete(): the slot that was received
  GuestQueues* receiving_ = nullptr;  // the worker's, between receive() and complete()
  GuestQueues* touched_ = nullptr;    // the worker's, until notify()
  BlockPool* const pool_;
  VnicBuffer waiting_;
  int epoll_fd_ = -1;  // control's
  Kicks kicks_;        // control's
  Kicks old_kicks_;    // control's, between offer() and wait_until_taken()
};

}  // namespace patchbay::dataplane
