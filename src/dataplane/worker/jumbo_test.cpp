// Which frame sizes pass between a guest, its switch and the wire, over every pair of the usual limits of both: the
// smaller one is the limit, one byte more is dropped under a name, and a tag never counts.
#include <gtest/gtest.h>

#include "dataplane/ports/guest_port.h"
#include "dataplane/worker/worker.h"
#include "tests/support/guest_driver.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::ethernet;
using test::GuestDriver;
using test::SwitchBench;

constexpr const char* outside = "02:aa:00:00:00:01";
constexpr const char* vm1 = "02:00:00:00:00:01";
constexpr std::size_t limits[] = {1514, 4088, 9014};  // frame sizes: no jumbo frames, small ones, and 9000 bytes of IP
constexpr std::uint16_t vid = 101;

enum class Tag : std::uint8_t { none, in_band, out_of_band };

// A frame of `size` bytes without its tag.
std::string sized(const char* destination, const char* source, std::size_t size, const std::string& tags = "") {
  return ethernet(destination, source, tags, size - ethernet_header_size);
}

// A switch for frames of `switch_limit` bytes, and on it a guest that takes frames of `guest_limit` bytes and cannot
// merge its buffers.
class JumboBench {
 public:
  JumboBench(std::size_t guest_limit, std::size_t switch_limit, Tag tag)
      : tag_(tag), bench(std::vector<SwitchBench::Vnic>{{tag == Tag::none ? std::uint16_t{0} : vid, &guest}}) {
    bench.set_mtu(static_cast<std::uint16_t>(switch_limit - ethernet_header_size));
    const auto region = driver.region();
    const auto memory = GuestMemory::map({&region, 1});
    queues = std::move(*GuestQueues::create(driver.link(*memory)));
    if (!guest.connect(queues.get(), -1)) std::abort();
    for (std::uint16_t i = 0; i < 8; ++i) {
      driver.offer_buffer(i, static_cast<std::uint32_t>(GuestDriver::header_size + guest_limit));
    }
  }

  // What the guest got of a frame of this size from the wire; empty: nothing.
  std::string from_wire(std::size_t size) {
    const std::string untagged = sized(vm1, outside, size);
    switch (tag_) {
      case Tag::none:
        bench.fakes[0]->arrive(untagged);
        break;
      case Tag::in_band:
        bench.fakes[0]->arrive(sized(vm1, outside, size, test::tag(vid)));
        break;
      case Tag::out_of_band:
        bench.fakes[0]->arrive(untagged, tpid_8021q, vid);
        break;
    }
    bench.worker->poll_once();
    return driver.receive().value_or("");
  }
  // What came out on the wire of a frame of this size from the guest.
  std::string from_guest(std::size_t size) {
    bench.fakes[0]->forget_sent();
    driver.send(0, sized(outside, vm1, size));
    bench.worker->poll_once();
    if (!driver.reap(1)) return "the guest did not get its buffer back";
    return bench.fakes[0]->sent().empty() ? "" : bench.fakes[0]->sent()[0].text();
  }
  std::uint64_t drops(std::size_t port, DropReason reason) const {
    return bench.port(port).counters().drops[static_cast<std::size_t>(reason)];
  }

 private:
  Tag tag_;

 public:
  GuestDriver driver{virtio_f_version_1};
  std::unique_ptr<GuestQueues> queues;
  GuestPort guest{PortId{2}, -1};
  SwitchBench bench;
};

TEST(Jumbo, the_smaller_limit_of_guest_and_switch_holds_for_frames_from_the_wire) {
  for (const Tag tag : {Tag::none, Tag::in_band, Tag::out_of_band}) {
    for (const std::size_t guest_limit : limits) {
      for (const std::size_t switch_limit : limits) {
        SCOPED_TRACE(testing::Message() << "tag " << static_cast<int>(tag) << ", guest " << guest_limit << ", switch "
                                        << switch_limit);
        JumboBench jumbo(guest_limit, switch_limit, tag);
        const std::size_t largest = std::min(guest_limit, switch_limit);
        EXPECT_EQ(jumbo.from_wire(largest), sized(vm1, outside, largest));
        EXPECT_EQ(jumbo.from_wire(largest + 1), "");
        const bool by_switch = switch_limit <= guest_limit;
        EXPECT_EQ(jumbo.drops(0, DropReason::oversize), by_switch ? 1U : 0U);
        EXPECT_EQ(jumbo.drops(1, DropReason::guest_buffer), by_switch ? 0U : 1U);
        EXPECT_EQ(jumbo.from_wire(largest), sized(vm1, outside, largest)) << "and the next one passes again";
        EXPECT_EQ(jumbo.bench.imbalance(), 0);
      }
    }
  }
}

TEST(Jumbo, a_guest_sends_what_its_switch_allows_and_one_byte_more_is_counted_where_it_came_from) {
  for (const Tag tag : {Tag::none, Tag::in_band}) {
    for (const std::size_t switch_limit : limits) {
      SCOPED_TRACE(testing::Message() << "tag " << static_cast<int>(tag) << ", switch " << switch_limit);
      JumboBench jumbo(9014, switch_limit, tag);
      EXPECT_EQ(jumbo.from_guest(switch_limit), sized(outside, vm1, switch_limit));
      EXPECT_EQ(jumbo.from_guest(switch_limit + 1), "");
      EXPECT_EQ(jumbo.drops(1, DropReason::oversize), 1U);
      EXPECT_EQ(jumbo.from_guest(switch_limit), sized(outside, vm1, switch_limit));
      EXPECT_EQ(jumbo.bench.imbalance(), 0);
    }
  }
}

TEST(Jumbo, a_receiver_with_small_buffers_loses_large_frames_alone) {
  GuestDriver small_driver{virtio_f_version_1};
  JumboBench jumbo(9014, 9014, Tag::none);
  GuestPort small{PortId{3}, -1};
  const auto region = small_driver.region();
  const auto memory = GuestMemory::map({&region, 1});
  auto queues = std::move(*GuestQueues::create(small_driver.link(*memory)));
  ASSERT_TRUE(small.connect(queues.get(), -1));
  small_driver.offer_buffer(0, GuestDriver::header_size + 1514);
  SwitchBench bench(std::vector<SwitchBench::Vnic>{{0, &jumbo.guest}, {0, &small}});
  bench.set_mtu(9000);
  jumbo.driver.send(0, sized("ff:ff:ff:ff:ff:ff", vm1, 9014));
  bench.worker->poll_once();
  ASSERT_EQ(bench.fakes[0]->sent().size(), 1U) << "the other receivers of a flood get it whole";
  EXPECT_EQ(bench.fakes[0]->sent()[0].size, 9014U);
  EXPECT_FALSE(small_driver.receive());
  EXPECT_EQ(small.counters().drops[static_cast<std::size_t>(DropReason::guest_buffer)], 1U);
  bench.fakes[0]->arrive(sized("02:00:00:00:00:02", outside, 1514));
  bench.worker->poll_once();
  EXPECT_EQ(small_driver.receive(), sized("02:00:00:00:00:02", outside, 1514)) << "its buffer is still there";
  EXPECT_EQ(bench.imbalance(), 0);
}

}  // namespace
}  // namespace patchbay::dataplane
