// A team over uplinks of the test's own: which member a frame leaves by and under which address, and what of that which
// arrives is taken.
#include "dataplane/ports/team_port.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/frames.h"
#include "tests/support/ip_frames.h"

namespace patchbay::dataplane {
namespace {

using model::TeamBalance;
using test::ethernet;
using test::IpFrame;

constexpr const char* outside = "02:cc:00:00:00:01";
constexpr const char* everyone = "ff:ff:ff:ff:ff:ff";

class FakeUplink final : public UplinkPort {
 public:
  explicit FakeUplink(PortId id) : UplinkPort(id, -1) {}

  std::vector<std::string> arriving;
  std::vector<std::string> sent;
  std::size_t room = 1000;
  std::size_t completed = 0;

  std::uint64_t kernel_drops() noexcept override { return 0; }
  std::size_t receive(Burst& burst) noexcept override {
    const std::size_t count = std::min(arriving.size() - given_, burst_max);
    for (std::size_t i = 0; i < count; ++i) {
      std::string& bytes = arriving[given_ + i];
      burst.frames[i] = Frame{};
      burst.frames[i].head = reinterpret_cast<std::uint8_t*>(bytes.data());
      burst.frames[i].head_size = burst.frames[i].size = static_cast<std::uint32_t>(bytes.size());
    }
    given_ += count;
    return count;
  }
  void complete(std::size_t) noexcept override {
    completed += given_;
    arriving.erase(arriving.begin(), arriving.begin() + static_cast<std::ptrdiff_t>(given_));
    given_ = 0;
  }
  bool prepare_sleep() noexcept override { return !arriving.empty(); }
  void attach(int epoll_fd) noexcept override { epoll = epoll_fd; }
  void detach() noexcept override { epoll = -1; }
  int epoll = -1;
  void make_room(std::size_t frames) {
    room = frames;
    full_ = false;
  }

 private:
  std::size_t transmit(std::span<const Frame> frames) noexcept override {
    std::size_t done = 0;
    for (; done < frames.size() && room != 0; ++done, --room) {
      sent.emplace_back(reinterpret_cast<const char*>(frames[done].head), frames[done].head_size);
      count_egress(frames[done].size);
    }
    full_ = done < frames.size();
    return done;
  }
  std::size_t given_ = 0;
};

std::string source_of(const std::string& frame) {
  return MacAddr::from_wire(reinterpret_cast<const std::uint8_t*>(frame.data()) + 6).to_string();
}

class TeamPortTest : public testing::Test {
 protected:
  void make(bool switch_independent, TeamBalance balance, std::size_t count = 2) {
    TeamConfig config{switch_independent, balance, {}};
    std::vector<TeamPort::Member> members;
    for (std::size_t i = 0; i < count; ++i) {
      if (uplinks_.size() == i)
        uplinks_.push_back(std::make_unique<FakeUplink>(PortId{static_cast<std::uint32_t>(10 + i)}));
      const auto mac = MacAddr::from_uint64(0x02EE'0000'0000 + i);
      config.members.push_back({uplinks_[i]->id(), mac});
      members.push_back({uplinks_[i].get(), mac.to_uint64()});
    }
    team_.set_members(config, std::move(members));
    paths_ = {};
    for (std::size_t i = 0; i < team_buckets; ++i) paths_.senders[i] = static_cast<std::uint8_t>(i % count);
    paths_.receives = (1U << count) - 1;
    paths_.primary = 0;
    team_.set_paths(paths_);
  }
  std::string member_mac(std::size_t i) const { return team_.config().members[i].mac.to_string(); }

