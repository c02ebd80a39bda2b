// Guests with several queue pairs.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <vector>

#include "dataplane/virtqueue/flow.h"
#include "dataplane/virtqueue/guest_queues.h"
#include "tests/support/frames.h"
#include "tests/support/guest_driver.h"
#include "tests/support/put.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;

constexpr std::uint64_t features_all = virtio_net_f_mrg_rxbuf | virtio_f_version_1;
constexpr std::size_t pairs = 2;

CallSignal& shared_calls() {
  static CallSignal calls = *CallSignal::create();
  return calls;
}

Frame frame_over(std::string& bytes) {
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(bytes.size());
  return frame;
}

// UDP over IPv4 between these ports, numbered by its last two bytes.
std::string datagram(std::uint16_t source_port, std::uint16_t number = 0) {
  std::string ip = std::string("\x45\x00\x00\x1E\x00\x00\x40\x00\x40\x11\x00\x00", 12) +
                   std::string("\x0A\x00\x00\x01\x0A\x00\x00\x02", 8);
  return test::mac_bytes("02:00:00:00:00:02") + test::mac_bytes("02:00:00:00:00:01") + test::be16(0x0800) + ip +
         test::be16(source_port) + test::be16(5201) + test::be16(10) + test::be16(0) + test::be16(number);
}

std::uint32_t flow_of_bytes(std::string bytes, std::uint16_t vid = 0) {
  Frame frame = frame_over(bytes);
  frame.vid = vid;
  return flow_of(frame);
}

// ---- Flows ----

TEST(Flow, is_the_addresses_and_ports_and_nothing_else_of_a_datagram) {
  const std::string frame = datagram(1000);
  const auto changed = [&](std::size_t at, std::size_t size, char by) {
    std::string other = frame;
    for (std::size_t i = 0; i < size; ++i) other[at + i] = static_cast<char>(other[at + i] ^ by);
    return flow_of_bytes(other);
  };
  const std::uint32_t flow = flow_of_bytes(frame);
  EXPECT_EQ(flow_of_bytes(frame, 7), flow) << "the VLAN is the same for all of a flow";
  EXPECT_EQ(flow_of_bytes(frame + "more"), flow);
  EXPECT_EQ(changed(0, 12, 1), flow) << "MAC addresses: a router may have two";
  EXPECT_EQ(changed(14 + 1, 5, 1), flow) << "type of service, length, identification";
  EXPECT_EQ(changed(14 + 8, 1, 1), flow) << "time to live";
  EXPECT_EQ(changed(14 + 20 + 4, 6, 1), flow) << "length, checksum, payload";
  EXPECT_NE(changed(14 + 12, 1, 1), flow) << "source";
  EXPECT_NE(changed(14 + 19, 1, 1), flow) << "destination";
  EXPECT_NE(changed(14 + 21, 1, 1), flow) << "source port";
  EXPECT_NE(changed(14 + 23, 1, 1), flow) << "destination port";
}

TEST(Flow, of_fragments_has_no_ports_from_the_first_one_on) {
  for (const std::uint16_t bits : std::initializer_list<std::uint16_t>{
           0x2000, 0x2001, 0x0001}) {  // the first one, one in the middle, the last one
    std::string a = datagram(1000);
    std::string b = datagram(2000);
    for (std::string* frame : {&a, &b}) frame->replace(14 + 6, 2, test::be16(bits));
    EXPECT_EQ(flow_of_bytes(a), flow_of_bytes(b)) << bits;
  }
}

