// Unit tests of the generator: its counts of durations, its frames, and its queues against a device of a few lines.
#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

#include "tests/performance/backlog.h"
#include "tests/performance/driver_queue.h"
#include "tests/performance/frames.h"
#include "tests/performance/histogram.h"
#include "tests/performance/numbers.h"
#include "tests/performance/sequence.h"

namespace patchbay::bench {
namespace {

TEST(histogram, of_nothing_has_quantiles_of_zero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0U);
  EXPECT_EQ(histogram.max(), 0U);
}

TEST(histogram, is_exact_for_small_values) {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 50; ++value) histogram.add(value);
  EXPECT_EQ(histogram.quantile(0.5), 25U);
  EXPECT_EQ(histogram.quantile(0.02), 1U);
  EXPECT_EQ(histogram.quantile(1), 50U);
}

TEST(histogram, is_at_most_a_thirty_second_above_large_values) {
  for (const std::uint64_t value : {63ULL, 64ULL, 65ULL, 127ULL, 128ULL, 1000ULL, 123456789ULL, ~0ULL >> 1, ~0ULL}) {
    Histogram histogram;
    histogram.add(value);
    histogram.add(~0ULL);  // so that the maximum does not cap it
    const std::uint64_t seen = histogram.quantile(0.5);
    EXPECT_GE(seen, value);
    EXPECT_LE(seen - value, value / 32) << value;
  }
}

TEST(frames, carry_a_right_ip_header_and_their_stamp) {
  const auto source = MacAddr::from_uint64(0x020000000001);
  const auto target = MacAddr::from_uint64(0x020000000002);
  auto frame = make_frame(source, target, 64);
  ASSERT_EQ(frame.size(), 64U);
  EXPECT_EQ(MacAddr::from_wire(frame.data()), target);
  EXPECT_EQ(MacAddr::from_wire(frame.data() + 6), source);
  EXPECT_EQ(load_be16(frame.data() + 16), 50);  // all of IP
  EXPECT_EQ(load_be16(frame.data() + 38), 30);  // all of UDP
  std::uint32_t sum = 0;
  for (std::size_t i = 14; i < 34; i += 2) sum += load_be16(frame.data() + i);
  EXPECT_EQ((sum & 0xFFFF) + (sum >> 16), 0xFFFFU);  // RFC 1071: the sum over a right header
  stamp(frame.data(), stamp_offset(0), {.run = 3, .target = 1, .sequence = 77, .cycles = 5},
        {.number = 60001, .source = 0x80000005, .destination = 0x80100006});
  EXPECT_EQ(load_be16(frame.data() + 34), 1025);
  EXPECT_EQ(load_be16(frame.data() + 36), 1025);
  EXPECT_EQ(MacAddr::from_wire(frame.data() + 6), MacAddr::from_uint64(0x020080000005));
  EXPECT_EQ(MacAddr::from_wire(frame.data()), MacAddr::from_uint64(0x020080100006));
  const Stamp read = stamp_of(frame.data(), stamp_offset(0));
  EXPECT_EQ(read.run, 3U);
  EXPECT_EQ(read.target, 1U);
  EXPECT_EQ(read.sequence, 77U);
}

TEST(frames, differ_for_each_of_many_flows) {
  auto frame = make_frame(MacAddr::from_uint64(1), MacAddr::from_uint64(2), 64);
  std::vector<std::uint32_t> ports;
  for (std::uint32_t flow = 0; flow < 150'000; ++flow) {
    stamp(frame.data(), stamp_offset(0), {}, {.number = flow});
    ports.push_back(load_be32(frame.data() + 34));
  }
  std::ranges::sort(ports);
  EXPECT_EQ(std::ranges::adjacent_find(ports), ports.end());
}

TEST(frames, of_tcp_leave_to_the_receiver_what_their_virtio_header_says) {
  constexpr std::uint16_t gso_size = 1448;
  const auto frame = make_frame(MacAddr::from_uint64(0x020000000001), MacAddr::from_uint64(0x020000000002),
                                66 + 45 * gso_size, gso_size);
  const auto header = make_net_header(gso_size);
  EXPECT_EQ(header, (std::array<std::uint8_t, 12>{1, 1, 66, 0, 0xA8, 0x05, 34, 0, 16, 0, 0, 0}));
  EXPECT_EQ(frame[23], 6);                                     // TCP
  EXPECT_EQ(load_be16(frame.data() + 16), frame.size() - 14);  // all of IP
  EXPECT_EQ(34 + frame[46] / 16 * 4, 66);                      // where TCP's data starts
  // RFC 9293, 3.1: the pseudo header is the addresses, the protocol and the length; here it is all that is summed.
  std::uint32_t sum = 6 + static_cast<std::uint32_t>(frame.size()) - 34;
  for (std::size_t i = 26; i < 34; i += 2) sum += load_be16(frame.data() + i);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  EXPECT_EQ(load_be16(frame.data() + 50), sum);
  EXPECT_TRUE(has_pseudo_checksum(frame.data(), frame.size()));
  auto changed = frame;
  store_be16(changed.data() + 50, 6 + 0x0A00 + 0x0A00 + 1 + 2);  // without the length
  EXPECT_TRUE(has_pseudo_checksum(changed.data(), frame.size()));
  store_be16(changed.data() + 50, 6 + 0x0A00 + 0x0A00 + 1 + 3);
  EXPECT_FALSE(has_pseudo_checksum(changed.data(), frame.size()));
}

