#include "dataplane/ports/guest_port.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/support/guest_driver.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;
using test::SwitchBench;

const std::string mac_1 = SwitchBench::mac(1);
const std::string mac_2 = SwitchBench::mac(2);

std::uint64_t drops(const Port& port, DropReason reason) {
  return port.counters().drops[static_cast<std::size_t>(reason)];
}

// A guest and its port, connected.
struct Guest {
  explicit Guest(std::uint32_t id)
      : driver(virtio_f_version_1 | virtio_net_f_mrg_rxbuf), port(PortId{id}, event.get()) {
    queues = make_queues();
    EXPECT_TRUE(port.connect(queues.get(), -1));
  }
  // As after SET_MEM_TABLE: the same memory, mapped anew.
  std::unique_ptr<GuestQueues> make_queues() {
    const MemoryRegion region = driver.region();
    return std::move(*GuestQueues::create(driver.link(*GuestMemory::map({&region, 1}))));
  }
  // As the data plane does it. The worker must run, or not know the port.
  void relink(Worker& worker) {
    auto next = make_queues();
    ASSERT_TRUE(port.offer(next.get(), -1));
    worker.wake();
    port.wait_until_taken();
    std::swap(queues, next);
  }
  UniqueFd event{eventfd(0, EFD_NONBLOCK)};
  GuestDriver driver;
  GuestPort port;
  std::unique_ptr<GuestQueues> queues;
};

std::string announcement(const std::string& mac) {
  const std::string bytes = test::mac_bytes(mac.c_str());
  const std::string no_address(4, '\0');
  std::string frame = test::mac_bytes("ff:ff:ff:ff:ff:ff") + bytes + test::be16(0x8035) + test::be16(1) +
                      test::be16(0x0800) + std::string("\x06\x04", 2) + test::be16(3) + bytes + no_address + bytes +
                      no_address;
  frame.resize(60, '\0');
  return frame;
}

TEST(GuestPort, announces_its_guest_once_in_its_vlan_to_the_wire_and_to_vnics) {
  Guest guest(10);
  SwitchBench bench({{101, &guest.port}, {101}, {102}});
  guest.port.announce(*MacAddr::parse(mac_1));
  EXPECT_TRUE(guest.port.prepare_sleep()) << "there is work, though nothing is in the ring";
  bench.worker->poll_once();
  bench.worker->poll_once();
  ASSERT_EQ(bench.fakes[0]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[0]->sent()[0].text(), announcement(mac_1));
  EXPECT_EQ(bench.fakes[0]->sent()[0].vid, 101);
  ASSERT_EQ(bench.fakes[2]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[2]->sent()[0].text(), announcement(mac_1));
  EXPECT_TRUE(bench.fakes[3]->sent().empty()) << "another VLAN";
  EXPECT_EQ(guest.port.counters().ingress.frames, 1U);
  EXPECT_EQ(guest.port.counters().ingress.bytes, 60U);
  EXPECT_EQ(guest.port.counters().flood_copies, 1U);
  EXPECT_EQ(bench.imbalance(), 0);
  EXPECT_FALSE(guest.port.prepare_sleep());
}

