// What only packed rings have: guests that lie in their own ways, wishes to be called, and positions that survive a crash.
// What they have in common with split ones is in guest_queues_test.cpp.
#include "dataplane/virtqueue/packed_ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <vector>

#include "tests/support/guest_driver.h"
#include "tests/support/temp_dir.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;
using Piece = GuestDriver::Piece;

constexpr std::uint64_t features = virtio_f_version_1 | virtio_f_ring_packed | virtio_ring_f_indirect_desc;
constexpr std::size_t tx = 1;
constexpr std::uint16_t flag_avail = 1 << 7;
constexpr std::uint16_t flag_used = 1 << 15;
constexpr Piece piece = {GuestDriver::guest_base, 64, 0};

// The transmit ring of a guest.
struct Bench {
  explicit Bench(std::uint16_t size = 8, std::uint64_t more_features = 0) : driver(features | more_features, size) {
    const MemoryRegion region = driver.region();
    memory = *GuestMemory::map({&region, 1});
    vring = driver.link(memory).rings[tx];
    connect();
  }
  void connect(std::uint64_t more_features = 0) {
    auto created = PackedRing::create(*memory, vring, features | more_features, record);
    ASSERT_TRUE(created) << created.error().message;
    ring.emplace(std::move(*created));
    ring->catch_up();
  }
  void offer(std::uint16_t id, std::size_t pieces = 1) {
    driver.offer_chain(tx, id, std::vector<Piece>(pieces, piece));
  }
  // The ids of the chains that wait, at most `count`.
  std::vector<std::uint16_t> read(std::size_t count = 64) {
    std::vector<std::uint16_t> ids;
    chains.clear();
    for (std::uint16_t i = 0; i < std::min<std::size_t>(ring->available(), count); ++i) {
      Chain chain;
      if (ring->read_chain(i, Access::device_reads, segments, chain) != ChainStatus::good) break;
      ids.push_back(chain.id.id);
      chains.push_back(chain.id);
    }
    return ids;
  }
  void give_back(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) ring->push_used(chains[i], 0);
  }
  void pass(std::size_t count) {
    ASSERT_EQ(read(count).size(), count);
    give_back(count);
    static_cast<void>(publish(*ring));
  }
  // What QEMU does while no back-end is there: it goes on where it was told or where it last said, and takes from there
  // what is on offer and throws it away. How many chains.
  std::size_t front_end_uses() {
    auto position = PackedPosition::from(vring.base);
    for (std::size_t count = 0;; ++count) {
      const auto word = driver.get<std::uint64_t>(at(position.index) + 8);
      const auto flags = static_cast<std::uint16_t>(word >> 48);
      if (((flags & flag_avail) != 0) != position.wrap || ((flags & flag_used) != 0) == position.wrap) return count;
      const std::uint64_t used = position.wrap ? flag_avail | flag_used : 0;
      driver.set(at(position.index) + 8, (word & 0xFFFF'00000000) | used << 48);
      position.advance(1, vring.size);
      vring.base = vring.position = position.raw() | static_cast<std::uint32_t>(position.raw()) << 16;
    }
  }
  [[nodiscard]] std::size_t at(std::size_t slot) const { return driver.rings[tx].desc + 16 * slot; }
  [[nodiscard]] std::uint32_t progress() const { return static_cast<std::uint32_t>(record.progress); }

  GuestDriver driver;
  std::shared_ptr<const GuestMemory> memory;
  Vring vring;
  RingRecord record;
  std::optional<PackedRing> ring;
  std::array<Segment, segments_max> segments;
  std::vector<ChainId> chains;
};

using Ids = std::vector<std::uint16_t>;

TEST(PackedRing, refuses_what_is_no_ring) {
  Bench bench;
  const struct {
    const char* name;
    void (*change)(Vring&);
    bool good;
  } cases[] = {
      {"no entries", [](Vring& r) { r.size = 0; }, false},
      {"too many", [](Vring& r) { r.size = 32769; }, false},
      {"as many as there may be", [](Vring& r) { r.size = 32768; }, true},
      {"not a power of two", [](Vring& r) { r.size = 7; }, true},
      {"descriptors outside", [](Vring& r) { r.desc_address = 0x10; }, false},
      {"last descriptor outside",
       [](Vring& r) { r.desc_address = GuestDriver::front_end_base + GuestDriver::memory_size - 112; }, false},
      {"descriptors misaligned", [](Vring& r) { r.desc_address += 8; }, false},
      {"driver area outside", [](Vring& r) { r.avail_address = 0; }, false},
      {"driver area over the end",
       [](Vring& r) { r.avail_address = GuestDriver::front_end_base + GuestDriver::memory_size - 2; }, false},
      {"device area outside", [](Vring& r) { r.used_address = 0; }, false},
      {"driver area misaligned", [](Vring& r) { r.avail_address += 2; }, false},
      {"device area misaligned", [](Vring& r) { r.used_address += 1; }, false},
      {"base outside", [](Vring& r) { r.base = 8; }, false},
      {"base is the last", [](Vring& r) { r.base = 7; }, true},
      {"position outside",
       [](Vring& r) {
         r.position = 0x8008;
         r.position_known = true;
       },
       false},
  };
  for (const auto& test : cases) {
    Vring vring = bench.vring;
    test.change(vring);
    EXPECT_EQ(PackedRing::create(*bench.memory, vring, features, bench.record).has_value(), test.good) << test.name;
  }
}

TEST(PackedRing, begins_where_the_front_end_says_with_its_wrap_counter) {
  for (const bool wrap : {false, true}) {
    Bench bench;
    bench.driver.rings[tx].offers = bench.driver.rings[tx].returns = {5, wrap};
    bench.vring.base = 5U | (wrap ? 0x8000U : 0U);  // the used side above it is not given by everybody
    bench.connect();
    for (std::uint16_t i = 0; i < 6; ++i) bench.offer(i);
    EXPECT_EQ(bench.read(), (Ids{0, 1, 2, 3, 4, 5}));
    bench.give_back(6);
    static_cast<void>(publish(*bench.ring));
    const std::uint32_t position = 3U | (wrap ? 0U : 0x8000U);
    EXPECT_EQ(bench.ring->position(), position << 16 | position);
    for (std::uint16_t i = 0; i < 6; ++i) EXPECT_EQ(bench.driver.reap(tx)->id, i);
  }
}

TEST(PackedRing, shows_the_first_chain_of_a_batch_last_and_nothing_before_publish) {
  Bench bench;
  for (std::uint16_t i = 0; i < 3; ++i) bench.offer(i, 2);
  ASSERT_EQ(bench.read().size(), 3U);
  bench.give_back(3);
  EXPECT_FALSE(bench.driver.reap(tx));
  EXPECT_EQ(bench.driver.get<std::uint16_t>(bench.at(2) + 14), flag_avail | desc_f_next) << "untouched so far";
  EXPECT_TRUE(publish(*bench.ring));
  for (std::uint16_t i = 0; i < 3; ++i) EXPECT_EQ(bench.driver.reap(tx)->id, i);
  EXPECT_FALSE(publish(*bench.ring)) << "nothing new";
}

// ---- Guests that lie ----

TEST(PackedRing, breaks_where_nobody_knows_what_comes_next) {
  const struct {
    const char* name;
    std::uint16_t size;
    void (*arrange)(Bench&);
    bool broken;
  } cases[] = {
      {"a chain as long as the ring", 8, [](Bench& b) { b.offer(0, 8); }, false},
      {"a chain without end", 8,
       [](Bench& b) {
         for (std::size_t i = 0; i < 8; ++i) {
           b.driver.set_descriptor(b.at(i), 0, GuestDriver::guest_base, 8, flag_avail | desc_f_next);
         }
       },
       true},
      {"a chain without end in a ring of one", 1,
       [](Bench& b) { b.driver.set_descriptor(b.at(0), 0, GuestDriver::guest_base, 8, flag_avail | desc_f_next); },
       true},
      {"an id outside", 8,
       [](Bench& b) { b.driver.set_descriptor(b.at(0), 0, GuestDriver::guest_base, 8, flag_avail, 8); }, true},
      {"the last id", 8,
       [](Bench& b) { b.driver.set_descriptor(b.at(0), 0, GuestDriver::guest_base, 8, flag_avail, 7); }, false},
      {"both flags", 8,
       [](Bench& b) { b.driver.set_descriptor(b.at(0), 0, GuestDriver::guest_base, 8, flag_avail | flag_used); },
       false},
  };
  for (const auto& test : cases) {
    Bench bench(test.size);
    test.arrange(bench);
    static_cast<void>(bench.read());
    EXPECT_EQ(bench.ring->broken(), test.broken) << test.name;
    if (!test.broken) continue;
    EXPECT_EQ(bench.ring->available(), 0U) << test.name;
    EXPECT_FALSE(bench.ring->enable_kicks()) << test.name;
  }
}

TEST(PackedRing, a_chain_that_is_too_long_is_dropped_and_its_end_found_up_to_a_limit) {
  for (const std::size_t length :
       {std::size_t{segments_max}, std::size_t{segments_max} + 1, std::size_t{PackedRing::chain_slots_max},
        std::size_t{PackedRing::chain_slots_max} + 1}) {
    Bench bench(1000);
    bench.offer(5, length);
    bench.offer(6);
    Chain chain;
    const ChainStatus status = bench.ring->read_chain(0, Access::device_reads, bench.segments, chain);
    if (length > PackedRing::chain_slots_max) {
      EXPECT_EQ(status, ChainStatus::broken);
      continue;
    }
    EXPECT_EQ(status, length > segments_max ? ChainStatus::malformed : ChainStatus::good) << length;
    EXPECT_EQ(chain.id.id, 5U);
    EXPECT_EQ(chain.id.slots, length);
    EXPECT_EQ(bench.ring->read_chain(1, Access::device_reads, bench.segments, chain), ChainStatus::good);
    EXPECT_EQ(chain.id.id, 6U);
  }
}

TEST(PackedRing, never_takes_more_than_the_ring_has_while_nothing_is_shown) {
  // The guest rewrites its flags as if it had been given everything back, again and again.
  Bench bench;
  std::size_t taken = 0;
  for (std::size_t turn = 0; turn < 40; ++turn) {
    const bool wrap = turn / 8 % 2 == 0;
    bench.driver.set_descriptor(bench.at(turn % 8), 0, GuestDriver::guest_base, 64, wrap ? flag_avail : flag_used);
    taken += bench.read(1).size();
    bench.give_back(bench.chains.size());
  }
  EXPECT_EQ(taken, 8U);
  EXPECT_FALSE(bench.ring->broken());
}

TEST(PackedRing, takes_an_indirect_table_as_it_lies_whatever_its_flags_say_of_a_next_one) {
  // DPDK's driver marks the first entry as writable by the device, and the others with `next` and the ring's own flags.
  Bench bench;
  constexpr std::size_t table = 0x30000;
  bench.driver.set_descriptor(table, 0, GuestDriver::guest_base, 12, desc_f_write, 99);
  bench.driver.set_descriptor(table, 1, GuestDriver::guest_base + 100, 50, desc_f_next | flag_avail, 0);
  bench.driver.set_descriptor(table, 2, GuestDriver::guest_base + 200, 60, flag_avail, 0);
  const Piece chain = {GuestDriver::guest_base + table, 3 * 16, desc_f_indirect};
  bench.driver.offer_chain(tx, 2, {&chain, 1});
  Chain read;
  ASSERT_EQ(bench.ring->read_chain(0, Access::device_reads, bench.segments, read), ChainStatus::good);
  EXPECT_EQ(read.size_bytes, 122U);
  EXPECT_EQ(read.segment_count, 3U);
  EXPECT_EQ(read.id.slots, 1U);
  EXPECT_EQ(bench.ring->read_chain(0, Access::device_writes, bench.segments, read), ChainStatus::malformed);
}

// ---- Wishes to be called ----

TEST(PackedRing, calls_when_the_guest_asked_for_it) {
  constexpr std::uint32_t enable = 0;
  constexpr std::uint32_t disable = 1U << 16;
  constexpr std::uint32_t desc = 2U << 16;
  const struct {
    const char* name;
    std::uint32_t wish;  // seen after four of eight slots, in the first lap
    bool event_idx;
    bool called;
  } cases[] = {
      {"always", enable, true, true},
      {"never", disable, true, false},
      {"never, whatever stands beside it", disable | 0x8002, true, false},
      {"after the first", desc | 0x8000, true, true},
      {"after the last", desc | 0x8003, true, true},
      {"after one more", desc | 0x8004, true, false},
      {"in the next lap", desc | 0x0002, true, false},
      {"in the lap before", desc | 0x0007, true, false},
      {"at a place that is none", desc | 0x8008, true, true},
      {"event index not negotiated", desc | 0x8004, false, true},
      {"reserved", 3U << 16, true, true},
  };
  for (const auto& test : cases) {
    Bench bench;
    bench.connect(test.event_idx ? virtio_ring_f_event_idx : 0);
    for (std::uint16_t i = 0; i < 4; ++i) bench.offer(i);
    bench.driver.set(bench.driver.rings[tx].avail, test.wish);
    ASSERT_EQ(bench.read().size(), 4U);
    bench.give_back(4);
    EXPECT_EQ(publish(*bench.ring), test.called) << test.name;
  }
}

TEST(PackedRing, calls_exactly_once_a_lap_for_one_place_whatever_the_batches) {
  for (std::uint16_t size = 1; size <= 9; ++size) {
    for (std::size_t batch = 1; batch <= size; ++batch) {
      Bench bench(size);
      bench.connect(virtio_ring_f_event_idx);
      const GuestDriver::Place wish = {static_cast<std::uint16_t>(size / 2), true};  // of two laps one
      bench.driver.set(bench.driver.rings[tx].avail, wish.raw() | 2U << 16);
      std::size_t shown = 0;
      std::size_t calls = 0;
      while (shown < 20U * size) {
        for (std::size_t i = 0; i < batch; ++i) bench.offer(0);
        ASSERT_EQ(bench.read().size(), batch);
        bench.give_back(batch);
        calls += publish(*bench.ring) ? 1 : 0;
        shown += batch;
        while (bench.driver.reap(tx)) {
        }
      }
      std::size_t passed = 0;  // how often that place was passed
      for (std::size_t slot = 0; slot < shown; ++slot) passed += slot % (2U * size) == wish.index ? 1 : 0;
      EXPECT_EQ(calls, passed) << size << ' ' << batch;
    }
  }
}

TEST(PackedRing, asks_for_kicks_in_the_guests_terms) {
  for (const bool event_idx : {false, true}) {
    Bench bench;
    bench.connect(event_idx ? virtio_ring_f_event_idx : 0);
    const std::size_t area = bench.driver.rings[tx].used;
    EXPECT_EQ(bench.driver.get<std::uint32_t>(area), 1U << 16) << "none while the worker polls";
    for (std::uint16_t i = 0; i < 3; ++i) bench.offer(i);
    bench.pass(3);
    EXPECT_FALSE(bench.ring->enable_kicks());
    EXPECT_EQ(bench.driver.get<std::uint32_t>(area), event_idx ? 0x8003U | 2U << 16 : 0U);
    bench.offer(3);
    EXPECT_TRUE(bench.ring->enable_kicks());
    bench.ring->disable_kicks();
    EXPECT_EQ(bench.driver.get<std::uint32_t>(area), 1U << 16);
  }
}

// ---- Positions that survive ----

// A driver that keeps some chains on offer, of one or two descriptors, over more than three laps; after each step the
// daemon crashes, and nothing is lost or comes twice that was given back.
TEST(PackedRing, goes_on_after_a_crash_at_any_place) {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{1, 2, 3, 7, 8}) {
    for (const std::size_t length : {1U, 2U, 3U}) {
      if (length > size) continue;
      for (std::size_t kept = 0; kept <= size / length; ++kept) {
        SCOPED_TRACE(testing::Message() << size << " entries, chains of " << length << ", " << kept << " on offer");
        Bench bench(size);
        std::deque<std::uint16_t> waiting;
        std::uint16_t id = 0;
        for (std::size_t step = 0; step < 8U * size; ++step) {
          while (waiting.size() < std::max<std::size_t>(kept, 1)) {
            bench.offer(id, length);
            waiting.push_back(id);
            id = static_cast<std::uint16_t>((id + 1) % size);
          }
          ASSERT_EQ(bench.read(1), Ids{waiting.front()}) << step;
          bench.pass(1);
          ASSERT_EQ(bench.driver.reap(tx)->id, waiting.front()) << step;
          waiting.pop_front();
          const std::uint32_t position = bench.ring->position();
          bench.connect();
          ASSERT_EQ(bench.ring->position(), position) << step;
        }
      }
    }
  }
}

