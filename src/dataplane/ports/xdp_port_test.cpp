// AF_XDP sockets on a real veth pair: frames both ways, and what is left on the NIC.
#include "dataplane/ports/xdp_port.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/xdp_port_fixture.h"

namespace patchbay::dataplane {
namespace {

using test::our_type;
using test::patience_ms;
using XdpPortTest = test::XdpPortFixture;

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

TEST_F(XdpPortTest, counts_a_frame_for_which_there_was_no_chunk_once) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  constexpr std::size_t sent = 3000;  // of one flow, so into one queue, which has 2,048
  for (std::size_t i = 0; i < sent; ++i) send_on_wire(flow(7));
  std::size_t got = 0;
  while (const std::size_t count = port_->receive(burst_)) {
    for (const Frame& frame : std::span(burst_.frames).first(count))
      got += load_be16(frame.head + 12) == 0x0800 ? 1 : 0;
    port_->complete(count);
  }
  EXPECT_LE(got, 2048U);
  EXPECT_GE(got, 2000U) << "the kernel's own frames take some";
  EXPECT_GE(port_->kernel_drops(), sent - got);
  EXPECT_LE(port_->kernel_drops(), sent - got + 20);
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

TEST_F(XdpPortTest, asks_about_its_nic_when_that_is_renamed_and_another_takes_the_name) {
  const unsigned index = if_nametoindex("nic0");
  const auto ask = NtupleRules::ask_interface(index);
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  ASSERT_EQ(run("ip link set nic0 down && ip link set nic0 name nic7 && ip link add nic0 type bridge"), 0);
  ASSERT_TRUE(ask(&driver)) << std::strerror(errno);
  EXPECT_STREQ(driver.driver, "veth");
  EXPECT_FALSE(NtupleNote::of("", index).nic_is_gone());
  ASSERT_EQ(run("ip link delete nic7"), 0);
  EXPECT_FALSE(ask(&driver));
  EXPECT_EQ(errno, ENODEV);
  EXPECT_TRUE(NtupleNote::of("", index).nic_is_gone());
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
