// Queues of an AF_XDP uplink that are given to vnics and come back, on a real veth pair: which frames come in by which queue is
// the sending end's choice there, and no rule of ours.
#include "dataplane/ports/xdp_queue_port.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/support/xdp_port_fixture.h"

namespace patchbay::dataplane {
namespace {

using test::patience_ms;
using XdpQueuesTest = test::XdpPortFixture;

TEST_F(XdpQueuesTest, of_a_driver_without_ntuple_filters_sorts_in_software_and_says_why) {
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

TEST_F(XdpQueuesTest, hands_a_queue_to_a_vnic_and_takes_it_back_without_a_loss) {
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

TEST_F(XdpQueuesTest, hands_queues_over_between_threads_with_each_flow_in_order) {
  ASSERT_NO_FATAL_FAILURE(open(plan()));
  constexpr std::uint16_t flows = 16;
  std::array<std::atomic<std::uint32_t>, flows> last{};  // numbers, from 1
  std::atomic<std::uint32_t> seen = 0, by_queue = 0, out_of_order = 0;
  const auto take = [&](Port& from, Burst& burst) {
    const std::size_t count = from.receive(burst);
    for (const Frame& got : std::span(burst.frames).first(count)) {
      if (load_be16(got.head + 12) != 0x0800) continue;
      const std::uint32_t number = load_be32(got.head + 42);
      const std::uint32_t before = last[load_be16(got.head + 34)].exchange(number, std::memory_order_relaxed);
      if (number != before + 1) out_of_order.fetch_add(1, std::memory_order_relaxed);
      seen.fetch_add(1, std::memory_order_relaxed);
      if (&from != port_.get()) by_queue.fetch_add(1, std::memory_order_relaxed);
    }
    from.complete(count);
  };
  const auto runs = [&](Port& from, const std::atomic<bool>& stop) {
    return std::thread([&] {
      const auto burst = std::make_unique<Burst>();
      while (!stop) take(from, *burst);
    });
  };
  std::atomic<bool> stop_uplink = false;
  std::thread uplink = runs(*port_, stop_uplink);
  std::uint32_t sent = 0;
  const auto wait_seen = [&seen](std::uint32_t count) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
    while (seen < count && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  };
  const auto send_rounds = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (std::uint16_t number = 0; number < flows; ++number, ++sent) {
        auto bytes = flow(number);
        store_be32(bytes.data() + 42, sent / flows + 1);
        send_on_wire(bytes);
      }
      wait_seen(sent - std::min(sent, 1000U));  // the rings hold more
    }
  };
  for (int round = 0; round < 40; ++round) {
    auto queue = port_->open_queue(PortId{2});
    ASSERT_TRUE(queue);
    std::atomic<bool> stop = false;
    std::thread worker = runs(**queue, stop);
    send_rounds(20);
    stop = true;
    worker.join();  // as a grace period
    send_rounds(2);
    port_->close_queue(**queue);
  }
  wait_seen(sent);
  stop_uplink = true;
  uplink.join();
  EXPECT_EQ(seen, sent);
  EXPECT_EQ(out_of_order, 0U);
  EXPECT_GT(by_queue, 0U);
}

}  // namespace
}  // namespace patchbay::dataplane