// QEMU does not know where a packed ring is when its back-end died. What it finds on offer where it believes that to be it
// uses, ahead of what is due; and it says a base that is neither here nor there.
TEST(PackedRing, goes_on_after_the_front_end_used_chains_itself) {
  std::size_t used_by_front_end = 0;
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{1, 2, 7, 8}) {
    for (std::size_t kept = 1; kept <= size; ++kept) {
      for (const bool more_offered : {false, true}) {
        SCOPED_TRACE(testing::Message() << size << " entries, " << kept << " on offer");
        Bench bench(size);
        std::deque<std::uint16_t> waiting;
        std::uint16_t id = 0;
        const auto offer_up_to = [&](std::size_t count) {
          while (waiting.size() < count) {
            bench.offer(id);
            waiting.push_back(id);
            id = static_cast<std::uint16_t>((id + 1) % size);
          }
        };
        for (std::size_t step = 0; step < 8U * size; ++step) {
          offer_up_to(kept);
          bench.pass(1);
          ASSERT_EQ(bench.driver.reap(tx)->id, waiting.front()) << step;
          waiting.pop_front();
          if (more_offered) offer_up_to(size);
          used_by_front_end += bench.front_end_uses();
          bench.connect();
          while (const std::size_t count = bench.read().size()) bench.pass(count);
          while (const auto back = bench.driver.reap(tx)) {
            ASSERT_FALSE(waiting.empty()) << step;
            ASSERT_EQ(back->id, waiting.front()) << step;
            waiting.pop_front();
          }
          ASSERT_TRUE(waiting.empty()) << step << ": " << waiting.size() << " chains were forgotten";
        }
      }
    }
  }
  EXPECT_GT(used_by_front_end, 100U) << "the test shows nothing";
}

