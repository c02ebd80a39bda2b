// An ethdev without hardware: DPDK's net_ring, a cable from its transmit queue to its own receive queue. What a real
// device does beyond that (interrupts, carrier, removal) is tested on an emulated NIC, in the integration tests.
#include "dataplane/ports/ethdev_port.h"

#include <gtest/gtest.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <sys/eventfd.h>

#include <array>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "dataplane/offload/needs.h"
#include "tests/support/frames.h"
#include "tests/support/ip_frames.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;

constexpr const char* vm = "02:00:00:00:00:01";
constexpr const char* wire = "02:aa:00:00:00:01";
constexpr std::size_t ring_frames = 1023;  // that net_ring's ring of 1024 takes

class EthdevPortTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto started = dpdk::Eal::create();
    ASSERT_TRUE(started) << started.error().message;
    eal_ = std::move(*started);
  }
  static void TearDownTestSuite() { eal_.reset(); }

  void SetUp() override { open(); }

  void open() {
    auto opened = EthdevPort::open(PortId{1}, event_.get(), *eal_, "net_ring0");
    ASSERT_TRUE(opened) << opened.error().message;
    port_ = std::move(*opened);
  }

  // A frame whose first `head` bytes are the head and whose rest lies in pieces of `piece` bytes.
  Frame frame(const std::string& bytes, std::uint16_t vid, std::size_t head = head_size_max,
              std::size_t piece = 65536) {
    auto& kept = kept_.emplace_back(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
    Frame made;
    made.head = kept.data();
    made.size = static_cast<std::uint32_t>(kept.size());
    made.head_size = static_cast<std::uint32_t>(std::min(head, kept.size()));
    if (vid != 0) made.tag_tpid = tpid_8021q;
    made.tag_tci = vid;
    auto& pieces = pieces_.emplace_back();
    for (std::size_t at = made.head_size; at < kept.size(); at += piece) {
      pieces.push_back({kept.data() + at, static_cast<std::uint32_t>(std::min(piece, kept.size() - at))});
    }
    made.rest = pieces.data();
    made.rest_count = static_cast<std::uint16_t>(pieces.size());
    return made;
  }

  // The bytes of the one frame that waits, and whether it came in several pieces.
  std::string receive_one(bool* in_pieces = nullptr) {
    const std::size_t count = port_->receive(burst_);
    EXPECT_EQ(count, 1U);
    if (count != 1) return {};
    const Frame& got = burst_.frames[0];
    std::string bytes(reinterpret_cast<const char*>(got.head), got.head_size);
    for (std::size_t i = 0; i < got.rest_count; ++i) {
      bytes.append(reinterpret_cast<const char*>(got.rest[i].data), got.rest[i].size);
    }
    EXPECT_EQ(bytes.size(), got.size);
    if (in_pieces != nullptr) *in_pieces = got.rest_count != 0;
    port_->complete(1);
    return bytes;
  }

  static inline std::unique_ptr<dpdk::Eal> eal_;
  UniqueFd event_{eventfd(0, EFD_NONBLOCK)};
  std::vector<std::vector<std::uint8_t>> kept_;
  std::vector<std::vector<Segment>> pieces_;
  std::unique_ptr<EthdevPort> port_;
  Burst burst_;
};

TEST_F(EthdevPortTest, carries_frames_of_every_size_and_shape) {
  struct Case {
    const char* name;
    std::size_t payload;
    std::size_t head;
    std::size_t piece;
    bool in_pieces;  // on arrival
  };
  constexpr std::array cases = {
      Case{"the shortest that needs no filling", 46, 128, 65536, false},
      Case{"head only", 114, 128, 65536, false},
      Case{"one byte after the head", 115, 128, 65536, false},
      Case{"usual MTU", 1500, 128, 65536, false},
      Case{"as many pieces as a frame may have", 1500, 128, 22, false},
      Case{"just fits an mbuf", 2048 - 14, 128, 65536, false},
      Case{"one byte more than an mbuf", 2048 - 13, 128, 65536, true},
      Case{"jumbo", 9000, 128, 65536, true},
      Case{"jumbo in pieces that end anywhere", 9000, 100, 333, true},
  };
  for (const Case& one : cases) {
    std::string sent = ethernet(wire, vm, "", one.payload);
    for (std::size_t i = 14; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7);
    const Frame out = frame(sent, 0, one.head, one.piece);
    ASSERT_EQ(port_->send({&out, 1}), 1U) << one.name;
    bool in_pieces = false;
    EXPECT_EQ(receive_one(&in_pieces), sent) << one.name;
    EXPECT_EQ(in_pieces, one.in_pieces) << one.name;
  }
  EXPECT_EQ(port_->counters().egress.frames, cases.size());
}

