// AF_XDP sockets on a real veth pair, in a network namespace of this program's own. Tags stand in the frames' bytes here:
// veth loses those that a kernel keeps beside them, which is why users are never given AF_XDP on it. Needs root in the
// first user namespace, as loading XDP programs does; skipped without.
#include "dataplane/ports/xdp_port.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/byte_order.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t our_type = 0x88B5;  // for local experiments: no frame of the kernel's own has it
constexpr int patience_ms = 5000;

class XdpPortTest : public testing::Test {
 protected:
  void SetUp() override {
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace of our own: " << std::strerror(errno);
    ASSERT_EQ(run("ip link add nic0 numtxqueues 2 numrxqueues 2 type veth peer name wire0 numtxqueues 2 numrxqueues 2"),
              0);
    ASSERT_EQ(run("ip link set nic0 up && ip link set wire0 up"), 0);
    if (const auto probe = XdpProgram::load("nic0", 2, false); !probe) GTEST_SKIP() << probe.error().message;
    wire_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0));
    constexpr int on = 1;
    constexpr int queue_bytes = 64 << 20;
    ASSERT_EQ(setsockopt(wire_.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof on), 0);
    ASSERT_EQ(setsockopt(wire_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on), 0);
    ASSERT_EQ(setsockopt(wire_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &queue_bytes, sizeof queue_bytes), 0);
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = to_be16(0x0003);  // ETH_P_ALL
    address.sll_ifindex = static_cast<int>(if_nametoindex("wire0"));
    ASSERT_EQ(bind(wire_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }

  static int run(const std::string& command) { return std::system(command.c_str()); }
  static std::uint16_t to_be16(std::uint16_t value) {
    std::uint16_t result = 0;
    store_be16(reinterpret_cast<std::uint8_t*>(&result), value);
    return result;
  }
  static model::DriverPlan plan(bool native = true, bool multi_buffer = false) {
    return {.driver = model::UplinkDriver::xdp, .native = native, .multi_buffer = multi_buffer, .queues = 2};
  }
  static void make_jumbo() { ASSERT_EQ(run("ip link set nic0 mtu 9000 && ip link set wire0 mtu 9000"), 0); }
  static std::uint32_t program_on_nic() {
    bpf_xdp_query_opts there = {};
    there.sz = sizeof there;
    return bpf_xdp_query(static_cast<int>(if_nametoindex("nic0")), 0, &there) == 0 ? there.prog_id : 0;
  }
  void open(const model::DriverPlan& how) {
    auto opened = XdpPort::open(PortId{1}, event_.get(), "nic0", how);
    ASSERT_TRUE(opened) << opened.error().message;
    port_ = std::move(*opened);
    epoll_.reset(epoll_create1(0));
    port_->attach(epoll_.get());
  }
  void TearDown() override {
    if (port_) port_->detach();
  }

  // A frame of `size` bytes; `mark` is where its source address ends and its payload starts. With a tag if `vid` is not 0.
  static std::vector<std::uint8_t> frame(std::uint16_t vid, std::uint16_t mark, std::size_t size) {
    std::vector<std::uint8_t> bytes(size, static_cast<std::uint8_t>(mark));
    const std::size_t tag = vid == 0 ? 0 : vlan_tag_size;
    std::memset(bytes.data(), 0, 12);
    bytes[0] = bytes[6] = 2;
    store_be16(bytes.data() + 10, mark);
    if (vid != 0) {
      store_be16(bytes.data() + 12, tpid_8021q);
      store_be16(bytes.data() + 14, vid);
    }
    store_be16(bytes.data() + 12 + tag, our_type);
    store_be16(bytes.data() + 14 + tag, mark);
    return bytes;
  }
  // A UDP flow, with its number as source port.
  static std::vector<std::uint8_t> flow(std::uint16_t number) {
    std::vector<std::uint8_t> bytes(60, 0);
    bytes[0] = bytes[6] = 2;
    store_be16(bytes.data() + 12, 0x0800);
    bytes[14] = 0x45;
    store_be16(bytes.data() + 16, 46);
    bytes[22] = 64;
    bytes[23] = 17;
    bytes[26] = bytes[30] = 10;
    store_be16(bytes.data() + 34, number);
    return bytes;
  }
  void send_on_wire(const std::vector<std::uint8_t>& bytes) {
    ASSERT_EQ(::send(wire_.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  // The bytes of each frame with a mark of ours that the port receives, by mark, until there are `wanted`.
  std::map<std::uint16_t, std::vector<std::uint8_t>> receive(std::size_t wanted) {
    std::map<std::uint16_t, std::vector<std::uint8_t>> seen;
    for (;;) {
      while (const std::size_t count = port_->receive(burst_)) {
        for (const Frame& got : std::span(burst_.frames).first(count)) note(got, seen);
        port_->complete(count);
      }
      if (seen.size() >= wanted || port_->prepare_sleep()) {
        if (seen.size() >= wanted) return seen;
        continue;
      }
      epoll_event event;
      if (epoll_wait(epoll_.get(), &event, 1, patience_ms) != 1) return seen;
      port_->on_event(event.events);
    }
  }
  static void note(const Frame& got, std::map<std::uint16_t, std::vector<std::uint8_t>>& seen) {
    std::vector<std::uint8_t> bytes(got.head, got.head + got.head_size);
    for (std::size_t i = 0; i < got.rest_count; ++i) {
      bytes.insert(bytes.end(), got.rest[i].data, got.rest[i].data + got.rest[i].size);
    }
    EXPECT_EQ(bytes.size(), got.size);
    const std::size_t tag = load_be16(bytes.data() + 12) == tpid_8021q ? vlan_tag_size : 0;
    if (load_be16(bytes.data() + 12 + tag) == our_type) seen[load_be16(bytes.data() + 14 + tag)] = bytes;
  }
  // Sends `bytes` (untagged) as a frame of VLAN `vid`, head and rest apart, as from a guest. False: the port is full.
  bool send(std::uint16_t vid, std::vector<std::uint8_t> bytes) {
    Frame out;
    out.head = bytes.data();
    out.head_size = static_cast<std::uint32_t>(std::min(bytes.size(), head_size_max));
    out.size = static_cast<std::uint32_t>(bytes.size());
    const Segment rest = {bytes.data() + out.head_size, out.size - out.head_size};
    out.rest = &rest;
    out.rest_count = rest.size == 0 ? 0 : 1;
    if (vid != 0) {
      out.tag_tpid = tpid_8021q;
      out.tag_tci = vid;
    }
    return port_->send({&out, 1}) == 1;
  }
  // The next frame of ours on the wire, and its VLAN; empty if none comes.
  std::vector<std::uint8_t> read_wire(std::uint16_t& vid) {
    std::vector<std::uint8_t> bytes(16384);
    for (;;) {
      alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(tpacket_auxdata))> control{};
      iovec part = {bytes.data(), bytes.size()};
      msghdr message = {};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t size = recvmsg(wire_.get(), &message, 0);
      if (size < 0) {
        pollfd waits = {wire_.get(), POLLIN, 0};
        if (poll(&waits, 1, patience_ms) != 1) return {};
        continue;
      }
      if (load_be16(bytes.data() + 12) != our_type) continue;
      tpacket_auxdata aux = {};
      std::memcpy(&aux, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof aux);
      vid = (aux.tp_status & TP_STATUS_VLAN_VALID) != 0 ? aux.tp_vlan_tci : std::uint16_t{0};
      bytes.resize(static_cast<std::size_t>(size));
      return bytes;
    }
  }

  UniqueFd event_{eventfd(0, EFD_NONBLOCK)};
  UniqueFd epoll_;
  std::unique_ptr<XdpPort> port_;
  UniqueFd wire_;
  Burst burst_;
  CallSignal calls_ = std::move(*CallSignal::create());
};

TEST_F(XdpPortTest, receives_whole_frames_with_their_tags_and_more_than_it_has_chunks_for) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  for (int round = 0; round < 60; ++round) {  // 6,000 frames through 2 x 2,048 chunks
    for (std::uint16_t mark = 1; mark <= 50; ++mark) {
      send_on_wire(frame(0, mark, 60));
      send_on_wire(frame(101, static_cast<std::uint16_t>(1000 + mark), 1518));
    }
    const auto seen = receive(100);
    ASSERT_EQ(seen.size(), 100U) << "in round " << round;
    EXPECT_EQ(seen.at(7), frame(0, 7, 60));
    EXPECT_EQ(seen.at(1007), frame(101, 1007, 1518));
  }
  EXPECT_EQ(port_->kernel_drops(), 0U);
}

TEST_F(XdpPortTest, leaves_what_is_for_the_neighbour_to_the_kernel) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  UniqueFd kernels(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0));
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = to_be16(our_type);
  address.sll_ifindex = static_cast<int>(if_nametoindex("nic0"));
  ASSERT_EQ(bind(kernels.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::array<std::vector<std::uint8_t>, 6> destinations{{{0x01, 0x80, 0xC2, 0x00, 0x00, 0x00},
                                                               {0x01, 0x80, 0xC2, 0x00, 0x00, 0x02},
                                                               {0x01, 0x80, 0xC2, 0x00, 0x00, 0x0E},
                                                               {0x01, 0x80, 0xC2, 0x00, 0x00, 0x10},
                                                               {0x01, 0x80, 0xC2, 0x00, 0x01, 0x02},
                                                               {0x01, 0x80, 0xC3, 0x00, 0x00, 0x02}}};
  for (std::uint16_t mark = 1; mark <= destinations.size(); ++mark) {
    auto bytes = frame(0, mark, 60);
    std::copy(destinations[mark - 1U].begin(), destinations[mark - 1U].end(), bytes.begin());
    send_on_wire(bytes);
  }
  const auto seen = receive(3);
  EXPECT_EQ(seen.size(), 3U);
  for (std::uint16_t mark = 4; mark <= 6; ++mark) EXPECT_TRUE(seen.contains(mark)) << mark;
  std::vector<std::uint16_t> left;
  std::array<std::uint8_t, 256> bytes;
  while (recv(kernels.get(), bytes.data(), bytes.size(), 0) > 0) left.push_back(load_be16(bytes.data() + 14));
  EXPECT_EQ(left, (std::vector<std::uint16_t>{1, 2, 3}));
}

TEST_F(XdpPortTest, receives_from_every_queue) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  // UDP flows, which the sending end spreads over its queues; each has the mark in its source port.
  for (std::uint16_t number = 0; number < 64; ++number) send_on_wire(flow(static_cast<std::uint16_t>(20000 + number)));
  std::map<std::uint16_t, int> flows;
  while (flows.size() < 64) {
    const std::size_t count = port_->receive(burst_);
    for (const Frame& got : std::span(burst_.frames).first(count)) {
      if (load_be16(got.head + 12) == 0x0800) ++flows[load_be16(got.head + 34)];
    }
    port_->complete(count);
    epoll_event event;
    if (count == 0 && epoll_wait(epoll_.get(), &event, 1, patience_ms) != 1) break;
  }
  EXPECT_EQ(flows.size(), 64U);
}

