#include "control/vhost_user/message.h"

#include <gtest/gtest.h>

#include "control/vhost_user/token_bucket.h"
#include "tests/support/fake_front_end.h"

namespace patchbay::vhost_user {
namespace {

Result<Header> parse(std::uint32_t request, std::uint32_t flags, std::uint32_t size_bytes) {
  const auto bytes = test::bytes_of(request, flags, size_bytes);
  return parse_header(std::span<const std::uint8_t, header_bytes>(bytes.data(), header_bytes));
}

TEST(Message, header_is_taken_up_to_the_payload_limit) {
  const auto good = parse(5, test::flag_version_1 | test::flag_need_reply, payload_bytes_max);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->request, 5U);
  EXPECT_TRUE(good->reply_wanted);
  EXPECT_EQ(good->size_bytes, payload_bytes_max);
  EXPECT_FALSE(parse(5, test::flag_version_1, payload_bytes_max + 1));
  EXPECT_FALSE(parse(5, test::flag_version_1, 0xffffffff));
}

TEST(Message, header_of_another_version_or_of_a_reply_is_refused) {
  EXPECT_FALSE(parse(1, 0, 0));
  EXPECT_FALSE(parse(1, 2, 0));
  EXPECT_FALSE(parse(1, 3, 0));
  EXPECT_FALSE(parse(1, test::flag_version_1 | test::flag_reply, 0));
}

TEST(Message, names_are_those_of_the_specification) {
  EXPECT_EQ(request_name(1), "GET_FEATURES");
  EXPECT_EQ(request_name(5), "SET_MEM_TABLE");
  EXPECT_EQ(request_name(18), "SET_VRING_ENABLE");
  EXPECT_EQ(request_name(24), "GET_CONFIG");
  EXPECT_EQ(request_name(34), "RESET_DEVICE");
  EXPECT_EQ(request_name(43), "CHECK_DEVICE_STATE");
  EXPECT_EQ(request_name(44), "request 44");
}

TEST(Message, reply_has_header_and_value) {
  const auto reply = make_reply(1, std::uint64_t{0x1122334455667788});
  EXPECT_EQ(reply, test::message_bytes(1, test::u64(0x1122334455667788), test::flag_version_1 | test::flag_reply));
  const auto base = make_reply(11, VringState{1, 77});
  EXPECT_EQ(base, test::message_bytes(11, test::vring_state(1, 77), test::flag_version_1 | test::flag_reply));
}

TEST(Message, memory_table_gives_its_regions_in_order) {
  Message message;
  message.request = 5;
  message.payload = test::memory_table(8, 8192);
  for (int i = 0; i < 8; ++i) message.descriptors.push_back({test::new_memfd(), DescriptorKind::memory});
  const auto regions = parse_memory_table(message);
  ASSERT_TRUE(regions);
  ASSERT_EQ(regions->size(), 8U);
  EXPECT_EQ((*regions)[7].guest_address, 7 * 8192U);
  EXPECT_EQ((*regions)[7].size_bytes, 8192U);
  EXPECT_EQ((*regions)[7].front_end_address, 0x7f0000000000 + 7 * 8192U);
  EXPECT_EQ((*regions)[7].fd, message.descriptors[7].fd.get());
}

TEST(Descriptor, kinds_are_told_apart) {
  EXPECT_EQ(kind_of(test::new_eventfd().get()), DescriptorKind::event);
  EXPECT_EQ(kind_of(test::new_memfd().get()), DescriptorKind::memory);
  EXPECT_EQ(kind_of(test::new_plain_file().get()), DescriptorKind::foreign);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  EXPECT_EQ(kind_of(out.get()), DescriptorKind::foreign);
  EXPECT_EQ(kind_of(-1), DescriptorKind::foreign);
}

TEST(Descriptor, non_blocking_is_set_on_a_blocking_eventfd) {
  const UniqueFd blocking(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(make_non_blocking(blocking.get()));
  EXPECT_NE(::fcntl(blocking.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(TokenBucket, gives_its_burst_and_then_its_rate) {
  const auto start = TokenBucket::Clock::time_point{};
  TokenBucket bucket(10, 3, start);
  EXPECT_TRUE(bucket.take(start) && bucket.take(start) && bucket.take(start));
  EXPECT_FALSE(bucket.take(start));
  EXPECT_FALSE(bucket.take(start + std::chrono::milliseconds(90)));
  EXPECT_TRUE(bucket.take(start + std::chrono::milliseconds(110)));
  EXPECT_FALSE(bucket.take(start + std::chrono::milliseconds(120)));
  const auto later = start + std::chrono::seconds(100);
  EXPECT_TRUE(bucket.take(later) && bucket.take(later) && bucket.take(later));
  EXPECT_FALSE(bucket.take(later));
}

}  // namespace
}  // namespace patchbay::vhost_user
