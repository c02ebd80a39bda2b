// Frames that are not finished, through the whole switch: who gets them as they are, and what becomes of them elsewhere.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"
#include "tests/support/ip_frames.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;
using test::IpFrame;
using test::pattern;
using test::SwitchBench;
using Vnics = std::vector<SwitchBench::Vnic>;

constexpr std::uint16_t mss = 1400;
constexpr std::size_t uplink = 0;
const std::string broadcast = "ff:ff:ff:ff:ff:ff";
const std::string stranger = "02:aa:00:00:00:01";

std::uint64_t drops(const Port& port, DropReason reason) {
  return port.counters().drops[static_cast<std::size_t>(reason)];
}

bool same(const VnetHeader& a, const VnetHeader& b) {
  return std::memcmp(&a, &b, vnet_header_size_legacy) == 0;
}

// `sent` is `piece` as it came in, unfinished, with the header that belongs to it.
void expect_whole(const FakePort::Bytes& sent, const IpFrame& piece, std::uint16_t gso_size, std::size_t tag = 0) {
  EXPECT_TRUE(sent.text() == piece.bytes(false));
  VnetHeader header = piece.header(gso_size);
  header.csum_start = static_cast<std::uint16_t>(header.csum_start + tag);
  if (gso_size != 0) header.hdr_len = static_cast<std::uint16_t>(header.hdr_len + tag);
  EXPECT_TRUE(same(sent.header, header));
}

// `sent` is `piece` cut into finished frames.
void expect_cut(std::span<const FakePort::Bytes> sent, const IpFrame& piece, std::uint16_t gso_size) {
  ASSERT_EQ(sent.size(), piece.parts(gso_size));
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_TRUE(sent[i].text() == piece.part(i, gso_size).bytes()) << i;
    EXPECT_TRUE(same(sent[i].header, {})) << i;
  }
}

IpFrame piece_to(const std::string& destination, bool ipv6 = false, bool udp = false) {
  return {
      .ipv6 = ipv6, .udp = udp, .destination = destination, .source = SwitchBench::mac(1), .payload = pattern(60001)};
}

