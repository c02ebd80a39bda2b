#include "dataplane/worker/worker.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <thread>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;
using test::GuestDriver;
using test::SwitchBench;

constexpr const char* everyone = "ff:ff:ff:ff:ff:ff";
constexpr const char* outside = "02:aa:00:00:00:01";
constexpr const char* vm1 = "02:00:00:00:00:01";
constexpr const char* vm2 = "02:00:00:00:00:02";
constexpr const char* vm3 = "02:00:00:00:00:03";

std::uint64_t drops(const Port& port, DropReason reason) {
  return port.counters().drops[static_cast<std::size_t>(reason)];
}

TEST(Worker, floods_to_every_port_of_the_vlan_once_and_not_back) {
  SwitchBench bench({{101}, {101}, {102}, {101}});
  bench.fakes[1]->arrive(ethernet(everyone, vm1));
  EXPECT_EQ(bench.worker->poll_once(), 1U);
  EXPECT_EQ(bench.fakes[0]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[0]->sent()[0].vid, 101);
  EXPECT_EQ(bench.fakes[1]->sent().size(), 0U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 0U);
  EXPECT_EQ(bench.fakes[4]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[2]->sent()[0].text(), ethernet(everyone, vm1));
  EXPECT_EQ(bench.port(1).counters().flood_copies, 2U);
  bench.fakes[0]->arrive(ethernet(everyone, outside, test::tag(102)));
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, counts_a_broadcast_that_nobody_hears) {
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}, {102}}, false);
  bench.fakes[1]->arrive(ethernet(everyone, vm1));
  bench.worker->poll_once();
  EXPECT_EQ(drops(bench.port(1), DropReason::no_destination), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, keeps_order_across_unicast_and_flood) {
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}, {101}});
  for (std::size_t i = 0; i < 20; ++i) bench.fakes[1]->arrive(ethernet(i % 3 == 0 ? everyone : vm2, vm1, "", 10 + i));
  bench.worker->poll_once();
  ASSERT_EQ(bench.fakes[2]->sent().size(), 20U);
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(bench.fakes[2]->sent()[i].size, 24 + i);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, leaves_frames_for_a_full_uplink_where_they_are) {
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}, {101}, {101}});
  bench.fakes[0]->set_room(2);
  for (std::size_t i = 0; i < 4; ++i) bench.fakes[1]->arrive(ethernet(outside, vm1, "", 10 + i));
  bench.fakes[1]->arrive(ethernet(vm3, vm1));  // waits behind them: order is kept
  bench.fakes[2]->arrive(ethernet(vm3, vm2));  // does not wait
  EXPECT_EQ(bench.worker->poll_once(), 3U);
  EXPECT_EQ(bench.fakes[0]->sent().size(), 2U);
  EXPECT_EQ(bench.fakes[1]->waiting(), 3U);
  ASSERT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.worker->poll_once(), 0U) << "nothing moves, nothing is judged again";
  bench.fakes[0]->set_room(100);
  EXPECT_EQ(bench.worker->poll_once(), 3U);
  ASSERT_EQ(bench.fakes[0]->sent().size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(bench.fakes[0]->sent()[i].size, 24 + i);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 2U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, lets_the_room_in_a_slow_uplink_go_round) {
  SwitchBench bench({{101}, {101}, {101}, {101}});
  for (std::size_t vnic = 1; vnic <= 4; ++vnic) {
    for (int i = 0; i < 60; ++i) bench.fakes[vnic]->arrive(ethernet(outside, SwitchBench::mac(vnic).c_str()));
  }
  for (int pass = 0; pass < 10; ++pass) {  // ten times room for one burst, and four that want it
    bench.fakes[0]->set_room(16);
    bench.worker->poll_once();
  }
  for (std::size_t vnic = 1; vnic <= 4; ++vnic) {
    EXPECT_GE(bench.port(vnic).counters().ingress.frames, 16U) << vnic;
  }
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, stops_when_told_so_whatever_it_was_about_to_do) {
  dpdk::Rcu rcu = *dpdk::Rcu::create(nullptr);
  for (int round = 0; round < 100; ++round) {
    auto worker = Worker::create({}, rcu);
    ASSERT_TRUE(worker);
    ASSERT_TRUE((*worker)->start());
    if (round % 2 == 0) std::this_thread::yield();
    (*worker)->wake();
  }
}

