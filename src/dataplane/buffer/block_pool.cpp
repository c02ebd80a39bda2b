#include "dataplane/buffer/block_pool.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <new>
#include <utility>

namespace patchbay::dataplane {
namespace {

constexpr unsigned change_shift = 32;

}  // namespace

BlockPool::~BlockPool() {
  for (std::size_t i = 0; i < segment_count_; ++i) munmap(segments_[i].load(), segment_size);
}

Result<void> BlockPool::set_limit(std::uint64_t bytes) {
  if (bytes > reserved_max) {
    return fail(ErrorCode::invalid, fmt::format("{} bytes for the buffers of all vnics: at most {} are possible", bytes,
                                                std::uint64_t{reserved_max}));
  }
  const std::uint64_t blocks = bytes / block_size;
  while (segment_count_ * std::uint64_t{segment_blocks} < blocks) {
    void* const segment =
        mmap(nullptr, segment_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment == MAP_FAILED) return fail(system_error("address space for the buffers of vnics", errno));
    // Small pages: a huge one would cost 2 MB where a guest has one frame waiting.
    static_cast<void>(madvise(segment, segment_size, MADV_NOHUGEPAGE));
    links_[segment_count_] = std::make_unique<std::atomic<Block>[]>(segment_blocks);
    segments_[segment_count_].store(static_cast<std::uint8_t*>(segment), std::memory_order_relaxed);
    ++segment_count_;
  }
  limit_.store(blocks, std::memory_order_release);
  return {};
}

void BlockPool::Stack::push(BlockPool& pool, Block block) noexcept {
  std::uint64_t head = head_.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    pool.link(block).store(static_cast<Block>(head), std::memory_order_relaxed);
    next = ((head >> change_shift) + 1) << change_shift | block;
  } while (!head_.compare_exchange_weak(head, next, std::memory_order_release, std::memory_order_relaxed));
}

BlockPool::Block BlockPool::Stack::pop(BlockPool& pool) noexcept {
  std::uint64_t head = head_.load(std::memory_order_acquire);
  std::uint64_t next = 0;
  do {
    if (static_cast<Block>(head) == none) return none;
    const Block below = pool.link(static_cast<Block>(head)).load(std::memory_order_relaxed);
    next = ((head >> change_shift) + 1) << change_shift | below;
  } while (!head_.compare_exchange_weak(head, next, std::memory_order_acquire, std::memory_order_acquire));
  return static_cast<Block>(head);
}

BlockPool::Block BlockPool::take(std::size_t held) noexcept {
  const std::uint64_t limit = limit_.load(std::memory_order_acquire);
  const std::uint64_t taken = taken_.fetch_add(1, std::memory_order_relaxed);
  if (taken >= limit || held >= limit - taken) {
    taken_.fetch_sub(1, std::memory_order_relaxed);
    return none;
  }
  if (const Block block = warm_.pop(*this); block != none) return block;
  if (const Block block = cold_.pop(*this); block != none) return block;
  // There are at most `limit` blocks out, and none lies on a stack but what another worker is about to take or to give.
  Block fresh = fresh_.load(std::memory_order_relaxed);
  while (fresh < limit) {
    if (fresh_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed)) return fresh;
  }
  taken_.fetch_sub(1, std::memory_order_relaxed);
  return none;
}

void BlockPool::give(Block block) noexcept {
  warm_.push(*this, block);
  taken_.fetch_sub(1, std::memory_order_relaxed);
}

std::size_t BlockPool::release_unused() noexcept {
  release_asked_.store(false, std::memory_order_relaxed);
  std::size_t released = 0;
  // Blocks that come back meanwhile may be taken at once again: no more than there are.
  for (const std::size_t blocks = fresh_.load(std::memory_order_relaxed); released < blocks; ++released) {
    const Block block = warm_.pop(*this);
    if (block == none) break;
    static_cast<void>(madvise(bytes(block), block_size, MADV_DONTNEED));
    cold_.push(*this, block);
  }
  return released;
}

}  // namespace patchbay::dataplane
