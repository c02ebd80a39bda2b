#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "dataplane/buffer/vnic_buffer.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t second = 1000 * ms;

std::unique_ptr<BlockPool> pool_of(std::uint64_t bytes) {
  auto pool = std::make_unique<BlockPool>();
  EXPECT_TRUE(pool->set_limit(bytes));
  return pool;
}

// A frame over bytes of its own, in a head and pieces.
struct Made {
  Made(std::size_t size, unsigned seed, std::size_t head = head_size_max) : bytes(size, '\0') {
    std::mt19937 random(seed);
    for (char& byte : bytes) byte = static_cast<char>(random());
    auto* const at = reinterpret_cast<std::uint8_t*>(bytes.data());
    frame.head = at;
    frame.head_size = static_cast<std::uint32_t>(std::min(size, head));
    frame.size = static_cast<std::uint32_t>(size);
    for (std::size_t done = frame.head_size; done < size;) {
      const std::size_t part = std::min<std::size_t>(size - done, 1 + random() % 9000);
      segments.push_back({at + done, static_cast<std::uint32_t>(part)});
      done += part;
    }
    frame.rest = segments.data();
    frame.rest_count = static_cast<std::uint16_t>(segments.size());
    frame.vid = static_cast<std::uint16_t>(random() % 4095);
    frame.priority = static_cast<std::uint8_t>(random() % 8);
    if (random() % 2 == 0) {
      frame.tag_tpid = tpid_8021q;
      frame.tag_tci = static_cast<std::uint16_t>(random());
    }
    frame.needs = {.offloads = static_cast<Offloads>(random() % 2), .gso_size = 1448, .csum_start = 34};
  }
  Made(const Made&) = delete;
  std::string bytes;
  std::vector<Segment> segments;
  Frame frame;
};

std::string text_of(const Frame& frame) {
  std::string text(reinterpret_cast<const char*>(frame.head), frame.head_size);
  for (std::size_t i = 0; i < frame.rest_count; ++i) {
    text.append(reinterpret_cast<const char*>(frame.rest[i].data), frame.rest[i].size);
  }
  return text;
}

// ---- BlockPool ------------------------------------------------------------------------------------------------------

TEST(BlockPool, hands_out_its_limit_and_no_more) {
  const auto pool = pool_of(10 * BlockPool::block_size + 1);
  std::set<BlockPool::Block> blocks;
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(blocks.insert(pool->take(0)).second);
  EXPECT_EQ(blocks.count(BlockPool::none), 0U);
  EXPECT_EQ(pool->take(0), BlockPool::none);
  EXPECT_EQ(pool->used_bytes(), 10 * BlockPool::block_size);
  for (const auto block : blocks) {
    std::memset(pool->bytes(block), 0xAB, BlockPool::block_size);
    pool->give(block);
  }
  EXPECT_EQ(pool->used_bytes(), 0U);
  EXPECT_EQ(pool->release_unused(), 10U);
  EXPECT_EQ(pool->release_unused(), 0U);
  const auto block = pool->take(0);
  EXPECT_EQ(blocks.count(block), 1U) << "used again";
  EXPECT_EQ(pool->bytes(block)[100], 0) << "its pages went back to the kernel";
  pool->give(block);
}

TEST(BlockPool, one_may_have_half_two_a_third_each) {
  const auto pool = pool_of(60 * BlockPool::block_size);
  std::vector<std::vector<BlockPool::Block>> held(2);
  const auto take_all = [&](std::size_t who) {
    for (BlockPool::Block block = 0; block != BlockPool::none;) {
      block = pool->take(held[who].size());
      if (block != BlockPool::none) held[who].push_back(block);
    }
  };
  take_all(0);
  EXPECT_EQ(held[0].size(), 30U);
  while (held[0].size() > 20) {
    pool->give(held[0].back());
    held[0].pop_back();
  }
  take_all(1);
  take_all(0);
  EXPECT_EQ(held[0].size(), 20U);
  EXPECT_EQ(held[1].size(), 20U);
}

TEST(BlockPool, a_limit_below_what_is_out_takes_nothing_away) {
  const auto pool = pool_of(4 * BlockPool::block_size);
  const auto block = pool->take(0);
  EXPECT_TRUE(pool->set_limit(0));
  EXPECT_EQ(pool->take(0), BlockPool::none);
  pool->bytes(block)[5] = 1;
  pool->give(block);
  EXPECT_EQ(pool->take(0), BlockPool::none);
  const auto refused = pool->set_limit(BlockPool::reserved_max + 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid);
}