TEST(Flow, of_what_is_not_ip_is_its_addresses_and_vlan) {
  const std::string frame = test::ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", "", 46);
  EXPECT_EQ(flow_of_bytes(frame), flow_of_bytes(frame + "x"));
  EXPECT_NE(flow_of_bytes(frame), flow_of_bytes(frame, 7));
  EXPECT_NE(flow_of_bytes(frame), flow_of_bytes(test::ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", "", 46)));
  for (std::size_t size = 0; size <= frame.size(); ++size) {  // nothing beyond is read (address sanitizer)
    static_cast<void>(flow_of_bytes(frame.substr(0, size)));
    static_cast<void>(flow_of_bytes(datagram(1000).substr(0, size)));
  }
}

TEST(Flow, of_ipv6_is_told_apart_by_addresses_and_ports) {
  const auto frame = [](std::uint8_t source, std::uint16_t port, std::uint8_t next = 17) {
    std::string ip("\x60\x00\x00\x00\x00\x0A", 6);
    ip += static_cast<char>(next);
    ip += '\x40';
    ip += std::string(15, '\0') + static_cast<char>(source) + std::string(15, '\0') + '\x02';
    return test::mac_bytes("02:00:00:00:00:02") + test::mac_bytes("02:00:00:00:00:01") + test::be16(0x86DD) + ip +
           test::be16(port) + test::be16(5201) + test::be16(10) + test::be16(0) + test::be16(0);
  };
  EXPECT_EQ(flow_of_bytes(frame(1, 1000)), flow_of_bytes(frame(1, 1000)));
  EXPECT_NE(flow_of_bytes(frame(1, 1000)), flow_of_bytes(frame(3, 1000)));
  EXPECT_NE(flow_of_bytes(frame(1, 1000)), flow_of_bytes(frame(1, 1001)));
  EXPECT_EQ(flow_of_bytes(frame(1, 1000, 58)), flow_of_bytes(frame(1, 1001, 58))) << "ICMPv6 has no ports";
}

TEST(Flow, neighbouring_flows_share_evenly) {
  for (const std::size_t count : {2U, 3U, 4U, 7U, 8U}) {
    std::map<std::size_t, std::size_t> flows;
    constexpr std::uint16_t total = 8000;
    for (std::uint16_t i = 0; i < total; ++i) ++flows[share_of(flow_of_bytes(datagram(i)), count)];
    ASSERT_EQ(flows.size(), count);
    for (const auto& [share, number] : flows) {
      EXPECT_NEAR(static_cast<double>(number), static_cast<double>(total) / static_cast<double>(count), 300) << share;
    }
  }
}

// ---- Queues ----

struct Guest {
  explicit Guest(std::uint64_t kind) : driver(features_all | kind, GuestDriver::ring_size, pairs) {
    const MemoryRegion region = driver.region();
    link = driver.link(*GuestMemory::map({&region, 1}));
    connect();
  }
  void connect() {
    auto created = GuestQueues::create(link, &records);
    ASSERT_TRUE(created) << created.error().message;
    queues = std::move(*created);
    queues->catch_up();
  }
  // As SET_VRING_ENABLE does it.
  void enable(std::size_t pair, bool on) {
    link.rings[2 * pair].enabled = link.rings[2 * pair + 1].enabled = on;
    const RingPositions positions = queues->positions();
    for (std::size_t i = 0; i < positions.size(); ++i) link.rings[i].position = positions[i];
    auto next = GuestQueues::create(link, &records);
    ASSERT_TRUE(next) << next.error().message;
    (*next)->take_over(*queues);
    queues = std::move(*next);
  }
  void offer_buffers() {
    for (driver.pair = 0; driver.pair < pairs; ++driver.pair) driver.offer_all_buffers();
  }
  // What waits for the driver in a pair's receive ring.
  std::vector<std::string> received(std::size_t pair) {
    driver.pair = pair;
    std::vector<std::string> frames;
    while (auto frame = driver.receive()) frames.push_back(std::move(*frame));
    return frames;
  }
  void send(std::size_t pair, std::uint16_t number, const std::string& frame) {
    driver.pair = pair;
    driver.send(number, frame);
  }
  GuestDriver driver;
  GuestLink link;
  RingRecords records{};
  CallSignal& calls = shared_calls();
  std::unique_ptr<GuestQueues> queues;
  Burst burst;
};

class QueuePairs : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Kinds, QueuePairs, testing::Values(std::uint64_t{0}, virtio_f_ring_packed),
                         [](const auto& kind) { return kind.param == 0 ? "split" : "packed"; });

// Bursts of `flows` flows with numbered frames.
std::vector<std::string> numbered_frames(std::uint16_t flows, std::uint16_t count) {
  std::vector<std::string> frames;
  for (std::uint16_t i = 0; i < count; ++i) {
    frames.push_back(datagram(static_cast<std::uint16_t>(1000 + i % flows), i));
  }
  return frames;
}

Puts put_all(GuestQueues& queues, std::vector<std::string>& bytes) {
  std::vector<Frame> frames;
  for (std::string& each : bytes) frames.push_back(frame_over(each));
  return test::put(queues, frames);
}

TEST_P(QueuePairs, every_flow_stays_in_one_pair_and_in_order) {
  Guest guest(GetParam());
  guest.offer_buffers();
  auto sent = numbered_frames(10, 64);
  const Puts puts = put_all(*guest.queues, sent);
  EXPECT_EQ(puts.delivered, 64U);
  EXPECT_EQ(puts.bytes, 64U * sent[0].size());
  guest.queues->publish(guest.calls);
  std::map<std::string, std::size_t> pair_of;  // by ports
  std::size_t total = 0;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const auto frames = guest.received(pair);
    EXPECT_GT(frames.size(), 0U) << "of ten flows some come here";
    total += frames.size();
    std::map<std::string, std::string> last;
    for (const std::string& frame : frames) {
      const std::string flow = frame.substr(34, 4);
      EXPECT_EQ(pair_of.try_emplace(flow, pair).first->second, pair);
      EXPECT_LT(last[flow], frame.substr(frame.size() - 2));
      last[flow] = frame.substr(frame.size() - 2);
    }
  }
  EXPECT_EQ(total, 64U);
}

