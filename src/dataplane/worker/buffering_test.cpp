// Frames that wait for a guest: in the rings' own terms, through a worker.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"
#include "tests/support/ip_frames.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::GuestDriver;
using test::SwitchBench;

constexpr std::uint64_t features = virtio_f_version_1 | virtio_net_f_mrg_rxbuf | virtio_ring_f_event_idx;

struct Kind {
  const char* name;
  std::uint64_t features;
  std::size_t pairs;
};

// Vnic 1 sends, whatever it is told to; vnic 2 is a guest with a buffer of `limit` bytes.
class Buffering : public testing::TestWithParam<Kind> {
 public:
  static constexpr std::size_t frame_size = 64;

  Buffering()
      : driver(features | GetParam().features, GuestDriver::ring_size, GetParam().pairs),
        port(PortId{20}, event_.get(), &pool_),
        bench({{}, {.port = &port}}, false) {
    EXPECT_TRUE(pool_.set_limit(64 << 20));
    set_limit(1 << 20);
    connect();
  }
  void set_limit(std::uint64_t bytes, std::chrono::nanoseconds age = {}) {
    port.buffer().configure({.limit_bytes = bytes, .max_age = age});
  }
  void connect() {
    const MemoryRegion region = driver.region();
    const GuestLink link = driver.link(*GuestMemory::map({&region, 1}));
    queues = *GuestQueues::create(link);
    queues->catch_up();
    ASSERT_TRUE(port.connect(queues.get(), Kicks::of(link)));
  }
  void disconnect() { EXPECT_EQ(port.disconnect(), queues.get()); }