TEST_F(XdpPortTest, of_a_driver_without_ntuple_filters_sorts_in_software_and_says_why) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  EXPECT_EQ(port_->queue_ability().sorting, QueueSorting::software);
  EXPECT_EQ(port_->queue_ability().queues, 0);
  EXPECT_EQ(port_->queue_ability().reason, "driver veth has no ntuple filters");
  port_->detach();
  port_.reset();
  model::DriverPlan one = plan();
  one.queues = 1;
  ASSERT_NO_FATAL_FAILURE(open(one));
  EXPECT_EQ(port_->queue_ability().reason, "it has one receive queue");
}

// Which frames come in by which queue is the sending end's choice on veth. That each comes in once, by the port that has its
// queue, is ours.
TEST_F(XdpPortTest, hands_a_queue_to_a_vnic_and_takes_it_back_without_a_loss) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  const UniqueFd epoll(epoll_create1(0));
  std::uint16_t sent = 0;
  std::map<std::uint16_t, int> by_uplink, by_queue;
  const auto note_flows = [&](std::size_t count, std::map<std::uint16_t, int>& seen) {
    for (const Frame& got : std::span(burst_.frames).first(count)) {
      if (load_be16(got.head + 12) == 0x0800) ++seen[load_be16(got.head + 34)];
    }
  };
  const auto take = [&](Port& from, std::map<std::uint16_t, int>& seen) {
    while (const std::size_t count = from.receive(burst_)) {
      note_flows(count, seen);
      from.complete(count);
    }
  };
  const auto send_flows = [&] {
    for (int i = 0; i < 64; ++i) send_on_wire(flow(++sent));
  };
  const auto wait_all = [&](Port* queue) {
    for (;;) {
      take(*port_, by_uplink);
      if (queue != nullptr) take(*queue, by_queue);
      if (by_uplink.size() + by_queue.size() >= sent) break;
      pollfd waits[2] = {{epoll_.get(), POLLIN, 0}, {epoll.get(), POLLIN, 0}};
      ASSERT_GT(poll(waits, 2, patience_ms), 0) << by_uplink.size() << " and " << by_queue.size() << " of " << sent;
      epoll_event told[4];
      epoll_wait(epoll_.get(), told, 4, 0);
      epoll_wait(epoll.get(), told, 4, 0);
    }
    ASSERT_EQ(by_uplink.size() + by_queue.size(), sent);
    for (const auto* seen : {&by_uplink, &by_queue}) {
      for (const auto& [number, times] : *seen) ASSERT_EQ(times, 1) << number;
    }
  };
  for (int round = 0; round < 5; ++round) {
    send_flows();
    const std::size_t held = port_->receive(burst_);
    note_flows(held, by_uplink);
    auto queue = port_->open_queue(PortId{2});
    ASSERT_TRUE(queue) << queue.error().message;
    EXPECT_FALSE(port_->open_queue(PortId{3})) << "the first of two is the uplink's";
    (*queue)->attach(epoll.get());
    EXPECT_EQ((*queue)->receive(burst_), 0U) << "the uplink's worker has not let go of it";
    EXPECT_TRUE((*queue)->prepare_sleep() || held == 0);
    port_->complete(held);
    ASSERT_NO_FATAL_FAILURE(wait_all(queue->get()));
    const std::size_t before = by_queue.size();
    send_flows();
    ASSERT_NO_FATAL_FAILURE(wait_all(queue->get()));
    EXPECT_GT(by_queue.size(), before) << "64 flows over two queues";
    EXPECT_FALSE((*queue)->prepare_sleep());
    send_flows();  // some lie in the queue when it changes hands
    (*queue)->detach();
    port_->close_queue(**queue);
    const std::size_t queues_own = by_queue.size();
    ASSERT_NO_FATAL_FAILURE(wait_all(nullptr));
    EXPECT_EQ(by_queue.size(), queues_own);
  }
}