TEST_P(QueuePairs, a_full_ring_drops_its_own_flows_only) {
  Guest guest(GetParam());
  guest.driver.pair = 1;
  guest.driver.offer_all_buffers();  // the other one has none
  auto sent = numbered_frames(10, 30);
  const Puts puts = put_all(*guest.queues, sent);
  guest.queues->publish(guest.calls);
  EXPECT_GT(puts.ring_full, 0U);
  EXPECT_GT(puts.delivered, 0U);
  EXPECT_EQ(puts.ring_full + puts.delivered, 30U);
  EXPECT_EQ(guest.received(1).size(), puts.delivered);
}

TEST_P(QueuePairs, takes_from_both_in_turn) {
  Guest guest(GetParam());
  for (std::uint16_t i = 0; i < 64; ++i) guest.send(0, i, datagram(1, i));  // two bursts
  guest.send(1, 0, datagram(2));
  ASSERT_EQ(guest.queues->take(guest.burst), burst_max);
  guest.queues->give_back(burst_max);
  ASSERT_EQ(guest.queues->take(guest.burst), 1U) << "one that sends without an end starves nobody";
  guest.queues->give_back(1);
  ASSERT_EQ(guest.queues->take(guest.burst), burst_max);
  guest.queues->give_back(burst_max);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.queues->take(guest.burst), 0U);
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(guest.driver.reap(1)) << i;
  EXPECT_TRUE(guest.driver.reap(3));
  EXPECT_FALSE(guest.queues->waiting());
}

TEST_P(QueuePairs, what_could_not_go_on_comes_again_before_the_other_pairs_turn) {
  Guest guest(GetParam());
  for (std::uint16_t i = 0; i < 3; ++i) guest.send(0, i, datagram(1, i));
  guest.send(1, 0, datagram(2));
  ASSERT_EQ(guest.queues->take(guest.burst), 3U);
  guest.queues->give_back(1);
  ASSERT_EQ(guest.queues->take(guest.burst), 2U);
  guest.queues->give_back(2);
  EXPECT_EQ(guest.queues->take(guest.burst), 1U);
  guest.queues->give_back(1);
}

TEST_P(QueuePairs, a_driver_with_one_queue_gets_everything_in_its_pair) {
  Guest guest(GetParam());
  guest.enable(1, false);
  guest.offer_buffers();
  auto sent = numbered_frames(10, 40);
  EXPECT_EQ(put_all(*guest.queues, sent).delivered, 40U);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.received(0), sent);
  EXPECT_TRUE(guest.received(1).empty());
  guest.send(1, 0, datagram(1));
  EXPECT_EQ(guest.queues->take(guest.burst), 0U) << "a ring that is not enabled moves nothing";
  EXPECT_FALSE(guest.queues->enable_kicks());
}

TEST_P(QueuePairs, a_driver_that_only_runs_the_second_pair_gets_everything_there) {
  Guest guest(GetParam());
  guest.enable(0, false);
  guest.offer_buffers();
  auto sent = numbered_frames(10, 40);
  EXPECT_EQ(put_all(*guest.queues, sent).delivered, 40U);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.received(1), sent);
  EXPECT_FALSE(guest.queues->greeting_due()) << "or its worker would never sleep";
  guest.enable(1, false);
  EXPECT_FALSE(guest.queues->receives());
  EXPECT_EQ(put_all(*guest.queues, sent).ring_full, 40U);
}

