// Two rings of a connected guest: frames out of a transmit ring, frames into a receive ring.
//
// Theory  take() copies the first bytes of each frame to private memory, where all decisions are made, and notes where
//         the rest lies; the chains stay the guest's until give_back(), so that frames that cannot go on wait in the
//         ring they came in. put() writes a frame's head and then its rest straight into the receiver's buffers: the
//         only copy the rest ever sees. Whether rings are split or packed is asked once a burst: what works on them is
//         written once, for both kinds.
//         What the guest's cores wrote last is far away, so each step asks for what the next one needs, for the whole
//         burst, before it goes on: many lines then come at once, and not one after the other.
//         The virtio-net header in front of a frame is read once, too, and only what the frame itself agrees to is taken
//         over (offload/needs.h); put() writes one that says what is still to be done.
// Limits  burst_max frames a take(); segments_max descriptors a chain; segments_max receive descriptors a frame.
// Threads The worker that owns the vnic.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <variant>

#include "base/result.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"
#include "dataplane/virtqueue/call_signal.h"
#include "dataplane/virtqueue/packed_ring.h"
#include "dataplane/virtqueue/ring_record.h"
#include "dataplane/virtqueue/split_ring.h"

namespace patchbay::dataplane {

enum class Put : std::uint8_t { delivered, ring_full, bad_buffer };

// What became of a burst.
struct Puts {
  std::size_t delivered = 0;
  std::uint64_t bytes = 0;    // of those
  std::size_t ring_full = 0;  // the last ones
  std::size_t bad_buffer = 0;
};

// A virtqueue of either kind; gone if it is not complete.
class Ring {
 public:
  Ring() = default;
  explicit Ring(SplitRing ring) : kind_(ring) {}
  explicit Ring(PackedRing ring) : kind_(ring) {}

  explicit operator bool() const noexcept { return kind_.index() != 0; }
  // What `what` gives, called with the ring, which is there.
  template <typename What>
  decltype(auto) with(What&& what) noexcept {
    if (auto* const packed = std::get_if<PackedRing>(&kind_)) return what(*packed);
    return what(*std::get_if<SplitRing>(&kind_));
  }
  template <typename What>
  decltype(auto) with(What&& what) const noexcept {
    if (const auto* const packed = std::get_if<PackedRing>(&kind_)) return what(*packed);
    return what(*std::get_if<SplitRing>(&kind_));
  }
  // Before first use. `old` drove the same ring until now; it may be gone, or of another kind.
  void take_over(const Ring& old) noexcept;

 private:
  std::variant<std::monostate, SplitRing, PackedRing> kind_;
};

class QueuePair {
 public:
  // Without rings; to be replaced by one that create() made.
  QueuePair() = default;
  // Pair `pair` (less than queue_pairs_max) of the link. A ring that is not complete is left out: it moves nothing.
  // `records` outlives the pair; it may be null for split rings.
  // Errors: as SplitRing::create() and PackedRing::create(), naming the ring.
  [[nodiscard]] static Result<QueuePair> create(const GuestLink& link, std::size_t pair, RingRecords* records);
  // Whether create() would take the ring.
  [[nodiscard]] static bool is_complete(const Vring& ring) noexcept {
    return ring.size != 0 && ring.enabled && ring.kick_fd >= 0 && ring.desc_address != 0;
  }

  // Before first use: goes on where the rings are.
  void catch_up() noexcept;
  // The same, if `old`, the same pair of the same guest, ran until now.
  void take_over(const QueuePair& old) noexcept;

  // Fills `burst` with the frames that wait; frames that are no frames come with Action::drop. 0 if there are none.
  [[nodiscard]] std::size_t take(Burst& burst) noexcept;
  // The first `count` frames of the last take() are done with.
  void give_back(std::size_t count) noexcept;
  // Frames wait that take() would give.
  [[nodiscard]] bool waiting() noexcept {
    return from_guest_ && from_guest_.with([](auto& ring) { return ring.available() != 0; });
  }

  // What the guest does by itself with frames that need it. put() must be given no frame that needs more.
  [[nodiscard]] Offloads takes() const noexcept { return takes_; }
  // Writes `frames`, in order, into the guest's next receive buffers. Puts::ring_full: after the first one that there is no
  // room for none is tried.
  [[nodiscard]] Puts put(std::span<const Frame> frames) noexcept;
  // Show the guest what put() did, and what give_back() did. Returns last, after the deliveries to all guests: a frame
  // that its sender got back has been seen by its receiver, whenever we end.
  void show_deliveries() noexcept;
  void show_returns() noexcept;
  // After these and a full fence: calls the guest where it asked for that.
  void call(CallSignal& calls) noexcept;
  // Hint: take() is about to be called.
  void prefetch() const noexcept {
    if (from_guest_) from_guest_.with([](const auto& ring) { ring.prefetch_index(); });
  }
  // call() has not run yet: it will call the guest whatever it asked for, for the last back-end may have died after it
  // showed something and before it called.
  [[nodiscard]] bool greeting_due() const noexcept { return greeting_due_; }

