// Queues that come and go under traffic: real packet rings on a veth pair, two workers, host interfaces as vnics, in a
// network namespace of this program's own. Skipped where namespaces are not allowed to us.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>
#include <utility>

#include "base/byte_order.h"
#include "dataplane/dataplane.h"
#include "dataplane/ports/packet_socket.h"
#include "tests/support/frames.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t vid = 101;
constexpr std::size_t number_at = 14;  // behind the Ethernet header, which has no tag any more

UniqueFd packet_socket(const char* interface, std::uint16_t protocol) {
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0));
  constexpr int bytes = 64 << 20;
  set_option(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, bytes);
  set_option(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, bytes);
  set_option(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  EXPECT_TRUE(bind_to(fd.get(), static_cast<int>(if_nametoindex(interface)), protocol));
  return fd;
}

class QueuesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "no network namespace of our own: " << std::strerror(errno);
    }
    // Frames that the kernel sends by itself may be dropped, too.
    static_cast<void>(!std::system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"));
    ASSERT_EQ(std::system("ip link add nic0 type veth peer name wire0 && ip link set nic0 up && ip link set wire0 up"),
              0);
    static bool started = false;
    if (std::exchange(started, true))
      GTEST_SKIP() << "DPDK starts once in a process: run each test by itself, as ctest does";
    DataplaneConfig config;
    config.worker_cpus = {0};
    if (std::thread::hardware_concurrency() > 1) config.worker_cpus.push_back(1);
    auto made = Dataplane::create(config);
    ASSERT_TRUE(made) << made.error().message;
    dataplane_ = std::move(*made);
    uplink_ = *dataplane_->open_uplink("nic0", {.driver = model::UplinkDriver::packet});
    for (int i = 0; i < 2; ++i) {
      const std::string name = "v" + std::to_string(i);
      auto port = dataplane_->open_host_port({name, mac(i)});
      if (!port) GTEST_SKIP() << port.error().message;
      vnics_.push_back({*port, mac(i), model::Access{*VlanId::from(vid)}});
      heard_.push_back(packet_socket(name.c_str(), ETH_P_ALL));
    }
    publish();
    wire_ = packet_socket("wire0", 0);
  }
  static MacAddr mac(int i) { return MacAddr::from_uint64(0x0200'0000'0001 + static_cast<std::uint64_t>(i)); }
  void publish() { dataplane_->publish({{{"lan", uplink_, 1500, vnics_}}}); }

  PortId open_queue(std::size_t vnic) {
    const auto queue = dataplane_->open_queue(uplink_);
    EXPECT_TRUE(queue) << queue.error().message;
    EXPECT_TRUE(dataplane_->set_queue_filter(*queue, {vnics_[vnic].mac, vid}));
    vnics_[vnic].queues = {*queue};
    publish();
    return *queue;
  }
  void close_queue(std::size_t vnic) {
    const PortId queue = vnics_[vnic].queues.front();
    dataplane_->clear_queue_filter(queue);
    vnics_[vnic].queues.clear();
    publish();
    dataplane_->close_port(queue, false);
  }
  void send(std::size_t vnic, std::uint64_t number) {
    std::string frame = test::ethernet(vnics_[vnic].mac.to_string().c_str(), "02:cc:00:00:00:01", test::tag(vid));
    store_be48(reinterpret_cast<std::uint8_t*>(frame.data()) + number_at + 4, number);
    ASSERT_EQ(::send(wire_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  // Takes what the vnic's host interface got, and holds the numbers against those before.
  void hear(std::size_t vnic) {
    std::array<std::uint8_t, 2048> bytes;
    for (;;) {
      const ssize_t size = ::recv(heard_[vnic].get(), bytes.data(), bytes.size(), 0);
      if (size < 0) return;
      if (size < static_cast<ssize_t>(number_at + 6) || load_be48(bytes.data() + 6) != 0x02CC'0000'0001) continue;
      EXPECT_EQ(load_be48(bytes.data()), vnics_[vnic].mac.to_uint64()) << "another vnic's frame";
      const std::uint64_t number = load_be48(bytes.data() + number_at);
      EXPECT_GT(number, last_[vnic]) << "overtaken, or twice";
      last_[vnic] = number;
      ++got_[vnic];
    }
  }

  // A port counts a frame when it is given back, which may be after its receiver has it.
  std::uint64_t wait_counted(PortId port, std::uint64_t frames) const {
    for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
         dataplane_->counters(port).ingress.frames < frames && std::chrono::steady_clock::now() < until;) {
      std::this_thread::yield();
    }
    return dataplane_->counters(port).ingress.frames;
  }

  std::unique_ptr<Dataplane> dataplane_;
  PortId uplink_{};
  std::vector<VnicLayout> vnics_;
  std::vector<UniqueFd> heard_;
  UniqueFd wire_;
  std::array<std::uint64_t, 2> last_{};
  std::array<std::uint64_t, 2> got_{};
};

TEST_F(QueuesTest, come_and_go_and_move_under_traffic_while_each_flow_stays_in_order) {
  if (dataplane_->queue_ability(uplink_).sorting != QueueSorting::kernel) {
    GTEST_SKIP() << dataplane_->queue_ability(uplink_).reason;
  }
  constexpr int rounds = 60;
  std::atomic<bool> stop = false;
  std::uint64_t sent = 0;
  std::thread wire([&] {
    while (!stop) {
      for (int i = 0; i < 16; ++i, ++sent) {
        send(0, sent + 1);
        send(1, sent + 1);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  std::uint64_t by_queue = 0;
  const auto workers = static_cast<unsigned>(dataplane_->worker_stats().size());
  for (int round = 0; round < rounds; ++round) {
    const auto vnic = static_cast<std::size_t>(round % 2);
    const PortId queue = open_queue(vnic);
    dataplane_->move_port(vnics_[vnic].port, static_cast<unsigned>(round / 2) % workers);
    EXPECT_EQ(dataplane_->worker_of(queue), dataplane_->worker_of(vnics_[vnic].port));
    for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
         dataplane_->counters(queue).ingress.frames == 0 && std::chrono::steady_clock::now() < until;) {
      hear(vnic);
    }
    by_queue += dataplane_->counters(queue).ingress.frames;
    close_queue(vnic);
    for (std::size_t i = 0; i < 2; ++i) hear(i);
  }
  stop = true;
  wire.join();
  const auto uplink = [this] { return dataplane_->counters(uplink_); };
  const auto lost = [&] { return uplink().drops[static_cast<std::size_t>(DropReason::kernel_ring_full)]; };
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
       uplink().ingress.frames + lost() < 2 * sent && std::chrono::steady_clock::now() < until;) {
    for (std::size_t i = 0; i < 2; ++i) hear(i);
  }
  for (std::size_t i = 0; i < 2; ++i) hear(i);
  EXPECT_GE(by_queue, static_cast<std::uint64_t>(rounds)) << "each queue had frames";
  EXPECT_GE(uplink().ingress.frames + lost(), 2 * sent) << "an uplink counts what its queues brought";
  std::uint64_t dropped = lost();
  for (const VnicLayout& vnic : vnics_) {
    for (const std::uint64_t drops : dataplane_->counters(vnic.port).drops) dropped += drops;
  }
  EXPECT_EQ(got_[0] + got_[1] + dropped, 2 * sent);
}

TEST_F(QueuesTest, of_an_uplink_with_one_ring_counts_what_its_vnic_gets) {
  dataplane_->publish({});
  dataplane_->close_port(uplink_, false);
  const auto opened =
      dataplane_->open_uplink("nic0", {.driver = model::UplinkDriver::xdp, .native = false, .queues = 1});
  if (!opened) GTEST_SKIP() << opened.error().message;
  uplink_ = *opened;
  ASSERT_EQ(dataplane_->queue_ability(uplink_).sorting, QueueSorting::software);
  const PortId queue = open_queue(0);
  for (std::uint64_t number = 1; number <= 20; ++number) {
    send(0, number);
    send(1, number);
  }
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
       got_[0] + got_[1] < 40 && std::chrono::steady_clock::now() < until;) {
    hear(0);
    hear(1);
  }
  EXPECT_EQ(got_[0] + got_[1], 40U);
  EXPECT_EQ(wait_counted(queue, 20), 20U);
  EXPECT_EQ(dataplane_->counters(queue).ingress.bytes, 20U * 64) << "without the tag";
  EXPECT_GE(wait_counted(uplink_, 40), 40U);
  close_queue(0);
}

TEST_F(QueuesTest, a_frame_in_the_wrong_queue_is_judged_as_any_other) {
  if (dataplane_->queue_ability(uplink_).sorting != QueueSorting::kernel) GTEST_SKIP();
  const PortId queue = open_queue(0);
  // As hardware that is wrong: what is for vnic 1 comes in by the queue of vnic 0.
  vnics_[0].mac = mac(1);
  vnics_[1].mac = mac(0);
  publish();
  send(1, 1);
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
       got_[1] == 0 && std::chrono::steady_clock::now() < until;) {
    hear(1);
  }
  EXPECT_EQ(got_[1], 1U);
  EXPECT_GE(wait_counted(queue, 1), 1U);
  hear(0);
  EXPECT_EQ(got_[0], 0U);
  close_queue(0);
}

// As of a NIC whose rules are wrong, or late: the queue has frames of a vnic of another worker until it is closed.
TEST_F(QueuesTest, that_closes_counts_the_frames_that_another_worker_had_of_it) {
  if (dataplane_->queue_ability(uplink_).sorting != QueueSorting::kernel) GTEST_SKIP();
  if (dataplane_->worker_stats().size() < 2) GTEST_SKIP() << "one CPU";
  dataplane_->move_port(vnics_[0].port, 0);
  dataplane_->move_port(vnics_[1].port, 1);
  const auto open_wrong_queue = [this] {
    const PortId queue = *dataplane_->open_queue(uplink_);
    EXPECT_TRUE(dataplane_->set_queue_filter(queue, {vnics_[1].mac, vid}));
    vnics_[0].queues = {queue};
    publish();
    return queue;
  };
  std::atomic<bool> stop = false;
  std::uint64_t sent = 0;
  std::thread wire([&] {
    while (!stop) {
      for (int i = 0; i < 16; ++i) send(1, ++sent);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  for (int round = 0; round < 100; ++round) {
    const PortId queue = open_wrong_queue();
    for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
         dataplane_->counters(queue).ingress.frames == 0 && std::chrono::steady_clock::now() < until;) {
      std::this_thread::yield();
    }
    vnics_[0].queues.clear();
    publish();
    dataplane_->close_port(queue, false);
  }
  stop = true;
  wire.join();
  static_cast<void>(open_wrong_queue());  // what came when nobody had the ring
  const auto lost = [this] {
    return dataplane_->counters(uplink_).drops[static_cast<std::size_t>(DropReason::kernel_ring_full)];
  };
  const auto counted = [this] { return dataplane_->counters(uplink_).ingress.frames; };
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
       counted() + lost() < sent && std::chrono::steady_clock::now() < until;) {
    std::this_thread::yield();
  }
  EXPECT_GE(counted() + lost(), sent) << "the kernel's own frames come besides";
  std::set<std::uint64_t> numbers;
  std::array<std::uint8_t, 2048> bytes;
  for (ssize_t size = 0; (size = ::recv(heard_[1].get(), bytes.data(), bytes.size(), 0)) >= 0;) {
    if (size < static_cast<ssize_t>(number_at + 6) || load_be48(bytes.data() + 6) != 0x02CC'0000'0001) continue;
    EXPECT_TRUE(numbers.insert(load_be48(bytes.data() + number_at)).second) << "twice";
  }
  EXPECT_GE(numbers.size() + lost(), sent);
  close_queue(0);
}

TEST_F(QueuesTest, an_uplink_that_leaves_the_layout_has_counted_what_another_worker_had_of_it) {
  if (dataplane_->worker_stats().size() < 2) GTEST_SKIP() << "one CPU";
  vnics_[0].worker = 0;
  vnics_[1].worker = 1;
  publish();
  if (dataplane_->worker_of(uplink_) == 1) std::swap(vnics_[0].worker, vnics_[1].worker);
  std::atomic<bool> stop = false;
  std::thread wire([&] {
    for (std::uint64_t number = 0; !stop;) {
      for (int i = 0; i < 16; ++i) send(1, ++number);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  for (int round = 0; round < 100; ++round) {
    publish();
    const std::uint64_t before = got_[1];
    for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
         got_[1] < before + 100 && std::chrono::steady_clock::now() < until;) {
      hear(1);
    }
    dataplane_->publish({});
    hear(1);
    EXPECT_GE(dataplane_->counters(uplink_).ingress.frames, got_[1]);
  }
  stop = true;
  wire.join();
  EXPECT_GT(got_[1], 100U);
}

}  // namespace
}  // namespace patchbay::dataplane