TEST(Worker, delivers_a_broadcast_once_although_the_uplink_was_full) {
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}, {101}});
  bench.fakes[0]->set_room(0);
  bench.fakes[1]->arrive(ethernet(everyone, vm1));
  EXPECT_EQ(bench.worker->poll_once(), 0U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 0U);
  bench.fakes[0]->set_room(10);
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[0]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, judges_by_the_new_layout_after_a_change) {
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}, {101}, {102}});
  bench.fakes[1]->arrive(ethernet(everyone, vm1));
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  bench.set_vid(1, 102);
  bench.fakes[1]->arrive(ethernet(everyone, vm1));
  bench.worker->poll_once();
  EXPECT_EQ(bench.fakes[2]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[3]->sent().size(), 1U);
  EXPECT_EQ(bench.fakes[0]->sent()[1].vid, 102);
}

// Two guests that share memory with the worker.
struct Guests {
  Guests() {
    for (int i = 0; i < 2; ++i) {
      drivers.push_back(std::make_unique<GuestDriver>(virtio_f_version_1 | virtio_net_f_mrg_rxbuf));
      const MemoryRegion region = drivers.back()->region();
      memories.push_back(*GuestMemory::map({&region, 1}));
      const GuestLink link = drivers.back()->link(memories.back());
      queues.push_back(std::move(*GuestQueues::create(link)));
      ports.push_back(std::make_unique<GuestPort>(PortId{static_cast<std::uint32_t>(10 + i)}, event.get()));
      EXPECT_TRUE(ports.back()->connect(queues.back().get(), -1));
    }
  }
  UniqueFd event{eventfd(0, EFD_NONBLOCK)};
  std::vector<std::unique_ptr<GuestDriver>> drivers;
  std::vector<std::shared_ptr<const GuestMemory>> memories;
  std::vector<std::unique_ptr<GuestQueues>> queues;
  std::vector<std::unique_ptr<GuestPort>> ports;
};

TEST(Worker, moves_frames_from_guest_to_guest) {
  Guests guests;
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101, guests.ports[0].get()}, {101, guests.ports[1].get()}});
  guests.drivers[1]->offer_all_buffers();
  for (std::uint16_t i = 0; i < 40; ++i) guests.drivers[0]->send(i, ethernet(vm2, vm1, "", 40U + 30U * i));
  while (bench.worker->poll_once() != 0) {
  }
  for (std::uint16_t i = 0; i < 40; ++i) {
    EXPECT_EQ(guests.drivers[1]->receive(), ethernet(vm2, vm1, "", 40U + 30U * i));
    EXPECT_TRUE(guests.drivers[0]->reap(1));
  }
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, drops_for_a_guest_that_does_not_read_and_goes_on) {
  Guests guests;
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101, guests.ports[0].get()}, {101, guests.ports[1].get()}});
  for (std::uint16_t i = 0; i < 10; ++i) guests.drivers[1]->offer_buffer(i);
  for (std::uint16_t i = 0; i < 30; ++i) guests.drivers[0]->send(i, ethernet(vm2, vm1));
  bench.worker->poll_once();
  EXPECT_EQ(drops(*guests.ports[1], DropReason::buffer_full), 20U);
  EXPECT_EQ(guests.ports[1]->counters().egress.frames, 10U);
  EXPECT_EQ(bench.imbalance(), 0);
  guests.queues[1].reset();
  EXPECT_NE(guests.ports[1]->disconnect(), nullptr);
  guests.drivers[0]->send(31, ethernet(vm2, vm1));
  bench.worker->poll_once();
  EXPECT_EQ(drops(*guests.ports[1], DropReason::not_connected), 1U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Worker, a_guest_with_a_broken_ring_or_lost_memory_stops_alone) {
  for (const bool truncate : {false, true}) {
    Guests guests;
    SwitchBench bench({{101, guests.ports[0].get()}, {101, guests.ports[1].get()}, {101}});
    if (truncate) {
      guests.drivers[0]->send(0, ethernet(vm2, vm1));
      guests.drivers[0]->truncate();
    } else {
      guests.drivers[0]->offer(1, 0xFFFF);
    }
    bench.worker->poll_once();
    EXPECT_EQ(guests.ports[0]->fault(), truncate ? PortFault::memory_lost : PortFault::ring_broken);
    std::uint64_t events = 0;
    EXPECT_EQ(read(guests.event.get(), &events, sizeof events), 8);
    EXPECT_EQ(events, 1U);
    guests.drivers[1]->send(0, ethernet(vm3, vm2));
    bench.fakes[3]->arrive(ethernet(vm1, vm3));
    bench.worker->poll_once();
    EXPECT_EQ(bench.fakes[3]->sent().size(), 1U) << "the neighbour still talks";
    EXPECT_EQ(drops(*guests.ports[0], DropReason::not_connected), 1U);
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Worker, its_thread_sleeps_wakes_and_survives_changes_under_way) {
  Guests guests;
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{101, guests.ports[0].get()}, {101, guests.ports[1].get()}});
  ASSERT_TRUE(bench.worker->start());
  // As control does it: link down, grace period, link up again, while the worker runs; and layouts change.
  for (int round = 0; round < 200; ++round) {
    GuestQueues* const queues = guests.ports[0]->disconnect();
    ASSERT_NE(queues, nullptr);
    bench.rcu.synchronize();
    ASSERT_EQ(queues->positions()[1], round);
    ASSERT_TRUE(guests.ports[0]->connect(queues, -1));
    bench.set_vid(2, static_cast<std::uint16_t>(100 + round % 2));
    guests.drivers[0]->send(static_cast<std::uint16_t>(round % GuestDriver::ring_size), ethernet(outside, vm1));
    bench.worker->wake();
    while (!guests.drivers[0]->reap(1)) std::this_thread::yield();
  }
  // Counted at the end of a pass, which the guest may see the fruits of before.
  while (bench.worker->stats().frames < 200U || bench.worker->stats().sleeps == 0) std::this_thread::yield();
  EXPECT_EQ(bench.worker->stats().frames, 200U);
  bench.rcu.synchronize();  // what the worker did before is seen from here on
  EXPECT_EQ(bench.fakes[0]->sent().size(), 200U);
}