TEST_F(EthdevPortTest, puts_the_tag_behind_the_addresses) {
  for (const std::size_t payload : {46U, 1500U, 2030U, 9000U}) {
    std::string untagged = ethernet(wire, vm, "", payload);
    std::string tagged = ethernet(wire, vm, test::tag(101), payload);
    const Frame out = frame(untagged, 101);
    ASSERT_EQ(port_->send({&out, 1}), 1U);
    EXPECT_EQ(receive_one(), tagged) << payload;
  }
  EXPECT_EQ(port_->counters().egress.bytes, 46U + 1500 + 2030 + 9000 + 4 * 14) << "the tag is not counted";
}

TEST_F(EthdevPortTest, says_in_the_mbuf_what_is_left_to_the_device) {
  constexpr std::uint64_t tcp4 = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
  constexpr std::uint64_t tcp6 = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM;
  constexpr std::uint64_t udp4 = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
  constexpr std::uint64_t udp6 = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
  const std::string options(8, '\x01');
  const struct {
    const char* name;
    test::IpFrame frame;
    std::uint16_t gso_size;
    bool tag;
    std::uint64_t flags;
    unsigned l2, l3, l4;
  } cases[] = {
      {"TCP", {}, 0, false, tcp4, 14, 20, 0},
      {"TCP with a tag", {}, 0, true, tcp4, 18, 20, 0},
      {"with IP options", {.ip_options = options}, 0, false, tcp4, 14, 28, 0},
      {"TCP over IPv6", {.ipv6 = true}, 0, false, tcp6, 14, 40, 0},
      {"UDP", {.udp = true}, 0, false, udp4, 14, 20, 0},
      {"UDP over IPv6 with a tag", {.ipv6 = true, .udp = true}, 0, true, udp6, 18, 40, 0},
      {"a piece", {}, 1000, false, tcp4 | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM, 14, 20, 20},
      {"a piece with options and a tag",
       {.ip_options = options, .tcp_options = options},
       1000,
       true,
       tcp4 | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM,
       18,
       28,
       28},
      {"a piece over IPv6", {.ipv6 = true}, 1000, false, tcp6 | RTE_MBUF_F_TX_TCP_SEG, 14, 40, 20},
  };
  for (const auto& row : cases) {
    SCOPED_TRACE(row.name);
    test::IpFrame sent = row.frame;
    sent.payload = std::string(5000, 'x');
    Frame made = frame(sent.bytes(false), row.tag ? std::uint16_t{101} : std::uint16_t{0});
    take_needs(made, sent.header(row.gso_size), offload_all);
    ASSERT_EQ(made.action, Action::undecided);
    ASSERT_TRUE(has_plain_headers(made));
    rte_mbuf mbuf = {};
    leave_to_device(made, mbuf);
    EXPECT_EQ(mbuf.ol_flags, row.flags);
    EXPECT_EQ(mbuf.l2_len, row.l2);
    EXPECT_EQ(mbuf.l3_len, row.l3);
    EXPECT_EQ(mbuf.l4_len, row.l4);
    EXPECT_EQ(mbuf.tso_segsz, row.gso_size);
  }
  EXPECT_EQ(port_->takes(), 0) << "a cable computes nothing";
}