TEST(Offloads, a_piece_goes_whole_to_who_takes_it_and_is_cut_for_who_does_not) {
  const struct {
    const char* name;
    bool ipv6, udp;
    std::uint8_t flags;
    Offloads takes;
    bool whole;
  } cases[] = {
      {"takes it", false, false, 0x18, offload_checksum | offload_tso4, true},
      {"takes nothing", false, false, 0x18, 0, false},
      {"takes checksums only", false, false, 0x18, offload_checksum, false},
      {"takes IPv6 only", false, false, 0x18, offload_checksum | offload_tso6, false},
      {"IPv6 to who takes it", true, false, 0x18, offload_checksum | offload_tso6, true},
      {"IPv6 to who takes IPv4", true, false, 0x18, offload_checksum | offload_tso4, false},
      {"CWR to who takes it", false, false, 0x98, offload_checksum | offload_tso4 | offload_ecn, true},
      {"CWR to who does not", false, false, 0x98, offload_checksum | offload_tso4, false},
      {"UDP to who takes it", false, true, 0, offload_checksum | offload_uso4, true},
      {"UDP to who takes TCP", false, true, 0, offload_checksum | offload_tso4 | offload_tso6 | offload_ecn, false},
      {"UDP over IPv6 to who takes it", true, true, 0, offload_all, true},
  };
  for (const auto& row : cases) {
    SCOPED_TRACE(row.name);
    SwitchBench bench(Vnics{{101}, {101}});
    bench.fakes[2]->set_takes(row.takes);
    IpFrame piece = piece_to(SwitchBench::mac(2), row.ipv6, row.udp);
    if (!row.udp) piece.flags = row.flags;
    bench.fakes[1]->arrive(piece.bytes(false), 0, 0, piece.header(mss));
    bench.worker->poll_once();
    const auto counters = bench.fakes[2]->counters();
    if (row.whole) {
      ASSERT_EQ(bench.fakes[2]->sent().size(), 1U);
      const bool ecn = (row.flags & 0x80) != 0;
      FakePort::Bytes& sent = const_cast<FakePort::Bytes&>(bench.fakes[2]->sent()[0]);
      EXPECT_EQ((sent.header.gso_type & vnet_gso_ecn) != 0, ecn);
      sent.header.gso_type &= 0x7F;
      expect_whole(sent, piece, mss);
      EXPECT_EQ(counters.cut_frames, 0U);
    } else {
      expect_cut(bench.fakes[2]->sent(), piece, mss);
      EXPECT_EQ(counters.cut_frames, piece.parts(mss) - 1);
      EXPECT_EQ(counters.egress.frames, piece.parts(mss));
    }
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Offloads, a_checksum_is_completed_for_who_does_not_take_frames_without) {
  for (const Offloads takes : {Offloads{0}, offload_checksum}) {
    SwitchBench bench(Vnics{{101}, {101}});
    bench.fakes[2]->set_takes(takes);
    IpFrame frame = piece_to(SwitchBench::mac(2));
    frame.payload = pattern(777);
    bench.fakes[1]->arrive(frame.bytes(false), 0, 0, frame.header());
    bench.worker->poll_once();
    ASSERT_EQ(bench.fakes[2]->sent().size(), 1U);
    if (takes != 0) {
      expect_whole(bench.fakes[2]->sent()[0], frame, 0);
    } else {
      EXPECT_EQ(bench.fakes[2]->sent()[0].text(), frame.bytes());
      EXPECT_TRUE(same(bench.fakes[2]->sent()[0].header, {}));
    }
  }
}

// What a device does it does behind Ethernet and IP: the rest is done for it.
TEST(Offloads, a_port_that_knows_plain_headers_gets_others_finished) {
  const std::string extension = {0, 0, 1, 4, 0, 0, 0, 0};
  for (const std::uint16_t gso_size : {std::uint16_t{0}, mss}) {
    for (const bool plain : {true, false}) {
      for (const bool any : {true, false}) {
        SwitchBench bench(Vnics{{101}, {101}});
        const Offloads takes = offload_checksum | offload_tso6 | (any ? offload_any_headers : 0);
        bench.fakes[2]->set_takes(takes);
        IpFrame piece = piece_to(SwitchBench::mac(2), true);
        piece.payload = pattern(gso_size == 0 ? 777 : 20001);
        if (!plain) piece.extension = extension;
        bench.fakes[1]->arrive(piece.bytes(false), 0, 0, piece.header(gso_size));
        bench.worker->poll_once();
        if (plain || any) {
          ASSERT_EQ(bench.fakes[2]->sent().size(), 1U);
          expect_whole(bench.fakes[2]->sent()[0], piece, gso_size);
        } else {
          expect_cut(bench.fakes[2]->sent(), piece, gso_size == 0 ? 777 : gso_size);
        }
        EXPECT_EQ(bench.imbalance(), 0);
      }
    }
  }
}

// From a trunk's tag in the bytes to no tag, another place for the tag, and a tag beside the bytes.
TEST(Offloads, what_a_frame_needs_moves_with_its_tag) {
  const model::Trunk trunk{*VlanSet::parse("101,102"), {}, std::nullopt};
  for (const bool in_bytes : {true, false}) {
    for (const std::uint16_t gso_size : {std::uint16_t{0}, mss}) {
      SwitchBench bench(Vnics{{.vlan = trunk}, {101}, {.vlan = trunk}, {101}});
      for (const std::size_t port : {2U, 3U}) bench.fakes[port]->set_takes(offload_all);
      // A checksum that is completed for one would be for all.
      const bool all_take = gso_size == 0;
      if (all_take) bench.fakes[uplink]->set_takes(offload_checksum);
      if (all_take) bench.fakes[4]->set_takes(offload_checksum);
      IpFrame piece = piece_to(broadcast);
      if (gso_size == 0) piece.payload = pattern(777);
      IpFrame arrives = piece;
      if (in_bytes) arrives.tags = test::tag(101);
      bench.fakes[1]->arrive(arrives.bytes(false), in_bytes ? 0 : 0x8100, in_bytes ? 0 : 101, arrives.header(gso_size));
      bench.worker->poll_once();
      ASSERT_EQ(bench.fakes[2]->sent().size(), 1U);
      expect_whole(bench.fakes[2]->sent()[0], piece, gso_size);
      EXPECT_FALSE(bench.fakes[2]->sent()[0].tagged);
      ASSERT_EQ(bench.fakes[3]->sent().size(), 1U);
      expect_whole(bench.fakes[3]->sent()[0], piece, gso_size, 4);
      EXPECT_TRUE(bench.fakes[3]->sent()[0].tagged);
      for (const std::size_t port : {uplink, std::size_t{4}}) {
        const auto sent = bench.fakes[port]->sent();
        for (const auto& frame : sent) EXPECT_EQ(frame.tagged, port == uplink);
        if (all_take) {
          ASSERT_EQ(sent.size(), 1U);
          expect_whole(sent[0], piece, gso_size, port == uplink ? 4 : 0);
        } else {
          expect_cut(sent, piece, gso_size);
        }
      }
      EXPECT_EQ(bench.imbalance(), 0);
    }
  }
}

TEST(Offloads, a_flood_is_right_for_each_whatever_comes_first) {
  constexpr Offloads all[] = {offload_all, 0, offload_checksum, offload_all, 0};
  for (std::size_t turn = 0; turn < 5; ++turn) {
    SwitchBench bench(Vnics(5, {101}));
    const auto takes = [&](std::size_t port) { return all[(port + turn) % 5]; };
    for (std::size_t port = 0; port < 6; ++port) bench.fakes[port]->set_takes(takes(port));
    const IpFrame piece = piece_to(broadcast);
    IpFrame small = piece;
    small.payload = pattern(99);
    bench.fakes[1]->arrive(piece.bytes(false), 0, 0, piece.header(mss));
    bench.fakes[1]->arrive(small.bytes(false), 0, 0, small.header());
    bench.worker->poll_once();
    for (std::size_t port = 0; port < 6; ++port) {
      if (port == 1) continue;
      const auto sent = bench.fakes[port]->sent();
      const bool whole = takes(port) == offload_all;
      ASSERT_EQ(sent.size(), 1 + (whole ? 1 : piece.parts(mss)));
      if (whole) {
        expect_whole(sent[0], piece, mss, port == uplink ? 4 : 0);
      } else {
        expect_cut(sent.first(sent.size() - 1), piece, mss);
      }
      // Finished or not, the receiver finds it right.
      const bool unfinished = sent.back().header.flags != 0;
      EXPECT_TRUE(!unfinished || takes(port) != 0);
      EXPECT_TRUE(sent.back().text() == small.bytes(!unfinished));
    }
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Offloads, a_full_uplink_gets_each_frame_of_a_piece_once_and_in_order) {
  for (const std::string& destination : {stranger, broadcast}) {
    SwitchBench bench(Vnics{{101}, {101}});
    const IpFrame first = piece_to(destination);
    IpFrame second = first;
    second.sequence += 60001;
    bench.fakes[uplink]->set_room(0);
    bench.fakes[1]->arrive(first.bytes(false), 0, 0, first.header(mss));
    bench.fakes[1]->arrive(second.bytes(false), 0, 0, second.header(mss));
    for (int pass = 0; pass < 100; ++pass) {
      bench.worker->poll_once();
      bench.fakes[uplink]->set_room(pass % 3 == 0 ? 5 : 0);
    }
    const std::size_t parts = first.parts(mss);
    ASSERT_EQ(bench.fakes[uplink]->sent().size(), 2 * parts);
    expect_cut(bench.fakes[uplink]->sent().first(parts), first, mss);
    expect_cut(bench.fakes[uplink]->sent().subspan(parts), second, mss);
    EXPECT_EQ(bench.fakes[uplink]->counters().cut_frames, 2 * (parts - 1));
    EXPECT_EQ(bench.fakes[1]->counters().ingress.frames, 2U);
    EXPECT_EQ(bench.fakes[2]->sent().size(), destination == broadcast ? 2 * parts : 0U);
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

// As a team does whose next member takes what the one before did not.
TEST(Offloads, a_piece_that_left_in_part_ends_in_parts_whatever_its_way_takes_by_then) {
  for (const std::string& destination : {stranger, broadcast}) {
    SwitchBench bench(Vnics{{101}, {101}});
    const IpFrame first = piece_to(destination);
    IpFrame second = first;
    second.sequence += 60001;
    bench.fakes[uplink]->set_room(5);
    bench.fakes[1]->arrive(first.bytes(false), 0, 0, first.header(mss));
    bench.fakes[1]->arrive(second.bytes(false), 0, 0, second.header(mss));
    bench.worker->poll_once();
    ASSERT_EQ(bench.fakes[uplink]->sent().size(), 5U);
    bench.fakes[uplink]->set_takes(offload_all);
    const std::size_t parts = first.parts(mss);
    for (int pass = 0; pass < 100; ++pass) {
      bench.worker->poll_once();
      bench.fakes[uplink]->set_room(5);
    }
    const auto sent = bench.fakes[uplink]->sent();
    ASSERT_EQ(sent.size(), parts + 1);
    expect_cut(sent.first(parts), first, mss);
    expect_whole(sent[parts], second, mss, 4);
    EXPECT_EQ(bench.fakes[uplink]->counters().cut_frames, parts - 1);
    EXPECT_EQ(bench.fakes[1]->counters().ingress.frames, 2U);
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Offloads, the_mtu_is_that_of_the_frames_of_a_piece) {
  const struct {
    std::uint16_t gso_size;
    bool tagged, dropped;
  } cases[] = {
      {1460, false, false}, {1461, false, true}, {1460, true, false}, {1461, true, true}, {65535, false, true}};
  for (const auto& row : cases) {
    SwitchBench bench(Vnics{{.vlan = model::Trunk{*VlanSet::parse("101"), {}, VlanId::from(101)}}, {101}});
    IpFrame piece = piece_to(SwitchBench::mac(2));
    if (row.tagged) piece.tags = test::tag(101);
    bench.fakes[1]->arrive(piece.bytes(false), 0, 0, piece.header(row.gso_size));
    bench.worker->poll_once();
    EXPECT_EQ(drops(*bench.fakes[1], DropReason::oversize), row.dropped ? 1U : 0U) << row.gso_size << row.tagged;
    EXPECT_EQ(bench.fakes[2]->sent().empty(), row.dropped);
  }
}

TEST(Offloads, pieces_from_the_wire_reach_who_takes_them_whole) {
  SwitchBench bench(Vnics{{101}, {101}});
  bench.fakes[1]->set_takes(offload_all);
  for (const std::size_t vnic : {1U, 2U}) {
    IpFrame piece = piece_to(SwitchBench::mac(vnic));
    piece.source = stranger;
    bench.fakes[uplink]->arrive(piece.bytes(false), 0x8100, 101, piece.header(mss));
    bench.worker->poll_once();
    if (vnic == 1) {
      ASSERT_EQ(bench.fakes[1]->sent().size(), 1U);
      expect_whole(bench.fakes[1]->sent()[0], piece, mss);
    } else {
      expect_cut(bench.fakes[2]->sent(), piece, mss);
    }
  }
  EXPECT_EQ(bench.imbalance(), 0);
}

// ---- Guests ----

constexpr std::uint64_t plain = virtio_f_version_1 | virtio_net_f_mrg_rxbuf;
constexpr std::uint64_t sends = virtio_net_f_csum | virtio_net_f_host_tso4 | virtio_net_f_host_tso6;
constexpr std::uint64_t takes = virtio_net_f_guest_csum | virtio_net_f_guest_tso4 | virtio_net_f_guest_tso6;

struct Guest {
  Guest(std::uint32_t id, std::uint64_t features) : driver(features), port(PortId{id}, -1) {
    const MemoryRegion region = driver.region();
    queues = *GuestQueues::create(driver.link(*GuestMemory::map({&region, 1})));
    EXPECT_TRUE(port.connect(queues.get(), -1));
    driver.offer_all_buffers();
  }
  GuestDriver driver;
  GuestPort port;
  std::unique_ptr<GuestQueues> queues;
};

TEST(Offloads, a_piece_of_64_kb_goes_from_guest_to_guest_as_one_with_its_header) {
  Guest from(10, plain | sends);
  Guest to(11, plain | takes);
  SwitchBench bench({{101, &from.port}, {101, &to.port}});
  IpFrame piece = piece_to(SwitchBench::mac(2));
  piece.payload = pattern(65482);
  ASSERT_EQ(piece.bytes(false).size(), 65536U);
  VnetHeader header = piece.header(mss);
  header.num_buffers = 7;  // means nothing on the way to us
  from.driver.send(0, piece.bytes(false), 2048, header);
  bench.worker->poll_once();
  EXPECT_TRUE(to.driver.receive() == piece.bytes(false));
  EXPECT_TRUE(same(to.driver.received_header, piece.header(mss)));
  EXPECT_EQ(to.driver.received_header.num_buffers, 33);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Offloads, a_guest_gets_what_its_driver_has_negotiated) {
  const IpFrame piece = [] {
    IpFrame made = piece_to(SwitchBench::mac(2));
    made.payload = pattern(20000);
    return made;
  }();
  for (const std::uint64_t features : {std::uint64_t{0}, virtio_net_f_guest_csum, virtio_net_f_guest_tso4,
                                       virtio_net_f_guest_csum | virtio_net_f_guest_tso6, takes}) {
    SCOPED_TRACE(features);
    Guest from(10, plain | sends);
    Guest to(11, plain | features);
    SwitchBench bench({{101, &from.port}, {101, &to.port}});
    from.driver.send(0, piece.bytes(false), 2048, piece.header(mss));
    bench.worker->poll_once();
    const bool whole = features == takes;
    for (std::size_t i = 0; i < (whole ? 1 : piece.parts(mss)); ++i) {
      EXPECT_TRUE(to.driver.receive() == (whole ? piece.bytes(false) : piece.part(i, mss).bytes()));
      EXPECT_EQ(to.driver.received_header.flags, whole ? 1 : 0) << "without GUEST_CSUM there is no TSO either";
    }
    EXPECT_FALSE(to.driver.receive());
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Offloads, a_guest_that_asks_for_what_it_has_not_negotiated_loses_the_frame) {
  for (const std::uint64_t features : {std::uint64_t{0}, virtio_net_f_csum, virtio_net_f_host_tso4}) {
    Guest from(10, plain | features);
    SwitchBench bench({{101, &from.port}, {101}});
    const IpFrame piece = piece_to(SwitchBench::mac(2));
    from.driver.send(0, piece.bytes(false), 2048, piece.header(mss));
    bench.worker->poll_once();
    EXPECT_EQ(drops(from.port, DropReason::bad_offload), 1U);
    EXPECT_TRUE(bench.fakes[2]->sent().empty());
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

// Writes valid headers and lies in turn, in a process of its own, as a guest would on another CPU.
class Rewriter {
 public:
  Rewriter(std::uint8_t* at, const std::vector<VnetHeader>& headers) : child_(fork()) {
    if (child_ != 0) return;
    auto* const words = reinterpret_cast<volatile std::uint16_t*>(at);
    for (std::size_t turn = 0;; ++turn) {
      std::uint16_t bytes[sizeof(VnetHeader) / 2];
      std::memcpy(bytes, &headers[turn % headers.size()], sizeof bytes);
      for (std::size_t i = 0; i < 5; ++i) words[i] = bytes[i];
    }
  }
  ~Rewriter() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Rewriter(const Rewriter&) = delete;
  Rewriter& operator=(const Rewriter&) = delete;

 private:
  pid_t child_;
};

TEST(Offloads, a_header_that_is_rewritten_while_it_is_read_changes_nothing_that_was_judged) {
  Guest from(10, plain | sends);
  const IpFrame piece = piece_to(SwitchBench::mac(2));
  VnetHeader lie = piece.header(65535);
  lie.csum_start = 0;
  lie.csum_offset = 6;
  lie.hdr_len = 0xFFFF;
  from.driver.send(0, piece.bytes(false), 2048, piece.header(mss));
  const Rewriter rewriter(from.driver.at(from.driver.buffer(1, 0)), {piece.header(mss), lie, {}, piece.header(1)});
  Burst burst;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_EQ(from.queues->take(burst), 1U);
    const Frame& frame = burst.frames[0];
    if (frame.action == Action::drop || frame.needs.offloads == 0) continue;
    ASSERT_EQ(frame.needs.csum_start, piece.transport_at());
    ASSERT_EQ(frame.needs.csum_offset, 16);
    if (frame.needs.gso_size == 0) continue;
    ASSERT_EQ(frame.needs.gso_size, mss) << "the other sizes are never a piece's";
    ASSERT_EQ(frame.needs.header_size, piece.header_size());
  }
}

}  // namespace
}  // namespace patchbay::dataplane
