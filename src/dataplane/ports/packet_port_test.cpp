// Packet sockets on a real veth pair, in a network namespace of this program's own. Skipped where namespaces are not
// allowed to us.
#include "dataplane/ports/packet_port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/byte_order.h"
#include "dataplane/offload/needs.h"
#include "dataplane/ports/packet_socket.h"
#include "tests/support/frames.h"
#include "tests/support/ip_frames.h"

namespace patchbay::dataplane {
namespace {

class PacketPortTest : public testing::Test {
 protected:
  void SetUp() override {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "no network namespace of our own: " << std::strerror(errno);
    }
    ASSERT_EQ(run("ip link add nic0 type veth peer name wire0 && ip link set nic0 up && ip link set wire0 up"), 0);
    auto opened = PacketPort::open(PortId{1}, event_.get(), "nic0");
    ASSERT_TRUE(opened) << opened.error().message;
    port_ = std::move(*opened);
    wire_.reset(socket(AF_PACKET, SOCK_RAW, 0));
    constexpr int on = 1;
    constexpr int queue_bytes = 64 << 20;
    ASSERT_EQ(setsockopt(wire_.get(), SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), 0);
    static_cast<void>(setsockopt(wire_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &queue_bytes, sizeof queue_bytes));
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex("wire0"));
    ASSERT_EQ(bind(wire_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }

  static int run(const std::string& command) { return std::system(command.c_str()); }

  // A TCP piece of `payload` bytes, all `fill`, in VLAN `vid`, to be cut to 1448 bytes; its last byte ends the stream.
  void send_piece(std::uint16_t vid, std::uint8_t fill, std::size_t payload) {
    VnetHeader header;
    header.flags = vnet_needs_csum;
    header.gso_type = vnet_gso_tcpv4;
    header.hdr_len = 58;
    header.gso_size = 1448;
    header.csum_start = 38;
    header.csum_offset = 16;
    std::vector<std::uint8_t> bytes(vnet_header_size_legacy + 58 + payload, fill);
    std::memcpy(bytes.data(), &header, vnet_header_size_legacy);
    std::uint8_t* const frame = bytes.data() + vnet_header_size_legacy;
    std::memset(frame, 0, 58);
    frame[0] = frame[6] = 2;
    frame[11] = 1;
    store_be16(frame + 12, tpid_8021q);
    store_be16(frame + 14, vid);
    store_be16(frame + 16, 0x0800);
    frame[18] = 0x45;
    store_be16(frame + 20, static_cast<std::uint16_t>(40 + payload));
    frame[26] = 64;
    frame[27] = 6;
    frame[50] = 0x50;
    frame[51] = 0x11;
    ASSERT_EQ(::send(wire_.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }

  struct Seen {
    std::size_t pieces = 0;
    std::size_t payload = 0;
    std::size_t drops = 0;
    std::string tags;  // "101:A" and so on: each tag with the payload under it, once for each change
  };
  // Everything that waits, until there was nothing for 100 ms.
  Seen drain() {
    Seen seen;
    for (int quiet = 0; quiet < 100; ++quiet) {
      while (const std::size_t count = port_->receive(burst_)) {
        quiet = 0;
        for (const Frame& frame : std::span(burst_.frames).first(count)) look(frame, seen);
        port_->complete(count);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return seen;
  }
  static void look(const Frame& frame, Seen& seen) {
    if (frame.action == Action::drop) {
      EXPECT_STREQ(to_string(frame.reason), "kernel_queue_full");
      ++seen.drops;
      return;
    }
    if (frame.needs.gso_size == 0) return;  // not ours: the kernel's own
    EXPECT_EQ(frame.needs.gso_size, 1448);
    const std::size_t tag = frame.tag_tpid != 0 ? 0 : vlan_tag_size;
    EXPECT_EQ(frame.needs.header_size, 54 + tag);
    EXPECT_EQ(frame.needs.csum_start, 34 + tag);
    const auto vid = frame.tag_tpid != 0 ? frame.tag_tci : load_be16(frame.head + 14);
    ++seen.pieces;
    seen.payload += frame.size - frame.needs.header_size;
    const auto* const payload = frame.head + frame.needs.header_size;
    for (std::size_t i = frame.needs.header_size; i < frame.size; ++i) ASSERT_EQ(frame.head[i], *payload);
    const std::string label = std::to_string(vid) + ":" + static_cast<char>(*payload);
    if (!seen.tags.ends_with(label)) seen.tags += (seen.tags.empty() ? "" : " ") + label;
  }

  UniqueFd event_{eventfd(0, EFD_NONBLOCK)};
  std::unique_ptr<PacketPort> port_;
  UniqueFd wire_;
  Burst burst_;
};

TEST_F(PacketPortTest, takes_large_pieces_that_do_not_fit_the_ring) {
  for (int i = 0; i < 20; ++i) send_piece(101, 'A', 60000);
  const Seen seen = drain();
  EXPECT_EQ(seen.payload, 20U * 60000);
  EXPECT_EQ(seen.pieces, 20U);
  EXPECT_EQ(seen.tags, "101:A");
}

TEST_F(PacketPortTest, never_puts_a_lost_piece_under_the_next_ones_tag) {
  send_piece(101, 'A', 20000);
  ASSERT_EQ(run("ip link set nic0 down"), 0);
  const Seen before = drain();
  ASSERT_EQ(run("ip link set nic0 up"), 0);
  for (int i = 0; i < 100 && (run("ip link show nic0 | grep -q LOWER_UP") != 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  send_piece(102, 'B', 20000);
  send_piece(103, 'C', 20000);
  const Seen after = drain();
  EXPECT_TRUE(before.tags.empty() || before.tags == "101:A") << before.tags;
  EXPECT_EQ(after.tags, "102:B 103:C");
  EXPECT_EQ(after.payload, 40000U);
}

TEST_F(PacketPortTest, drops_whole_pieces_when_the_queue_is_full) {
  constexpr std::size_t pieces = 400;  // more than fit into the socket's queue while nobody reads
  for (std::size_t i = 0; i < pieces; ++i) send_piece(101, 'A', 60000);
  const Seen seen = drain();
  EXPECT_GT(seen.drops, 0U);
  EXPECT_EQ(seen.payload, (pieces - seen.drops) * 60000) << "what was not dropped is whole";
  EXPECT_EQ(seen.pieces, pieces - seen.drops);
}

// ---- Sending --------------------------------------------------------------------------------------------------------

// A NIC of which this program is the wire: a tap, with or without hardware that cuts pieces and completes checksums.
class Tap {
 public:
  explicit Tap(unsigned long offloads) : fd_(::open("/dev/net/tun", O_RDWR | O_NONBLOCK)) {
    ifreq request = {};
    std::memcpy(request.ifr_name, "nic1", 5);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    usable_ = fd_ && ioctl(fd_.get(), TUNSETIFF, &request) == 0 && ioctl(fd_.get(), TUNSETOFFLOAD, offloads) == 0;
  }
  [[nodiscard]] bool usable() const { return usable_; }
  struct Got {
    VnetHeader header;
    std::string bytes;
  };
  // The next frame of TCP over IPv4 with our addresses, within 5 s.
  Got receive() {
    for (int i = 0; i < 500; ++i) {
      std::string bytes(70000, '\0');
      const ssize_t size = read(fd_.get(), bytes.data(), bytes.size());
      if (size < 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        continue;
      }
      Got got;
      std::memcpy(static_cast<void*>(&got.header), bytes.data(), vnet_header_size_legacy);
      got.bytes = bytes.substr(vnet_header_size_legacy, static_cast<std::size_t>(size) - vnet_header_size_legacy);
      if (got.bytes.starts_with(test::mac_bytes("02:00:00:00:00:02"))) return got;
    }
    ADD_FAILURE() << "nothing came";
    return {};
  }

 private:
  UniqueFd fd_;
  bool usable_ = false;
};

// Lays `piece` out as a guest's: its first bytes apart, the rest in stretches.
struct Laid {
  Laid(const test::IpFrame& piece, std::uint16_t gso_size, std::uint16_t vid) : bytes(piece.bytes(false)) {
    frame.head = reinterpret_cast<std::uint8_t*>(bytes.data());
    frame.head_size = static_cast<std::uint32_t>(std::min(bytes.size(), head_size_max));
    frame.size = static_cast<std::uint32_t>(bytes.size());
    for (std::size_t at = frame.head_size; at < bytes.size(); at += 4000) {
      rest.push_back({frame.head + at, static_cast<std::uint32_t>(std::min<std::size_t>(4000, bytes.size() - at))});
    }
    frame.rest = rest.data();
    frame.rest_count = static_cast<std::uint16_t>(rest.size());
    take_needs(frame, piece.header(gso_size), offload_all);
    if (vid != 0) frame.tag_tpid = tpid_8021q;
    frame.tag_tci = vid;
  }
  std::string bytes;
  std::vector<Segment> rest;
  Frame frame;
};

test::IpFrame tagged(test::IpFrame frame, std::uint16_t vid) {
  if (vid != 0) frame.tags = test::tag(vid);
  return frame;
}

TEST_F(PacketPortTest, leaves_to_the_kernel_what_a_frame_needs_with_and_without_a_tag) {
  constexpr unsigned long hardware = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  for (const unsigned long offloads : {hardware, 0UL}) {
    Tap tap(offloads);
    if (!tap.usable()) GTEST_SKIP() << "no taps here: " << std::strerror(errno);
    auto opened = PacketPort::open(PortId{2}, event_.get(), "nic1");
    ASSERT_TRUE(opened) << opened.error().message;
    PacketPort& port = **opened;
    EXPECT_EQ(port.takes(), offload_all & ~(offload_uso4 | offload_uso6));
    for (const std::uint16_t vid : {std::uint16_t{0}, std::uint16_t{101}}) {
      for (const bool ipv6 : {false, true}) {
        for (const std::uint16_t gso_size : {std::uint16_t{0}, std::uint16_t{1448}}) {
          SCOPED_TRACE(testing::Message() << offloads << " vid " << vid << " ipv6 " << ipv6 << " gso " << gso_size);
          const test::IpFrame piece{.ipv6 = ipv6, .flags = 0x19, .payload = test::pattern(gso_size == 0 ? 777 : 60001)};
          Laid laid(piece, gso_size, vid);
          ASSERT_EQ(port.send({&laid.frame, 1}), 1U);
          ASSERT_EQ(port.counters().drops[static_cast<std::size_t>(DropReason::uplink_refused)], 0U);
          if (offloads != 0) {
            const Tap::Got got = tap.receive();
            EXPECT_EQ(got.bytes, tagged(piece, vid).bytes(false));
            EXPECT_EQ(got.header.gso_size, gso_size);
            EXPECT_EQ(got.header.csum_start, piece.header().csum_start + (vid != 0 ? 4 : 0));
            continue;
          }
          const std::size_t parts = gso_size == 0 ? 1 : piece.parts(gso_size);
          for (std::size_t i = 0; i < parts; ++i) {
            const auto part = tagged(gso_size == 0 ? piece : piece.part(i, gso_size), vid);
            EXPECT_EQ(tap.receive().bytes, part.bytes()) << i;
          }
        }
      }
    }
  }
}

TEST_F(PacketPortTest, leaves_nothing_to_a_veth) {
  EXPECT_EQ(port_->takes(), 0);
}

// Queues, and what of frames that are all told apart by their last byte arrives where.
class PacketQueueTest : public PacketPortTest {
 protected:
  void SetUp() override {
    PacketPortTest::SetUp();
    if (IsSkipped()) return;
    const QueueAbility ability = port_->queue_ability();
    if (ability.sorting != QueueSorting::kernel) GTEST_SKIP() << ability.reason;
    EXPECT_EQ(ability.queues, PacketSorter::queues_max);
    wire_ignores_offloads();
  }
  void wire_ignores_offloads() {
    constexpr int off = 0;
    wire_.reset(socket(AF_PACKET, SOCK_RAW, 0));
    ASSERT_TRUE(set_option(wire_.get(), SOL_PACKET, PACKET_VNET_HDR, off));
    ASSERT_TRUE(bind_to(wire_.get(), static_cast<int>(if_nametoindex("wire0")), 0));
  }
  std::unique_ptr<Port> open_queue(const char* mac, std::uint16_t vid) {
    auto queue = port_->open_queue(PortId{next_id_++});
    if (!queue) {
      ADD_FAILURE() << queue.error().message;
      return nullptr;
    }
    EXPECT_TRUE(port_->set_queue_filter(**queue, QueueFilter{*MacAddr::parse(mac), vid}));
    return std::move(*queue);
  }
  void send(char mark, const char* mac, const std::string& tags = "") {
    std::string frame = test::ethernet(mac, "02:cc:00:00:00:01", tags);
    frame.back() = mark;
    ASSERT_EQ(::send(wire_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  // The marks of what arrived at `port`: veth delivers before send() returns.
  std::string arrived(Port& port) {
    std::string marks;
    while (const std::size_t count = port.receive(burst_)) {
      for (const Frame& frame : std::span(burst_.frames).first(count)) {
        const bool ours = frame.head_size > 14 && load_be48(frame.head + 6) == 0x02CC'0000'0001;
        if (ours) marks.push_back(static_cast<char>(frame.head[frame.head_size - 1]));
      }
      port.complete(count);
    }
    return marks;
  }
  static constexpr const char* one = "02:00:00:00:00:01";
  static constexpr const char* other = "02:00:00:00:00:02";
  std::uint32_t next_id_ = 10;
};

TEST_F(PacketQueueTest, takes_what_its_filter_names_and_nothing_else) {
  const auto tagged = open_queue(one, 101);
  const auto untagged = open_queue(one, 0);
  ASSERT_TRUE(tagged && untagged);
  send('a', one, test::tag(101));
  send('b', one, test::tag(102));
  send('c', other, test::tag(101));
  send('d', one);
  send('e', one, test::tag(0, 0x8100, 5));
  send('f', one, test::tag(101, 0x8100, 7));
  send('g', one, test::tag(101, 0x88A8));
  send('h', "ff:ff:ff:ff:ff:ff", test::tag(101));
  send('i', other);
  send('j', one, test::tag(0) + test::tag(101));
  EXPECT_EQ(arrived(*tagged), "af");
  EXPECT_EQ(arrived(*untagged), "dej");
  EXPECT_EQ(arrived(*port_), "bcghi");
}

TEST_F(PacketQueueTest, gives_its_frames_back_to_the_default_queue_and_its_ring_to_the_next) {
  auto first = open_queue(one, 101);
  const auto second = open_queue(other, 101);
  ASSERT_TRUE(first && second);
  send('a', one, test::tag(101));
  ASSERT_TRUE(port_->set_queue_filter(*first, std::nullopt));
  send('b', one, test::tag(101));
  send('c', other, test::tag(101));
  EXPECT_EQ(arrived(*first), "a");
  EXPECT_EQ(arrived(*port_), "b");
  port_->close_queue(*first);
  first.reset();
  const auto third = open_queue(one, 102);
  ASSERT_TRUE(third);
  send('d', one, test::tag(102));
  send('e', one, test::tag(101));
  send('f', other, test::tag(101));
  EXPECT_EQ(arrived(*third), "d");
  EXPECT_EQ(arrived(*second), "cf");
  EXPECT_EQ(arrived(*port_), "e");
}

TEST_F(PacketQueueTest, keeps_its_place_when_the_interface_goes_down_and_comes_up) {
  const auto first = open_queue(one, 101);
  const auto second = open_queue(other, 101);
  ASSERT_TRUE(first && second);
  ASSERT_EQ(run("ip link set nic0 down && ip link set nic0 up"), 0);
  send('a', one, test::tag(101));
  send('b', other, test::tag(101));
  send('c', other, test::tag(102));
  EXPECT_EQ(arrived(*first), "a");
  EXPECT_EQ(arrived(*second), "b");
  EXPECT_EQ(arrived(*port_), "c");
}

TEST_F(PacketQueueTest, hears_nothing_of_what_this_host_sends) {
  const auto queue = open_queue(one, 0);
  ASSERT_TRUE(queue);
  const UniqueFd sender(socket(AF_PACKET, SOCK_RAW, 0));
  ASSERT_TRUE(bind_to(sender.get(), static_cast<int>(if_nametoindex("nic0")), 0));
  for (const char* mac : {one, other}) {
    const std::string frame = test::ethernet(mac, "02:cc:00:00:00:01");
    ASSERT_EQ(::send(sender.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  EXPECT_EQ(arrived(*queue), "");
  EXPECT_EQ(arrived(*port_), "");
}

TEST_F(PacketQueueTest, are_as_many_as_it_says) {
  std::vector<std::unique_ptr<Port>> queues;
  for (std::uint32_t i = 0; i < PacketSorter::queues_max; ++i) {
    queues.push_back(open_queue(one, static_cast<std::uint16_t>(i + 1)));
    ASSERT_TRUE(queues.back());
  }
  const auto more = port_->open_queue(PortId{9});
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::no_resource);
  send('a', one, test::tag(PacketSorter::queues_max));
  EXPECT_EQ(arrived(*queues.back()), "a");
}

}  // namespace
}  // namespace patchbay::dataplane