TEST(frames, of_tcp_are_intact_while_the_segments_and_the_checksum_are_the_same) {
  struct Case {
    const char* name;
    std::array<std::uint8_t, 12> header;
    bool intact;
  };
  const Case cases[] = {{"as sent", {1, 1, 66, 0, 0xA8, 0x05, 34, 0, 16, 0, 0, 0}, true},
                        {"with its count of buffers", {1, 1, 66, 0, 0xA8, 0x05, 34, 0, 16, 0, 16, 0}, true},
                        {"with another hint of its headers", {1, 1, 34, 0, 0xA8, 0x05, 34, 0, 16, 0, 0, 0}, true},
                        {"looked at already", {2, 1, 66, 0, 0xA8, 0x05, 0, 0, 0, 0, 0, 0}, true},
                        {"no piece any more", {1, 0, 66, 0, 0, 0, 34, 0, 16, 0, 0, 0}, false},
                        {"of other segments", {1, 1, 66, 0, 0xA7, 0x05, 34, 0, 16, 0, 0, 0}, false},
                        {"checksum from elsewhere", {1, 1, 66, 0, 0xA8, 0x05, 35, 0, 16, 0, 0, 0}, false},
                        {"checksum to elsewhere", {1, 1, 66, 0, 0xA8, 0x05, 34, 0, 6, 0, 0, 0}, false}};
  for (const Case& one : cases) EXPECT_EQ(is_net_header_intact(one.header.data(), 1448), one.intact) << one.name;
}

TEST(sequence, takes_a_row_that_comes_twice_and_counts_what_is_left_out) {
  struct Case {
    std::vector<std::uint32_t> numbers;
    std::uint64_t next, skipped, steps_back, step_back_max;
  };
  const Case cases[] = {{{0, 1, 2, 3}, 4, 0, 0, 0},
                        {{0, 1, 2, 3, 2, 3, 4}, 5, 0, 1, 2},
                        {{0, 0, 1, 2, 0, 1, 2, 3}, 4, 0, 2, 3},
                        {{0, 1, 4, 5}, 6, 2, 0, 0},
                        {{1, 0, 2}, 3, 2, 1, 2},            // one late: both that it was left out, and what then is
                        {{0, 1, 2, 3, 1, 4}, 5, 2, 1, 3}};  // a row that comes twice in part only
  for (const Case& one : cases) {
    Sequence sequence;
    for (const std::uint32_t number : one.numbers) sequence.see(number);
    EXPECT_EQ(sequence.next(), one.next);
    EXPECT_EQ(sequence.skipped(), one.skipped);
    EXPECT_EQ(sequence.steps_back(), one.steps_back);
    EXPECT_EQ(sequence.step_back_max(), one.step_back_max);
  }
}

TEST(sequence, goes_on_over_the_end_of_its_numbers) {
  Sequence sequence;
  sequence.see(0x7FFFFFFF);
  sequence.see(0xFFFFFFFE);
  for (const std::uint32_t number : {0xFFFFFFFFU, 0U, 0xFFFFFFFFU, 0U, 1U}) sequence.see(number);
  EXPECT_EQ(sequence.next(), 0x100000002ULL);
  EXPECT_EQ(sequence.skipped(), 0x7FFFFFFFULL + 0x7FFFFFFEULL);
  EXPECT_EQ(sequence.steps_back(), 1U);
  EXPECT_EQ(sequence.step_back_max(), 2U);
}

// Memory for one queue of four entries, aligned as the layouts want it.
template <typename Queue>
struct Place {
  Place() : queue(words, 4) {}
  alignas(64) std::uint8_t words[512] = {};
  Queue queue;

  template <typename T>
  T& at(std::size_t offset) {
    return *reinterpret_cast<T*>(words + offset);
  }
};