  // Sends them in one call; how many were taken.
  std::size_t send(std::vector<std::string> frames) {
    std::vector<Frame> burst(frames.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      burst[i].head = reinterpret_cast<std::uint8_t*>(frames[i].data());
      burst[i].head_size = burst[i].size = static_cast<std::uint32_t>(frames[i].size());
    }
    const auto before = frames;
    const std::size_t sent = team_.send(burst);
    EXPECT_EQ(frames, before) << "others get these frames, too";
    return sent;
  }
  // The frame arrives at the member alone; what becomes of it: "taken", or why it is dropped.
  std::string arrive(std::size_t member, const std::string& frame, std::uint16_t tci = 0) {
    static Burst burst;
    uplinks_[member]->arriving = {frame};
    EXPECT_EQ(team_.receive(burst), 1U);
    if (tci != 0) ADD_FAILURE() << "tags beside the frame are not made here";
    const Frame& got = burst.frames[0];
    const std::string what = got.action == Action::drop ? to_string(got.reason) : "taken";
    team_.complete(1);
    return what;
  }
  std::size_t home(const std::string& mac) const { return paths_.senders[team_bucket_of(*MacAddr::parse(mac))]; }
  // An address whose home is that member.
  std::string at_home(std::size_t member) const {
    for (std::uint64_t i = 1;; ++i) {
      const std::string mac = MacAddr::from_uint64(0x0200'0000'0000 + i).to_string();
      if (home(mac) == member) return mac;
    }
  }
  // A frame of a flow whose frames differ in their data only.
  static std::string numbered(const std::string& destination, unsigned number) {
    IpFrame frame;
    frame.udp = true;
    frame.destination = destination.c_str();
    frame.source = outside;
    frame.payload = "number " + std::to_string(number);
    return frame.bytes();
  }
  static std::string flow(const std::string& source, unsigned number) {
    IpFrame frame;
    frame.udp = true;
    frame.destination = outside;
    frame.source = source;
    frame.payload = "flow " + std::to_string(number);
    std::string bytes = frame.bytes();
    bytes[frame.transport_at()] = static_cast<char>(number >> 8);
    bytes[frame.transport_at() + 1] = static_cast<char>(number);
    return bytes;
  }

