#include "dataplane/virtqueue/guest_queues.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/frames.h"
#include "tests/support/guest_driver.h"

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
  explicit Guest(std::uint64_t features = features_all) : driver(features) {
    const MemoryRegion region = driver.region();
    auto memory = GuestMemory::map({&region, 1});
    link = driver.link(*memory);
    connect();
  }
  void connect() {
    auto created = GuestQueues::create(link);
    ASSERT_TRUE(created) << created.error().message;
    queues = std::move(*created);
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
  CallSignal& calls = shared_calls();
  std::unique_ptr<GuestQueues> queues;
  Burst burst;
};

std::string frame_of(std::size_t payload) {
  return test::ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", "", payload);
}

TEST(GuestQueues, takes_frames_whatever_pieces_they_come_in) {
  for (const std::size_t piece : {1U, 5U, 12U, 13U, 26U, 64U, 140U, 2048U}) {
    for (const std::size_t payload : {0U, 50U, 113U, 114U, 115U, 600U}) {
      const std::string frame = frame_of(payload);
      if ((frame.size() + 12) / piece >= segments_max) continue;
      Guest guest;
      guest.driver.send(0, frame, piece);
      ASSERT_EQ(guest.queues->take(guest.burst), 1U);
      const Frame& taken = guest.burst.frames[0];
      ASSERT_EQ(taken.action, Action::undecided) << piece << ' ' << payload;
      EXPECT_EQ(taken.size, frame.size());
      EXPECT_EQ(guest.text(taken), frame);
    }
  }
}

TEST(GuestQueues, leaves_frames_in_the_ring_until_they_are_given_back) {
  Guest guest;
  for (std::uint16_t i = 0; i < 3; ++i) guest.driver.send(i, frame_of(10U + i));
  EXPECT_EQ(guest.queues->take(guest.burst), 3U);
  guest.queues->give_back(1);
  guest.queues->publish(guest.calls);
  EXPECT_TRUE(guest.driver.reap(tx));
  EXPECT_FALSE(guest.driver.reap(tx));
  EXPECT_EQ(guest.queues->take(guest.burst), 2U);
  EXPECT_EQ(guest.burst.frames[0].size, frame_of(11).size());
}

TEST(GuestQueues, goes_on_from_the_used_index_after_a_restart) {
  Guest guest;
  for (std::uint16_t i = 0; i < 4; ++i) guest.driver.send(i, frame_of(10U + i));
  ASSERT_EQ(guest.queues->take(guest.burst), 4U);
  guest.queues->give_back(3);
  guest.queues->publish(guest.calls);
  guest.connect();  // nothing was said about the positions
  ASSERT_EQ(guest.queues->take(guest.burst), 1U);
  EXPECT_EQ(guest.burst.frames[0].size, frame_of(13).size());
  EXPECT_EQ(guest.queues->next_avail()[tx], 3);
}

TEST(GuestQueues, puts_frames_into_as_many_buffers_as_they_need) {
  Guest guest;
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
    ASSERT_EQ(guest.queues->put(frame), Put::delivered);
    guest.queues->publish(guest.calls);
    EXPECT_EQ(guest.driver.receive(), bytes) << payload;
  }
  EXPECT_NE(guest.driver.calls(rx), 0U);
}

TEST(GuestQueues, says_when_the_ring_is_full_and_when_buffers_are_too_small) {
  std::string bytes = frame_of(300);
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  Guest guest;
  EXPECT_EQ(guest.queues->put(frame), Put::ring_full);
  guest.driver.offer_buffer(0, 200);
  EXPECT_EQ(guest.queues->put(frame), Put::ring_full) << "needs a second buffer";
  guest.driver.offer_buffer(1, 200);
  EXPECT_EQ(guest.queues->put(frame), Put::delivered);

  Guest single(virtio_f_version_1);  // without mergeable buffers
  single.driver.offer_buffer(0, 200);
  single.driver.offer_buffer(1, 2048);
  EXPECT_EQ(single.queues->put(frame), Put::bad_buffer);
}

TEST(GuestQueues, honours_the_guests_wish_to_be_called) {
  Guest guest(features_all | virtio_ring_f_event_idx);
  std::string bytes = frame_of(50);
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  guest.driver.offer_all_buffers();
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(rx), 1U) << "the greeting";
  const std::size_t wish = guest.driver.rings[rx].avail + 4 + 2 * GuestDriver::ring_size;
  guest.driver.set<std::uint16_t>(wish, 2);  // after the third
  for (int i = 0; i < 2; ++i) ASSERT_EQ(guest.queues->put(frame), Put::delivered);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(rx), 0U);
  ASSERT_EQ(guest.queues->put(frame), Put::delivered);
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

TEST(GuestQueues, asks_for_kicks_and_sees_what_came_before) {
  for (const std::uint64_t event_idx : {std::uint64_t{0}, virtio_ring_f_event_idx}) {
    Guest guest(features_all | event_idx);
    EXPECT_FALSE(guest.queues->enable_kicks());
    guest.driver.send(0, frame_of(50));
    EXPECT_TRUE(guest.queues->enable_kicks());
  }
}

