#include "control/vmq/queues.h"

#include <gtest/gtest.h>

#include "tests/support/fake_dataplane.h"

namespace patchbay::vmq {
namespace {

using dataplane::QueueSorting;
using Lines = std::vector<std::string>;

class QueuesTest : public testing::Test {
 protected:
  QueuesTest() {
    dataplane.ability = {QueueSorting::kernel, 2, false, false, ""};
    for (const char* nic : {"eth1", "eth2"}) places.push_back({nic, *dataplane.open_uplink(nic, {})});
    dataplane.calls.clear();
  }
  static WantedVnic vnic(const std::string& name, std::uint64_t number, const std::string& home = "") {
    return {name, MacAddr::from_uint64(0x020000000000 + number), model::Untagged{}, 100, home};
  }
  void settle(const std::vector<WantedUplink>& wanted) {
    if (queues.want(wanted)) {
      dataplane.calls.push_back("publish without");
      queues.close_freed();
    }
    if (queues.allocate()) {
      dataplane.calls.push_back("publish");
      queues.complete();
    }
  }
  void settle_on_eth1(std::vector<WantedVnic> vnics) { settle({{"eth1", {places[0]}, false, std::move(vnics)}}); }
  // "eth1#1 a running"
  [[nodiscard]] Lines status() const {
    Lines lines;
    for (const auto& queue : queues.status()) {
      lines.push_back(fmt::format("{}#{} {} {}", queue.nic, queue.number, queue.vnic, to_string(queue.state)));
    }
    return lines;
  }

  test::FakeDataplane dataplane;
  std::vector<Place> places;
  Queues queues{dataplane};
};

TEST_F(QueuesTest, a_batch_takes_one_layout_each_way) {
  settle_on_eth1({vnic("a", 1), vnic("b", 2)});
  EXPECT_EQ(dataplane.take_calls(), (Lines{"open_queue eth1#1", "filter eth1#1 02:00:00:00:00:01/0",
                                           "open_queue eth1#2", "filter eth1#2 02:00:00:00:00:02/0", "publish"}));
  EXPECT_EQ(status(), (Lines{"eth1#1 a running", "eth1#2 b running"}));
  EXPECT_EQ(queues.of("a").size(), 1U);
  settle_on_eth1({vnic("a", 1), vnic("b", 2)});
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "a second time nothing";
  settle({});
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"no_filter eth1#1", "no_filter eth1#2", "publish without", "close eth1#1", "close eth1#2"}));
  EXPECT_EQ(status(), Lines{});
  EXPECT_EQ(dataplane.ports_open(), 2U);
}

TEST_F(QueuesTest, one_that_is_given_back_goes_to_who_waits) {
  settle_on_eth1({vnic("a", 1), vnic("b", 2), vnic("c", 3)});
  EXPECT_EQ(queues.reason("c"), "all 2 queues of eth1 are taken (first come, first served)");
  EXPECT_EQ(queues.reason("a"), "");
  dataplane.calls.clear();
  settle_on_eth1({vnic("b", 2), vnic("c", 3)});
  EXPECT_EQ(dataplane.take_calls(), (Lines{"no_filter eth1#1", "publish without", "close eth1#1", "open_queue eth1#3",
                                           "filter eth1#3 02:00:00:00:00:03/0", "publish"}));
  EXPECT_EQ(status(), (Lines{"eth1#1 c running", "eth1#2 b running"})) << "the number is free again";
}

TEST_F(QueuesTest, an_uplink_that_sorts_in_another_way_gets_other_queues) {
  settle_on_eth1({vnic("a", 1)});
  dataplane.calls.clear();
  dataplane.ability.sorting = QueueSorting::software;
  settle_on_eth1({vnic("a", 1)});
  EXPECT_EQ(dataplane.take_calls(), (Lines{"no_filter eth1#1", "publish without", "close eth1#1", "open_queue eth1#2",
                                           "filter eth1#2 02:00:00:00:00:01/0", "publish"}));
  EXPECT_EQ(queues.status().front().sorting, QueueSorting::software);
}

TEST_F(QueuesTest, another_filter_is_another_queue) {
  settle_on_eth1({vnic("a", 1)});
  dataplane.calls.clear();
  settle_on_eth1({vnic("a", 9)});
  EXPECT_EQ(dataplane.take_calls(), (Lines{"no_filter eth1#1", "publish without", "close eth1#1", "open_queue eth1#2",
                                           "filter eth1#2 02:00:00:00:00:09/0", "publish"}));
}