  // Frames of as many flows as there are pairs, in turn; each flow's are numbered.
  void send(std::size_t count, std::size_t payload = frame_size - 42) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto flow = static_cast<std::uint32_t>(next_ % flows);
      std::string bytes = test::pattern(payload);
      std::memcpy(bytes.data(), &next_, sizeof next_);
      bytes[4] = static_cast<char>(flow);
      const test::IpFrame made{
          .udp = true, .destination = SwitchBench::mac(2), .source = SwitchBench::mac(1), .payload = bytes};
      std::string frame = made.bytes(true);
      frame.replace(made.transport_at(), 2, test::be16(static_cast<std::uint16_t>(1000 + flow)));
      bench.fakes[1]->arrive(frame);
      ++next_;
      if (bench.fakes[1]->waiting() == burst_max) bench.worker->poll_once();
    }
    bench.worker->poll_once();
  }
  // As many as are asked for and have room in the ring.
  void offer(std::size_t pair, std::size_t count) {
    driver.pair = pair;
    for (; count != 0 && in_ring_[pair] != GuestDriver::ring_size; --count, ++in_ring_[pair]) {
      driver.offer_buffer(static_cast<std::uint16_t>(offered_[pair]++ % GuestDriver::ring_size));
    }
  }
  void offer_all(std::size_t count) {
    for (std::size_t pair = 0; pair < GetParam().pairs; ++pair) offer(pair, count);
  }
  // Everything that came, each flow in order; how many frames.
  std::size_t receive() {
    std::size_t count = 0;
    for (std::size_t pair = 0; pair < GetParam().pairs; ++pair) {
      driver.pair = pair;
      while (const auto frame = driver.receive()) {
        std::uint32_t number = 0;
        std::memcpy(&number, frame->data() + 42, sizeof number);
        auto& last = last_[number % flows];
        EXPECT_TRUE(!last || number > *last) << number << " after " << *last;
        last = number;
        ++count;
        in_ring_[pair] -= driver.received_header.num_buffers;
      }
    }
    return count;
  }
  // Receives and offers until nothing comes any more.
  std::size_t receive_all() {
    std::size_t count = receive();
    for (std::size_t more = 1; more != 0; count += more) {
      offer_all(GuestDriver::ring_size);
      bench.worker->poll_once();
      more = receive();
    }
    return count;
  }
  std::uint64_t drops(DropReason reason) const { return port.counters().drops[static_cast<std::size_t>(reason)]; }
  void expect_balance() const { EXPECT_EQ(bench.imbalance(), static_cast<std::int64_t>(port.buffer().frames())); }
  bool told_control() const {
    std::uint64_t count = 0;
    return read(event_.get(), &count, sizeof count) == sizeof count;
  }

  static constexpr std::size_t flows = 7;

 private:
  UniqueFd event_{eventfd(0, EFD_NONBLOCK)};

 protected:
  BlockPool pool_;
  GuestDriver driver;
  std::unique_ptr<GuestQueues> queues;
  GuestPort port;
  SwitchBench bench;
  std::array<std::size_t, 2> offered_{};  // buffers, of each pair,
  std::array<std::size_t, 2> in_ring_{};  // and those that the guest has not got back

 private:
  std::uint32_t next_ = 0;
  std::array<std::optional<std::uint32_t>, flows> last_{};
};
INSTANTIATE_TEST_SUITE_P(Kinds, Buffering,
                         testing::Values(Kind{"split", 0, 1}, Kind{"packed", virtio_f_ring_packed, 1},
                                         Kind{"two_pairs", 0, 2}, Kind{"two_packed_pairs", virtio_f_ring_packed, 2}),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(Buffering, holds_what_the_ring_does_not_and_gives_it_first_and_in_order) {
  offer_all(GuestDriver::ring_size);
  send(1000);
  const std::size_t in_rings = receive();
  EXPECT_LE(in_rings, GetParam().pairs * GuestDriver::ring_size);
  EXPECT_EQ(port.buffer().state().frames, 1000 - in_rings);
  EXPECT_TRUE(port.holds_frames);
  expect_balance();
  send(20);  // behind those that wait, though the guest could take them
  EXPECT_EQ(in_rings + receive_all(), 1020U);
  EXPECT_FALSE(port.holds_frames);
  EXPECT_EQ(drops(DropReason::buffer_full), 0U);
  EXPECT_EQ(pool_.used_bytes(), 0U);
  EXPECT_TRUE(told_control()) << "there is memory to give back";
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, what_the_limit_does_not_hold_is_dropped_as_buffer_full_and_the_counters_say_how_much) {
  set_limit(100 * frame_size);
  send(500);
  EXPECT_EQ(port.buffer().state().used_bytes, 100 * frame_size);
  EXPECT_EQ(drops(DropReason::buffer_full), 400U);
  expect_balance();
  EXPECT_EQ(receive_all(), 100U);
  EXPECT_EQ(port.counters().egress.frames, 100U);
  EXPECT_EQ(bench.imbalance(), 0);
  const BufferState state = port.buffer().state();
  EXPECT_EQ(state.worst_stall.demand_bytes, 500 * frame_size);
  EXPECT_EQ(state.worst_stall.frames, 500U);
  EXPECT_EQ(state.stalls, 1U);
}

TEST_P(Buffering, a_limit_of_zero_is_no_buffer) {
  set_limit(0);
  send(10);
  EXPECT_EQ(drops(DropReason::buffer_full), 10U);
  EXPECT_FALSE(port.holds_frames);
}

TEST_P(Buffering, a_larger_limit_counts_at_once_a_smaller_one_takes_nothing_away) {
  set_limit(100 * frame_size);
  send(100);
  set_limit(200 * frame_size);
  send(100);
  EXPECT_EQ(drops(DropReason::buffer_full), 0U);
  set_limit(10 * frame_size);
  send(5);
  EXPECT_EQ(drops(DropReason::buffer_full), 5U);
  EXPECT_EQ(receive_all(), 200U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, large_pieces_and_frames_over_several_buffers_wait_like_others) {
  const auto payload = test::pattern(60000);
  for (int i = 0; i < 5; ++i) {
    test::IpFrame piece{.destination = SwitchBench::mac(2), .source = SwitchBench::mac(1), .payload = payload};
    bench.fakes[1]->arrive(piece.bytes(true));
  }
  bench.worker->poll_once();
  // The switch's MTU does not let frames of that size pass; as pieces they are cut for a guest without offloads.
  EXPECT_EQ(port.buffer().frames() + drops(DropReason::buffer_full), 0U);
  for (int i = 0; i < 5; ++i) {
    test::IpFrame piece{.destination = SwitchBench::mac(2), .source = SwitchBench::mac(1), .payload = payload};
    bench.fakes[1]->arrive(piece.bytes(false), 0, 0, piece.header(1448));
  }
  bench.worker->poll_once();
  const std::uint64_t frames = 5 * (60000 / 1448 + 1);
  EXPECT_EQ(port.buffer().frames(), frames);
  std::size_t bytes = 0;
  for (bool any = true; any;) {
    any = false;
    offer_all(GuestDriver::ring_size);
    bench.worker->poll_once();
    for (std::size_t pair = 0; pair < GetParam().pairs; ++pair) {
      driver.pair = pair;
      while (const auto frame = driver.receive()) {
        bytes += frame->size() - 54;
        any = true;
        in_ring_[pair] -= driver.received_header.num_buffers;
      }
    }
  }
  EXPECT_EQ(bytes, 5 * payload.size());
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, what_is_too_old_is_dropped_as_buffer_expired) {
  set_limit(1 << 20, std::chrono::nanoseconds(1));
  send(100);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(receive_all(), 0U);
  EXPECT_EQ(drops(DropReason::buffer_expired), 100U);
  EXPECT_FALSE(port.holds_frames);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, a_worker_that_sleeps_asks_to_be_woken_when_there_is_room) {
  bench.worker->poll_once();  // greets
  EXPECT_FALSE(port.prepare_sleep());
  port.woke();
  send(100);
  EXPECT_FALSE(port.prepare_sleep()) << "nothing to do: the guest offers nothing";
  offer_all(1);
  EXPECT_TRUE(port.prepare_sleep()) << "it came before the kick was asked for";
  port.woke();
  EXPECT_EQ(receive_all(), 100U);
}

TEST_P(Buffering, of_a_frame_that_needs_more_buffers_than_there_are_the_next_one_wakes) {
  bench.set_mtu(9000);
  send(5, 5000);
  EXPECT_EQ(port.buffer().frames(), 5U);
  offer_all(2);  // of three that it takes
  bench.worker->poll_once();
  EXPECT_EQ(receive(), 0U);
  EXPECT_FALSE(port.prepare_sleep()) << "what is there is known to be too little";
  offer_all(1);
  EXPECT_TRUE(port.prepare_sleep());
  port.woke();
  EXPECT_EQ(receive_all(), 5U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, for_a_guest_that_is_paused_frames_wait_and_come_first_when_it_goes_on) {
  offer_all(10);
  send(5);
  const std::size_t before = receive();
  EXPECT_EQ(before, 5U);
  disconnect();
  send(300);
  EXPECT_EQ(drops(DropReason::not_connected), 0U);
  EXPECT_EQ(port.buffer().frames(), 300U);
  expect_balance();
  connect();
  send(10);
  EXPECT_EQ(receive_all(), 310U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, who_is_not_the_guest_that_went_gets_nothing_of_what_waits) {
  send(100);
  disconnect();
  send(100);
  port.forget_waiting();
  driver.reset();
  in_ring_ = {};
  connect();
  send(10);
  EXPECT_EQ(receive_all(), 10U);
  EXPECT_EQ(drops(DropReason::buffer_reset), 200U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST_P(Buffering, a_guest_that_is_given_up_is_not_connected) {
  disconnect();
  send(10);
  EXPECT_EQ(port.buffer().frames(), 10U);
  port.give_up();
  send(10);
  EXPECT_EQ(drops(DropReason::buffer_reset), 10U);
  EXPECT_EQ(drops(DropReason::not_connected), 10U);
  EXPECT_EQ(pool_.used_bytes(), 0U);
  connect();
  offer_all(2);
  send(1);
  EXPECT_EQ(receive(), 1U);
  disconnect();
  send(10);
  EXPECT_EQ(port.buffer().frames(), 10U) << "it has received again";
  EXPECT_EQ(bench.imbalance(), 10);
}

TEST_P(Buffering, a_guest_without_room_is_no_reason_for_others_to_wait) {
  send(3000);
  EXPECT_EQ(bench.fakes[1]->waiting(), 0U);
  send(30000);
  EXPECT_EQ(bench.fakes[1]->waiting(), 0U) << "full or not";
  EXPECT_GT(drops(DropReason::buffer_full), 0U);
  expect_balance();
}

TEST_P(Buffering, the_guests_kick_alone_brings_what_waits) {
  constexpr std::size_t count = 200;
  send(count);
  port.attach(bench.worker->epoll_fd());
  ASSERT_TRUE(bench.workers->start());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::size_t received = 0;
  std::uint64_t sleeps = 0;
  while (received < count && std::chrono::steady_clock::now() < end) {
    while (bench.worker->stats().sleeps == sleeps && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    sleeps = bench.worker->stats().sleeps;
    offer_all(20);
    const std::uint64_t one = 1;
    for (std::size_t pair = 0; pair < GetParam().pairs; ++pair) {
      ASSERT_EQ(write(driver.link(nullptr).rings[2 * pair].kick_fd, &one, sizeof one),
                static_cast<ssize_t>(sizeof one));
    }
    const std::size_t before = received;
    while (received == before && std::chrono::steady_clock::now() < end) {
      received += receive();
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(received, count);
}

}  // namespace
}  // namespace patchbay::dataplane
