// The two rings of a connected guest: frames out of the guest's transmit ring, frames into its receive ring.
//
// Theory  take() copies the first bytes of each frame to private memory, where all decisions are made, and notes where
//         the rest lies; the chains stay the guest's until give_back(), so that frames that cannot go on wait in the
//         ring they came in. put() writes a frame's head and then its rest straight into the receiver's buffers: the
//         only copy the rest ever sees.
// Limits  burst_max frames a take(); segments_max descriptors a chain; segments_max receive descriptors a frame.
// Threads The worker that owns the vnic.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"
#include "dataplane/virtqueue/call_signal.h"
#include "dataplane/virtqueue/split_ring.h"

namespace patchbay::dataplane {

enum class Put : std::uint8_t { delivered, ring_full, bad_buffer };

class GuestQueues {
 public:
  // Rings that are not complete are left out: they move nothing. Errors: as SplitRing::create(), naming the ring.
  [[nodiscard]] static Result<std::unique_ptr<GuestQueues>> create(const GuestLink& link);

  // Before first use, if other queues of the same guest ran until now: goes on where they stopped.
  void catch_up() noexcept {
    if (to_guest_) to_guest_->catch_up();
    if (from_guest_) from_guest_->catch_up();
  }

  // Fills `burst` with the frames that wait; frames that are no frames come with Action::drop. 0 if there are none.
  [[nodiscard]] std::size_t take(Burst& burst) noexcept;
  // The first `count` frames of the last take() are done with.
  void give_back(std::size_t count) noexcept;
  // Frames wait that take() would give.
  [[nodiscard]] bool waiting() noexcept { return from_guest_ && from_guest_->available() != 0; }

  // Writes `frame` into the guest's next receive buffers.
  [[nodiscard]] Put put(const Frame& frame) noexcept;
  // Shows the guest what give_back() and put() did, and calls it where it asked for that.
  void publish(CallSignal& calls) noexcept;
  // publish() has not run yet: it will call the guest whatever it asked for, for the last back-end may have died after
  // it showed something and before it called.
  [[nodiscard]] bool greeting_due() const noexcept { return greeting_due_; }

  // Asks for kicks of the transmit ring. True: there is work already.
  [[nodiscard]] bool enable_kicks() noexcept { return from_guest_ && from_guest_->enable_kicks(); }
  void disable_kicks() noexcept {
    if (from_guest_) from_guest_->disable_kicks();
  }

  [[nodiscard]] bool broken() const noexcept {
    return (from_guest_ && from_guest_->broken()) || (to_guest_ && to_guest_->broken());
  }
  [[nodiscard]] bool memory_lost() const noexcept { return memory_->lost(); }
  // The ring that put() writes to is there.
  [[nodiscard]] bool receives() const noexcept { return to_guest_.has_value(); }
  [[nodiscard]] std::array<std::uint16_t, guest_queues> next_avail() const noexcept { return next_avail_of(); }

 private:
  GuestQueues() = default;
  [[nodiscard]] std::array<std::uint16_t, guest_queues> next_avail_of() const noexcept;
  void take_one(Frame& frame, std::array<std::uint8_t, head_size_max>& head, std::span<Segment> segments,
                const Chain& chain) noexcept;
  // Receive chains for `needed` bytes, noted in segments_ and chains_.
  [[nodiscard]] Put gather(std::uint64_t needed) noexcept;
  void write(const Frame& frame) noexcept;

  struct ReceiveChain {
    std::uint16_t id;
    std::uint64_t size_bytes;
  };

  std::shared_ptr<const GuestMemory> memory_;
  std::optional<SplitRing> to_guest_;
  std::optional<SplitRing> from_guest_;
  std::array<std::uint16_t, guest_queues> base_{};  // of rings that are left out: as the front-end gave them
  int call_to_guest_ = -1;
  int call_from_guest_ = -1;
  std::uint32_t header_size_ = 0;  // of the virtio-net header in front of each frame
  bool mergeable_ = false;
  bool greeting_due_ = true;
  std::array<std::uint16_t, burst_max> taken_{};  // chain ids of the last take()
  std::array<Segment, segments_max> segments_{};
  std::array<ReceiveChain, segments_max> chains_{};
  std::size_t segment_count_ = 0;
  std::size_t chain_count_ = 0;
};

}  // namespace patchbay::dataplane