TEST_F(XdpPortTest, sends_with_the_tag_of_the_vlan_and_more_frames_than_it_has_chunks) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  constexpr std::uint16_t frames = 3000;
  std::uint16_t vid = 0;
  for (std::uint16_t mark = 1; mark <= frames; ++mark) {
    while (!send(mark % 3 == 0 ? 0 : 102, frame(0, mark, 1514))) {
      epoll_event event;  // full: a descriptor says when it is not
      ASSERT_TRUE(port_->full());
      ASSERT_EQ(epoll_wait(epoll_.get(), &event, 1, patience_ms), 1);
      port_->on_event(event.events);
    }
    if (mark % 32 == 0) port_->flush();
  }
  port_->flush();
  for (std::uint16_t mark = 1; mark <= frames; ++mark) {
    ASSERT_EQ(read_wire(vid), frame(0, mark, 1514)) << "or out of order";
    ASSERT_EQ(vid, mark % 3 == 0 ? 0 : 102);
  }
  EXPECT_EQ(port_->counters().egress.frames, frames);
}

TEST_F(XdpPortTest, is_full_while_the_kernel_cannot_send_and_goes_on_afterwards) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  ASSERT_EQ(run("ip link set nic0 down"), 0);
  std::uint16_t held = 0;
  while (send(101, frame(0, held, 60))) ASSERT_LT(++held, 5000);
  EXPECT_EQ(held, 1024);
  EXPECT_TRUE(port_->full());
  port_->set_carrier(false);
  EXPECT_FALSE(port_->full()) << "guests need not wait for what will not come";
  port_->set_carrier(true);
  ASSERT_EQ(run("ip link set nic0 up"), 0);
  port_->flush();  // control wakes the worker when the carrier is back
  while (port_->full()) {
    epoll_event event;
    ASSERT_EQ(epoll_wait(epoll_.get(), &event, 1, patience_ms), 1);
    port_->on_event(event.events);
  }
  std::uint16_t vid = 0;
  for (std::uint16_t mark = 0; mark < held; ++mark) ASSERT_EQ(read_wire(vid), frame(0, mark, 60));
  ASSERT_TRUE(send(101, frame(0, 9, 60)));
  port_->flush();
  EXPECT_EQ(read_wire(vid), frame(0, 9, 60));
}

