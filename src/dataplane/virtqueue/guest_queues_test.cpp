#include "dataplane/virtqueue/guest_queues.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/support/frames.h"
#include "tests/support/guest_driver.h"
#include "tests/support/put.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;

constexpr std::uint64_t features_all = virtio_net_f_mrg_rxbuf | virtio_ring_f_indirect_desc | virtio_f_version_1;
constexpr std::size_t rx = 0;
constexpr std::size_t tx = 1;

// One for all guests: to end asynchronous I/O waits for a kernel grace period each time.
CallSignal& shared_calls() {
  static CallSignal calls = *CallSignal::create();
  return calls;
}

struct Guest {
  explicit Guest(std::uint64_t features = features_all, std::uint16_t size = GuestDriver::ring_size)
      : driver(features, size) {
    const MemoryRegion region = driver.region();
    auto memory = GuestMemory::map({&region, 1});
    link = driver.link(*memory);
    connect();
  }
  void connect() {
    auto created = GuestQueues::create(link, &records);
    ASSERT_TRUE(created) << created.error().message;
    queues = std::move(*created);
    queues->catch_up();
  }
  std::string text(const Frame& frame) const {
    std::string bytes(reinterpret_cast<const char*>(frame.head), frame.head_size);
    for (std::size_t i = 0; i < frame.rest_count; ++i) {
      bytes.append(reinterpret_cast<const char*>(frame.rest[i].data), frame.rest[i].size);
    }
    return bytes;
  }
  GuestDriver driver;
  GuestLink link;
  RingRecords records{};
  CallSignal& calls = shared_calls();
  std::unique_ptr<GuestQueues> queues;
  Burst burst;
};

// What holds for both kinds of rings; the parameter is the feature that says which.
class AnyRing : public testing::TestWithParam<std::uint64_t> {
 public:
  static constexpr std::uint64_t split = 0;
  static constexpr std::uint64_t packed = virtio_f_ring_packed;
  [[nodiscard]] std::uint64_t features() const { return features_all | GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, AnyRing, testing::Values(AnyRing::split, AnyRing::packed),
                         [](const auto& kind) { return kind.param == AnyRing::split ? "split" : "packed"; });

// A whole frame as one piece.
Frame frame_over(std::string& bytes) {
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  return frame;
}

std::string frame_of(std::size_t payload) {
  return test::ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", "", payload);
}

TEST_P(AnyRing, takes_frames_whatever_pieces_they_come_in) {
  for (const std::size_t piece : {1U, 5U, 12U, 13U, 26U, 64U, 140U, 2048U}) {
    for (const std::size_t payload : {0U, 50U, 113U, 114U, 115U, 600U}) {
      const std::string frame = frame_of(payload);
      if ((frame.size() + 12) / piece >= segments_max) continue;
      Guest guest(features());
      guest.driver.send(0, frame, piece);
      ASSERT_EQ(guest.queues->take(guest.burst), 1U);
      const Frame& taken = guest.burst.frames[0];
      ASSERT_EQ(taken.action, Action::undecided) << piece << ' ' << payload;
      EXPECT_EQ(taken.size, frame.size());
      EXPECT_EQ(guest.text(taken), frame);
    }
  }
}

TEST_P(AnyRing, leaves_frames_in_the_ring_until_they_are_given_back) {
  Guest guest(features());
  for (std::uint16_t i = 0; i < 3; ++i) guest.driver.send(i, frame_of(10U + i));
  EXPECT_EQ(guest.queues->take(guest.burst), 3U);
  guest.queues->give_back(1);
  guest.queues->publish(guest.calls);
  EXPECT_TRUE(guest.driver.reap(tx));
  EXPECT_FALSE(guest.driver.reap(tx));
  EXPECT_EQ(guest.queues->take(guest.burst), 2U);
  EXPECT_EQ(guest.burst.frames[0].size, frame_of(11).size());
}

TEST_P(AnyRing, goes_on_where_it_was_after_a_restart) {
  Guest guest(features());
  for (std::uint16_t i = 0; i < 4; ++i) guest.driver.send(i, frame_of(10U + i));
  ASSERT_EQ(guest.queues->take(guest.burst), 4U);
  guest.queues->give_back(3);
  guest.queues->publish(guest.calls);
  guest.connect();  // the front-end says the same position as the first time
  ASSERT_EQ(guest.queues->take(guest.burst), 1U);
  EXPECT_EQ(guest.burst.frames[0].size, frame_of(13).size());
  EXPECT_EQ(guest.queues->positions()[tx], GetParam() == packed ? 0x80038003U : 3U);
}

TEST_P(AnyRing, goes_round_and_round_whatever_its_size) {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{1, 2, 3, 5, 31, 33, 63, 64}) {
    if (GetParam() == split && (size & (size - 1)) != 0) continue;
    SCOPED_TRACE(size);
    Guest guest(features(), size);
    std::uint16_t offered = 0;
    for (std::uint16_t i = 0; i < size; ++i) guest.driver.offer_buffer(offered++ % size);
    for (std::uint16_t i = 0; i < 300; ++i) {
      std::string bytes = frame_of(i % 100U);
      guest.driver.send(i % size, bytes, i % 3 == 0 && size >= 3 ? 60 : 2048);
      ASSERT_EQ(guest.queues->take(guest.burst), 1U) << i;
      ASSERT_EQ(guest.text(guest.burst.frames[0]), bytes) << i;
      guest.queues->give_back(1);
      ASSERT_EQ(test::put(*guest.queues, frame_over(bytes)), Put::delivered) << i;
      guest.queues->publish(guest.calls);
      ASSERT_EQ(guest.driver.reap(tx)->id, i % size) << i;
      ASSERT_EQ(guest.driver.receive(), bytes) << i;
      guest.driver.offer_buffer(offered++ % size);
      if (i % 7 == 0) guest.connect();
    }
    EXPECT_FALSE(guest.queues->broken());
  }
}