TEST_F(EthdevPortTest, fills_short_frames_up_with_zeros) {
  for (const std::uint16_t vid : {std::uint16_t{0}, std::uint16_t{101}}) {
    const std::string sent = ethernet(wire, vm, "", 1);
    const Frame out = frame(sent, vid);
    ASSERT_EQ(port_->send({&out, 1}), 1U);
    std::string expected = ethernet(wire, vm, vid == 0 ? "" : test::tag(vid), 1);
    expected.resize(60, '\0');
    EXPECT_EQ(receive_one(), expected) << vid;
  }
}

TEST_F(EthdevPortTest, leaves_what_the_ring_does_not_take) {
  const Frame out = frame(ethernet(wire, vm, "", 100), 0);
  const std::vector<Frame> burst(burst_max, out);
  std::size_t sent = 0;
  while (!port_->full()) {
    const std::size_t taken = port_->send(burst);
    ASSERT_EQ(taken == burst.size(), !port_->full());
    sent += taken;
  }
  EXPECT_EQ(sent, ring_frames);
  EXPECT_EQ(port_->counters().egress.frames, sent);
  EXPECT_EQ(port_->send(burst), 0U) << "those that wait come first";
  EXPECT_TRUE(port_->prepare_sleep()) << "nothing would wake the worker when there is room";
  std::size_t received = port_->receive(burst_);
  EXPECT_FALSE(port_->full()) << "looked at in each pass";
  port_->complete(received);
  EXPECT_EQ(port_->send(burst), received);
  sent += received;
  while (const std::size_t count = port_->receive(burst_)) {
    received += count;
    port_->complete(count);
  }
  EXPECT_EQ(received, sent);
  const auto counters = port_->counters();
  EXPECT_EQ(counters.egress.frames, sent);
  for (const auto drops : counters.drops) EXPECT_EQ(drops, 0U);
}

TEST_F(EthdevPortTest, refuses_what_is_too_large_alone) {
  const std::array burst = {frame(ethernet(wire, vm, "", 100), 0), frame(ethernet(wire, vm, "", 9001), 0),
                            frame(ethernet(wire, vm, "", 9000), 101)};
  EXPECT_EQ(port_->send(burst), 3U);
  const auto counters = port_->counters();
  EXPECT_EQ(counters.egress.frames, 2U);
  EXPECT_EQ(counters.drops[static_cast<std::size_t>(DropReason::uplink_refused)], 1U);
  EXPECT_EQ(port_->receive(burst_), 2U);
  port_->complete(2);
}

TEST_F(EthdevPortTest, keeps_every_buffer_over_many_rounds) {
  // More large frames than the pool has buffers: one that is lost each time would be missed.
  const Frame out = frame(ethernet(wire, vm, "", 9000), 7);
  const std::vector<Frame> burst(burst_max, out);
  for (int round = 0; round < 300; ++round) {
    ASSERT_EQ(port_->send(burst), burst.size()) << round;
    ASSERT_EQ(port_->receive(burst_), burst.size()) << round;
    port_->complete(burst.size());
  }
}

TEST_F(EthdevPortTest, is_opened_again_after_it_was_closed_with_frames_in_its_hands) {
  const Frame out = frame(ethernet(wire, vm, "", 9000), 0);
  for (int round = 0; round < 10; ++round) {
    const std::vector<Frame> burst(burst_max, out);
    EXPECT_EQ(port_->send(burst), burst.size());
    EXPECT_EQ(port_->receive(burst_), burst.size());  // and not completed
    port_.reset();
    open();
  }
}

// Stands between DPDK and net_ring's transmit functions while it lives: a driver that does less than it says.
class Driver {
 public:
  Driver() {
    EXPECT_EQ(rte_eth_dev_get_port_by_name("net_ring0", &port_), 0);
    ring_ = rte_eth_fp_ops[port_];
    refused_size = 0;
    calls_without_room = 0;
    rte_eth_fp_ops[port_].tx_pkt_burst = send;
    rte_eth_fp_ops[port_].tx_pkt_prepare = prepare;
    rte_eth_fp_ops[port_].tx_descriptor_status = says_that_there_is_room;
  }
  ~Driver() { rte_eth_fp_ops[port_] = ring_; }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  static inline std::uint32_t refused_size = 0;   // prepare() refuses a frame of this size
  static inline unsigned calls_without_room = 0;  // so many calls that send nothing
  static constexpr unsigned always = ~0U;