// ---- Guests that lie ----

TEST(GuestQueues, drops_malformed_chains_and_goes_on) {
  constexpr std::uint16_t next = 1;
  constexpr std::uint16_t write = 2;
  constexpr std::uint16_t indirect = 4;
  constexpr std::uint64_t base = GuestDriver::guest_base;
  constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
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
      {"address below", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, 0, 64, 0); }},
      {"address above", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, top, 64, 0); }},
      {"straddles the end",
       [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base + GuestDriver::memory_size - 1, 64, 0); }},
      {"sum wraps", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, top - 10, 0xFFFFFFFF, 0); }},
      {"device-writable", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 64, write); }},
      {"nothing but the header", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 11, 0); }},
      {"empty", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 0, 0); }},
      {"indirect of odd size", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 17, indirect); }},
      {"indirect of no size", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 0, indirect); }},
      {"indirect outside", [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, top - 16, 32, indirect); }},
      {"indirect misaligned",
       [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base + 0x30001, 32, indirect); }},
      {"indirect with next",
       [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base + 0x30000, 32, indirect | next, 1); }},
      {"indirect inside indirect",
       [](GuestDriver& d, std::size_t t) {
         d.set_descriptor(t, 0, base + 0x30000, 32, indirect);
         d.set_descriptor(0x30000, 0, base + 0x30000, 32, indirect);
       }},
      {"next outside the indirect table",
       [](GuestDriver& d, std::size_t t) {
         d.set_descriptor(t, 0, base + 0x30000, 32, indirect);
         d.set_descriptor(0x30000, 0, base, 64, next, 2);
       }},
      {"indirect of four billion entries, none there",
       [](GuestDriver& d, std::size_t t) { d.set_descriptor(t, 0, base, 0xFFFFFFF0, indirect); }},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    Guest guest;
    test.arrange(guest.driver, guest.driver.rings[tx].desc);
    guest.driver.offer(tx, 0);
    guest.driver.send(10, frame_of(50));
    ASSERT_EQ(guest.queues->take(guest.burst), 2U);
    EXPECT_EQ(guest.burst.frames[0].action, Action::drop);
    EXPECT_EQ(guest.burst.frames[0].reason, DropReason::bad_descriptor);
    EXPECT_EQ(guest.text(guest.burst.frames[1]), frame_of(50));
    guest.queues->give_back(2);
    guest.queues->publish(guest.calls);
    EXPECT_EQ(guest.driver.reap(tx)->id, 0U);
    EXPECT_FALSE(guest.queues->broken());
  }
}

TEST(GuestQueues, takes_indirect_chains) {
  Guest guest;
  guest.driver.send(0, frame_of(400), 100);  // descriptors 0, 1, …: now put them into a table of their own
  for (std::size_t i = 0; i < 5 * 16; ++i) {
    guest.driver.set(0x30000 + i, guest.driver.get<std::uint8_t>(guest.driver.rings[tx].desc + i));
  }
  guest.driver.set_descriptor(guest.driver.rings[tx].desc, 0, GuestDriver::guest_base + 0x30000, 5 * 16, 4);
  ASSERT_EQ(guest.queues->take(guest.burst), 1U);
  EXPECT_EQ(guest.text(guest.burst.frames[0]), frame_of(400));

  Guest without(virtio_f_version_1);  // not negotiated
  without.driver.set_descriptor(without.driver.rings[tx].desc, 0, GuestDriver::guest_base + 0x30000, 16, 4);
  without.driver.offer(tx, 0);
  ASSERT_EQ(without.queues->take(without.burst), 1U);
  EXPECT_EQ(without.burst.frames[0].reason, DropReason::bad_descriptor);
}

TEST(GuestQueues, bounds_the_size_of_frames) {
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
    Guest guest;
    guest.driver.set_descriptor(guest.driver.rings[tx].desc, 0, GuestDriver::guest_base, test.size, 0);
    guest.driver.offer(tx, 0);
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

TEST(GuestQueues, returns_bad_receive_buffers_and_goes_on) {
  std::string bytes = frame_of(50);
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  Guest guest;
  guest.driver.set_descriptor(guest.driver.rings[rx].desc, 5, 0, 2048, 2);  // outside the memory
  guest.driver.offer(rx, 5);
  guest.driver.set_descriptor(guest.driver.rings[rx].desc, 6, GuestDriver::guest_base, 2048, 0);  // read-only
  guest.driver.offer(rx, 6);
  guest.driver.offer_buffer(7);
  EXPECT_EQ(guest.queues->put(frame), Put::bad_buffer);
  EXPECT_EQ(guest.queues->put(frame), Put::bad_buffer);
  EXPECT_EQ(guest.queues->put(frame), Put::delivered);
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
      static_cast<void>(guest.queues->put(frame));
      guest.queues->publish(guest.calls);
    }
  }
}

}  // namespace
}  // namespace patchbay::dataplane