TEST_P(AnyRing, fills_to_the_last_buffer_and_no_further) {
  Guest guest(features());
  guest.driver.offer_all_buffers();
  std::string bytes = frame_of(50);
  const Frame frame = frame_over(bytes);
  for (std::uint16_t i = 0; i < GuestDriver::ring_size; ++i)
    ASSERT_EQ(test::put(*guest.queues, frame), Put::delivered) << i;
  EXPECT_EQ(test::put(*guest.queues, frame), Put::ring_full);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::ring_full);
  for (std::uint16_t i = 0; i < GuestDriver::ring_size; ++i) ASSERT_EQ(guest.driver.receive(), bytes) << i;
  EXPECT_FALSE(guest.driver.receive());
  EXPECT_FALSE(guest.queues->broken());
}

TEST_P(AnyRing, puts_the_largest_frame_into_chains_and_merges_them) {
  Guest guest(features());
  std::string bytes = frame_of(frame_size_max - ethernet_header_size);
  for (std::uint16_t i = 0; i < 64; i = static_cast<std::uint16_t>(i + 2)) {  // 32 chains of two pieces
    const std::uint64_t at = GuestDriver::guest_base + guest.driver.buffer(rx, i);
    const GuestDriver::Piece pieces[] = {{at, 1000, desc_f_write}, {at + 1000, 1100, desc_f_write}};
    guest.driver.offer_chain(rx, i, pieces);
  }
  ASSERT_EQ(test::put(*guest.queues, frame_over(bytes)), Put::delivered);
  EXPECT_FALSE(guest.driver.receive()) << "not shown yet";
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.receive(), bytes);
}