TEST(split_queue, gives_buffers_out_and_takes_them_back_over_many_rounds) {
  Place<SplitQueue> place;
  const QueueParts parts = SplitQueue::parts(4);
  ASSERT_LE(SplitQueue::size_bytes(4), sizeof place.words);
  for (std::uint16_t round = 0; round < 100; ++round) {
    const auto id = static_cast<std::uint16_t>(round % 4);
    place.queue.offer(id, 0x1000U + id, 60, true);
    EXPECT_EQ(place.at<std::uint16_t>(parts.driver + 2), round);  // not shown yet
    EXPECT_TRUE(place.queue.publish());
    EXPECT_EQ(place.at<std::uint16_t>(parts.driver + 2), round + 1);
    EXPECT_EQ(place.at<std::uint16_t>(parts.driver + 4 + 2 * std::size_t{id}), id);
    EXPECT_EQ(place.at<std::uint64_t>(parts.descriptors + 16 * std::size_t{id}), 0x1000U + id);
    EXPECT_EQ(place.at<std::uint16_t>(parts.descriptors + 16 * std::size_t{id} + 12), 2);
    Used used;
    EXPECT_FALSE(place.queue.reap(used));
    place.at<std::uint32_t>(parts.device + 4 + 8 * std::size_t{id}) = id;
    place.at<std::uint32_t>(parts.device + 8 + 8 * std::size_t{id}) = 55;
    ++place.at<std::uint16_t>(parts.device + 2);
    ASSERT_TRUE(place.queue.reap(used));
    EXPECT_EQ(used.id, id);
    EXPECT_EQ(used.written, 55U);
  }
  place.at<std::uint16_t>(parts.device) = 1;  // no kicks, please
  place.queue.offer(0, 0x1000, 60, true);
  EXPECT_FALSE(place.queue.publish());
}

TEST(split_queue, offers_a_table_of_the_parts_of_a_buffer) {
  Place<SplitQueue> place;
  alignas(16) std::uint8_t table[48] = {};
  const std::array<Part, 3> parts = {{{0x1000, 78}, {0x104E, 32768}, {0x904E, 5}}};
  place.queue.offer_table(2, table, 0x5000, parts);
  const std::size_t at = SplitQueue::parts(4).descriptors + 2 * std::size_t{16};
  EXPECT_EQ(place.at<std::uint64_t>(at), 0x5000U);
  EXPECT_EQ(place.at<std::uint32_t>(at + 8), 48U);
  EXPECT_EQ(place.at<std::uint16_t>(at + 12), 4);  // indirect
  const auto* entry = reinterpret_cast<const detail::Descriptor*>(table);
  for (std::size_t i = 0; i < parts.size(); ++i, ++entry) {
    EXPECT_EQ(entry->address, parts[i].address);
    EXPECT_EQ(entry->size, parts[i].size);
    EXPECT_EQ(entry->flags, i < 2 ? 1 : 0);  // another one follows
    if (i < 2) {
      EXPECT_EQ(entry->next, i + 1);
    }
  }
}

TEST(packed_queue, offers_a_table_of_the_parts_of_a_buffer) {
  Place<PackedQueue> place;
  alignas(16) std::uint8_t table[32] = {};
  const std::array<Part, 2> parts = {{{0x1000, 78}, {0x104E, 32768}}};
  place.queue.offer_table(3, table, 0x5000, parts);
  EXPECT_TRUE(place.queue.publish());
  EXPECT_EQ(place.at<std::uint64_t>(0), 0x5000U);
  EXPECT_EQ(place.at<std::uint32_t>(8), 32U);
  EXPECT_EQ(place.at<std::uint16_t>(12), 3);           // its number
  EXPECT_EQ(place.at<std::uint16_t>(14), 0x0080 | 4);  // available, indirect
  const auto* entry = reinterpret_cast<const detail::Descriptor*>(table);
  EXPECT_EQ(entry[1].address, 0x104EU);
  EXPECT_EQ(entry[1].size, 32768U);
  EXPECT_EQ(entry[1].next, 0);  // the flags of a packed ring
}

TEST(packed_queue, gives_buffers_out_and_takes_them_back_over_many_wraps) {
  Place<PackedQueue> place;
  bool wrap = true;
  std::size_t next = 0;
  for (std::uint16_t round = 0; round < 50; ++round) {
    for (std::uint16_t id = 0; id < 3; ++id) place.queue.offer(id, 0x1000U + id, 60, false);
    const auto flags = [&](std::size_t slot) -> std::uint16_t& { return place.at<std::uint16_t>(16 * slot + 14); };
    const std::uint16_t before = flags(next);
    EXPECT_TRUE(place.queue.publish());
    EXPECT_NE(flags(next), before);  // the first of the batch is shown last
    Used used;
    EXPECT_FALSE(place.queue.reap(used));
    for (std::uint16_t id = 0; id < 3; ++id) {
      EXPECT_EQ(flags(next), wrap ? 0x0080 : 0x8000);
      EXPECT_EQ(place.at<std::uint16_t>(16 * next + 12), id);
      EXPECT_EQ(place.at<std::uint64_t>(16 * next), 0x1000U + id);
      place.at<std::uint32_t>(16 * next + 8) = 55;
      flags(next) = wrap ? 0x8080 : 0;
      if (++next == 4) {
        next = 0;
        wrap = !wrap;
      }
    }
    for (std::uint16_t id = 0; id < 3; ++id) {
      ASSERT_TRUE(place.queue.reap(used));
      EXPECT_EQ(used.id, id);
      EXPECT_EQ(used.written, 55U);
    }
    EXPECT_FALSE(place.queue.reap(used));
  }
}

