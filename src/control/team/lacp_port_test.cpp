// Two LACP ports that talk to each other, on a clock of the test's own.
#include "control/team/lacp_port.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace patchbay::team {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const MacAddr ours = *MacAddr::parse("02:00:00:00:00:aa");
const MacAddr theirs = *MacAddr::parse("02:00:00:00:00:bb");

LacpEnd end_of(MacAddr system, std::uint16_t port, bool fast) {
  return {.system_priority = 0x8000,
          .system = system,
          .key = 1,
          .port_priority = 0x8000,
          .port = port,
          .state = fast ? lacp_short_timeout : std::uint8_t{0}};
}

class LacpPair : public testing::Test {
 protected:
  // Runs both ends for `span`, a hundredth of a second at a time; what each sends reaches the other, while the wire is whole.
  void run(milliseconds span) {
    for (const Time end = now_ + span; now_ < end; now_ += milliseconds(10)) {
      const auto from_us = us_.poll(now_);
      const auto from_them = they_speak_ ? they_.poll(now_) : std::nullopt;
      if (from_us) {
        ++sent_;
        sent_at_.push_back(now_);
        if (they_speak_ && !cut_) they_.receive(through_the_wire(*from_us), now_);
      }
      if (from_them && !cut_) us_.receive(through_the_wire(*from_them), now_);
      select();
    }
  }
  static Lacpdu through_the_wire(const Lacpdu& pdu) {
    const auto heard = decode(encode(pdu, ours));
    EXPECT_TRUE(heard);
    return heard.value_or(Lacpdu{});
  }
  void select() {
    if (us_.receive_state() == LacpPort::Receive::current) us_.set_selected(ours_);
    if (they_.receive_state() == LacpPort::Receive::current) they_.set_selected(Selected::selected);
  }
  void link(bool up) {
    us_.set_link(up, now_);
    they_.set_link(up, now_);
  }

  LacpPort us_{end_of(ours, 1, true)};
  LacpPort they_{end_of(theirs, 7, true)};
  Selected ours_ = Selected::selected;
  bool they_speak_ = true;
  bool cut_ = false;  // the wire
  Time now_ = Time{} + std::chrono::hours(1);
  unsigned sent_ = 0;
  std::vector<Time> sent_at_;
};

TEST_F(LacpPair, TheOtherEndHearsThatAMemberLeaves) {
  link(true);
  run(seconds(4));
  ASSERT_TRUE(us_.distributing() && they_.distributing());
  they_.receive(through_the_wire(us_.leave(now_)), now_);
  EXPECT_FALSE(us_.collecting());
  static_cast<void>(they_.poll(now_));
  EXPECT_FALSE(they_.distributing());
}

TEST_F(LacpPair, BothEndsComeToCarryFrames) {
  link(true);
  run(seconds(1));
  EXPECT_FALSE(us_.distributing()) << "two seconds are waited for others to join";
  EXPECT_EQ(us_.status().mux, "waiting");
  run(seconds(3));
  EXPECT_TRUE(us_.collecting() && us_.distributing());
  EXPECT_TRUE(they_.distributing());
  ASSERT_TRUE(us_.status().partner);
  EXPECT_EQ(us_.status().partner->system, theirs);
  EXPECT_EQ(us_.status().partner->port, 7);
  EXPECT_EQ(us_.status().actor.state,
            lacp_active | lacp_short_timeout | lacp_aggregation | lacp_in_sync | lacp_collecting | lacp_distributing);
}

TEST_F(LacpPair, NothingIsSentBeforeThePartnerTakesItIn) {
  link(true);
  for (int i = 0; i < 500; ++i) {
    run(milliseconds(10));
    EXPECT_TRUE(they_.collecting() || !us_.distributing());
    EXPECT_TRUE(us_.collecting() || !they_.distributing());
  }
  EXPECT_TRUE(us_.distributing());
}

TEST_F(LacpPair, APartnerThatFallsSilentExpiresAfterThreeSecondsAndIsForgottenAfterSix) {
  link(true);
  run(seconds(5));
  they_speak_ = false;
  run(milliseconds(1900));
  EXPECT_TRUE(us_.distributing()) << "the last word is less than three seconds old";
  run(milliseconds(1200));
  EXPECT_EQ(us_.receive_state(), LacpPort::Receive::expired);
  EXPECT_FALSE(us_.collecting());
  EXPECT_EQ(us_.mux_state(), LacpPort::Mux::attached);
  run(seconds(3));
  EXPECT_TRUE(us_.defaulted());
  EXPECT_EQ(us_.mux_state(), LacpPort::Mux::detached);
  EXPECT_FALSE(us_.status().partner);
  EXPECT_NE(us_.status().actor.state & lacp_defaulted, 0);
  they_speak_ = true;
  run(seconds(5));
  EXPECT_TRUE(us_.distributing());
}

TEST_F(LacpPair, EndsThatLostEachOtherFindEachOtherSoonWhenTheWireIsWholeAgain) {
  link(true);
  run(seconds(5));
  cut_ = true;
  run(seconds(20));
  ASSERT_TRUE(us_.defaulted() && they_.defaulted());
  cut_ = false;
  run(milliseconds(1100));
  EXPECT_FALSE(us_.defaulted() || they_.defaulted());
  run(seconds(3));
  EXPECT_TRUE(us_.distributing() && they_.distributing());
}

TEST_F(LacpPair, SpeaksToNobodyAsOftenAsItWantsToHear) {
  us_.set_timeout(false);
  they_speak_ = false;
  link(true);
  run(seconds(10));
  ASSERT_TRUE(us_.defaulted());
  sent_ = 0;
  run(seconds(60));
  EXPECT_LE(sent_, 3U);
  us_.set_timeout(true);
  sent_ = 0;
  run(seconds(10));
  EXPECT_GE(sent_, 10U);
}