TEST_F(XdpPortTest, works_in_generic_mode) {
  ASSERT_NO_FATAL_FAILURE(open(plan(false)));
  send_on_wire(frame(101, 5, 200));
  EXPECT_EQ(receive(1).at(5), frame(101, 5, 200));
  ASSERT_TRUE(send(101, frame(0, 6, 60)));
  port_->flush();
  std::uint16_t vid = 0;
  EXPECT_EQ(read_wire(vid), frame(0, 6, 60));
  EXPECT_EQ(vid, 101);
}

TEST_F(XdpPortTest, carries_jumbo_frames_in_several_chunks) {
  make_jumbo();
  auto opened = XdpPort::open(PortId{1}, event_.get(), "nic0", plan(true, true));
  if (!opened) GTEST_SKIP() << "this kernel has no multi-buffer AF_XDP: " << opened.error().message;
  opened->reset();
  ASSERT_NO_FATAL_FAILURE(open(plan(true, true)));
  for (std::uint16_t mark = 1; mark <= 100; ++mark) {
    send_on_wire(frame(101, mark, 9018));
    send_on_wire(frame(0, static_cast<std::uint16_t>(1000 + mark), 60));
    if (mark % 20 != 0) continue;
    const auto seen = receive(40);
    ASSERT_EQ(seen.size(), 40U);
    EXPECT_EQ(seen.at(mark), frame(101, mark, 9018));
  }
  std::uint16_t vid = 0;
  for (std::uint16_t mark = 1; mark <= 200; ++mark) {
    const std::size_t size =
        mark % 2 == 0 ? 9014 : 8192 - vlan_tag_size;  // the second fills two chunks to the last byte
    ASSERT_TRUE(send(101, frame(0, mark, size)));
    port_->flush();
    ASSERT_EQ(read_wire(vid), frame(0, mark, size));
    ASSERT_EQ(vid, 101);
  }
}