TEST_P(AnyRing, hands_over_to_queues_that_come_after) {
  Guest guest(features());
  guest.driver.send(0, frame_of(10));
  ASSERT_EQ(guest.queues->take(guest.burst), 1U);
  guest.queues->give_back(1);
  guest.queues->publish(guest.calls);
  GuestLink moved = guest.link;
  moved.rings[tx].base = moved.rings[tx].position = 7 | 0x8000;  // not asked for: the ring runs
  auto next = std::move(*GuestQueues::create(moved, &guest.records));
  guest.driver.send(1, frame_of(20));
  next->take_over(*guest.queues);
  ASSERT_EQ(next->take(guest.burst), 1U);
  EXPECT_EQ(guest.text(guest.burst.frames[0]), frame_of(20));
}

TEST_P(AnyRing, puts_frames_into_as_many_buffers_as_they_need) {
  Guest guest(features());
  for (std::uint16_t i = 0; i < 8; ++i) guest.driver.offer_buffer(i, 100);
  for (const std::size_t payload : {0U, 74U, 75U, 300U}) {
    std::string bytes = frame_of(payload);
    Frame frame;
    frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
    frame.head_size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), 20));
    const Segment rest = {frame.head + frame.head_size, static_cast<std::uint32_t>(bytes.size()) - frame.head_size};
    frame.size = static_cast<std::uint32_t>(bytes.size());
    frame.rest = &rest;
    frame.rest_count = rest.size == 0 ? 0 : 1;
    ASSERT_EQ(test::put(*guest.queues, frame), Put::delivered);
    guest.queues->publish(guest.calls);
    EXPECT_EQ(guest.driver.receive(), bytes) << payload;
  }
  EXPECT_NE(guest.driver.calls(rx), 0U);
}

TEST_P(AnyRing, says_when_the_ring_is_full_and_when_buffers_are_too_small) {
  std::string bytes = frame_of(300);
  const Frame frame = frame_over(bytes);
  Guest guest(features());
  EXPECT_EQ(test::put(*guest.queues, frame), Put::ring_full);
  guest.driver.offer_buffer(0, 200);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::ring_full) << "needs a second buffer";
  guest.driver.offer_buffer(1, 200);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::delivered);

  Guest single(virtio_f_version_1 | GetParam());  // without mergeable buffers
  single.driver.offer_buffer(0, 200);
  single.driver.offer_buffer(1, 2048);
  EXPECT_EQ(test::put(*single.queues, frame), Put::bad_buffer);
}

TEST_P(AnyRing, honours_the_guests_wish_to_be_called) {
  Guest guest(features() | virtio_ring_f_event_idx);
  std::string bytes = frame_of(50);
  const Frame frame = frame_over(bytes);
  guest.driver.offer_all_buffers();
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(rx), 1U) << "the greeting";
  guest.driver.ask_for_call(rx, 2);  // after the third
  for (int i = 0; i < 2; ++i) ASSERT_EQ(test::put(*guest.queues, frame), Put::delivered);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(rx), 0U);
  ASSERT_EQ(test::put(*guest.queues, frame), Put::delivered);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(rx), 1U);
}

TEST(CallSignal, does_not_block_on_a_full_eventfd_that_may_block) {
  const UniqueFd fd(eventfd(0, EFD_CLOEXEC));  // O_NONBLOCK is not set, and any front-end could clear it
  const std::uint64_t almost_full = std::numeric_limits<std::uint64_t>::max() - 1;
  ASSERT_EQ(write(fd.get(), &almost_full, sizeof almost_full), 8);
  CallSignal calls = *CallSignal::create();
  for (int i = 0; i < 1000; ++i) calls.call(fd.get());
  calls.call(-1);
  std::uint64_t count = 0;
  EXPECT_EQ(read(fd.get(), &count, sizeof count), 8);
  for (int i = 0; i < 1000; ++i) calls.call(fd.get());
  EXPECT_EQ(read(fd.get(), &count, sizeof count), 8);
  EXPECT_EQ(count, 1000U);
}

