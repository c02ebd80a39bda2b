#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"
#include "tests/support/ip_frames.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;
using test::GuestDriver;
using test::SwitchBench;

const std::string everyone = "ff:ff:ff:ff:ff:ff";
const std::string outside = "02:ee:00:00:00:01";

std::string numbered(std::size_t to, std::size_t from, std::uint32_t number) {
  std::string frame = ethernet(SwitchBench::mac(to).c_str(), SwitchBench::mac(from).c_str());
  std::memcpy(frame.data() + 14, &number, sizeof number);
  return frame;
}
std::uint32_t number_of(const std::string& frame) {
  std::uint32_t number = 0;
  std::memcpy(&number, frame.data() + 14, sizeof number);
  return number;
}

// Vnic 1 and the uplink belong to worker 0, vnics 2 and 3 to worker 1, vnic 4 to worker 2.
struct Bench : SwitchBench {
  Bench()
      : SwitchBench({{.vid = 101, .worker = 0},
                     {.vid = 101, .worker = 1},
                     {.vid = 101, .worker = 1},
                     {.vid = 101, .worker = 2}},
                    true, 3) {}
  void pass(unsigned which) { workers->at(which).poll_once(); }
};

TEST(Lending, a_port_receives_nothing_more_until_what_it_lent_is_back) {
  Bench bench;
  for (std::uint32_t i = 0; i < 3; ++i) bench.fakes[1]->arrive(numbered(2, 1, i));
  bench.pass(0);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 0U) << "only its own worker writes to it";
  EXPECT_EQ(bench.fakes[1]->waiting(), 3U) << "not done with";
  bench.fakes[1]->arrive(numbered(3, 1, 3));
  bench.pass(0);
  bench.pass(1);
  ASSERT_EQ(bench.fakes[2]->sent().size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(number_of(bench.fakes[2]->sent()[i].text()), i);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 0U);
  bench.pass(0);
  EXPECT_EQ(bench.fakes[1]->waiting(), 1U) << "received, and lent in turn";
  bench.pass(1);
  bench.pass(0);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[1]->waiting(), 0U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Lending, a_burst_for_several_workers_is_back_when_all_have_given_back) {
  Bench bench;
  for (const std::size_t to : {2U, 4U, 3U, 2U}) bench.fakes[1]->arrive(numbered(to, 1, 0));
  bench.pass(0);
  bench.pass(1);
  bench.pass(0);
  EXPECT_EQ(bench.fakes[1]->waiting(), 4U);
  bench.pass(2);
  bench.pass(0);
  EXPECT_EQ(bench.fakes[1]->waiting(), 0U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 2U);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[4]->sent().size(), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Lending, a_broadcast_reaches_the_ports_of_all_workers_and_the_uplink_once) {
  for (const std::size_t sender : {1U, 2U, 4U}) {
    Bench bench;
    bench.fakes[sender]->arrive(ethernet(everyone.c_str(), SwitchBench::mac(sender).c_str()));
    bench.fakes[sender]->arrive(ethernet(outside.c_str(), SwitchBench::mac(sender).c_str()));
    for (int i = 0; i < 6; ++i) bench.poll_all();
    for (std::size_t port = 1; port <= 4; ++port) {
      EXPECT_EQ(bench.fakes[port]->sent().size(), port == sender ? 0U : 1U) << sender << " to " << port;
    }
    EXPECT_EQ(bench.fakes[0]->sent().size(), 2U) << sender;
    EXPECT_EQ(bench.fakes[sender]->waiting(), 0U) << sender;
    EXPECT_EQ(bench.imbalance(), 0) << sender;
  }
}

TEST(Lending, from_the_wire_to_the_ports_of_all_workers) {
  Bench bench;
  bench.fakes[0]->arrive(ethernet(everyone.c_str(), outside.c_str(), test::tag(101), 1400));
  bench.fakes[0]->arrive(ethernet(SwitchBench::mac(4).c_str(), outside.c_str(), test::tag(101), 1400));
  for (int i = 0; i < 4; ++i) bench.poll_all();
  for (std::size_t port = 1; port <= 4; ++port) {
    ASSERT_EQ(bench.fakes[port]->sent().size(), port == 4 ? 2U : 1U) << port;
    EXPECT_EQ(bench.fakes[port]->sent()[0].text(), ethernet(everyone.c_str(), outside.c_str(), "", 1400));
  }
  EXPECT_EQ(bench.imbalance(), 0);
}