 private:
  static std::uint16_t send(void* queue, rte_mbuf** mbufs, std::uint16_t count) {
    if (calls_without_room == 0) return ring_.tx_pkt_burst(queue, mbufs, count);
    if (calls_without_room != always) --calls_without_room;
    return 0;
  }
  static std::uint16_t prepare(void* /*queue*/, rte_mbuf** mbufs, std::uint16_t count) {
    for (std::uint16_t i = 0; i < count; ++i) {
      if (mbufs[i]->pkt_len == refused_size) return i;
    }
    return count;
  }
  static int says_that_there_is_room(void* /*queue*/, std::uint16_t /*offset*/) { return RTE_ETH_TX_DESC_DONE; }

  static inline struct rte_eth_fp_ops ring_ = {};
  std::uint16_t port_ = 0;
};

TEST_F(EthdevPortTest, refuses_alone_what_its_driver_does_not_prepare) {
  const Driver driver;
  std::vector<Frame> burst;
  for (const std::size_t payload : {400U, 500U, 600U}) {
    test::IpFrame sent;
    sent.payload = std::string(payload, 'x');
    burst.push_back(frame(sent.bytes(false), 0));
    take_needs(burst.back(), sent.header(), offload_all);
    ASSERT_NE(burst.back().needs.offloads, 0);
  }
  for (std::size_t bad = 0; bad < burst.size(); ++bad) {
    SCOPED_TRACE(bad);
    const auto before = port_->counters();
    Driver::refused_size = burst[bad].size;
    EXPECT_EQ(port_->send(burst), 3U);
    EXPECT_FALSE(port_->full());
    const auto counters = port_->counters();
    EXPECT_EQ(counters.egress.frames - before.egress.frames, 2U);
    constexpr auto refused = static_cast<std::size_t>(DropReason::uplink_refused);
    EXPECT_EQ(counters.drops[refused] - before.drops[refused], 1U);
    ASSERT_EQ(port_->receive(burst_), 2U);
    EXPECT_EQ(burst_.frames[0].size, burst[bad == 0 ? 1 : 0].size);
    EXPECT_EQ(burst_.frames[1].size, burst[bad == 2 ? 1 : 2].size);
    port_->complete(2);
  }
}

// As a worker does: in each pass what waits, if there is room for all it knows, and then what has arrived.
std::size_t send_in_passes(EthdevPort& port, std::span<const Frame> frames, unsigned passes, Burst& arrived) {
  std::size_t sent = 0;
  for (unsigned pass = 0; pass < passes && sent < frames.size(); ++pass) {
    if (!port.full()) sent += port.send(frames.subspan(sent));
    port.complete(port.receive(arrived));
  }
  return sent;
}

TEST_F(EthdevPortTest, drops_what_its_driver_never_takes_though_it_has_room) {
  constexpr auto refused = static_cast<std::size_t>(DropReason::uplink_refused);
  const std::array frames = {frame(ethernet(wire, vm, "", 100), 0), frame(ethernet(wire, vm, "", 200), 0)};
  const Driver driver;
  Driver::calls_without_room = Driver::always;
  EXPECT_EQ(send_in_passes(*port_, frames, 100, burst_), frames.size()) << "nothing waits for ever";
  EXPECT_EQ(port_->counters().egress.frames, 0U);
  EXPECT_EQ(port_->counters().drops[refused], frames.size());
}

TEST_F(EthdevPortTest, waits_for_a_driver_that_is_late_again_and_again) {
  constexpr auto refused = static_cast<std::size_t>(DropReason::uplink_refused);
  const Frame out = frame(ethernet(wire, vm, "", 100), 0);
  const Driver driver;
  for (int round = 0; round < 20; ++round) {
    Driver::calls_without_room = 3;
    ASSERT_EQ(send_in_passes(*port_, {&out, 1}, 100, burst_), 1U) << round;
  }
  EXPECT_EQ(port_->counters().egress.frames, 20U);
  EXPECT_EQ(port_->counters().drops[refused], 0U) << "refusals count in a row";
}