TEST_P(AnyRing, asks_for_kicks_and_sees_what_came_before) {
  for (const std::uint64_t event_idx : {std::uint64_t{0}, virtio_ring_f_event_idx}) {
    Guest guest(features() | event_idx);
    EXPECT_FALSE(guest.queues->enable_kicks());
    guest.driver.send(0, frame_of(50));
    EXPECT_TRUE(guest.queues->enable_kicks());
  }
}

// ---- Guests that lie ----

TEST_P(AnyRing, drops_malformed_chains_and_goes_on) {
  constexpr std::uint64_t base = GuestDriver::guest_base;
  constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  constexpr std::size_t table = 0x30000;
  using Piece = GuestDriver::Piece;
  const struct {
    const char* name;
    std::vector<Piece> chain;
    std::vector<Piece> table = {};
  } cases[] = {
      {"address below", {{0, 64}}},
      {"address above", {{top, 64}}},
      {"second address above", {{base, 64}, {top, 64}}},
      {"straddles the end", {{base + GuestDriver::memory_size - 1, 64}}},
      {"sum wraps", {{top - 10, 0xFFFFFFFF}}},
      {"device-writable", {{base, 64, desc_f_write}}},
      {"device-writable at its end", {{base, 64}, {base, 64, desc_f_write}}},
      {"nothing but the header", {{base, 11}}},
      {"empty", {{base, 0}}},
      {"indirect of odd size", {{base + table, 17, desc_f_indirect}}},
      {"indirect of no size", {{base + table, 0, desc_f_indirect}}},
      {"indirect outside", {{top - 16, 32, desc_f_indirect}}},
      {"indirect misaligned", {{base + table + 1, 32, desc_f_indirect}}},
      {"indirect with next", {{base + table, 16, desc_f_indirect}, {base, 64}}, {{base, 64}}},
      {"indirect as the second", {{base, 64}, {base + table, 16, desc_f_indirect}}, {{base, 64}}},
      {"indirect inside indirect", {{base + table, 16, desc_f_indirect}}, {{base + table, 16, desc_f_indirect}}},
      {"an address above in an indirect table", {{base + table, 16, desc_f_indirect}}, {{top, 64}}},
      {"indirect of four billion entries, none there", {{base, 0xFFFFFFF0, desc_f_indirect}}},
      {"indirect of more entries than a chain may have", {{base, 16 * (segments_max + 1), desc_f_indirect}}},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    Guest guest(features());
    for (std::size_t i = 0; i < test.table.size(); ++i) {
      guest.driver.set_descriptor(table, i, test.table[i].address, test.table[i].size, test.table[i].flags);
    }
    guest.driver.offer_chain(tx, 3, test.chain);
    guest.driver.send(10, frame_of(50));
    ASSERT_EQ(guest.queues->take(guest.burst), 2U);
    EXPECT_EQ(guest.burst.frames[0].action, Action::drop);
    EXPECT_EQ(guest.burst.frames[0].reason, DropReason::bad_descriptor);
    EXPECT_EQ(guest.text(guest.burst.frames[1]), frame_of(50));
    guest.queues->give_back(2);
    guest.queues->publish(guest.calls);
    EXPECT_EQ(guest.driver.reap(tx)->id, 3U);
    EXPECT_EQ(guest.driver.reap(tx)->id, 10U);
    EXPECT_FALSE(guest.queues->broken());
  }
}

