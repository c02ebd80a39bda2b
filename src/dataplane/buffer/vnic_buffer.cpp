#include "dataplane/buffer/vnic_buffer.h"

#include <algorithm>

namespace patchbay::dataplane {
namespace {

constexpr std::uint64_t calm_ns = std::uint64_t{60} * 1'000'000'000;

}  // namespace

VnicBuffer::~VnicBuffer() {
  clear(0);
}

void VnicBuffer::configure(const BufferConfig& config) noexcept {
  limit_max_.store(config.limit_bytes, std::memory_order_relaxed);
  grows_.store(config.grows, std::memory_order_relaxed);
  max_age_ns_.store(static_cast<std::uint64_t>(config.max_age.count()), std::memory_order_relaxed);
}

// A limit that grows is only looked at, and grown, where a frame needs it.
bool VnicBuffer::has_room(std::uint32_t size) noexcept {
  const std::uint64_t limit_max = limit_max_.load(std::memory_order_relaxed);
  if (!grows_.load(std::memory_order_relaxed)) {
    limit_ = limit_max;
    return used_ + size <= limit_;
  }
  limit_ = std::clamp(limit_, std::min(grow_from, limit_max), limit_max);
  while (used_ + size > limit_) {
    if (limit_ == limit_max) return false;
    limit_ = std::min(2 * limit_, limit_max);
  }
  return true;
}

bool VnicBuffer::push(std::size_t pair, const Frame& frame, std::uint64_t now_ns) noexcept {
  const std::uint32_t size = counted(frame.size);
  if (!has_room(size)) return false;
  FrameFifo& fifo = fifos_[pair];
  std::array<BlockPool::Block, 1 + FifoBurst::rest_max> blocks;
  const std::size_t needed = fifo.blocks_for(frame);
  for (std::size_t i = 0; i < needed; ++i) {
    blocks[i] = pool_->take(blocks_ + i);
    if (blocks[i] != BlockPool::none) continue;
    while (i != 0) pool_->give(blocks[--i]);
    return false;
  }
  blocks_ += needed;
  fifo.push(*pool_, frame, now_ns, std::span(blocks).first(needed));
  ++waiting_;
  used_ += size;
  return true;
}

std::size_t VnicBuffer::keep(std::size_t pair, std::span<const Frame> frames, std::uint64_t now_ns) noexcept {
  if (pool_ == nullptr) return 0;
  const bool was_empty = empty();
  std::size_t kept = 0;
  while (kept < frames.size() && push(pair, frames[kept], now_ns)) ++kept;
  if (was_empty && kept != 0) {
    stalls_.add(1);
    stall_since_ns_.set(now_ns);
    stall_frames_ = 0;
    stall_peak_ = 0;
    stall_dropped_ = 0;
  }
  if (!empty()) {
    stall_frames_ += frames.size();
    for (const Frame& frame : frames.subspan(kept)) stall_dropped_ += counted(frame.size);
    stall_peak_ = std::max(stall_peak_, used_);
  }
  if (used_ > peak_.get()) peak_.set(used_);
  shown_used_.set(used_);
  shown_frames_.set(waiting_);
  shown_limit_.set(limit_);
  return kept;
}

void VnicBuffer::forget_first(std::size_t pair, std::uint32_t size) noexcept {
  FrameFifo& fifo = fifos_[pair];
  blocks_ -= fifo.blocks();
  fifo.pop(*pool_);
  blocks_ += fifo.blocks();
  --waiting_;
  used_ -= counted(size);
}

std::span<const Frame> VnicBuffer::peek(std::size_t pair, std::uint64_t now_ns, std::size_t& too_old) noexcept {
  const std::uint64_t max_age_ns = max_age_ns_.load(std::memory_order_relaxed);
  too_old = 0;
  for (;;) {
    const std::size_t count = fifos_[pair].peek(*pool_, burst_);
    std::size_t old = 0;
    if (max_age_ns != 0) {
      while (old < count && now_ns - burst_.since_ns[old] > max_age_ns) ++old;
    }
    if (old == 0) return std::span<const Frame>(burst_.frames).first(count);
    pop(pair, old, now_ns);
    too_old += old;
  }
}

void VnicBuffer::pop(std::size_t pair, std::size_t count, std::uint64_t now_ns) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    waits_.note(now_ns - burst_.since_ns[i]);
    forget_first(pair, burst_.frames[i].size);
  }
  shown_used_.set(used_);
  shown_frames_.set(waiting_);
  if (count != 0 && empty()) end_stall(now_ns);
}

std::size_t VnicBuffer::clear(std::uint64_t now_ns) noexcept {
  const auto forgotten = static_cast<std::size_t>(waiting_);
  if (forgotten == 0) return 0;
  for (FrameFifo& fifo : fifos_) {
    while (!fifo.empty()) fifo.pop(*pool_);
  }
  waiting_ = used_ = 0;
  blocks_ = 0;
  shown_used_.set(0);
  shown_frames_.set(0);
  end_stall(now_ns);
  return forgotten;
}

void VnicBuffer::end_stall(std::uint64_t now_ns) noexcept {
  const std::uint64_t length_ns = now_ns - stall_since_ns_.get();
  stall_since_ns_.set(0);
  longest_ns_.set(std::max(longest_ns_.get(), length_ns));
  const std::uint64_t demand = stall_peak_ + stall_dropped_;
  if (demand > worst_demand_.get()) {
    worst_demand_.set(demand);
    worst_frames_.set(stall_frames_);
    worst_ns_.set(length_ns);
  }
  if (!grows_.load(std::memory_order_relaxed)) return;
  if (demand > limit_ / 2) {
    needed_until_ns_ = now_ns;
  } else if (now_ns - needed_until_ns_ > calm_ns) {
    limit_ = std::max(limit_ / 2, std::min(grow_from, limit_max_.load(std::memory_order_relaxed)));
    needed_until_ns_ = now_ns;
  }
  shown_limit_.set(limit_);
}

BufferState VnicBuffer::state() const noexcept {
  BufferState state;
  const std::uint64_t limit_max = limit_max_.load(std::memory_order_relaxed);
  state.limit_max_bytes = limit_max;
  state.limit_bytes = !grows_.load(std::memory_order_relaxed)
                          ? limit_max
                          : std::clamp(shown_limit_.get(), std::min(grow_from, limit_max), limit_max);
  state.used_bytes = shown_used_.get();
  state.peak_bytes = peak_.get();
  state.frames = shown_frames_.get();
  state.waits = waits_.summary();
  state.stalls = stalls_.get();
  state.longest_stall_ns = longest_ns_.get();
  state.stalled_since_ns = stall_since_ns_.get();
  state.worst_stall = {worst_ns_.get(), worst_frames_.get(), worst_demand_.get()};
  return state;
}

}  // namespace patchbay::dataplane
