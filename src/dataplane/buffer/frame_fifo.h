// Frames that wait, in the order in which they came, copied into blocks of the pool.
//
// Theory  Each frame is a record: what send() was told of it, its first bytes, and the rest; a rest may go on in the next
//         blocks, record and first bytes stay together. Frames are given out where they lie.
//         Space: 32 bytes a frame, so that even frames of 60 bytes need less than twice their size, and the part of a block
//         that the first bytes of the next frame do not fit into.
// Limits  Frames of frame_size_max and a tag.
// Threads The worker that owns the port.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/buffer/block_pool.h"
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

// Room for frames that are given out.
struct FifoBurst {
  static constexpr std::size_t rest_max = 2;  // blocks that a frame may go on in
  std::array<Frame, burst_max> frames;
  std::array<std::uint64_t, burst_max> since_ns;  // when each was pushed
  std::array<std::array<Segment, rest_max>, burst_max> rests;
};

class FrameFifo {
 public:
  FrameFifo() = default;
  FrameFifo(const FrameFifo&) = delete;
  FrameFifo& operator=(const FrameFifo&) = delete;

  // Blocks that push() would take for `frame`.
  [[nodiscard]] std::size_t blocks_for(const Frame& frame) const noexcept;
  // A copy of `frame` goes behind the others. `blocks`: as many as blocks_for() says; they are the FIFO's now.
  void push(BlockPool& pool, const Frame& frame, std::uint64_t now_ns,
            std::span<const BlockPool::Block> blocks) noexcept;

  [[nodiscard]] bool empty() const noexcept { return frames_ == 0; }
  [[nodiscard]] std::uint64_t frames() const noexcept { return frames_; }
  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
  // The first frames, at most burst_max, into `burst`; they are still there.
  [[nodiscard]] std::size_t peek(const BlockPool& pool, FifoBurst& burst) const noexcept;
  // Forgets the first frame; blocks that are empty then go back to the pool.
  void pop(BlockPool& pool) noexcept;

 private:
  // What precedes a frame's first bytes.
  struct Record {
    std::uint32_t size;  // first: 0 says that there is no record here, the next one starts the next block
    std::uint16_t tag_tpid;
    std::uint16_t tag_tci;
    std::uint64_t since_ns;
    std::uint16_t vid;
    std::uint8_t priority;
    Needs needs;
  };
  static_assert(sizeof(Record) == 32);
  struct Place {
    BlockPool::Block block = BlockPool::none;
    std::uint32_t offset = BlockPool::block_size;  // block_size: at the end
  };
  // A block starts with the number of the one behind it.
  static constexpr std::uint32_t block_header = 8;
  static constexpr std::uint32_t alignment = 8;

  // First bytes of a frame of `size`, which stay with its record.
  [[nodiscard]] static std::uint32_t head_of(std::uint32_t size) noexcept {
    return std::min(size, static_cast<std::uint32_t>(head_size_max));
  }
  [[nodiscard]] static bool starts_block(std::uint32_t offset, std::uint32_t size) noexcept {
    return offset + sizeof(Record) + head_of(size) > BlockPool::block_size;
  }
  [[nodiscard]] static BlockPool::Block& next_of(const BlockPool& pool, BlockPool::Block block) noexcept {
    return *reinterpret_cast<BlockPool::Block*>(pool.bytes(block));
  }
  // Where the next record is that `place` leads to.
  [[nodiscard]] static Place settle(const BlockPool& pool, Place place) noexcept;
  [[nodiscard]] static Record& record_at(const BlockPool& pool, Place place) noexcept {
    return *reinterpret_cast<Record*>(pool.bytes(place.block) + place.offset);
  }

  Place first_;  // to read
  Place end_;    // to write
  std::uint64_t frames_ = 0;
  std::size_t blocks_ = 0;
};

}  // namespace patchbay::dataplane