TEST(BlockPool, no_block_is_ever_given_to_two_at_once) {
  const auto pool = pool_of(64 * BlockPool::block_size);
  std::vector<std::atomic<int>> owners(64);
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 3; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      std::vector<BlockPool::Block> held;
      while (!stop.load()) {
        if (random() % 2 == 0 || held.empty()) {
          const auto block = pool->take(0);
          if (block == BlockPool::none) continue;
          EXPECT_EQ(owners[block].fetch_add(1), 0);
          pool->bytes(block)[0] = static_cast<std::uint8_t>(seed);
          held.push_back(block);
        } else {
          EXPECT_EQ(owners[held.back()].fetch_sub(1), 1);
          pool->give(held.back());
          held.pop_back();
        }
      }
      for (const auto block : held) {
        owners[block].fetch_sub(1);
        pool->give(block);
      }
    });
  }
  for (int i = 0; i < 2000; ++i) static_cast<void>(pool->release_unused());
  stop.store(true);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(pool->used_bytes(), 0U);
}

// ---- FrameFifo ------------------------------------------------------------------------------------------------------

class Fifo {
 public:
  explicit Fifo(BlockPool& pool) : pool_(pool) {}
  void push(const Frame& frame, std::uint64_t now_ns) {
    std::vector<BlockPool::Block> blocks(fifo.blocks_for(frame));
    for (auto& block : blocks) block = pool_.take(0);
    fifo.push(pool_, frame, now_ns, blocks);
  }
  FrameFifo fifo;

 private:
  BlockPool& pool_;
};

TEST(FrameFifo, gives_what_was_put_in_in_order) {
  const auto pool = pool_of(64 << 20);
  std::mt19937 random(11);
  Fifo fifo(*pool);
  std::deque<std::unique_ptr<Made>> wanted;
  FifoBurst burst;
  unsigned pushed = 0;
  unsigned popped = 0;
  while (popped < 4000) {
    if (random() % 100 < (pushed / 500 % 2 == 0 ? 60U : 40U) && wanted.size() < 300) {
      const std::size_t kind = random() % 10;
      const std::size_t size = kind < 5   ? 14 + random() % 120
                               : kind < 8 ? 14 + random() % 9000
                                          : 60000 + random() % 5537;
      wanted.push_back(std::make_unique<Made>(size, pushed, random() % 2 == 0 ? head_size_max : frame_size_max));
      fifo.push(wanted.back()->frame, pushed++);
      continue;
    }
    const std::size_t count = fifo.fifo.peek(*pool, burst);
    ASSERT_EQ(count, std::min(wanted.size(), burst_max));
    for (std::size_t i = 0; i < count; ++i) {
      const Frame& frame = burst.frames[i];
      const Frame& put = wanted[i]->frame;
      ASSERT_EQ(text_of(frame), wanted[i]->bytes);
      ASSERT_EQ(burst.since_ns[i], popped + i);
      ASSERT_EQ(std::tie(frame.size, frame.vid, frame.priority, frame.tag_tpid, frame.tag_tci),
                std::tie(put.size, put.vid, put.priority, put.tag_tpid, put.tag_tci));
      ASSERT_EQ(std::tie(frame.needs.offloads, frame.needs.gso_size, frame.needs.csum_start),
                std::tie(put.needs.offloads, put.needs.gso_size, put.needs.csum_start));
    }
    for (std::size_t left = count == 0 ? 0 : random() % (count + 1); left != 0; --left, ++popped) {
      fifo.fifo.pop(*pool);
      wanted.pop_front();
    }
    ASSERT_EQ(pool->used_bytes(), fifo.fifo.blocks() * BlockPool::block_size);
  }
  for (; !wanted.empty(); wanted.pop_front()) fifo.fifo.pop(*pool);
  EXPECT_TRUE(fifo.fifo.empty());
  EXPECT_EQ(pool->used_bytes(), 0U);
}

// ---- VnicBuffer -----------------------------------------------------------------------------------------------------

