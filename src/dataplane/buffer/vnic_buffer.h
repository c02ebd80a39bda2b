// What waits for one guest: frames that its receive rings had no room for.
//
// Theory  One FIFO for each queue pair, so that a pair that stands still holds nobody else up; they share the vnic's limit.
//         The limit counts bytes of frames, as counters do; a frame shorter than Ethernet allows counts as the shortest one.
//         A stall lasts from the first frame that has to wait until none waits. What it would have taken to hold all that
//         came in it, dropped frames included, is its demand; the worst stall is kept, for advice.
//         `grows`: the limit starts at grow_from, doubles when a frame would be dropped, up to what was configured, and is
//         halved after a stall that half of it would have held, if a minute has gone without one that needed more.
// States  empty <-> stalled.
// Limits  queue_pairs_max pairs, and what the pool has.
// Threads configure(), state(), frames(): control. The rest: the worker that owns the port.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "base/counter.h"
#include "dataplane/buffer/frame_fifo.h"
#include "dataplane/buffer/wait_histogram.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

class VnicBuffer {
 public:
  static constexpr std::uint64_t grow_from = 1 << 20;
  static constexpr std::uint32_t frame_bytes_min = 60;

  // Without a pool nothing is ever kept.
  explicit VnicBuffer(BlockPool* pool) noexcept : pool_(pool) {}
  ~VnicBuffer();
  VnicBuffer(const VnicBuffer&) = delete;
  VnicBuffer& operator=(const VnicBuffer&) = delete;

  void configure(const BufferConfig& config) noexcept;
  [[nodiscard]] BufferState state() const noexcept;
  [[nodiscard]] std::uint64_t frames() const noexcept { return shown_frames_.get(); }

  [[nodiscard]] bool empty() const noexcept { return waiting_ == 0; }
  [[nodiscard]] bool empty(std::size_t pair) const noexcept { return fifos_[pair].empty(); }
  [[nodiscard]] bool keeps_any() const noexcept {
    return pool_ != nullptr && limit_max_.load(std::memory_order_relaxed) != 0;
  }
  // Copies as many of the first frames as there is room for, for one pair; the number of those. After the first one that
  // is not kept none is: it would overtake.
  [[nodiscard]] std::size_t keep(std::size_t pair, std::span<const Frame> frames, std::uint64_t now_ns) noexcept;
  // The first frames for that pair that are not too old, at most burst_max, until the next call of anything here;
  // `too_old`: how many were dropped before them.
  [[nodiscard]] std::span<const Frame> peek(std::size_t pair, std::uint64_t now_ns, std::size_t& too_old) noexcept;
  // The first `count` of those are done with.
  void pop(std::size_t pair, std::size_t count, std::uint64_t now_ns) noexcept;
  // Forgets all frames; how many there were.
  std::size_t clear(std::uint64_t now_ns) noexcept;

 private:
  [[nodiscard]] static std::uint32_t counted(std::uint32_t size) noexcept { return std::max(size, frame_bytes_min); }
  [[nodiscard]] bool has_room(std::uint32_t size) noexcept;
  [[nodiscard]] bool push(std::size_t pair, const Frame& frame, std::uint64_t now_ns) noexcept;
  void forget_first(std::size_t pair, std::uint32_t size) noexcept;
  void end_stall(std::uint64_t now_ns) noexcept;

  BlockPool* const pool_;
  // Configured; control writes, the worker reads.
  std::atomic<std::uint64_t> limit_max_ = 0;
  std::atomic<bool> grows_ = false;
  std::atomic<std::uint64_t> max_age_ns_ = 0;
  // The worker's.
  std::array<FrameFifo, queue_pairs_max> fifos_;
  FifoBurst burst_;            // of the last peek()
  std::uint64_t waiting_ = 0;  // frames, over all pairs
  std::uint64_t used_ = 0;     // bytes
  std::size_t blocks_ = 0;
  std::uint64_t limit_ = 0;            // bytes, now; with grows_
  std::uint64_t needed_until_ns_ = 0;  // when a stall last needed more than half of limit_
  std::uint64_t stall_frames_ = 0;     // that came in this stall,
  std::uint64_t stall_peak_ = 0;       // bytes that waited at once at most,
  std::uint64_t stall_dropped_ = 0;    // and bytes that were dropped
  // For control to read. `stall_since_ns_`: 0 while there is none.
  Counter shown_limit_, shown_used_, shown_frames_, peak_, stalls_, stall_since_ns_, longest_ns_;
  Counter worst_ns_, worst_frames_, worst_demand_;
  WaitHistogram waits_;
};

}  // namespace patchbay::dataplane