TEST_F(LacpPair, ASlowTimerWaitsForNinetySeconds) {
  us_.set_timeout(false);
  link(true);
  run(seconds(5));
  ASSERT_TRUE(us_.distributing());
  they_speak_ = false;
  run(seconds(80));  // the last word came up to five seconds before
  EXPECT_TRUE(us_.distributing());
  run(seconds(15));
  EXPECT_TRUE(us_.defaulted());
}

TEST_F(LacpPair, SpeaksAsOftenAsThePartnerWants) {
  link(true);
  run(seconds(5));
  sent_ = 0;
  run(seconds(20));
  EXPECT_NEAR(sent_, 20, 1);
  they_.set_timeout(false);
  run(seconds(31));
  sent_ = 0;
  run(seconds(60));
  EXPECT_NEAR(sent_, 2, 1);
}

TEST_F(LacpPair, NeverSendsMoreThanThreeInASecond) {
  link(true);
  for (int i = 0; i < 100; ++i) {
    run(milliseconds(50));
    us_.set_timeout(i % 2 == 0);
  }
  for (std::size_t i = 3; i < sent_at_.size(); ++i) EXPECT_GE(sent_at_[i] - sent_at_[i - 3], seconds(1)) << i;
}

TEST_F(LacpPair, AStandbyMemberCarriesNothingAndIsReadyAtOnce) {
  ours_ = Selected::standby;
  link(true);
  run(seconds(6));
  EXPECT_EQ(us_.mux_state(), LacpPort::Mux::waiting);
  EXPECT_FALSE(they_.distributing()) << "it was told that this end is not in sync";
  ours_ = Selected::selected;
  run(milliseconds(100));
  EXPECT_TRUE(us_.distributing());
  ours_ = Selected::standby;
  run(milliseconds(1500));
  EXPECT_EQ(us_.mux_state(), LacpPort::Mux::waiting);
  EXPECT_FALSE(they_.distributing());
}

TEST_F(LacpPair, AnotherPartnerStartsFromTheBeginning) {
  link(true);
  run(seconds(5));
  ASSERT_TRUE(us_.distributing());
  they_ = LacpPort(end_of(*MacAddr::parse("02:00:00:00:00:cc"), 9, true));
  they_.set_link(true, now_);
  run(milliseconds(500));
  EXPECT_FALSE(us_.distributing());
  run(seconds(4));
  EXPECT_TRUE(us_.distributing());
  EXPECT_EQ(us_.partner().port, 9);
}

TEST_F(LacpPair, WithoutALinkNothingIsSentAndNothingBelieved) {
  link(true);
  run(seconds(5));
  us_.set_link(false, now_);
  sent_ = 0;
  run(seconds(5));
  EXPECT_EQ(sent_, 0U);
  EXPECT_EQ(us_.receive_state(), LacpPort::Receive::port_disabled);
  EXPECT_EQ(us_.mux_state(), LacpPort::Mux::detached);
}

TEST(Lacpdu, IsWhatTheStandardSays) {
  Lacpdu pdu;
  pdu.actor = {
      .system_priority = 0x8000, .system = ours, .key = 0x1234, .port_priority = 0x00FF, .port = 5, .state = 0x3D};
  pdu.partner = {.system_priority = 1, .system = theirs, .key = 2, .port_priority = 3, .port = 4, .state = 0x05};
  const SlowFrame frame = encode(pdu, ours);
  const std::string bytes(frame.begin(), frame.end());
  using namespace std::string_literals;
  EXPECT_EQ(bytes.substr(0, 56),
            "\x01\x80\xC2\x00\x00\x02\x02\x00\x00\x00\x00\xAA\x88\x09\x01\x01"s
            "\x01\x14\x80\x00\x02\x00\x00\x00\x00\xAA\x12\x34\x00\xFF\x00\x05\x3D\x00\x00\x00"s
            "\x02\x14\x00\x01\x02\x00\x00\x00\x00\xBB\x00\x02\x00\x03\x00\x04\x05\x00\x00\x00"s);
  EXPECT_EQ(bytes.substr(56, 4), "\x03\x10\x00\x00"s);
  EXPECT_EQ(bytes.substr(60), std::string(64, '\0'));
}

TEST(Lacpdu, MalformedOnesAreRefused) {
  const SlowFrame good = encode({}, ours);
  ASSERT_TRUE(decode(good));
  for (const std::size_t at : {0U, 12U, 14U, 15U, 16U, 17U, 36U, 37U}) {
    SlowFrame bad = good;
    bad[at] = at == 15 ? 0 : static_cast<std::uint8_t>(bad[at] + 1);
    EXPECT_FALSE(decode(bad)) << at;
  }
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(decode(std::span(good).first(size))) << size;
  SlowFrame newer = good;
  newer[15] = 2;
  EXPECT_TRUE(decode(newer)) << "version 2 is read as version 1";
}

TEST(Lacpdu, AMarkerIsAnswered) {
  SlowFrame marker = encode({}, theirs);
  marker[14] = 2;
  marker[16] = 1;
  marker[20] = 0x55;
  const auto answer = marker_response(marker, ours);
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)[16], 2);
  EXPECT_EQ((*answer)[20], 0x55);
  EXPECT_EQ(MacAddr::from_wire(&(*answer)[6]), ours);
  EXPECT_FALSE(marker_response(*answer, ours)) << "an answer is not answered";
  EXPECT_FALSE(decode(marker));
}

}  // namespace
}  // namespace patchbay::team