TEST_P(QueuePairs, pairs_that_are_switched_off_and_on_go_on_where_they_were) {
  Guest guest(GetParam());
  guest.offer_buffers();
  std::size_t reaped = 0;
  std::array<std::uint16_t, pairs> next_buffer{};
  for (std::uint16_t round = 0; round < 40; ++round) {
    guest.enable(1, round % 3 != 1);
    auto sent = numbered_frames(6, 6);
    ASSERT_EQ(put_all(*guest.queues, sent).delivered, 6U) << round;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      guest.send(pair, static_cast<std::uint16_t>(round % GuestDriver::ring_size), datagram(7, round));
    }
    const bool both = round % 3 != 1;
    const std::size_t waiting = both && round % 3 == 2 ? 2 : 1;  // those of the round before, and of this one
    while (const std::size_t count = guest.queues->take(guest.burst)) {
      ASSERT_LE(count, waiting);
      guest.queues->give_back(count);
      reaped += count;
    }
    guest.queues->publish(guest.calls);
    while (guest.driver.reap(1)) continue;
    while (guest.driver.reap(3)) continue;
    std::size_t got = 0;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const auto frames = guest.received(pair);
      got += frames.size();
      for (std::size_t i = 0; i < frames.size(); ++i) {
        guest.driver.offer_buffer(static_cast<std::uint16_t>(next_buffer[pair]++ % GuestDriver::ring_size));
      }
    }
    ASSERT_EQ(got, 6U) << round;
    ASSERT_FALSE(guest.queues->broken());
  }
  EXPECT_EQ(reaped, 2U * 40U - (39 % 3 == 1 ? 1U : 0U));
}

TEST_P(QueuePairs, positions_are_those_of_all_rings_and_survive_a_crash) {
  Guest guest(GetParam());
  const bool packed = GetParam() != 0;
  guest.offer_buffers();
  auto sent = numbered_frames(10, 20);
  ASSERT_EQ(put_all(*guest.queues, sent).delivered, 20U);
  for (std::uint16_t i = 0; i < 5; ++i) guest.send(1, i, datagram(1, i));
  ASSERT_EQ(guest.queues->take(guest.burst), 5U);
  guest.queues->give_back(3);
  guest.queues->publish(guest.calls);
  const RingPositions positions = guest.queues->positions();
  const auto received = [&](std::size_t pair) { return packed ? (positions[2 * pair] & 0x7FFF) : positions[2 * pair]; };
  EXPECT_EQ(received(0) + received(1), 20U);
  EXPECT_GT(received(0), 0U);
  EXPECT_GT(received(1), 0U);
  EXPECT_EQ(positions[1], packed ? 0x80008000U : 0U);
  EXPECT_EQ(positions[3], packed ? 0x80038003U : 3U);
  guest.connect();  // the front-end says the same positions as the first time; nobody said goodbye
  EXPECT_EQ(guest.queues->positions(), positions);
  ASSERT_EQ(guest.queues->take(guest.burst), 2U) << "those that were not given back";
}

TEST_P(QueuePairs, all_running_pairs_are_greeted_and_wanted_calls_come_from_each) {
  Guest guest(GetParam());
  EXPECT_TRUE(guest.queues->greeting_due());
  guest.queues->publish(guest.calls);
  for (std::size_t ring = 0; ring < 2 * pairs; ++ring) EXPECT_EQ(guest.driver.calls(ring), 1U) << ring;
  guest.offer_buffers();
  auto sent = numbered_frames(10, 20);
  ASSERT_EQ(put_all(*guest.queues, sent).delivered, 20U);
  guest.queues->publish(guest.calls);
  EXPECT_EQ(guest.driver.calls(0), 1U);
  EXPECT_EQ(guest.driver.calls(2), 1U);
  EXPECT_EQ(guest.driver.calls(1), 0U);
  guest.queues->publish(guest.calls);
  for (std::size_t ring = 0; ring < 2 * pairs; ++ring) EXPECT_EQ(guest.driver.calls(ring), 0U) << ring;
}

TEST_P(QueuePairs, kicks_of_each_pair_are_asked_for_and_seen) {
  Guest guest(GetParam());
  guest.queues->publish(guest.calls);
  EXPECT_FALSE(guest.queues->enable_kicks());
  guest.send(1, 0, datagram(1));
  EXPECT_TRUE(guest.queues->enable_kicks()) << "it came before the kick was asked for";
  guest.queues->disable_kicks();
}

TEST_P(QueuePairs, a_broken_ring_of_any_pair_breaks_the_link_and_a_bad_one_is_named) {
  Guest guest(GetParam());
  guest.link.rings[3].used_address = 1;
  const auto refused = GuestQueues::create(guest.link, &guest.records);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message.rfind("transmit ring of queue pair 2: ", 0), 0U) << refused.error().message;
  if (GetParam() == 0) {
    guest.driver.set<std::uint16_t>(guest.driver.rings[3].avail + 2, GuestDriver::ring_size + 1);
  } else {
    guest.driver.pair = 1;
    guest.driver.send(0, datagram(1));
    guest.driver.set<std::uint16_t>(guest.driver.rings[3].desc + 12, GuestDriver::ring_size);  // an id outside
  }
  EXPECT_EQ(guest.queues->take(guest.burst), 0U);
  EXPECT_TRUE(guest.queues->broken());
}

}  // namespace
}  // namespace patchbay::dataplane
