// Which kicks of a guest wake the worker.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/ports/guest_port.h"
#include "tests/support/guest_driver.h"

namespace patchbay::dataplane {
namespace {

constexpr std::size_t pairs = 2;

struct Bench {
  Bench() : driver(virtio_f_version_1, test::GuestDriver::ring_size, pairs), port(PortId{1}, event.get()) {
    const MemoryRegion region = driver.region();
    link = driver.link(*GuestMemory::map({&region, 1}));
    queues = *GuestQueues::create(link);
    for (auto& kick : kicks) kick.reset(eventfd(0, EFD_NONBLOCK));
    for (std::size_t i = 0; i < pairs; ++i) link.rings[2 * i + 1].kick_fd = kicks[i].get();
  }
  // Whether a kick of that pair's transmit ring wakes.
  bool wakes(std::size_t pair) const {
    epoll_event earlier = {};
    while (epoll_wait(epoll.get(), &earlier, 1, 0) == 1) continue;
    const std::uint64_t one = 1;
    EXPECT_EQ(write(kicks[pair].get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    epoll_event events = {};
    return epoll_wait(epoll.get(), &events, 1, 0) == 1;
  }
  UniqueFd event{eventfd(0, EFD_NONBLOCK)};
  UniqueFd epoll{epoll_create1(0)};
  std::array<UniqueFd, pairs + 1> kicks;
  test::GuestDriver driver;
  GuestLink link;
  std::unique_ptr<GuestQueues> queues;
  GuestPort port;
};

TEST(GuestKicks, of_every_enabled_pair_wake) {
  Bench bench;
  bench.port.attach(bench.epoll.get());
  ASSERT_TRUE(bench.port.connect(bench.queues.get(), Kicks::of(bench.link)));
  EXPECT_TRUE(bench.wakes(0) && bench.wakes(1));
  bench.port.detach();
  EXPECT_FALSE(bench.wakes(0) || bench.wakes(1));
  bench.port.attach(bench.epoll.get());
  EXPECT_TRUE(bench.wakes(0) && bench.wakes(1));
  EXPECT_EQ(bench.port.disconnect(), bench.queues.get());
  EXPECT_FALSE(bench.wakes(0) || bench.wakes(1));
}

TEST(GuestKicks, follow_the_links) {
  Bench bench;
  ASSERT_TRUE(bench.port.connect(bench.queues.get(), Kicks::of(bench.link)));
  bench.port.attach(bench.epoll.get());
  auto next = *GuestQueues::create(bench.link);
  bench.link.rings[1].enabled = false;
  bench.port.detach();  // no worker knows the port: what is offered is taken at once
  ASSERT_TRUE(bench.port.offer(next.get(), Kicks::of(bench.link)));
  bench.port.wait_until_taken();
  bench.port.attach(bench.epoll.get());
  EXPECT_FALSE(bench.wakes(0));
  EXPECT_TRUE(bench.wakes(1));
}

TEST(GuestKicks, that_cannot_be_watched_refuse_the_link_and_leave_no_other_watched) {
  Bench bench;
  bench.port.attach(bench.epoll.get());
  const UniqueFd directory(::open("/", O_RDONLY | O_CLOEXEC));  // epoll takes no such thing
  bench.link.rings[3].kick_fd = directory.get();
  EXPECT_FALSE(bench.port.connect(bench.queues.get(), Kicks::of(bench.link)));
  EXPECT_FALSE(bench.wakes(0));
  bench.link.rings[3].kick_fd = bench.kicks[1].get();
  ASSERT_TRUE(bench.port.connect(bench.queues.get(), Kicks::of(bench.link)));
  auto next = *GuestQueues::create(bench.link);
  bench.link.rings[1].kick_fd = bench.kicks[2].get();
  bench.link.rings[3].kick_fd = directory.get();
  EXPECT_FALSE(bench.port.offer(next.get(), Kicks::of(bench.link)));
  EXPECT_FALSE(bench.wakes(2)) << "the new one";
  EXPECT_TRUE(bench.wakes(0) && bench.wakes(1)) << "those of the link that stays";
}

}  // namespace
}  // namespace patchbay::dataplane