TEST(GuestQueues, drops_chains_that_lead_astray_and_goes_on) {
  constexpr std::uint16_t next = 1;
  constexpr std::uint16_t indirect = 4;
  constexpr std::uint64_t base = GuestDriver::guest_base;
  const struct {
    const char* name;
    void (*arrange)(GuestDriver&, std::size_t table);
  } cases[] = {
      {"loop", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 64, next, 0); }},
      {"loop of two",
       [](GuestDriver& d, std::size_t t) {
         d.set_descriptor(t, 0, base, 64, next, 1);
         d.set_descriptor(t, 1, base, 64, next, 0);
       }},
      {"next outside the table", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 64, next, 64); }},
      {"next outside the indirect table",
       [](GuestDriver& d, std::size_t t) {
         d.set_descriptor(t, 0, base + 0x30000, 32, indirect);
         d.set_descriptor(0x30000, 0, base, 64, next, 2);
       }},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    Guest guest;
    test.arrange(guest.driver, guest.driver.rings[tx].desc);
    guest.driver.offer(tx, 0);
    guest.driver.send(10, frame_of(50));
    ASSERT_EQ(guest.queues->take(guest.burst), 2U);
    EXPECT_EQ(guest.burst.frames[0].reason, DropReason::bad_descriptor);
    EXPECT_EQ(guest.text(guest.burst.frames[1]), frame_of(50));
    guest.queues->give_back(2);
    guest.queues->publish(guest.calls);
    EXPECT_EQ(guest.driver.reap(tx)->id, 0U);
    EXPECT_FALSE(guest.queues->broken());
  }
}

TEST_P(AnyRing, takes_indirect_chains) {
  Guest guest(features());
  constexpr std::size_t table = 0x30000;
  const std::string frame = std::string(GuestDriver::header_size, '\0') + frame_of(400);
  constexpr std::size_t entries = 5;
  for (std::size_t i = 0; i < frame.size(); ++i) guest.driver.set(0x38000 + i, frame[i]);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t part = std::min<std::size_t>(100, frame.size() - 100 * i);
    guest.driver.set_descriptor(table, i, GuestDriver::guest_base + 0x38000 + 100 * i, static_cast<std::uint32_t>(part),
                                GetParam() == split && i + 1 < entries ? 1 : 0, static_cast<std::uint16_t>(i + 1));
  }
  const GuestDriver::Piece chain = {GuestDriver::guest_base + table, entries * 16, 4};
  guest.driver.offer_chain(tx, 3, {&chain, 1});
  ASSERT_EQ(guest.queues->take(guest.burst), 1U);
  EXPECT_EQ(guest.text(guest.burst.frames[0]), frame_of(400));

  Guest without(virtio_f_version_1 | GetParam());  // not negotiated
  without.driver.offer_chain(tx, 3, {&chain, 1});
  ASSERT_EQ(without.queues->take(without.burst), 1U);
  EXPECT_EQ(without.burst.frames[0].reason, DropReason::bad_descriptor);
}

TEST_P(AnyRing, bounds_the_size_of_frames) {
  const struct {
    std::uint32_t size;
    Action action;
    DropReason reason;
  } cases[] = {
      {12, Action::drop, DropReason::frame_too_short},
      {12 + 13, Action::drop, DropReason::frame_too_short},
      {12 + 14, Action::undecided, {}},
      {12 + 65536, Action::undecided, {}},
      {12 + 65537, Action::drop, DropReason::oversize},
      {GuestDriver::memory_size, Action::drop, DropReason::oversize},
  };
  for (const auto& test : cases) {
    Guest guest(features());
    const GuestDriver::Piece piece = {GuestDriver::guest_base, test.size, 0};
    guest.driver.offer_chain(tx, 0, {&piece, 1});
    ASSERT_EQ(guest.queues->take(guest.burst), 1U);
    EXPECT_EQ(guest.burst.frames[0].action, test.action) << test.size;
    if (test.action == Action::drop) {
      EXPECT_EQ(guest.burst.frames[0].reason, test.reason) << test.size;
    }
  }
}

TEST(GuestQueues, stops_at_indices_that_no_driver_writes) {
  Guest jumped;
  jumped.driver.set<std::uint16_t>(jumped.driver.rings[tx].avail + 2, GuestDriver::ring_size + 1);
  EXPECT_EQ(jumped.queues->take(jumped.burst), 0U);
  EXPECT_TRUE(jumped.queues->broken());

  Guest id;
  id.driver.offer(tx, GuestDriver::ring_size);
  EXPECT_EQ(id.queues->take(id.burst), 0U);
  EXPECT_TRUE(id.queues->broken());
}