TEST(PackedRing, goes_on_where_the_front_end_is_if_it_knew_where_the_ring_was) {
  for (std::size_t chains = 1; chains <= 20; ++chains) {
    Bench bench;
    for (std::size_t i = 0; i < chains; ++i) {  // the front-end alone, over two laps and more
      bench.offer(static_cast<std::uint16_t>(i % 8));
      ASSERT_EQ(bench.front_end_uses(), 1U);
      ASSERT_EQ(bench.driver.reap(tx)->id, i % 8);
    }
    bench.connect();
    bench.offer(5);
    EXPECT_EQ(bench.read(), Ids{5}) << chains;
  }
}

TEST(PackedRing, a_guest_that_began_anew_and_met_the_front_end_first_is_recognized) {
  for (std::size_t steps = 1; steps < 40; ++steps) {
    Bench bench;
    for (std::size_t step = 0; step < steps; ++step) {
      bench.offer(static_cast<std::uint16_t>(step % 8));
      bench.pass(1);
      ASSERT_TRUE(bench.driver.reap(tx));
    }
    bench.driver.reset();
    for (std::uint16_t i = 0; i < 3; ++i) bench.offer(i);
    ASSERT_EQ(bench.front_end_uses(), 3U);
    for (std::uint16_t i = 3; i < 6; ++i) bench.offer(i);
    bench.connect();
    EXPECT_EQ(bench.read(), (Ids{3, 4, 5})) << steps;
  }
}