std::string numbered_from_outside(std::size_t to, std::uint32_t number) {
  std::string frame = ethernet(SwitchBench::mac(to).c_str(), outside.c_str(), test::tag(101));
  std::memcpy(frame.data() + 18, &number, sizeof number);
  return frame;
}

TEST(Lending, an_uplink_has_several_bursts_out_and_no_more) {
  Bench bench;
  FakePort& uplink = *bench.fakes[0];
  for (std::uint32_t i = 0; i < uplink_bursts * burst_max; ++i) uplink.arrive(numbered_from_outside(4, i));
  for (std::size_t burst = 0; burst < uplink_bursts; ++burst) bench.pass(0);
  bench.pass(0);
  EXPECT_EQ(uplink.waiting(), uplink_bursts * burst_max) << "none of them is done with";
  bench.pass(2);
  ASSERT_EQ(bench.fakes[4]->sent().size(), uplink_bursts * burst_max);
  for (std::uint32_t i = 0; i < uplink_bursts * burst_max; ++i) {
    EXPECT_EQ(number_of(bench.fakes[4]->sent()[i].text()), i);
  }
  bench.pass(0);
  EXPECT_EQ(uplink.waiting(), 0U) << "all at once";
  EXPECT_EQ(uplink.counters().ingress.frames, uplink_bursts * burst_max);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Lending, what_comes_in_from_the_wire_is_not_received_while_a_lane_is_full) {
  for (const bool to_all : {false, true}) {
    Bench bench;
    FakePort& uplink = *bench.fakes[0];
    constexpr std::uint32_t from_wire = 230;
    for (std::uint32_t i = 0; i < 32; ++i) bench.fakes[1]->arrive(numbered(4, 1, i));
    bench.pass(0);
    for (std::uint32_t i = 0; i < from_wire; ++i) {
      uplink.arrive(to_all ? ethernet(everyone.c_str(), outside.c_str(), test::tag(101)) : numbered_from_outside(4, i));
    }
    for (std::size_t burst = 0; burst <= uplink_bursts; ++burst) bench.pass(0);
    EXPECT_EQ(bench.fakes[4]->sent().size(), 0U);
    for (int round = 0; round < 30; ++round) {
      bench.poll_all();
      for (std::size_t i = 1; i <= 4; ++i) bench.fakes[i]->forget_sent();
    }
    EXPECT_EQ(uplink.waiting(), 0U);
    EXPECT_EQ(uplink.counters().ingress.frames, from_wire);
    EXPECT_EQ(bench.fakes[4]->counters().egress.frames, 32 + from_wire);
    EXPECT_EQ(bench.fakes[2]->counters().egress.frames, to_all ? from_wire : 0);
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Lending, what_a_full_uplink_refuses_waits_in_its_ring_and_goes_in_order) {
  Bench bench;
  bench.fakes[0]->set_room(2);
  for (std::uint32_t i = 0; i < 5; ++i) {
    std::string frame = numbered(2, 4, i);
    std::memcpy(frame.data(), test::mac_bytes(outside.c_str()).data(), 6);
    bench.fakes[4]->arrive(frame);
  }
  bench.fakes[4]->arrive(ethernet(everyone.c_str(), SwitchBench::mac(4).c_str()));
  bench.fakes[4]->arrive(numbered(2, 4, 9));
  for (int i = 0; i < 5; ++i) bench.poll_all();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 2U);
  EXPECT_EQ(bench.fakes[4]->waiting(), 5U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 0U) << "nothing overtakes";
  bench.fakes[0]->set_room(3);
  for (int i = 0; i < 5; ++i) bench.poll_all();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 5U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 0U) << "the uplink gets a frame to all first";
  bench.fakes[0]->set_room(100);
  for (int i = 0; i < 8; ++i) bench.poll_all();
  ASSERT_EQ(bench.fakes[0]->sent().size(), 6U);
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(number_of(bench.fakes[0]->sent()[i].text()), i);
  ASSERT_EQ(bench.fakes[2]->sent().size(), 2U);
  EXPECT_EQ(number_of(bench.fakes[2]->sent()[1].text()), 9U);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[4]->waiting(), 0U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Lending, a_large_piece_for_a_full_uplink_goes_on_where_it_was) {
  for (const std::string& to : {outside, everyone}) {
    Bench bench;
    test::IpFrame piece{.destination = to, .source = SwitchBench::mac(2), .payload = test::pattern(10 * 1448)};
    bench.fakes[2]->arrive(piece.bytes(false), 0, 0, piece.header(1448));
    bench.fakes[0]->set_room(3);
    for (int i = 0; i < 5; ++i) bench.poll_all();
    EXPECT_EQ(bench.fakes[0]->sent().size(), 3U) << to;
    bench.fakes[0]->set_room(4);
    for (int i = 0; i < 5; ++i) bench.poll_all();
    EXPECT_EQ(bench.fakes[0]->sent().size(), 7U) << to;
    bench.fakes[0]->set_room(100);
    for (int i = 0; i < 5; ++i) bench.poll_all();
    ASSERT_EQ(bench.fakes[0]->sent().size(), 10U) << to;
    std::string payload;
    for (const auto& frame : bench.fakes[0]->sent()) payload += frame.text().substr(frame.size - 1448);
    EXPECT_EQ(payload, test::pattern(10 * 1448)) << to;
    EXPECT_EQ(bench.fakes[1]->sent().size(), to == everyone ? 10U : 0U) << to;
    EXPECT_EQ(bench.imbalance(), 0) << to;
  }
}