TEST_P(AnyRing, returns_bad_receive_buffers_and_goes_on) {
  std::string bytes = frame_of(50);
  const Frame frame = frame_over(bytes);
  Guest guest(features());
  const GuestDriver::Piece outside = {0, 2048, 2};
  guest.driver.offer_chain(rx, 5, {&outside, 1});
  const GuestDriver::Piece read_only = {GuestDriver::guest_base, 2048, 0};
  guest.driver.offer_chain(rx, 6, {&read_only, 1});
  guest.driver.offer_buffer(7);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::bad_buffer);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::bad_buffer);
  EXPECT_EQ(test::put(*guest.queues, frame), Put::delivered);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.reap(rx)->id, 5U);
  EXPECT_EQ(guest.driver.reap(rx)->id, 6U);
  EXPECT_EQ(guest.driver.receive(), bytes);
}

TEST(GuestQueues, refuses_rings_that_lie_outside_the_memory) {
  Guest guest;
  const struct {
    const char* name;
    void (*change)(Vring&);
  } cases[] = {
      {"size not a power of two", [](Vring& r) { r.size = 63; }},
      {"too many entries", [](Vring& r) { r.size = 0xFFFF; }},
      {"descriptors outside", [](Vring& r) { r.desc_address = 0x10; }},
      {"available ring beyond the end",
       [](Vring& r) { r.avail_address = GuestDriver::front_end_base + GuestDriver::memory_size - 4; }},
      {"used ring beyond the end",
       [](Vring& r) { r.used_address = GuestDriver::front_end_base + GuestDriver::memory_size - 4; }},
      {"descriptors misaligned", [](Vring& r) { r.desc_address += 8; }},
      {"available ring misaligned", [](Vring& r) { r.avail_address += 1; }},
      {"used ring misaligned", [](Vring& r) { r.used_address += 2; }},
      {"address wraps", [](Vring& r) { r.desc_address = std::numeric_limits<std::uint64_t>::max() - 15; }},
  };
  for (const auto& test : cases) {
    for (const std::size_t ring : {rx, tx}) {
      GuestLink link = guest.link;
      test.change(link.rings[ring]);
      EXPECT_FALSE(GuestQueues::create(link)) << test.name;
    }
  }
}

TEST(GuestQueues, random_rings_do_no_harm) {
  std::uint64_t state = 42;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int round = 0; round < 300; ++round) {
    Guest guest(features_all | (round % 2 == 0 ? virtio_ring_f_event_idx : 0));
    for (std::size_t at = 0; at < 0x20000; at += 8) {
      // Mostly plausible: addresses near the memory, small sizes, flags of all kinds.
      guest.driver.set(at, random() % 4 == 0 ? random() : random() % 0x420000);
    }
    for (std::size_t ring = 0; ring < 2; ++ring) {
      const auto used = guest.driver.get<std::uint16_t>(guest.driver.rings[ring].used + 2);
      guest.driver.set<std::uint16_t>(guest.driver.rings[ring].avail + 2,
                                      static_cast<std::uint16_t>(used + random() % 70));
    }
    guest.connect();
    std::string bytes = frame_of(random() % 1000);
    Frame frame;
    frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
    frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
    for (int pass = 0; pass < 4; ++pass) {
      const std::size_t count = guest.queues->take(guest.burst);
      for (std::size_t i = 0; i < count; ++i) {
        if (guest.burst.frames[i].action == Action::undecided) {
          EXPECT_EQ(guest.text(guest.burst.frames[i]).size(), guest.burst.frames[i].size);
        }
      }
      guest.queues->give_back(count);
      static_cast<void>(test::put(*guest.queues, frame));
      guest.queues->publish(guest.calls);
    }
  }
}

}  // namespace
}  // namespace patchbay::dataplane