TEST(PackedRing, a_guest_that_marks_everything_as_used_gets_nothing) {
  for (const std::uint64_t flags : {std::uint64_t{flag_avail | flag_used}, std::uint64_t{0}}) {
    Bench bench;
    for (std::size_t slot = 0; slot < 8; ++slot) bench.driver.set(bench.at(slot) + 8, flags << 48);
    for (int pass = 0; pass < 40; ++pass) EXPECT_EQ(bench.ring->available(), 0U);
    EXPECT_FALSE(bench.ring->broken());
  }
}

TEST(PackedRing, a_guest_that_began_anew_is_recognized_at_any_place) {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{1, 2, 7, 8}) {
    for (const std::size_t offered_anew : {std::size_t{0}, std::size_t{1}, std::size_t{size}}) {
      for (std::size_t steps = 0; steps < 5U * size; ++steps) {
        Bench bench(size);
        for (std::size_t step = 0; step < steps; ++step) {
          bench.offer(static_cast<std::uint16_t>(step % size));
          bench.pass(1);
          ASSERT_TRUE(bench.driver.reap(tx));
        }
        bench.driver.reset();
        for (std::uint16_t i = 0; i < offered_anew; ++i) bench.offer(i);
        bench.connect();
        ASSERT_EQ(bench.ring->position(), 0x80008000U) << size << ' ' << offered_anew << ' ' << steps;
        ASSERT_EQ(bench.read().size(), offered_anew) << size << ' ' << steps;
      }
    }
  }
}

