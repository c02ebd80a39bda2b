#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/ip_frames.h"
#include "tests/support/switch_bench.h"

namespace patchbay::dataplane {
namespace {

using test::IpFrame;
using test::SwitchBench;

using Vnics = std::vector<SwitchBench::Vnic>;
constexpr std::uint16_t mss = 1428;
constexpr std::size_t uplink = 0;
const std::string stranger = "02:aa:00:00:00:01";

IpFrame stream_to(std::size_t vnic, bool ipv6 = false) {
  return {.ipv6 = ipv6,
          .destination = SwitchBench::mac(vnic),
          .source = stranger,
          .flags = 0x18,
          .payload = test::pattern(10001)};
}

// The frames of `stream` on the wire, in VLAN 101; the tag in the bytes, or beside them.
void arrive(SwitchBench& bench, const IpFrame& stream, bool in_bytes = true) {
  IpFrame tagged = stream;
  if (in_bytes) tagged.tags = test::tag(101);
  for (std::size_t i = 0; i < stream.parts(mss); ++i) {
    bench.fakes[uplink]->arrive(tagged.part(i, mss).bytes(), in_bytes ? 0 : 0x8100, in_bytes ? 0 : 101);
  }
}

std::uint64_t bytes_of(const IpFrame& stream) {
  return stream.parts(mss) * stream.header_size() + stream.payload.size();
}

// The frames as they were on the wire, without the tag.
void expect_as_sent(std::span<const FakePort::Bytes> frames, const IpFrame& stream) {
  ASSERT_EQ(frames.size(), stream.parts(mss));
  for (std::size_t i = 0; i < frames.size(); ++i) {
    EXPECT_TRUE(frames[i].text() == stream.part(i, mss).bytes()) << i;
    EXPECT_EQ(frames[i].header.gso_type, vnet_gso_none);
  }
}

TEST(Coalescing, who_takes_large_pieces_gets_what_the_wire_brought_in_one) {
  for (const bool ipv6 : {false, true}) {
    for (const bool in_bytes : {false, true}) {
      SwitchBench bench(Vnics{{101}, {102}});
      bench.set_coalesces(true);
      bench.fakes[1]->set_takes(offload_all);
      const IpFrame stream = stream_to(1, ipv6);
      arrive(bench, stream, in_bytes);
      EXPECT_EQ(bench.worker->poll_once(), stream.parts(mss));
      ASSERT_EQ(bench.fakes[1]->sent().size(), 1U);
      EXPECT_TRUE(bench.fakes[1]->sent()[0].text() == stream.bytes(false));
      EXPECT_EQ(bench.fakes[1]->sent()[0].header.gso_size, mss);
      EXPECT_EQ(bench.fakes[1]->sent()[0].header.csum_start, stream.transport_at());
      const auto counters = bench.fakes[uplink]->counters();
      EXPECT_EQ(counters.ingress.frames, stream.parts(mss)) << "of the wire";
      EXPECT_EQ(counters.ingress.bytes, bytes_of(stream));
      EXPECT_EQ(counters.merged_frames, stream.parts(mss) - 1);
      EXPECT_EQ(bench.fakes[uplink]->waiting(), 0U);
      EXPECT_EQ(bench.imbalance(), 0);
    }
  }
}

TEST(Coalescing, nothing_is_merged_for_who_takes_no_large_pieces_nor_where_it_is_off) {
  for (const bool on : {false, true}) {
    SwitchBench bench(Vnics{{101}});
    bench.set_coalesces(on);
    if (!on) bench.fakes[1]->set_takes(offload_all);
    const IpFrame stream = stream_to(1);
    arrive(bench, stream);
    bench.worker->poll_once();
    expect_as_sent(bench.fakes[1]->sent(), stream);
    EXPECT_EQ(bench.fakes[uplink]->counters().merged_frames, 0U);
    EXPECT_EQ(bench.fakes[uplink]->counters().ingress.bytes, bytes_of(stream));
  }
}

TEST(Coalescing, frames_of_vnics_are_left_alone) {
  SwitchBench bench(Vnics{{101}, {101}});
  bench.set_coalesces(true);
  bench.fakes[2]->set_takes(offload_all);
  IpFrame stream = stream_to(2);
  stream.source = SwitchBench::mac(1);
  for (std::size_t i = 0; i < stream.parts(mss); ++i) bench.fakes[1]->arrive(stream.part(i, mss).bytes());
  bench.worker->poll_once();
  expect_as_sent(bench.fakes[2]->sent(), stream);
}

TEST(Coalescing, frames_that_go_nowhere_are_counted_one_by_one) {
  SwitchBench bench(Vnics{{101}});
  bench.set_coalesces(true);
  bench.fakes[1]->set_takes(offload_all);
  const IpFrame stream = stream_to(7);
  arrive(bench, stream);
  bench.worker->poll_once();
  const auto counters = bench.fakes[uplink]->counters();
  EXPECT_EQ(counters.drops[static_cast<std::size_t>(DropReason::no_destination)], stream.parts(mss));
  EXPECT_EQ(counters.merged_frames, 0U);
  EXPECT_EQ(bench.imbalance(), 0);
}

TEST(Coalescing, a_piece_for_another_worker_is_cut_there_if_its_way_takes_none) {
  for (const Offloads takes : {Offloads{0}, offload_all}) {
    SwitchBench bench(Vnics{{.vid = 101, .worker = 1}}, true, 2);
    bench.set_coalesces(true);
    bench.fakes[1]->set_takes(takes);
    IpFrame stream = stream_to(1);
    stream.id = 0xFFFE;
    arrive(bench, stream);
    for (int pass = 0; pass < 3; ++pass) bench.poll_all();
    if (takes == 0) {
      expect_as_sent(bench.fakes[1]->sent(), stream);
      EXPECT_EQ(bench.fakes[1]->counters().cut_frames, stream.parts(mss) - 1);
    } else {
      ASSERT_EQ(bench.fakes[1]->sent().size(), 1U);
      EXPECT_TRUE(bench.fakes[1]->sent()[0].text() == stream.bytes(false));
    }
    const auto counters = bench.fakes[uplink]->counters();
    EXPECT_EQ(counters.ingress.frames, stream.parts(mss));
    EXPECT_EQ(counters.ingress.bytes, bytes_of(stream));
    EXPECT_EQ(bench.fakes[uplink]->waiting(), 0U) << "complete() was told of all of them";
    EXPECT_EQ(bench.imbalance(), 0);
  }
}

TEST(Coalescing, several_bursts_come_in_one_pass_though_each_is_merged) {
  SwitchBench bench(Vnics{{101}, {101}});
  bench.set_coalesces(true);
  for (const std::size_t vnic : {1U, 2U}) bench.fakes[vnic]->set_takes(offload_all);
  for (int i = 0; i < 6; ++i) {
    for (const std::size_t vnic : {1U, 2U}) {
      IpFrame stream = stream_to(vnic);
      stream.sequence += static_cast<std::uint32_t>(i * 10001);
      arrive(bench, stream);
    }
  }
  const std::size_t frames = 12 * stream_to(1).parts(mss);
  EXPECT_EQ(bench.worker->poll_once(), frames);
  EXPECT_EQ(bench.worker->stats().frames, frames);
  std::size_t left = 0;
  for (const std::size_t vnic : {1U, 2U}) left += bench.fakes[vnic]->sent().size();
  EXPECT_EQ(bench.fakes[uplink]->counters().merged_frames, frames - left);
  EXPECT_LE(left, 12U + 4);  // a piece ends with its push, or its burst
  EXPECT_EQ(bench.imbalance(), 0);
}

}  // namespace
}  // namespace patchbay::dataplane