  // Asks for kicks of the transmit ring. True: there is work already.
  [[nodiscard]] bool enable_kicks() noexcept {
    return from_guest_ && from_guest_.with([](auto& ring) { return ring.enable_kicks(); });
  }
  void disable_kicks() noexcept {
    if (from_guest_) from_guest_.with([](auto& ring) { ring.disable_kicks(); });
  }
  // The same of the receive ring, after put() found it full: true if there is more room than it found.
  [[nodiscard]] bool enable_room_kicks() noexcept;
  void disable_room_kicks() noexcept {
    if (to_guest_) to_guest_.with([](auto& ring) { ring.disable_kicks(); });
  }

  [[nodiscard]] bool broken() const noexcept { return is_broken(from_guest_) || is_broken(to_guest_); }
  [[nodiscard]] bool memory_lost() const noexcept { return memory_->lost(); }
  // The ring that put() writes to is there.
  [[nodiscard]] bool receives() const noexcept { return static_cast<bool>(to_guest_); }
  // As GET_VRING_BASE answers them; of a ring that was left out, what stands there stays.
  void read_positions(std::uint32_t& to_guest, std::uint32_t& from_guest) const noexcept;

 private:
  [[nodiscard]] static bool is_broken(const Ring& ring) noexcept {
    return ring && ring.with([](const auto& kind) { return kind.broken(); });
  }
  template <typename Kind>
  [[nodiscard]] std::size_t take_from(Kind& ring, Burst& burst) noexcept;
  template <typename Kind>
  [[nodiscard]] Puts put_into(Kind& ring, std::span<const Frame> frames) noexcept;
  // Those of the first frames that get one buffer each; the next one does not.
  template <typename Kind>
  [[nodiscard]] std::size_t put_each(Kind& ring, std::span<const Frame> frames, Puts& puts) noexcept;
  template <typename Kind>
  [[nodiscard]] Put put_spread(Kind& ring, const Frame& frame) noexcept;
  // `segments`: the chain's, `count` of them; 0: it is of no use. Takes away what is in the head from them.
  void take_one(Frame& frame, std::uint8_t* head, Segment* segments, std::size_t count) noexcept;
  void take_any(Frame& frame, Segment* segments, std::size_t count) const noexcept;
  // `header_bytes`: the virtio-net header, zeros where there is none.
  using HeaderBytes = std::array<std::uint8_t, vnet_header_size>;
  void judge(Frame& frame, const HeaderBytes& header_bytes) const noexcept;
  [[nodiscard]] std::uint64_t size_with(const Frame& frame) const noexcept { return header_size_ + tagged_size(frame); }
  // Receive chains for `needed` bytes, noted in segments_ and chains_.
  template <typename Kind>
  [[nodiscard]] Put gather(Kind& ring, std::uint64_t needed) noexcept;
  // The chains that the last gather() noted; what it found if these are all there are.
  [[nodiscard]] ChainSpan gathered() const noexcept;
  [[nodiscard]] Put no_more_chains(std::uint32_t ring_size) const noexcept;
  void write_spread(const Frame& frame) noexcept;
  void write_whole(const Frame& frame, std::uint8_t* to) const noexcept;

  struct ReceiveChain {
    ChainId id;
    std::uint64_t size_bytes;
  };

  std::shared_ptr<const GuestMemory> memory_;
  Ring to_guest_;
  Ring from_guest_;
  int call_to_guest_ = -1;
  int call_from_guest_ = -1;
  std::uint32_t header_size_ = 0;  // of the virtio-net header in front of each frame
  Offloads asks_ = 0;              // what the guest may leave to us
  Offloads takes_ = 0;
  bool mergeable_ = false;
  bool greeting_due_ = true;
  std::array<ChainId, burst_max> taken_{};  // by the last take()
  std::array<Segment, segments_max> segments_{};
  std::array<ReceiveChain, segments_max> chains_{};
  std::size_t segment_count_ = 0;
  std::size_t chain_count_ = 0;
};

}  // namespace patchbay::dataplane