TEST(PackedRing, finishes_what_a_crash_left_half_shown) {
  enum Crash : std::uint8_t { noted, announced, half_written, shown, shown_and_offered_again };
  for (const Crash crash : {noted, announced, half_written, shown, shown_and_offered_again}) {
    for (std::uint16_t start = 0; start < 16; ++start) {  // two laps
      Bench bench;
      for (std::uint16_t i = 0; i < start; ++i) {
        bench.offer(i % 8);
        bench.pass(1);
        ASSERT_TRUE(bench.driver.reap(tx));
      }
      for (std::uint16_t i = 0; i < 4; ++i) bench.offer(i, i == 1 ? 2 : 1);
      ASSERT_EQ(bench.read(3), (Ids{0, 1, 2}));
      std::array<std::uint64_t, 16> before;  // the ring's words
      for (std::size_t i = 0; i < before.size(); ++i) before[i] = bench.driver.get<std::uint64_t>(bench.at(0) + 8 * i);
      const std::uint32_t position = bench.progress();
      bench.give_back(3);
      const RingRecord unshown = bench.record;
      if (crash != noted) {
        static_cast<void>(publish(*bench.ring));
        bench.record = unshown;
        bench.record.progress = position | std::uint64_t{3} << 32;
        for (std::size_t i = 0; i < before.size(); ++i) {
          const bool first = i / 2 == start % 8U;
          if (crash == announced || (crash == half_written && first)) bench.driver.set(bench.at(0) + 8 * i, before[i]);
        }
      }
      if (crash == shown_and_offered_again) {
        for (std::uint16_t i = 0; i < 3; ++i) ASSERT_EQ(bench.driver.reap(tx)->id, i);
        for (std::uint16_t i = 4; i < 7; ++i) bench.offer(i);
      }
      bench.connect();
      if (crash == noted || (crash == announced && start == 0)) {  // nothing in the ring says yet that it is not new
        EXPECT_FALSE(bench.driver.reap(tx));
        EXPECT_EQ(bench.read(), (Ids{0, 1, 2, 3})) << "the burst comes again";
        continue;
      }
      if (crash != shown_and_offered_again) {
        for (std::uint16_t i = 0; i < 3; ++i) {
          const auto back = bench.driver.reap(tx);
          ASSERT_TRUE(back) << static_cast<int>(crash) << ' ' << start;
          EXPECT_EQ(back->id, i);
        }
        EXPECT_EQ(bench.read(), Ids{3}) << static_cast<int>(crash) << ' ' << start;
      } else {
        EXPECT_EQ(bench.read(), (Ids{3, 4, 5, 6})) << start;
      }
      EXPECT_EQ(bench.record.progress >> 32, 0U);
    }
  }
}

