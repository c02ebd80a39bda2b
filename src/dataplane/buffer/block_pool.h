// Memory for frames that wait for their guests: blocks, for the whole host.
//
// Theory  Address space is reserved a GiB at a time, as far as the limit reaches, and costs no memory: the kernel gives a
//         page when it is written. Blocks that come back lie on a stack, warm; release_unused() gives their pages back to
//         the kernel. The stack is a list of block numbers with a count of changes in its head, so that a worker that was
//         overtaken notices.
//         Who may have how much: a buffer that holds blocks gets another one only while it holds fewer than are free
//         (dynamic threshold with factor 1). One stalled guest can have half of the limit, two a third each, and some is
//         always left for the next one.
// Limits  reserved_max bytes.
// Threads take(), give(), ask_for_release(): any worker. set_limit(), release_unused(): control, one thread. The rest: any.
// Source  A. K. Choudhury, E. L. Hahne: Dynamic Queue Length Thresholds for Shared-Memory Packet Switches (1998).
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"

namespace patchbay::dataplane {

class BlockPool {
 public:
  using Block = std::uint32_t;
  static constexpr Block none = UINT32_MAX;
  static constexpr std::size_t block_size = 64 << 10;
  static constexpr std::uint64_t reserved_max = std::uint64_t{64} << 30;

  BlockPool() = default;
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // At most so many bytes, rounded down to blocks, are handed out from now on; what is out stays out. The first limit is 0.
  // Errors: invalid (more than reserved_max), no_resource: the old limit stays.
  [[nodiscard]] Result<void> set_limit(std::uint64_t bytes);
  // Gives the pages of blocks that nobody has back to the kernel; the number of blocks that had some.
  std::size_t release_unused() noexcept;

  // A block for somebody who has `held`; none if the limit, or his share of it, is reached.
  [[nodiscard]] Block take(std::size_t held) noexcept;
  void give(Block block) noexcept;
  [[nodiscard]] std::uint8_t* bytes(Block block) const noexcept {
    return segments_[block / segment_blocks].load(std::memory_order_relaxed) +
           std::size_t{block % segment_blocks} * block_size;
  }

  // Blocks came back: true if control is to be told that it should release_unused() by and by, once until it does.
  [[nodiscard]] bool ask_for_release() noexcept {
    return !release_asked_.load(std::memory_order_relaxed) && !release_asked_.exchange(true, std::memory_order_relaxed);
  }
  [[nodiscard]] bool release_asked() const noexcept { return release_asked_.load(std::memory_order_relaxed); }

  [[nodiscard]] std::uint64_t limit_bytes() const noexcept {
    return limit_.load(std::memory_order_relaxed) * block_size;
  }
  [[nodiscard]] std::uint64_t used_bytes() const noexcept {
    return taken_.load(std::memory_order_relaxed) * block_size;
  }

 private:
  static constexpr std::size_t segment_size = std::size_t{1} << 30;
  static constexpr Block segment_blocks = segment_size / block_size;
  static constexpr std::size_t segments_max = reserved_max / segment_size;
  using Links = std::unique_ptr<std::atomic<Block>[]>;

  // A stack of blocks. Head: the block in the low half, the number of changes in the high one.
  class Stack {
   public:
    void push(BlockPool& pool, Block block) noexcept;
    [[nodiscard]] Block pop(BlockPool& pool) noexcept;

   private:
    std::atomic<std::uint64_t> head_ = none;
  };
  [[nodiscard]] std::atomic<Block>& link(Block block) noexcept {
    return links_[block / segment_blocks][block % segment_blocks];
  }

  std::atomic<std::uint64_t> limit_ = 0;  // blocks
  std::atomic<std::uint64_t> taken_ = 0;  // blocks that are out
  std::atomic<bool> release_asked_ = false;
  std::atomic<Block> fresh_ = 0;  // blocks from here on were never out
  Stack warm_;                    // with pages, or part of them
  Stack cold_;                    // without
  std::array<std::atomic<std::uint8_t*>, segments_max> segments_{};
  std::array<Links, segments_max> links_;
  std::size_t segment_count_ = 0;  // control's
};

}  // namespace patchbay::dataplane
