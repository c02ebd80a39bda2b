// The poll loop must not allocate: this program counts every allocation, and demands none while frames of every kind
// move.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"
#include "tests/support/ip_frames.h"
#include "tests/support/switch_bench.h"

namespace {

std::atomic<std::uint64_t> allocations{0};

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PATCHBAY_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PATCHBAY_SANITIZED 1
#endif
#endif

#ifndef PATCHBAY_SANITIZED
// All ways to the heap end in these; sanitizers bring their own, so there the test only runs the loop.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* malloc(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(old, size);
}
}
#endif

namespace patchbay::dataplane {
namespace {

class Allocation : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(QueuePairs, Allocation, testing::Values(1, 2));

TEST_P(Allocation, the_poll_loop_makes_none) {
  test::GuestDriver driver(virtio_f_version_1 | virtio_net_f_mrg_rxbuf | virtio_net_f_csum | virtio_net_f_host_tso4,
                           test::GuestDriver::ring_size, GetParam());
  const MemoryRegion region = driver.region();
  const auto memory = *GuestMemory::map({&region, 1});
  auto queues = *GuestQueues::create(driver.link(memory));
  GuestPort guest(PortId{10}, -1);
  ASSERT_TRUE(guest.connect(queues.get(), -1));
  test::SwitchBench bench({{101, &guest}, {101}, {102}});
  const std::string own = test::SwitchBench::mac(1);
  const std::string neighbour = test::SwitchBench::mac(2);
  for (driver.pair = GetParam() - 1; driver.pair != 0; --driver.pair) {
    driver.offer_all_buffers();
    driver.send(0, test::ethernet(neighbour.c_str(), own.c_str()));
  }
  driver.offer_all_buffers();
  driver.send(0, test::ethernet(neighbour.c_str(), own.c_str(), "", 1400));
  driver.send(2, test::ethernet("ff:ff:ff:ff:ff:ff", own.c_str()));
  driver.send(4, test::ethernet("02:aa:00:00:00:01", own.c_str()));
  driver.send(6, test::ethernet(neighbour.c_str(), neighbour.c_str()));  // dropped
  driver.send(8, "short");                                               // dropped
  test::IpFrame piece{.destination = "ff:ff:ff:ff:ff:ff", .source = own, .payload = test::pattern(30000)};
  driver.send(10, piece.bytes(false), test::GuestDriver::buffer_size,
              piece.header(1448));  // cut for two, whole for one
  bench.fakes[2]->set_takes(offload_all);
  piece.payload.resize(100);
  driver.send(40, piece.bytes(false), test::GuestDriver::buffer_size, piece.header());
  bench.fakes[2]->arrive(test::ethernet(own.c_str(), neighbour.c_str(), test::tag(0), 1000));
  bench.fakes[0]->arrive(test::ethernet(own.c_str(), "02:aa:00:00:00:01", test::tag(101)));

  test::IpFrame segments{.destination = own, .source = "02:aa:00:00:00:01", .payload = test::pattern(5000)};
  segments.tags = test::tag(101);
  for (std::size_t i = 0; i < segments.parts(1448); ++i) bench.fakes[0]->arrive(segments.part(i, 1448).bytes());
  segments.destination = neighbour;
  for (std::size_t i = 0; i < segments.parts(1448); ++i) bench.fakes[0]->arrive(segments.part(i, 1448).bytes());
  bench.set_coalesces(true);

  const std::uint64_t before = allocations.load();
  std::size_t frames = 0;
  for (int pass = 0; pass < 10; ++pass) frames += bench.worker->poll_once();
  const std::uint64_t after = allocations.load();

  EXPECT_EQ(after - before, 0U);
  EXPECT_EQ(frames, 16 + GetParam());
  EXPECT_EQ(bench.port(0).counters().merged_frames, 3U);
  EXPECT_EQ(bench.imbalance(), 0);
#ifndef PATCHBAY_SANITIZED
  void* volatile something = std::malloc(1);
  std::free(something);
  EXPECT_NE(allocations.load(), after) << "allocations are not counted";
#endif
}

}  // namespace
}  // namespace patchbay::dataplane