  std::vector<std::unique_ptr<FakeUplink>> uplinks_;
  // Minutes for a second: no pause of the test itself counts as one.
  static constexpr std::uint64_t slow_tsc_hz = std::uint64_t{1} << 40;
  TeamPort team_{PortId{1}, -1, slow_tsc_hz};
  TeamPaths paths_{};
};

TEST_F(TeamPortTest, WithoutMembersFramesAreDroppedByName) {
  EXPECT_EQ(send({flow("02:00:00:00:00:01", 1)}), 1U);
  EXPECT_EQ(team_.counters().drops[static_cast<std::size_t>(DropReason::not_connected)], 1U);
  EXPECT_FALSE(team_.full());
  EXPECT_FALSE(team_.prepare_sleep());
}

TEST_F(TeamPortTest, AnAddressStaysAtOneMember) {
  make(true, TeamBalance::vnic_port);
  for (std::size_t member = 0; member < 2; ++member) {
    const std::string mac = at_home(member);
    for (unsigned i = 0; i < 50; ++i) ASSERT_EQ(send({flow(mac, i), ethernet(everyone, mac.c_str())}), 2U);
    EXPECT_EQ(uplinks_[member]->sent.size(), 100U);
    EXPECT_EQ(uplinks_[1 - member]->sent.size(), member * 100);
    for (const std::string& frame : uplinks_[member]->sent) EXPECT_EQ(source_of(frame), mac);
  }
}

TEST_F(TeamPortTest, FlowsAreSpreadAndKeepTheirMember) {
  make(false, TeamBalance::address_hash);
  std::map<std::string, std::set<std::size_t>> members_of;
  for (int round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < 100; ++i) ASSERT_EQ(send({flow("02:00:00:00:00:01", i)}), 1U);
  }
  for (std::size_t member = 0; member < 2; ++member) {
    EXPECT_GT(uplinks_[member]->sent.size(), 60U);
    for (const std::string& frame : uplinks_[member]->sent) {
      EXPECT_EQ(source_of(frame), "02:00:00:00:00:01") << "the partner knows that the members are one";
      members_of[frame].insert(member);
    }
  }
  EXPECT_EQ(members_of.size(), 100U);
  for (const auto& [frame, members] : members_of) EXPECT_EQ(members.size(), 1U);
}

TEST_F(TeamPortTest, NoAddressShowsUpAtTwoMembersOfAnIndependentTeam) {
  for (const auto balance : {TeamBalance::address_hash, TeamBalance::dynamic, TeamBalance::vnic_port}) {
    SCOPED_TRACE(static_cast<int>(balance));
    uplinks_.clear();
    make(true, balance);
    for (unsigned i = 0; i < 200; ++i) {
      const std::string mac = MacAddr::from_uint64(0x0200'0000'0000 + i % 8).to_string();
      ASSERT_EQ(send({flow(mac, i), ethernet(everyone, mac.c_str()), ethernet(outside, mac.c_str())}), 3U);
    }
    std::map<std::string, std::set<std::size_t>> seen_at;
    for (std::size_t member = 0; member < 2; ++member) {
      for (const std::string& frame : uplinks_[member]->sent) seen_at[source_of(frame)].insert(member);
    }
    for (const auto& [mac, members] : seen_at) EXPECT_EQ(members.size(), 1U) << mac;
    EXPECT_EQ(seen_at.contains(member_mac(1)), balance != TeamBalance::vnic_port) << "one of the flows left elsewhere";
    EXPECT_EQ(uplinks_[0]->sent.size() + uplinks_[1]->sent.size(), 600U);
  }
}

TEST_F(TeamPortTest, ArpAndNeighbourDiscoveryKeepTheirAddress) {
  make(true, TeamBalance::address_hash);
  const std::string mac = at_home(1);
  std::string arp = ethernet(outside, mac.c_str());
  arp.replace(12, 2, test::be16(0x0806));
  IpFrame neighbour;
  neighbour.ipv6 = true;
  neighbour.destination = outside;
  neighbour.source = mac;
  for (unsigned kind = 128; kind < 140; ++kind) {
    std::string advertisement = neighbour.bytes();
    advertisement[14 + 6] = 58;
    advertisement[14 + 40] = static_cast<char>(kind);
    for (unsigned other = 0; other < 16; ++other) {  // addresses of other stations: other flows
      advertisement[14 + 39] = static_cast<char>(other);
      ASSERT_EQ(send({advertisement, arp}), 2U);
    }
  }
  bool others_left_elsewhere = false;
  for (const std::string& frame : uplinks_[1]->sent) {
    const auto kind = static_cast<std::uint8_t>(frame[14 + 40]);
    EXPECT_FALSE(kind >= 133 && kind <= 137) << "neighbour discovery left elsewhere than by the primary";
    EXPECT_EQ(source_of(frame), member_mac(1));
    others_left_elsewhere = true;
  }
  EXPECT_TRUE(others_left_elsewhere);
}

TEST_F(TeamPortTest, AFlowThatPausedGoesWhereLeastWasSent) {
  make(false, TeamBalance::dynamic);
  std::set<std::string> first;
  for (int i = 0; i < 20; ++i) ASSERT_EQ(send({flow("02:00:00:00:00:01", 1)}), 1U);
  EXPECT_TRUE(uplinks_[0]->sent.empty() || uplinks_[1]->sent.empty()) << "no pause: it stays";
  ASSERT_EQ(send({flow("02:00:00:00:00:01", 2)}), 1U);
  EXPECT_FALSE(uplinks_[0]->sent.empty() || uplinks_[1]->sent.empty()) << "another flow goes to the other one";
}

TEST_F(TeamPortTest, ABucketWithoutAMemberDropsByName) {
  make(false, TeamBalance::address_hash);
  paths_.senders.fill(team_no_member);
  team_.set_paths(paths_);
  EXPECT_EQ(send({flow("02:00:00:00:00:01", 1), flow("02:00:00:00:00:01", 2)}), 2U);
  EXPECT_EQ(team_.counters().drops[static_cast<std::size_t>(DropReason::not_connected)], 2U);
}

TEST_F(TeamPortTest, AFullMemberStopsItsFramesAndThoseBehindThem) {
  make(true, TeamBalance::vnic_port);
  const std::string here = at_home(0);
  const std::string there = at_home(1);
  uplinks_[1]->make_room(1);
  EXPECT_EQ(send({flow(here, 1), flow(there, 2), flow(there, 3), flow(here, 4)}), 2U);
  EXPECT_TRUE(team_.full());
  EXPECT_EQ(uplinks_[0]->sent.size(), 1U);
  uplinks_[1]->make_room(10);
  EXPECT_FALSE(team_.full());
  EXPECT_EQ(send({flow(there, 3), flow(here, 4)}), 2U);
  paths_.senders.fill(0);
  team_.set_paths(paths_);
  uplinks_[1]->make_room(0);
  EXPECT_EQ(send({flow(there, 5)}), 1U);
  EXPECT_FALSE(team_.full()) << "nothing leaves by the one that is full";
}

TEST_F(TeamPortTest, EachFrameOfTheWireIsTakenOnce) {
  make(true, TeamBalance::vnic_port);
  const std::string here = at_home(0);
  const std::string there = at_home(1);
  EXPECT_EQ(arrive(0, ethernet(here.c_str(), outside)), "taken");
  EXPECT_EQ(arrive(1, ethernet(here.c_str(), outside)), "wrong_member");
  EXPECT_EQ(arrive(1, ethernet(there.c_str(), outside)), "taken");
  EXPECT_EQ(arrive(0, ethernet(there.c_str(), outside)), "wrong_member");
  EXPECT_EQ(arrive(0, ethernet(everyone, outside)), "taken");
  EXPECT_EQ(arrive(1, ethernet(everyone, outside)), "wrong_member");
  EXPECT_EQ(arrive(1, ethernet("01:80:c2:00:00:02", outside)), "taken") << "classify() has a name for it";
  EXPECT_EQ(uplinks_[0]->counters().ingress.frames, 3U);
  EXPECT_EQ(uplinks_[1]->counters().ingress.frames, 4U);
}

TEST_F(TeamPortTest, APartnerThatKnowsTheTeamMayUseAnyMember) {
  make(false, TeamBalance::vnic_port);
  const std::string here = at_home(0);
  for (std::size_t member = 0; member < 2; ++member) {
    EXPECT_EQ(arrive(member, ethernet(here.c_str(), outside)), "taken");
    EXPECT_EQ(arrive(member, ethernet(everyone, outside)), "taken");
  }
  paths_.receives = 1;
  team_.set_paths(paths_);
  EXPECT_EQ(arrive(1, ethernet(here.c_str(), outside)), "wrong_member");
}

TEST_F(TeamPortTest, OwnFramesThatComeBackAreReflected) {
  make(true, TeamBalance::address_hash);
  const std::string learned = at_home(1);
  const std::string hello = ethernet(everyone, learned.c_str());
  EXPECT_EQ(arrive(0, hello), "taken") << "nobody sent it from here yet";
  ASSERT_EQ(send({hello}), 1U);
  EXPECT_EQ(arrive(0, hello), "reflected");
  EXPECT_EQ(arrive(0, ethernet(everyone, outside)), "taken");
  EXPECT_EQ(arrive(0, ethernet(learned.c_str(), member_mac(1).c_str())), "reflected");
}

TEST_F(TeamPortTest, AFrameIsKnownAgainWithItsTagInItsBytesOrBesideThem) {
  make(true, TeamBalance::address_hash);
  std::string hello = ethernet(everyone, "02:00:00:00:00:01");
  Frame frame;
  frame.head = reinterpret_cast<std::uint8_t*>(hello.data());
  frame.head_size = frame.size = static_cast<std::uint32_t>(hello.size());
  frame.tag_tpid = tpid_8021q;
  frame.tag_tci = 101;
  ASSERT_EQ(team_.send({&frame, 1}), 1U);
  EXPECT_EQ(arrive(0, ethernet(everyone, "02:00:00:00:00:01", test::tag(101))), "reflected");
  EXPECT_EQ(arrive(0, ethernet(everyone, "02:00:00:00:00:01", test::tag(102))), "taken");
  EXPECT_EQ(arrive(0, hello), "taken");
}

TEST_F(TeamPortTest, WhatIsOnItsWayToAnOldHomeIsTakenForAMoment) {
  make(true, TeamBalance::vnic_port);
  const std::string mac = at_home(0);
  EXPECT_EQ(arrive(1, ethernet(mac.c_str(), outside)), "wrong_member");
  paths_.senders.fill(1);
  team_.set_paths(paths_);
  EXPECT_EQ(arrive(0, numbered(mac, 1)), "taken");
  EXPECT_EQ(arrive(1, numbered(mac, 2)), "taken");
}

TEST_F(TeamPortTest, OfCopiesThatComeByTheOldHomeAndTheNewOneIsTaken) {
  for (const TeamBalance balance : {TeamBalance::vnic_port, TeamBalance::address_hash}) {
    make(true, balance);
    const std::string mac = at_home(0);
    paths_.senders.fill(1);
    paths_.primary = 1;
    team_.set_paths(paths_);
    for (const unsigned number : {1U, 2U, 3U}) {
      const std::size_t first = number % 2;
      EXPECT_EQ(arrive(first, numbered(mac, number)), "taken");
      EXPECT_EQ(arrive(1 - first, numbered(mac, number)), "wrong_member");
    }
    EXPECT_EQ(arrive(1, numbered(mac, 1)), "taken") << "the same again, by the same member";
  }
}

TEST_F(TeamPortTest, OfCopiesForAGroupThatComeWhenThePrimaryChangesOneIsTaken) {
  make(true, TeamBalance::vnic_port);
  EXPECT_EQ(arrive(0, numbered(everyone, 1)), "taken");
  paths_.senders.fill(1);
  paths_.primary = 1;
  team_.set_paths(paths_);
  EXPECT_EQ(arrive(1, numbered(everyone, 1)), "wrong_member");
  EXPECT_EQ(arrive(1, numbered(everyone, 2)), "taken");
}

TEST_F(TeamPortTest, MembersComeAndGoWhileTheTeamIsWatched) {
  make(true, TeamBalance::vnic_port, 3);
  team_.attach(7);
  for (const auto& uplink : uplinks_) EXPECT_EQ(uplink->epoll, 7);
  make(true, TeamBalance::vnic_port, 2);
  EXPECT_EQ(uplinks_[1]->epoll, 7);
  EXPECT_EQ(uplinks_[2]->epoll, -1);
  make(true, TeamBalance::vnic_port, 3);
  EXPECT_EQ(uplinks_[2]->epoll, 7);
  team_.detach();
  for (const auto& uplink : uplinks_) EXPECT_EQ(uplink->epoll, -1);
}

TEST_F(TeamPortTest, MembersTakeTurnsAndAllIsGivenBack) {
  make(false, TeamBalance::vnic_port);
  for (const auto& uplink : uplinks_) uplink->arriving.assign(40, ethernet("02:00:00:00:00:01", outside));
  static Burst burst;
  std::vector<std::size_t> got;
  for (int i = 0; i < 5; ++i) got.push_back(team_.receive(burst));
  EXPECT_EQ(got, (std::vector<std::size_t>{32, 32, 8, 8, 0}));
  team_.complete(80);
  EXPECT_EQ(uplinks_[0]->completed, 40U);
  EXPECT_EQ(uplinks_[1]->completed, 40U);
}

}  // namespace
}  // namespace patchbay::dataplane
