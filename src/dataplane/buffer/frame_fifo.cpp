#include "dataplane/buffer/frame_fifo.h"

#include <cstring>

namespace patchbay::dataplane {
namespace {

constexpr std::uint32_t block_end = BlockPool::block_size;

constexpr std::uint32_t round_up(std::uint32_t offset, std::uint32_t alignment) noexcept {
  return (offset + alignment - 1) & ~(alignment - 1);
}

}  // namespace

std::size_t FrameFifo::blocks_for(const Frame& frame) const noexcept {
  std::size_t count = 0;
  std::uint32_t offset = end_.offset;
  if (starts_block(offset, frame.size)) {
    ++count;
    offset = block_header;
  }
  offset += static_cast<std::uint32_t>(sizeof(Record)) + head_of(frame.size);
  for (std::uint32_t left = frame.size - head_of(frame.size); left > block_end - offset; offset = block_header) {
    left -= block_end - offset;
    ++count;
  }
  return count;
}

void FrameFifo::push(BlockPool& pool, const Frame& frame, std::uint64_t now_ns,
                     std::span<const BlockPool::Block> blocks) noexcept {
  const auto next_block = [&] {
    const BlockPool::Block block = blocks.front();
    blocks = blocks.subspan(1);
    if (end_.block != BlockPool::none) next_of(pool, end_.block) = block;
    end_ = {block, block_header};
    ++blocks_;
  };
  if (starts_block(end_.offset, frame.size)) {
    if (end_.offset != block_end) record_at(pool, end_).size = 0;
    next_block();
  }
  if (frames_++ == 0) first_ = end_;
  Record& record = record_at(pool, end_);
  record = {.size = frame.size,
            .tag_tpid = frame.tag_tpid,
            .tag_tci = frame.tag_tci,
            .since_ns = now_ns,
            .vid = frame.vid,
            .priority = frame.priority,
            .needs = frame.needs};
  end_.offset += static_cast<std::uint32_t>(sizeof(Record));
  const auto write = [&](const std::uint8_t* from, std::uint32_t size) {
    while (size != 0) {
      if (end_.offset == block_end) next_block();
      const std::uint32_t part = std::min(size, block_end - end_.offset);
      std::memcpy(pool.bytes(end_.block) + end_.offset, from, part);
      end_.offset += part;
      from += part;
      size -= part;
    }
  };
  write(frame.head, frame.head_size);
  for (std::size_t i = 0; i < frame.rest_count; ++i) write(frame.rest[i].data, frame.rest[i].size);
  end_.offset = round_up(end_.offset, alignment);
}

FrameFifo::Place FrameFifo::settle(const BlockPool& pool, Place place) noexcept {
  if (place.offset != block_end && record_at(pool, place).size != 0) return place;
  return {next_of(pool, place.block), block_header};
}

std::size_t FrameFifo::peek(const BlockPool& pool, FifoBurst& burst) const noexcept {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(frames_, burst_max));
  Place place = first_;
  for (std::size_t i = 0; i < count; ++i) {
    place = settle(pool, place);
    const Record& record = record_at(pool, place);
    place.offset += static_cast<std::uint32_t>(sizeof(Record));
    Frame& frame = burst.frames[i];
    frame = Frame{};
    frame.head = pool.bytes(place.block) + place.offset;
    frame.head_size = head_of(record.size);
    frame.size = record.size;
    frame.vid = record.vid;
    frame.priority = record.priority;
    frame.tag_tpid = record.tag_tpid;
    frame.tag_tci = record.tag_tci;
    frame.needs = record.needs;
    burst.since_ns[i] = record.since_ns;
    place.offset += frame.head_size;
    // What follows the first bytes in this block belongs to them.
    std::uint32_t left = frame.size - frame.head_size;
    const std::uint32_t beside = std::min(left, block_end - place.offset);
    frame.head_size += beside;
    place.offset += beside;
    left -= beside;
    frame.rest = burst.rests[i].data();
    while (left != 0) {
      place = {next_of(pool, place.block), block_header};
      const std::uint32_t part = std::min(left, block_end - place.offset);
      burst.rests[i][frame.rest_count++] = {pool.bytes(place.block) + place.offset, part};
      place.offset += part;
      left -= part;
    }
    place.offset = round_up(place.offset, alignment);
  }
  return count;
}

void FrameFifo::pop(BlockPool& pool) noexcept {
  const auto leave_block = [&] {
    const BlockPool::Block block = first_.block;
    first_ = {next_of(pool, block), block_header};
    pool.give(block);
    --blocks_;
  };
  while (first_.block != settle(pool, first_).block) leave_block();
  const std::uint32_t size = record_at(pool, first_).size;
  first_.offset += static_cast<std::uint32_t>(sizeof(Record)) + head_of(size);
  for (std::uint32_t left = size - head_of(size); left != 0;) {
    if (first_.offset == block_end) leave_block();
    const std::uint32_t part = std::min(left, block_end - first_.offset);
    first_.offset += part;
    left -= part;
  }
  first_.offset = round_up(first_.offset, alignment);
  if (--frames_ != 0) return;
  pool.give(end_.block);
  blocks_ = 0;
  first_ = end_ = {};
}

}  // namespace patchbay::dataplane