TEST(Lending, a_full_lane_holds_the_sender_up_and_loses_nothing) {
  Bench bench;
  std::size_t arrived = 0;
  for (std::uint32_t i = 0; i < 200; ++i) bench.fakes[1]->arrive(numbered(4, 1, i));
  for (std::uint32_t i = 0; i < 200; ++i) bench.fakes[2]->arrive(numbered(4, 2, i));
  for (int round = 0; round < 40; ++round) {
    bench.pass(0);
    bench.pass(1);
    if (round % 3 == 0) bench.pass(2);
    arrived = bench.fakes[4]->sent().size();
    if (arrived > 200) bench.fakes[4]->forget_sent();
  }
  EXPECT_EQ(bench.fakes[1]->waiting() + bench.fakes[2]->waiting(), 0U);
  EXPECT_EQ(bench.fakes[4]->counters().egress.frames, 400U);
  EXPECT_EQ(bench.imbalance(), 0);
}

// ---- Threads --------------------------------------------------------------------------------------------------------

struct Guest {
  explicit Guest(std::size_t which, std::uint64_t features)
      : number(which), driver(features), port(PortId{static_cast<std::uint32_t>(100 + which)}, -1) {
    const MemoryRegion region = driver.region();
    memory = *GuestMemory::map({&region, 1});
    queues = *GuestQueues::create(driver.link(memory));
    queues->catch_up();
    EXPECT_TRUE(port.connect(queues.get(), -1));
    driver.offer_all_buffers();
  }
  std::size_t number;
  GuestDriver driver;
  std::shared_ptr<const GuestMemory> memory;
  std::unique_ptr<GuestQueues> queues;
  GuestPort port;
  std::map<std::size_t, std::uint32_t> sent, received;  // by the other guest
};

// Sends numbered frames to all others, and checks that theirs come in order.
class Talk {
 public:
  static constexpr std::size_t window = GuestDriver::ring_size / 8;
  Talk(std::vector<std::unique_ptr<Guest>>& guests, Workers& workers) : guests_(guests), workers_(workers) {}
  // Until nothing is on its way after `stop`. False: lost, or overtaken.
  bool run(const std::atomic<bool>& stop) {
    std::mt19937 random(7);
    for (;;) {
      std::size_t out = 0;
      for (const auto& guest : guests_) {
        for (const auto& other : guests_) {
          if (guest == other) continue;
          const std::uint32_t on_the_way = guest->sent[other->number] - other->received[guest->number];
          out += on_the_way;
          if (!stop.load() && on_the_way < window / guests_.size() + 1 && random() % 2 == 0) send(*guest, *other);
        }
        while (const auto frame = guest->driver.receive()) {
          std::size_t from = static_cast<std::uint8_t>((*frame)[11]);
          if (number_of(*frame) != guest->received[from]++) return false;
          guest->driver.offer_buffer(static_cast<std::uint16_t>(taken_[guest->number]++ % GuestDriver::ring_size));
        }
        while (guest->driver.reap(1)) --in_ring_[guest->number];
      }
      if (stop.load() && out == 0) return true;
      workers_.wake();
    }
  }