TEST_F(EthdevPortTest, control_has_a_way_of_its_own) {
  std::string lacpdu = ethernet("01:80:c2:00:00:02", wire, "", 110);
  const auto bytes = std::span(reinterpret_cast<const std::uint8_t*>(lacpdu.data()), lacpdu.size());
  ASSERT_EQ(lacpdu.size(), 124U);
  ASSERT_TRUE(port_->from_control()->put(bytes));
  EXPECT_TRUE(port_->prepare_sleep());
  EXPECT_EQ(port_->receive(burst_), 1U) << "it left, and came back by the cable from the device to itself";
  port_->complete(1);
  EXPECT_TRUE(port_->from_control()->empty());
  std::string heard;
  EXPECT_TRUE(port_->to_control()->take([&](std::span<const std::uint8_t> frame) {
    heard.assign(frame.begin(), frame.end());
    return true;
  }));
  EXPECT_EQ(heard, lacpdu);
  std::uint64_t told = 0;
  EXPECT_EQ(read(event_.get(), &told, sizeof told), 8);
  EXPECT_EQ(told, 1U);

  // A ring full of others' frames: the first room is its own.
  const Frame out = frame(ethernet(wire, vm, "", 100), 0);
  const std::vector<Frame> burst(burst_max, out);
  while (!port_->full()) static_cast<void>(port_->send(burst));
  ASSERT_TRUE(port_->from_control()->put(bytes));
  std::size_t before = 0;
  while (port_->to_control()->empty()) {
    const std::size_t count = port_->receive(burst_);
    ASSERT_NE(count, 0U);
    before += count;
    port_->complete(count);
    static_cast<void>(port_->send(burst));
  }
  EXPECT_LE(before, ring_frames + 2 * burst_max);
}

TEST_F(EthdevPortTest, says_what_its_device_is_and_that_it_cannot_interrupt) {
  const DeviceState state = *port_->device_state();
  EXPECT_EQ(state.driver, "net_ring");
  EXPECT_EQ(state.mtu, 9000);
  EXPECT_TRUE(state.carrier);
  EXPECT_FALSE(state.interrupts);
  EXPECT_TRUE(port_->prepare_sleep()) << "the worker must stay awake";
}

unsigned pools() {
  unsigned count = 0;
  rte_mempool_walk([](rte_mempool*, void* sum) { ++*static_cast<unsigned*>(sum); }, &count);
  return count;
}

TEST_F(EthdevPortTest, says_why_a_driver_does_not_sort) {
  const unsigned before = pools();
  const QueueAbility ability = port_->queue_ability();
  EXPECT_EQ(ability.sorting, QueueSorting::software);
  EXPECT_EQ(ability.queues, 0);
  EXPECT_EQ(ability.reason, "driver net_ring: it has no flow rules");
  const auto queue = port_->open_queue(PortId{2});
  ASSERT_FALSE(queue);
  EXPECT_EQ(queue.error().code, ErrorCode::unavailable);
  EXPECT_EQ(queue.error().message, "nic net_ring0 has no queues to sort into: " + ability.reason);
  EXPECT_EQ(pools(), before);
  port_.reset();
  EXPECT_EQ(pools(), before - 1);
}

TEST_F(EthdevPortTest, names_a_device_that_is_not_there) {
  const auto opened = EthdevPort::open(PortId{2}, event_.get(), *eal_, "0000:00:1f.7");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::unavailable);
  EXPECT_NE(opened.error().message.find("nic 0000:00:1f.7"), std::string::npos) << opened.error().message;
  EXPECT_NE(opened.error().message.find("vfio-pci"), std::string::npos) << opened.error().message;
}

}  // namespace
}  // namespace patchbay::dataplane