struct Buffer {
  explicit Buffer(const BufferConfig& config, std::uint64_t pool_bytes = 64 << 20)
      : pool(pool_of(pool_bytes)), buffer(pool.get()) {
    buffer.configure(config);
  }
  // Frames of `size` bytes, until one is not kept; how many were.
  std::size_t fill(std::size_t size, std::size_t frames, std::uint64_t now_ns = 0, std::size_t pair = 0) {
    const Made made(size, 1);
    std::size_t kept = 0;
    while (kept < frames && buffer.keep(pair, {&made.frame, 1}, now_ns) == 1) ++kept;
    return kept;
  }
  std::size_t take(std::size_t frames, std::uint64_t now_ns, std::size_t pair = 0) {
    std::size_t taken = 0;
    while (taken < frames) {
      const std::size_t count = std::min(buffer.peek(pair, now_ns, too_old).size(), frames - taken);
      if (count == 0) break;
      buffer.pop(pair, count, now_ns);
      taken += count;
    }
    return taken;
  }
  std::unique_ptr<BlockPool> pool;
  VnicBuffer buffer;
  std::size_t too_old = 0;
};

TEST(VnicBuffer, holds_its_limit_in_bytes_of_frames_to_the_byte) {
  for (const std::size_t size : {60U, 64U, 600U, 1514U, 9014U, 65536U}) {
    Buffer one({.limit_bytes = 1 << 20});
    const std::size_t fit = (1 << 20) / size;
    EXPECT_EQ(one.fill(size, 1'000'000), fit) << size;
    EXPECT_EQ(one.buffer.state().used_bytes, fit * size);
    EXPECT_EQ(one.buffer.state().peak_bytes, fit * size);
    EXPECT_EQ(one.buffer.state().frames, fit);
    EXPECT_LE(one.pool->used_bytes(), 2 * fit * size) << size << ": memory within twice the bytes";
    EXPECT_EQ(one.take(1'000'000, 5), fit);
    EXPECT_TRUE(one.buffer.empty());
    EXPECT_EQ(one.pool->used_bytes(), 0U);
  }
}

TEST(VnicBuffer, a_frame_shorter_than_ethernet_allows_counts_as_the_shortest_one) {
  Buffer one({.limit_bytes = 6000});
  EXPECT_EQ(one.fill(14, 1000), 100U);
  EXPECT_EQ(one.buffer.state().used_bytes, 6000U);
  EXPECT_EQ(one.buffer.clear(1), 100U);
  EXPECT_EQ(one.buffer.state().used_bytes, 0U);
  EXPECT_EQ(one.pool->used_bytes(), 0U);
}

TEST(VnicBuffer, keeps_nothing_without_a_limit_or_a_pool) {
  Buffer none({.limit_bytes = 0});
  EXPECT_EQ(none.fill(64, 1), 0U);
  EXPECT_EQ(none.buffer.state().stalls, 0U);
  VnicBuffer no_pool(nullptr);
  no_pool.configure({.limit_bytes = 1 << 20});
  const Made made(64, 1);
  EXPECT_EQ(no_pool.keep(0, {&made.frame, 1}, 0), 0U);
}

TEST(VnicBuffer, pairs_share_the_limit_and_not_the_order) {
  Buffer one({.limit_bytes = 6400});
  EXPECT_EQ(one.fill(64, 60, 0, 0), 60U);
  EXPECT_EQ(one.fill(64, 60, 0, 3), 40U);
  EXPECT_EQ(one.take(100, 1, 3), 40U);
  EXPECT_FALSE(one.buffer.empty(0));
  EXPECT_TRUE(one.buffer.empty(3));
  EXPECT_EQ(one.take(100, 1, 0), 60U);
  EXPECT_TRUE(one.buffer.empty());
}

TEST(VnicBuffer, what_is_too_old_is_dropped_when_it_could_be_taken) {
  Buffer one({.limit_bytes = 1 << 20, .max_age = std::chrono::milliseconds(10)});
  EXPECT_EQ(one.fill(64, 100, 0), 100U);
  EXPECT_EQ(one.fill(64, 5, 8 * ms), 5U);
  EXPECT_EQ(one.buffer.peek(0, 12 * ms, one.too_old).size(), 5U);
  EXPECT_EQ(one.too_old, 100U);
  EXPECT_EQ(one.take(100, 12 * ms), 5U);
  EXPECT_TRUE(one.buffer.empty());
}