TEST(GuestPort, an_announcement_of_another_address_is_dropped_as_such_a_frame_is) {
  const struct {
    std::string mac;
    DropReason reason;
  } table[] = {{mac_2, DropReason::source_mac},
               {"02:aa:00:00:00:01", DropReason::source_mac},
               {"ff:ff:ff:ff:ff:ff", DropReason::source_multicast},
               {"00:00:00:00:00:00", DropReason::source_multicast}};
  for (const auto& row : table) {
    SCOPED_TRACE(row.mac);
    Guest guest(10);
    SwitchBench bench({{101, &guest.port}, {101}});
    guest.port.announce(*MacAddr::parse(row.mac));
    bench.worker->poll_once();
    bench.worker->poll_once();
    EXPECT_EQ(drops(guest.port, row.reason), 1U);
    EXPECT_TRUE(bench.fakes[0]->sent().empty());
    EXPECT_TRUE(bench.fakes[2]->sent().empty());
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(GuestPort, each_announcement_asked_for_is_sent_up_to_a_limit_and_frames_of_the_ring_follow) {
  Guest guest(10);
  SwitchBench bench({{101, &guest.port}});
  for (int i = 0; i < announcements_max + 5; ++i) guest.port.announce(*MacAddr::parse(mac_1));
  guest.driver.send(0, test::ethernet("02:aa:00:00:00:01", mac_1.c_str()));
  for (int pass = 0; pass < announcements_max + 5; ++pass) bench.worker->poll_once();
  ASSERT_EQ(bench.fakes[0]->sent().size(), announcements_max + 1U);
  EXPECT_EQ(bench.fakes[0]->sent().back().text(), test::ethernet("02:aa:00:00:00:01", mac_1.c_str()));
  EXPECT_TRUE(guest.driver.reap(1)) << "the frame of the ring was given back, and only that";
  EXPECT_FALSE(guest.driver.reap(1));
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(GuestPort, an_announcement_waits_for_an_uplink_that_is_full) {
  Guest guest(10);
  SwitchBench bench({{101, &guest.port}, {101}});
  bench.fakes[0]->set_room(0);
  guest.port.announce(*MacAddr::parse(mac_1));
  for (int pass = 0; pass < 5; ++pass) bench.worker->poll_once();
  EXPECT_EQ(guest.port.counters().ingress.frames, 0U);
  EXPECT_TRUE(bench.fakes[2]->sent().empty());
  bench.fakes[0]->set_room(10);
  for (int pass = 0; pass < 5; ++pass) bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(GuestPort, a_guest_that_is_not_connected_is_announced_as_well) {
  GuestPort port(PortId{10}, -1);
  SwitchBench bench({{101, &port}});
  port.announce(*MacAddr::parse(mac_1));
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 1U);
}

TEST(GuestPort, queues_are_exchanged_at_once_where_no_worker_knows_the_port) {
  Guest guest(10);
  dpdk::Rcu rcu = *dpdk::Rcu::create(nullptr);
  const auto worker = *Worker::create({}, rcu);
  guest.relink(*worker);
  Burst burst;
  guest.driver.send(0, test::ethernet(mac_2.c_str(), mac_1.c_str()));
  EXPECT_EQ(guest.port.receive(burst), 1U);
}

// Two guests on a switch: the first is back, the second is expected.
struct ComingBack {
  explicit ComingBack(std::chrono::milliseconds patience) {
    for (Guest* const guest : {&first, &second}) {
      EXPECT_EQ(guest->port.disconnect(), guest->queues.get());
      guest->port.expect(patience);
      guest->driver.offer_all_buffers();
    }
    EXPECT_TRUE(first.port.connect(first.queues.get(), -1));
  }
  std::size_t received() {
    std::size_t count = 0;
    while (second.driver.reap(0)) ++count;
    return count;
  }
  Guest first{10}, second{11};
  SwitchBench bench{{{101, &first.port}, {101, &second.port}, {101}}};
};

TEST(GuestPort, frames_for_a_guest_that_is_expected_wait_where_they_came_in) {
  ComingBack guests(std::chrono::hours(1));
  auto& driver = guests.first.driver;
  driver.send(0, test::ethernet("ff:ff:ff:ff:ff:ff", mac_1.c_str()));
  driver.send(1, test::ethernet(mac_2.c_str(), mac_1.c_str()));
  for (int pass = 0; pass < 5; ++pass) guests.bench.worker->poll_once();
  EXPECT_EQ(guests.first.port.counters().ingress.frames, 0U);
  EXPECT_EQ(drops(guests.second.port, DropReason::not_connected), 0U);
  EXPECT_TRUE(guests.bench.fakes[3]->sent().empty()) << "the broadcast is not sent in part";
  EXPECT_TRUE(guests.first.port.prepare_sleep()) << "there is work";
  ASSERT_TRUE(guests.second.port.connect(guests.second.queues.get(), -1));
  guests.bench.worker->poll_once();
  EXPECT_EQ(guests.received(), 2U);
  EXPECT_EQ(guests.bench.fakes[3]->sent().size(), 1U);
  EXPECT_TRUE(driver.reap(1) && driver.reap(1));
  EXPECT_EQ(guests.bench.imbalance(), 0);
}

TEST(GuestPort, a_guest_that_came_once_is_not_expected_any_more) {
  ComingBack guests(std::chrono::hours(1));
  ASSERT_TRUE(guests.second.port.connect(guests.second.queues.get(), -1));
  EXPECT_FALSE(guests.second.port.is_expected());
  EXPECT_NE(guests.second.port.disconnect(), nullptr);
  guests.first.driver.send(0, test::ethernet(mac_2.c_str(), mac_1.c_str()));
  guests.bench.worker->poll_once();
  EXPECT_EQ(drops(guests.second.port, DropReason::not_connected), 1U);
}

TEST(GuestPort, a_guest_with_only_a_transmit_ring_is_still_expected) {
  ComingBack guests(std::chrono::hours(1));
  const MemoryRegion region = guests.second.driver.region();
  GuestLink link = guests.second.driver.link(*GuestMemory::map({&region, 1}));
  link.rings[0].enabled = false;
  const auto half = std::move(*GuestQueues::create(link));
  ASSERT_TRUE(guests.second.port.connect(half.get(), -1));
  EXPECT_TRUE(guests.second.port.is_expected());
  guests.first.driver.send(0, test::ethernet(mac_2.c_str(), mac_1.c_str()));
  guests.bench.worker->poll_once();
  EXPECT_EQ(drops(guests.second.port, DropReason::not_connected), 0U);
  guests.second.relink(*guests.bench.worker);
  EXPECT_FALSE(guests.second.port.is_expected());
  guests.bench.worker->poll_once();
  EXPECT_EQ(guests.received(), 1U);
}

TEST(GuestPort, patience_with_a_guest_that_does_not_come_ends) {
  ComingBack guests(std::chrono::milliseconds(1));
  guests.first.driver.send(0, test::ethernet(mac_2.c_str(), mac_1.c_str()));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (guests.first.port.is_patient() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  guests.bench.worker->poll_once();
  EXPECT_EQ(drops(guests.second.port, DropReason::not_connected), 1U);
  EXPECT_TRUE(guests.first.driver.reap(1));
  EXPECT_EQ(guests.bench.imbalance(), 0);
}

TEST(GuestPort, others_than_guests_that_came_back_do_not_wait) {
  ComingBack guests(std::chrono::hours(1));
  guests.bench.fakes[3]->arrive(test::ethernet(mac_2.c_str(), SwitchBench::mac(3).c_str()));
  guests.bench.worker->poll_once();
  EXPECT_EQ(drops(guests.second.port, DropReason::not_connected), 1U);
  EXPECT_EQ(guests.bench.imbalance(), 0);
}

// Sends numbered frames from one guest to another and checks that they arrive complete and in order.
class NumberedFrames {
 public:
  NumberedFrames(Guest& from, Guest& to, Worker& worker) : from_(from), to_(to), worker_(worker) {
    to.driver.offer_all_buffers();
  }
  // False: a frame is missing, or they came in another order.
  bool run(const std::atomic<bool>& stop) {
    while (!stop.load() || received_ != sent_) {
      if (!stop.load() && sent_ - received_ < GuestDriver::ring_size / 2) send();
      while (const auto frame = to_.driver.receive()) {
        std::uint32_t number = 0;
        std::memcpy(&number, frame->data() + 14, sizeof number);
        if (number != received_) return false;
        to_.driver.offer_buffer(static_cast<std::uint16_t>(received_++ % GuestDriver::ring_size));
      }
      while (from_.driver.reap(1)) {
      }
      worker_.wake();
    }
    return true;
  }
  [[nodiscard]] std::uint32_t received() const { return received_; }

 private:
  void send() {
    std::string frame = test::ethernet(mac_2.c_str(), mac_1.c_str());
    std::memcpy(frame.data() + 14, &sent_, sizeof sent_);
    from_.driver.send(static_cast<std::uint16_t>(sent_++ % GuestDriver::ring_size), frame);
  }
  Guest& from_;
  Guest& to_;
  Worker& worker_;
  std::uint32_t sent_ = 0;
  std::uint32_t received_ = 0;
};

TEST(GuestPort, no_frame_is_lost_while_the_queues_of_sender_and_receiver_are_exchanged) {
  Guest from(10);
  Guest to(11);
  SwitchBench bench({{101, &from.port}, {101, &to.port}});
  from.port.attach(bench.worker->epoll_fd());
  to.port.attach(bench.worker->epoll_fd());
  ASSERT_TRUE(bench.worker->start());
  NumberedFrames frames(from, to, *bench.worker);
  std::atomic<bool> stop = false;
  bool complete = false;
  std::thread driver([&] { complete = frames.run(stop); });
  for (int round = 0; round < 300; ++round) {
    from.relink(*bench.worker);
    to.relink(*bench.worker);
  }
  stop.store(true);
  driver.join();
  EXPECT_TRUE(complete) << "after " << frames.received();
  EXPECT_GT(frames.received(), 0U);
  bench.rcu.synchronize();
  EXPECT_EQ(to.port.counters().egress.frames, frames.received());
  EXPECT_EQ(drops(to.port, DropReason::not_connected), 0U);
}

// Does in each pass, just after the worker has looked for queues that are offered, what control may do at any time:
// offers the next ones and wakes the worker.
class LateControl final : public Port {
 public:
  static constexpr unsigned exchanges = 200;

  explicit LateControl(Guest& guest) : Port(PortId{11}, -1), guest_(guest), spare_(guest.make_queues()) {}
  void wakes(Worker& worker) { worker_ = &worker; }

  void prepare() noexcept override {
    const unsigned done = done_.load();
    if (done == exchanges) return;
    static_cast<void>(guest_.port.offer(done % 2 == 0 ? spare_.get() : guest_.queues.get(), -1));
    worker_->wake();
    done_.store(done + 1);
  }
  [[nodiscard]] unsigned done() const { return done_.load(); }

  [[nodiscard]] std::size_t receive(Burst&) noexcept override { return 0; }
  void complete(std::size_t) noexcept override {}
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override { return frames.size(); }
  [[nodiscard]] bool prepare_sleep() noexcept override { return false; }
  void on_event(std::uint32_t) noexcept override {}
  void attach(int) noexcept override {}
  void detach() noexcept override {}

 private:
  Guest& guest_;
  std::unique_ptr<GuestQueues> spare_;
  Worker* worker_ = nullptr;
  std::atomic<unsigned> done_ = 0;
};

TEST(GuestPort, a_worker_never_falls_asleep_over_queues_that_are_offered) {
  Guest guest(10);
  LateControl control(guest);
  SwitchBench bench({{101, &guest.port}, {101, &control}});
  guest.port.attach(bench.worker->epoll_fd());
  control.wakes(*bench.worker);
  ASSERT_TRUE(bench.worker->start());
  for (unsigned before = 0; control.done() < LateControl::exchanges; before = control.done()) {
    for (int i = 0; i < 500 && control.done() == before; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_NE(control.done(), before) << "the worker sleeps, and control would wait for ever";
  }
}

}  // namespace
}  // namespace patchbay::dataplane
