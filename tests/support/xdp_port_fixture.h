// An AF_XDP uplink on a real veth pair with two queues each way, in a network namespace of this program's own. Tags stand in
// the frames' bytes here: veth loses those that a kernel keeps beside them, which is why users are never given AF_XDP on it.
// Needs root in the first user namespace, as loading XDP programs does; skipped without.
#pragma once
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

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/byte_order.h"
#include "dataplane/ports/xdp_port.h"

namespace patchbay::dataplane::test {

constexpr std::uint16_t our_type = 0x88B5;  // for local experiments: no frame of the kernel's own has it
constexpr int patience_ms = 5000;

class XdpPortFixture : public testing::Test {
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

}  // namespace patchbay::dataplane::test