TEST(PackedRing, believes_a_record_only_if_it_belongs_to_this_ring) {
  const struct {
    const char* name;
    void (*change)(Bench&);
    std::uint32_t position;
  } cases[] = {
      {"nothing changed", [](Bench&) {}, 0x8003},
      {"another memory", [](Bench& b) { ++b.record.inode; }, 0x8000},
      {"another file system", [](Bench& b) { ++b.record.device; }, 0x8000},
      {"elsewhere in it", [](Bench& b) { b.record.offset += 16; }, 0x8000},
      {"another size", [](Bench& b) { b.record.size = 16; }, 0x8000},
      {"the front-end knows better", [](Bench& b) { b.vring.base = 0x8005; }, 0x8005},
      {"the front-end was there, and then we", [](Bench& b) { b.vring.base = 0x8002; }, 0x8003},
      {"the base of a record outside", [](Bench& b) { b.record.base = 0x8008; }, 0x8000},
      {"so does this session",
       [](Bench& b) {
         b.vring.position = 0x8002;
         b.vring.position_known = true;
       },
       0x8002},
      {"a position outside", [](Bench& b) { b.record.progress = 0x8008; }, 0x8000},
      {"more chains than there is room for", [](Bench& b) { b.record.progress |= std::uint64_t{129} << 32; }, 0x8000},
      {"more slots than the ring has",
       [](Bench& b) {
         b.record.progress |= std::uint64_t{1} << 32;
         b.record.used[0].slots = 9;
       },
       0x8000},
  };
  for (const auto& test : cases) {
    Bench bench;
    for (std::uint16_t i = 0; i < 3; ++i) bench.offer(i);
    bench.pass(3);
    test.change(bench);
    bench.connect();
    EXPECT_EQ(bench.ring->position() & 0xFFFF, test.position) << test.name;
    EXPECT_EQ(bench.progress(), test.position) << test.name;
    EXPECT_EQ(bench.record.size, 8U) << test.name;
  }
}