TEST_F(QueuesTest, what_cannot_be_opened_stays_at_the_default_queue_and_is_tried_again) {
  dataplane.refusals["open_queue eth1#1"] = make_error(ErrorCode::no_resource, "eth1: no ring left");
  dataplane.refusals["filter eth1#2 02:00:00:00:00:02/0"] = make_error(ErrorCode::unavailable, "eth1: no such rule");
  settle_on_eth1({vnic("a", 1), vnic("b", 2)});
  EXPECT_EQ(dataplane.take_calls(),
            (Lines{"open_queue eth1#1", "open_queue eth1#2", "filter eth1#2 02:00:00:00:00:02/0", "close eth1#2"}));
  EXPECT_EQ(queues.reason("a"), "eth1: no ring left");
  EXPECT_EQ(queues.reason("b"), "eth1: no such rule");
  EXPECT_TRUE(queues.of("b").empty());
  EXPECT_EQ(dataplane.ports_open(), 2U);
  settle_on_eth1({vnic("a", 1), vnic("b", 2)});
  EXPECT_EQ(status(), (Lines{"eth1#1 a running", "eth1#2 b running"}));
  EXPECT_EQ(queues.reason("a") + queues.reason("b"), "");
}

TEST_F(QueuesTest, sum_of_queues_gives_one_at_home_and_follows_it) {
  const auto team = [&](const std::string& home_of_c) {
    return WantedUplink{"up1",
                        places,
                        true,
                        {vnic("a", 1, "eth1"), vnic("b", 2, "eth2"), vnic("c", 3, home_of_c), vnic("d", 4, "eth1")}};
  };
  settle({team("eth2")});
  EXPECT_EQ(status(), (Lines{"eth1#1 a running", "eth1#2 d running", "eth2#1 b running", "eth2#2 c running"}))
      << "as many as both have";
  dataplane.calls.clear();
  settle({team("eth1")});
  EXPECT_EQ(dataplane.take_calls(), (Lines{"no_filter eth2#2", "publish without", "close eth2#2"}));
  EXPECT_EQ(queues.reason("c"), "all 2 queues of eth1 are taken (first come, first served)");
  settle({team("eth2")});
  EXPECT_EQ(queues.reason("c"), "");
  dataplane.calls.clear();
  settle({team("")});
  EXPECT_EQ(dataplane.take_calls(), Lines{}) << "no home: it stays where it is";
}

TEST_F(QueuesTest, min_queues_gives_one_at_every_member_of_as_many_vnics_as_the_smallest_can) {
  dataplane.abilities["eth2"] = {QueueSorting::kernel, 1, false, false, ""};
  settle({{"up1", places, false, {vnic("a", 1), vnic("b", 2)}}});
  EXPECT_EQ(status(), (Lines{"eth1#1 a running", "eth2#1 a running"}));
  EXPECT_EQ(queues.of("a").size(), 2U);
  EXPECT_EQ(queues.reason("b"), "the one queue of eth2 is taken (first come, first served)");
}

TEST_F(QueuesTest, a_member_that_leaves_gives_its_queues_back_first) {
  settle({{"up1", places, false, {vnic("a", 1)}}});
  dataplane.calls.clear();
  EXPECT_TRUE(queues.leave(places[1].port));
  queues.close_freed();
  EXPECT_EQ(dataplane.take_calls(), (Lines{"no_filter eth2#1", "close eth2#1"}));
  EXPECT_FALSE(queues.leave(places[1].port));
  EXPECT_EQ(status(), Lines{"eth1#1 a running"});
}

TEST_F(QueuesTest, an_uplink_keeps_the_count_of_queues_that_were_closed) {
  settle_on_eth1({vnic("a", 1)});
  dataplane.more_frames["eth1#1"] = 1000;
  const auto counted = dataplane.counters(queues.of("a").front()).ingress.frames;
  settle_on_eth1({});
  EXPECT_EQ(queues.closed(places[0].port).traffic.frames, counted);
  settle({});
  EXPECT_EQ(queues.closed(places[0].port).traffic.frames, 0U) << "nobody wants the uplink";
}

TEST_F(QueuesTest, without_an_open_uplink_the_reason_says_so) {
  settle({{"up1", {}, true, {vnic("a", 1)}}});
  EXPECT_EQ(queues.reason("a"), "up1 is not open");
  settle({{"up1", places, true, {vnic("a", 1)}}});
  EXPECT_EQ(queues.reason("a"), "no member of team up1 carries frames");
}

}  // namespace
}  // namespace patchbay::vmq