TEST_F(XdpPortTest, counts_frames_that_are_larger_than_a_chunk) {
  make_jumbo();
  ASSERT_NO_FATAL_FAILURE(open(plan(false)));
  send_on_wire(frame(0, 1, 9014));
  send_on_wire(frame(0, 2, 60));
  EXPECT_EQ(receive(1).count(2), 1U);
  EXPECT_EQ(port_->kernel_drops(), 1U);
  ASSERT_TRUE(send(0, frame(0, 3, 9014)));
  EXPECT_EQ(port_->counters().drops[static_cast<std::size_t>(DropReason::uplink_refused)], 1U);
}

TEST_F(XdpPortTest, drops_without_carrier) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  port_->set_carrier(false);
  ASSERT_TRUE(send(0, frame(0, 1, 60)));
  EXPECT_FALSE(port_->full());
  EXPECT_EQ(port_->counters().drops[static_cast<std::size_t>(DropReason::not_connected)], 1U);
}

TEST_F(XdpPortTest, leaves_nothing_on_the_nic_when_it_is_closed_or_its_process_is_killed) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  EXPECT_NE(program_on_nic(), 0U);
  port_->detach();
  port_.reset();
  EXPECT_EQ(program_on_nic(), 0U);

  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto opened = XdpPort::open(PortId{1}, -1, "nic0", plan());
    const char word = opened ? 'y' : 'n';
    if (write(ready[1], &word, 1) == 1) pause();
    _exit(1);
  }
  char word = 0;
  ASSERT_EQ(read(ready[0], &word, 1), 1);
  EXPECT_EQ(word, 'y');
  EXPECT_NE(program_on_nic(), 0U);
  EXPECT_NE(run("ip -details link show nic0 | grep -q 'promiscuity 0'"), 0);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(program_on_nic(), 0U);
  EXPECT_EQ(run("ip -details link show nic0 | grep -q 'promiscuity 0'"), 0);
  ASSERT_NO_FATAL_FAILURE(open(plan()));  // the queues are free again
  send_on_wire(frame(101, 5, 200));
  EXPECT_EQ(receive(1).count(5), 1U);
}

TEST_F(XdpPortTest, never_replaces_the_program_of_somebody_else) {
  const bpf_insn pass[2] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const UniqueFd theirs(bpf_prog_load(BPF_PROG_TYPE_XDP, "theirs", "GPL", pass, 2, nullptr));
  ASSERT_TRUE(theirs);
  const int nic = static_cast<int>(if_nametoindex("nic0"));
  ASSERT_EQ(bpf_xdp_attach(nic, theirs.get(), XDP_FLAGS_DRV_MODE, nullptr), 0);
  const std::uint32_t before = program_on_nic();
  const auto opened = XdpPort::open(PortId{1}, event_.get(), "nic0", plan());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::in_use);
  EXPECT_NE(opened.error().message.find("theirs"), std::string::npos) << opened.error().message;
  EXPECT_NE(opened.error().message.find("nic0"), std::string::npos);
  EXPECT_EQ(program_on_nic(), before);
}

}  // namespace
}  // namespace patchbay::dataplane