TEST(VnicBuffer, counts_stalls_and_knows_what_the_worst_would_have_needed) {
  Buffer one({.limit_bytes = 6400});
  EXPECT_EQ(one.fill(64, 10, 1 * second), 10U);
  EXPECT_EQ(one.buffer.state().stalled_since_ns, 1 * second);
  EXPECT_EQ(one.take(10, 1 * second + 3 * ms), 10U);
  EXPECT_EQ(one.buffer.state().stalled_since_ns, 0U);
  // 100 fit and 50 do not, then 20 more find room.
  const Made made(64, 1);
  for (int i = 0; i < 150; ++i) static_cast<void>(one.buffer.keep(0, {&made.frame, 1}, 2 * second));
  EXPECT_EQ(one.take(20, 2 * second + 1 * ms), 20U);
  EXPECT_EQ(one.fill(64, 20, 2 * second + 2 * ms), 20U);
  EXPECT_EQ(one.take(100, 2 * second + 14 * ms), 100U);
  const BufferState state = one.buffer.state();
  EXPECT_EQ(state.stalls, 2U);
  EXPECT_EQ(state.longest_stall_ns, 14 * ms);
  EXPECT_EQ(state.worst_stall.length_ns, 14 * ms);
  EXPECT_EQ(state.worst_stall.frames, 170U);
  EXPECT_EQ(state.worst_stall.demand_bytes, 150 * 64U);
  EXPECT_EQ(state.waits.frames, 130U);
  EXPECT_EQ(state.waits.max_ns, 14 * ms);
  EXPECT_NEAR(static_cast<double>(state.waits.p50_ns), 14e6, 14e6 / 8);
}

TEST(VnicBuffer, grows_on_demand_and_shrinks_when_it_is_not_needed) {
  Buffer one({.limit_bytes = 4 << 20, .grows = true});
  EXPECT_EQ(one.buffer.state().limit_bytes, 1U << 20);
  EXPECT_EQ(one.fill(1024, 100'000, 0), 4096U);
  EXPECT_EQ(one.buffer.state().limit_bytes, 4U << 20);
  EXPECT_EQ(one.take(4096, 1 * second), 4096U);
  const auto small_stall = [&](std::uint64_t at) {
    EXPECT_EQ(one.fill(1024, 10, at), 10U);
    EXPECT_EQ(one.take(10, at + ms), 10U);
    return one.buffer.state().limit_bytes;
  };
  EXPECT_EQ(small_stall(30 * second), 4U << 20) << "not so soon";
  EXPECT_EQ(small_stall(62 * second), 2U << 20);
  EXPECT_EQ(small_stall(90 * second), 2U << 20);
  EXPECT_EQ(small_stall(130 * second), 1U << 20);
  EXPECT_EQ(small_stall(1000 * second), 1U << 20) << "no less than it started with";
}

TEST(VnicBuffer, a_smaller_limit_takes_nothing_away) {
  Buffer one({.limit_bytes = 64 * 100});
  EXPECT_EQ(one.fill(64, 100), 100U);
  one.buffer.configure({.limit_bytes = 64 * 10});
  EXPECT_EQ(one.fill(64, 1), 0U);
  EXPECT_EQ(one.buffer.state().used_bytes, 6400U);
  EXPECT_EQ(one.take(91, 1), 91U);
  EXPECT_EQ(one.fill(64, 10), 1U);
}

TEST(VnicBuffer, a_full_pool_is_a_full_buffer_and_gives_back_what_it_took) {
  Buffer one({.limit_bytes = 1 << 20}, 4 * BlockPool::block_size);
  EXPECT_EQ(one.fill(60000, 10), 2U) << "one may have half of it";
  EXPECT_EQ(one.pool->used_bytes(), 2 * BlockPool::block_size);
  EXPECT_EQ(one.take(10, 1), 2U);
  EXPECT_EQ(one.pool->used_bytes(), 0U);
}

// ---- WaitHistogram --------------------------------------------------------------------------------------------------

TEST(WaitHistogram, quantiles_are_at_most_an_eighth_too_large) {
  for (const std::uint64_t scale : {std::uint64_t{2'000}, 1 * ms, 3 * second, 7200 * second}) {
    WaitHistogram waits;
    for (std::uint64_t i = 1; i <= 1000; ++i) waits.note(scale * i / 1000);
    const BufferWaits summary = waits.summary();
    EXPECT_EQ(summary.frames, 1000U);
    EXPECT_EQ(summary.max_ns, scale);
    for (const auto& [is, exact] :
         {std::pair{summary.p50_ns, scale / 2}, std::pair{summary.p99_ns, scale / 100 * 99}}) {
      EXPECT_GE(is, exact);
      EXPECT_LE(is, exact + exact / 8 + 1024);
    }
  }
  EXPECT_EQ(WaitHistogram().summary().frames, 0U);
}

}  // namespace
}  // namespace patchbay::dataplane