TEST(PackedRing, a_ring_that_shrinks_while_it_runs_is_broken) {
  Bench bench;
  for (std::uint16_t i = 0; i < 6; ++i) bench.offer(i);
  bench.pass(6);
  bench.vring.size = 4;
  PackedRing small = *PackedRing::create(*bench.memory, bench.vring, features, bench.record);
  small.take_over(*bench.ring);
  EXPECT_TRUE(small.broken());
  EXPECT_EQ(small.available(), 0U);
}

TEST(RingFile, keeps_records_and_starts_anew_when_it_is_not_ours) {
  const test::TempDir dir;
  const std::string path = dir.path() + "/vm1";
  {
    const auto file = *RingFile::open(path);
    EXPECT_EQ(file->records()[1].size, 0U);
    file->records()[1].size = 42;
  }
  EXPECT_EQ((*RingFile::open(path))->records()[1].size, 42U);
  for (const char* content : {"", "short", "0123456789abcdef0123456789abcdef0123456789abcdef"}) {
    { *RingFile::open(path); }
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    ASSERT_EQ(::write(fd.get(), content, std::strlen(content)), static_cast<ssize_t>(std::strlen(content)));
    const auto file = *RingFile::open(path);
    EXPECT_EQ(file->records()[0].size, 0U) << content;
    EXPECT_EQ(file->records()[1].size, 0U) << content;
    file->records()[1].size = 7;
  }
  RingFile::remove(path);
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
  EXPECT_FALSE(RingFile::open(dir.path() + "/none/vm1"));
}

}  // namespace
}  // namespace patchbay::dataplane