 private:
  void send(Guest& from, const Guest& to) {
    if (in_ring_[from.number] == GuestDriver::ring_size) return;
    ++in_ring_[from.number];
    from.driver.send(static_cast<std::uint16_t>(slot_[from.number]++ % GuestDriver::ring_size),
                     numbered(to.number, from.number, from.sent[to.number]++));
  }
  std::vector<std::unique_ptr<Guest>>& guests_;
  Workers& workers_;
  std::map<std::size_t, std::uint32_t> taken_, slot_, in_ring_;
};

TEST(Lending, guests_on_three_workers_talk_while_they_are_moved) {
  for (const std::uint64_t layout : {std::uint64_t{0}, virtio_f_ring_packed}) {
    std::vector<std::unique_ptr<Guest>> guests;
    std::vector<SwitchBench::Vnic> vnics;
    for (std::size_t i = 1; i <= 5; ++i) {
      guests.push_back(std::make_unique<Guest>(i, virtio_f_version_1 | virtio_net_f_mrg_rxbuf | layout));
      vnics.push_back({.vid = 101, .port = &guests.back()->port, .worker = static_cast<unsigned>(i % 3)});
    }
    SwitchBench bench(vnics, true, 3);
    ASSERT_TRUE(bench.workers->start());
    std::atomic<bool> stop = false;
    bool complete = false;
    Talk talk(guests, *bench.workers);
    std::thread driver([&] { complete = talk.run(stop); });
    std::mt19937 random(3);
    for (int round = 0; round < 200; ++round) {
      bench.move(1 + random() % 5, static_cast<unsigned>(random() % 3));
      if (round % 8 == 0) bench.set_vid(1 + random() % 5, 101);  // another snapshot
    }
    stop.store(true);
    driver.join();
    EXPECT_TRUE(complete);
    std::uint64_t received = 0;
    for (const auto& guest : guests) {
      for (const auto& [from, count] : guest->received) received += count;
    }
    EXPECT_GT(received, 0U);
    bench.workers->drain();
    bench.workers->at_rest([&] {
      EXPECT_EQ(bench.imbalance(), 0);
      for (const auto& guest : guests) {
        EXPECT_EQ(guest->port.counters().drops[static_cast<std::size_t>(DropReason::buffer_full)], 0U);
      }
    });
  }
}

TEST(Lending, workers_that_sleep_are_woken_by_what_is_lent_and_given_back) {
  Guest one(1, virtio_f_version_1 | virtio_net_f_mrg_rxbuf);
  Guest two(2, virtio_f_version_1 | virtio_net_f_mrg_rxbuf);
  SwitchBench bench({{.vid = 101, .port = &one.port, .worker = 0}, {.vid = 101, .port = &two.port, .worker = 1}}, true,
                    2);
  ASSERT_TRUE(bench.workers->start());
  for (std::uint32_t i = 0; i < 500; ++i) {
    // Only the sender's worker is told; the other one, and the way back, is their affair.
    one.driver.send(static_cast<std::uint16_t>(i % GuestDriver::ring_size), numbered(2, 1, i));
    bench.workers->at(0).wake();
    while (true) {
      if (const auto frame = two.driver.receive()) {
        ASSERT_EQ(number_of(*frame), i);
        break;
      }
      std::this_thread::yield();
    }
    two.driver.offer_buffer(static_cast<std::uint16_t>(i % GuestDriver::ring_size));
    while (!one.driver.reap(1)) std::this_thread::yield();
    if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // so that both sleep, as a rule
  }
}

}  // namespace
}  // namespace patchbay::dataplane
