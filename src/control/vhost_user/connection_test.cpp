#include "control/vhost_user/connection.h"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>

#include "tests/support/fake_front_end.h"

namespace patchbay::vhost_user {
namespace {

class ConnectionTest : public testing::Test {
 protected:
  void open(const Limits& limits) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    front_end.emplace(UniqueFd(ends[0]));
    Connection::Owner owner;
    owner.message = [this](const Message& message) {
      ++messages;
      Outcome outcome;
      if (message.reply_wanted) outcome.reply = make_reply(message.request, std::uint64_t{0});
      return outcome;
    };
    owner.ended = [this](std::optional<Error> why) {
      ended = true;
      reason = why ? why->message : "";
    };
    auto budget = std::make_shared<Connection::Budget>(Connection::Budget{
        TokenBucket(limits.messages_per_second, limits.messages_burst, std::chrono::steady_clock::now()),
        ForeignCloser{}});
    auto made = Connection::open(loop, UniqueFd(ends[1]), limits, budget, std::move(owner));
    ASSERT_TRUE(made);
    connection = *made;
  }
  ~ConnectionTest() override {
    if (connection) connection->close();
  }

  template <typename Condition>
  [[nodiscard]] bool until(Condition condition, std::chrono::milliseconds at_most = std::chrono::seconds(5)) {
    return test::until(loop, condition, at_most);
  }

  boost::asio::io_context loop;
  std::optional<test::FakeFrontEnd> front_end;
  std::shared_ptr<Connection> connection;
  int messages = 0;
  bool ended = false;
  std::string reason;
};

TEST_F(ConnectionTest, a_message_begun_must_be_finished_in_time) {
  Limits limits;
  limits.message_ms_max = std::chrono::milliseconds(50);
  open(limits);
  front_end->send(3);
  EXPECT_TRUE(until([&] { return messages == 1; }));
  EXPECT_FALSE(until([&] { return ended; }, std::chrono::milliseconds(150))) << "silence between messages is fine";
  front_end->send_bytes({3, 0, 0});
  EXPECT_TRUE(until([&] { return ended; }));
  EXPECT_EQ(reason, "the front-end sent half a message and no more for 50 ms");
}

TEST_F(ConnectionTest, reading_pauses_when_messages_come_too_often_and_goes_on_later) {
  Limits limits;
  limits.messages_per_second = 100;
  limits.messages_burst = 10;
  open(limits);
  for (int i = 0; i < 20; ++i) front_end->send(3);
  loop.restart();
  loop.poll();
  EXPECT_GE(messages, 9);
  EXPECT_LT(messages, 15);
  EXPECT_TRUE(until([&] { return messages == 20; }));
  EXPECT_FALSE(ended);
}

TEST_F(ConnectionTest, others_get_a_turn_while_one_floods) {
  Limits limits;
  limits.reads_per_turn_max = 8;
  open(limits);
  for (int i = 0; i < 100; ++i) front_end->send(3);
  int at_my_turn = -1;
  ASSERT_TRUE(until([&] { return messages > 0; }));
  boost::asio::post(loop, [&] { at_my_turn = messages; });
  EXPECT_TRUE(until([&] { return at_my_turn >= 0; }));
  EXPECT_LE(at_my_turn, 16);
  EXPECT_TRUE(until([&] { return messages == 100; }));
}

TEST_F(ConnectionTest, reads_no_further_message_while_a_reply_does_not_fit) {
  Limits limits;
  limits.messages_burst = 1e9;
  open(limits);
  int sent = 0;
  while (sent < 100000 && front_end->send(3, {}, {}, test::flag_version_1 | test::flag_need_reply)) {
    ++sent;
    loop.restart();
    loop.poll();
  }
  ASSERT_LT(sent, 100000) << "nothing held the flood up";
  const int handled = messages;
  EXPECT_LT(handled, sent);
  EXPECT_FALSE(ended);
  std::size_t answered_bytes = 0;
  EXPECT_TRUE(until([&] {
    answered_bytes += front_end->receive_now(65536).size();
    return messages == sent && answered_bytes == static_cast<std::size_t>(sent) * 20;
  }));
}

TEST_F(ConnectionTest, a_closed_peer_ends_it_without_an_error) {
  open({});
  front_end->close();
  EXPECT_TRUE(until([&] { return ended; }));
  EXPECT_EQ(reason, "");
}

}  // namespace
}  // namespace patchbay::vhost_user