TEST(Snapshot, knows_what_each_worker_needs_epoll_for) {
  std::array<FakePort, 4> ports = {FakePort(PortId{1}), FakePort(PortId{2}), FakePort(PortId{3}), FakePort(PortId{4})};
  ports[0].needed_events = Events::rare;
  ports[1].needed_events = Events::work;
  ports[3].needed_events = Events::rare;
  Snapshot snapshot;
  for (unsigned i = 0; i < 3; ++i) snapshot.entries.push_back({.port = &ports[i], .rule = {}, .worker = i / 2});
  snapshot.seal(3);
  EXPECT_EQ(snapshot.events, (std::vector{Events::work, Events::none, Events::none}));
  Snapshot with_team;
  with_team.entries.push_back({.port = &ports[2], .rule = {}, .worker = 1});
  with_team.team_members.push_back({&ports[3], 1});
  with_team.seal(2);
  EXPECT_EQ(with_team.events, (std::vector{Events::none, Events::rare}));
}

// A worker that never sleeps hears of it nevertheless.
TEST(Worker, goes_on_when_a_full_uplink_reports_room) {
  for (const Events needed : {Events::rare, Events::work}) {
    SwitchBench bench(std::vector<SwitchBench::Vnic>{{101}});
    bench.workers = *Workers::create(std::span<const unsigned>{}, true, bench.rcu);
    bench.worker = &bench.workers->at(0);
    const UniqueFd room(eventfd(0, EFD_NONBLOCK));
    FakePort& uplink = *bench.fakes[0];
    uplink.needed_events = needed;
    uplink.room_fd = room.get();
    uplink.set_room(0);
    uplink.attach(bench.worker->epoll_fd());
    bench.fakes[1]->arrive(ethernet(outside, vm1));
    bench.publish();
    ASSERT_TRUE(bench.workers->start());
    while (bench.worker->stats().idle_cycles == 0) std::this_thread::yield();
    EXPECT_EQ(uplink.counters().egress.frames, 0U);
    ASSERT_EQ(eventfd_write(room.get(), 1), 0);
    while (uplink.counters().egress.frames == 0) std::this_thread::yield();  // ctest ends it if that never comes
    bench.workers.reset();
  }
}

TEST(Worker, refuses_a_cpu_that_does_not_exist) {
  dpdk::Rcu rcu = *dpdk::Rcu::create(nullptr);
  auto worker = Worker::create({.id = 0, .cpu = 1023}, rcu);
  ASSERT_TRUE(worker);
  const auto started = (*worker)->start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::invalid);
  EXPECT_NE(started.error().message.find("1023"), std::string::npos);
}

}  // namespace
}  // namespace patchbay::dataplane