TEST(frames, with_a_number_are_those_of_a_lab_guest) {
  const auto frame = make_numbered_frame(MacAddr::from_uint64(1), MacAddr::from_uint64(2), 62);
  ASSERT_EQ(frame.size(), 62U);
  EXPECT_EQ(MacAddr::from_wire(frame.data()), MacAddr::from_uint64(2));
  EXPECT_EQ(MacAddr::from_wire(frame.data() + 6), MacAddr::from_uint64(1));
  EXPECT_EQ(load_be16(frame.data() + 12), 0x88B5);
}

Numbers seen(std::uint32_t first, std::uint32_t count, const std::vector<std::uint32_t>& numbers) {
  Numbers result;
  result.expect(first, count);
  std::uint64_t now = 100;
  for (const std::uint32_t number : numbers) result.see(number, now += 10);
  return result;
}

TEST(numbers, tell_what_is_late_from_what_comes_twice) {
  const Numbers numbers = seen(7, 10, {7, 9, 8, 9, 12});
  EXPECT_EQ(numbers.received(), 4U);
  EXPECT_EQ(numbers.reordered(), 1U);
  EXPECT_EQ(numbers.repeated(), 1U);
  EXPECT_EQ(numbers.strays(), 0U);
  EXPECT_EQ(numbers.next(), 6U);
}

TEST(numbers, leave_out_what_is_not_expected) {
  const Numbers numbers = seen(7, 3, {6, 10, 7, 9, 0});
  EXPECT_EQ(numbers.received(), 2U);
  EXPECT_EQ(numbers.strays(), 3U);
  EXPECT_EQ(numbers.reordered() + numbers.repeated(), 0U);
}

TEST(numbers, may_wrap) {
  const Numbers numbers = seen(UINT32_MAX - 1, 4, {UINT32_MAX - 1, UINT32_MAX, 0, 1, 2});
  EXPECT_EQ(numbers.received(), 4U);
  EXPECT_EQ(numbers.next(), 4U);
  EXPECT_EQ(numbers.strays(), 1U);
}

TEST(numbers, know_the_longest_silence_between_two_frames) {
  Numbers numbers;
  numbers.expect(0, 10);
  numbers.see(0, 1000);  // what was before the first is no silence
  numbers.see(1, 1000);
  numbers.see(2, 1700);
  numbers.see(3, 1900);
  EXPECT_EQ(numbers.gap_max(), 700U);
  numbers.expect(4, 10);
  numbers.see(4, 5000);
  EXPECT_EQ(numbers.gap_max(), 0U);
}

TEST(numbers, take_frames_of_their_kind_only) {
  Numbers numbers;
  numbers.expect(0, 10);
  auto frame = make_numbered_frame(MacAddr::from_uint64(1), MacAddr::from_uint64(2), 64);
  store_be32(frame.data() + number_offset, 3);
  numbers.see(frame, 1);
  numbers.see(make_frame(MacAddr::from_uint64(1), MacAddr::from_uint64(2), 64), 1);
  numbers.see(std::span(frame).first(20), 1);
  EXPECT_EQ(numbers.received(), 1U);
  EXPECT_EQ(numbers.strays(), 2U);
}

TEST(backlog, has_bounds_from_what_both_ends_know) {
  ReceiverProgress progress;
  Backlog backlog(&progress);
  backlog.before_sending(10);  // none is taken yet
  progress.taking = 6;
  progress.taken = 4;  // two are being given back
  backlog.before_sending(12);
  EXPECT_EQ(backlog.most(), 10U);
  EXPECT_EQ(backlog.least(), 0U);
  backlog.standing_still(11);
  EXPECT_EQ(backlog.least(), 5U);
  backlog.before_sending(15);
  EXPECT_EQ(backlog.most(), 11U);
}

TEST(backlog, of_a_receiver_that_is_ahead_is_none) {
  ReceiverProgress progress;
  progress.taking = progress.taken = 20;
  Backlog backlog(&progress);
  backlog.before_sending(19);
  backlog.standing_still(18);
  EXPECT_EQ(backlog.most() + backlog.least(), 0U);
}

TEST(backlog, without_the_other_end_is_unknown) {
  Backlog backlog(nullptr);
  backlog.before_sending(100);
  backlog.standing_still(100);
  EXPECT_EQ(backlog.most() + backlog.least(), 0U);
}

}  // namespace
}  // namespace patchbay::bench
