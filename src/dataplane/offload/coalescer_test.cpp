#include "dataplane/offload/coalescer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/byte_order.h"
#include "dataplane/frame/leaving.h"
#include "dataplane/offload/needs.h"
#include "dataplane/offload/segmenter.h"
#include "tests/support/ip_frames.h"

namespace patchbay::dataplane {
namespace {

using test::IpFrame;
using test::pattern;

// One burst of bare frames, each in memory of its own, coalesced.
class Wire {
 public:
  // The frame lies in stretches of `piece` bytes behind its first `head`.
  Frame& arrive(const std::string& bytes, std::size_t head = frame_size_max, std::size_t piece = 4096) {
    auto& memory = memory_.emplace_back(bytes.begin(), bytes.end());
    Frame& frame = burst_->frames[count_];
    const auto list = burst_->segments_of(count_++);
    frame = Frame{};
    frame.action = Action::unicast;
    frame.head = memory.data();
    frame.size = static_cast<std::uint32_t>(memory.size());
    frame.head_size = static_cast<std::uint32_t>(std::min(head, memory.size()));
    for (std::size_t at = frame.head_size; at < memory.size(); at += piece) {
      list[frame.rest_count++] = {&memory[at], static_cast<std::uint32_t>(std::min(piece, memory.size() - at))};
    }
    frame.rest = list.data();
    return frame;
  }
  Coalescer::Merged merge(Offloads takes = offload_all) {
    const auto merged = coalescer_.merge(*burst_, count_, [takes](const Frame&) { return takes; });
    EXPECT_LE(merged.frames, count_ - std::min<std::size_t>(count_, 1));
    count_ -= merged.frames;
    return merged;
  }
  [[nodiscard]] std::span<Frame> frames() { return {burst_->frames.data(), count_}; }
  void clear() {
    count_ = 0;
    memory_.clear();
  }

 private:
  std::unique_ptr<Burst> burst_ = std::make_unique<Burst>();
  std::vector<std::vector<std::uint8_t>> memory_;
  std::size_t count_ = 0;
  Coalescer coalescer_;
};

// The frame as it would leave, its tag put in.
std::string text_of(const Frame& frame) {
  std::string bytes;
  TagBytes tag;
  for_each_stretch(frame, tag, [&](const std::uint8_t* data, std::uint32_t size) {
    bytes.append(reinterpret_cast<const char*>(data), size);
  });
  return bytes;
}

std::vector<std::string> cut(const Frame& frame) {
  if (frame.needs.offloads == 0) return {text_of(frame)};
  std::vector<std::string> frames;
  Segmenter segmenter;
  segmenter.begin(frame);
  while (!segmenter.done()) {
    Frame part;
    std::array<std::uint8_t, head_size_max> head;
    std::array<Segment, segments_max> segments;
    segmenter.next(part, head, segments);
    frames.push_back(text_of(part));
  }
  return frames;
}

IpFrame stream(std::size_t payload) {
  return {.payload = pattern(payload)};
}

// The frames of `piece`, as if it had been cut.
std::vector<std::string> parts_of(const IpFrame& piece, std::size_t mss) {
  std::vector<std::string> frames;
  for (std::size_t i = 0; i < piece.parts(mss); ++i) frames.push_back(piece.part(i, mss).bytes());
  return frames;
}

TEST(Coalescer, makes_the_piece_that_its_frames_were_cut_from) {
  const std::string timestamp = {1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7};
  const struct {
    const char* name;
    IpFrame piece;
    std::size_t mss;
  } cases[] = {
      {"two frames", stream(2000), 1000},
      {"ipv4, the last one short and odd", stream(4001), 1000},
      {"as many as a burst has", stream(32 * 1448), 1448},
      {"timestamps", {.tcp_options = timestamp, .payload = pattern(20000)}, 1436},
      {"push and fin on the last", {.flags = 0x19, .payload = pattern(4000)}, 1448},
      {"ece on all", {.flags = 0x50, .payload = pattern(4000)}, 1448},
      {"ip id wraps", {.id = 0xFFFE, .payload = pattern(5000)}, 1000},
      {"ipv6", {.ipv6 = true, .tcp_options = timestamp, .flags = 0x18, .payload = pattern(20001)}, 1428},
      {"an inner tag", {.tags = test::tag(7), .payload = pattern(4000)}, 1000},
      {"the shortest frames", stream(30 * 74), 74},
      {"odd frames", stream(5 * 999), 999},
  };
  for (const auto& row : cases) {
    for (const std::size_t head : {std::size_t{0}, head_size_max, frame_size_max}) {
      SCOPED_TRACE(std::string(row.name) + ", head " + std::to_string(head));
      Wire wire;
      const auto sent = parts_of(row.piece, row.mss);
      for (const auto& bytes : sent) wire.arrive(bytes, std::max(head, row.piece.header_size()));
      const auto merged = wire.merge();
      ASSERT_EQ(wire.frames().size(), 1U);
      EXPECT_EQ(merged.frames, sent.size() - 1);
      EXPECT_EQ(merged.bytes, merged.frames * row.piece.header_size());
      Frame& frame = wire.frames()[0];
      EXPECT_EQ(text_of(frame), row.piece.bytes(false)) << "the headers of a piece that was never cut";
      EXPECT_EQ(cut(frame), sent);
      // And what take_needs() makes of it.
      const VnetHeader header = leaving_header(frame);
      const Needs needs = frame.needs;
      frame.needs = {};
      take_needs(frame, header, offload_all);
      EXPECT_EQ(frame.action, Action::unicast);
      EXPECT_EQ(frame.needs.offloads, needs.offloads);
      EXPECT_EQ(frame.needs.gso_size, row.mss);
      EXPECT_EQ(frame.needs.header_size, row.piece.header_size());
    }
  }
}

TEST(Coalescer, starts_no_piece_with_a_short_frame_but_may_end_one_with_it) {
  Wire wire;
  for (const auto& bytes : parts_of(stream(300), Coalescer::opening_size_min - 54 - 1)) wire.arrive(bytes);
  EXPECT_EQ(wire.merge().frames, 0U);
  wire.clear();
  for (const auto& bytes : parts_of(stream(1001), 1000)) wire.arrive(bytes);
  EXPECT_EQ(wire.merge().frames, 1U);
}

TEST(Coalescer, keeps_an_id_that_does_not_count) {
  const IpFrame piece = stream(3000);
  Wire wire;
  std::vector<std::string> sent;
  for (std::size_t i = 0; i < 3; ++i) {
    IpFrame part = piece.part(i, 1000);
    part.id = 0;
    sent.push_back(part.bytes());
    wire.arrive(sent.back());
  }
  EXPECT_EQ(wire.merge().frames, 2U);
  EXPECT_EQ(cut(wire.frames()[0]), sent);
}

TEST(Coalescer, merges_nothing_that_its_way_would_have_cut) {
  for (const bool ipv6 : {false, true}) {
    for (const Offloads takes : {Offloads{0}, offload_checksum, ipv6 ? offload_tso4 : offload_tso6}) {
      Wire wire;
      for (const auto& bytes : parts_of({.ipv6 = ipv6, .payload = pattern(3000)}, 1000)) wire.arrive(bytes);
      EXPECT_EQ(wire.merge(takes).frames, 0U);
    }
  }
  Wire dropped;
  for (const auto& bytes : parts_of(stream(3000), 1000)) drop(dropped.arrive(bytes), DropReason::no_destination);
  EXPECT_EQ(dropped.merge().frames, 0U);
}

// ---- What is not merged: the second of two frames is changed ----

std::string finished(std::string bytes) {  // with right checksums, after bytes of its headers were changed
  const auto be = [&](std::size_t at, std::uint16_t value) { bytes.replace(at, 2, test::be16(value)); };
  be(24, 0);
  be(24, static_cast<std::uint16_t>(~test::plain_sum(bytes.substr(14, 20))));
  be(50, 0);
  const std::string pseudo =
      bytes.substr(26, 8) + test::be16(6) + test::be16(static_cast<std::uint16_t>(bytes.size() - 34));
  be(50, static_cast<std::uint16_t>(~test::plain_sum(pseudo + bytes.substr(34))));
  return bytes;
}

TEST(Coalescer, leaves_alone_what_could_not_be_given_back_as_it_was) {
  const auto parts = parts_of({.tcp_options = std::string(12, 1), .payload = pattern(3000)}, 1000);
  const struct {
    const char* name;
    std::size_t at;
    char value;
  } cases[] = {
      {"another destination", 5, 9},
      {"another source", 11, 9},
      {"another TOS", 15, 4},
      {"congestion experienced", 15, 3},
      {"another TTL", 22, 63},
      {"DF is not set", 20, 0},
      {"more fragments", 20, 0x60},
      {"a later fragment", 21, 1},
      {"another IP id", 19, 0x77},
      {"another source address", 29, 9},
      {"another port", 35, 9},
      {"another sequence number", 41, 9},
      {"another acknowledgement", 45, 9},
      {"a reserved bit", 46, static_cast<char>(0x81)},
      {"SYN", 47, 0x12},
      {"RST", 47, 0x14},
      {"URG", 47, 0x30},
      {"ECE", 47, 0x50},
      {"CWR", 47, static_cast<char>(0x90)},
      {"no ACK", 47, 0},
      {"another window", 49, 9},
      {"an urgent pointer", 53, 9},
      {"other options", 60, 0},
      {"UDP", 23, 17},
  };
  for (const auto& row : cases) {
    SCOPED_TRACE(row.name);
    std::string changed = parts[1];
    changed[row.at] = row.value;
    if (row.at != 23) changed = finished(changed);
    for (const bool first : {false, true}) {
      Wire wire;
      const std::vector<std::string> sent = first ? std::vector{changed, parts[2]} : std::vector{parts[0], changed};
      for (const auto& bytes : sent) wire.arrive(bytes);
      EXPECT_EQ(wire.merge().frames, 0U);
      for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(text_of(wire.frames()[i]), sent[i]);
    }
  }
  Wire control;
  control.arrive(parts[0]);
  control.arrive(finished(parts[1]));
  EXPECT_EQ(control.merge().frames, 1U) << "finished() changes nothing";
}

TEST(Coalescer, leaves_frames_alone_whose_checksum_is_wrong_or_not_the_usual_one) {
  for (const bool ipv6 : {false, true}) {
    const IpFrame piece{.ipv6 = ipv6, .payload = pattern(4000)};
    const auto parts = parts_of(piece, 1000);
    for (const std::size_t at :
         {std::size_t{24}, piece.transport_at() + 16, piece.header_size() + 7, parts[0].size() - 1}) {
      if (ipv6 && at == 24) continue;  // no such checksum
      for (std::size_t wrong = 0; wrong < 4; ++wrong) {
        SCOPED_TRACE(std::to_string(at) + " of frame " + std::to_string(wrong));
        auto sent = parts;
        sent[wrong][at] = static_cast<char>(sent[wrong][at] + 1);
        Wire wire;
        for (const auto& bytes : sent) wire.arrive(bytes);
        EXPECT_EQ(wire.merge().frames, wrong == 0 || wrong == 3 ? 2U : 1U);
        std::vector<std::string> left;
        for (const Frame& frame : wire.frames()) {
          for (auto& bytes : cut(frame)) left.push_back(std::move(bytes));
        }
        EXPECT_EQ(left, sent) << "in order, as they came";
      }
    }
  }
  // 0xFFFF in place of 0, as some senders write it.
  IpFrame odd = stream(1000);
  for (std::uint32_t i = 0; (load_be16(reinterpret_cast<const std::uint8_t*>(odd.bytes().data()) + 50)) != 0; ++i) {
    ASSERT_LT(i, 65536U);
    odd.payload.replace(0, 2, test::be16(static_cast<std::uint16_t>(i)));
  }
  IpFrame next = odd;
  next.sequence += 1000;
  ++next.id;
  for (const bool mangled : {false, true}) {
    std::string bytes = odd.bytes();
    if (mangled) bytes.replace(50, 2, "\xFF\xFF");
    Wire wire;
    wire.arrive(bytes);
    wire.arrive(next.bytes());
    EXPECT_EQ(wire.merge().frames, mangled ? 0U : 1U);
    EXPECT_EQ(cut(wire.frames()[0])[0], bytes);
  }
}

TEST(Coalescer, leaves_frames_alone_that_are_longer_than_their_packet_or_have_no_payload) {
  const auto parts = parts_of(stream(400), 100);
  for (const std::size_t padding : {0U, 1U}) {
    Wire wire;
    wire.arrive(parts[0] + std::string(padding, '\0'));
    wire.arrive(parts[1]);
    EXPECT_EQ(wire.merge().frames, 1 - padding);
  }
  IpFrame first = stream(100);
  IpFrame ack = first;
  ack.sequence += 100;
  ++ack.id;
  ack.payload.clear();
  IpFrame next = first;
  next.sequence += 100;
  next.id += 2;
  Wire wire;
  for (const IpFrame* frame : {&first, &ack, &next}) wire.arrive(frame->bytes());
  EXPECT_EQ(wire.merge().frames, 0U) << "a bare acknowledgement is a frame of its flow, too";
}

TEST(Coalescer, keeps_tags_and_ways_apart) {
  const auto parts = parts_of(stream(2000), 1000);
  const auto merged = [&](auto change) {
    Wire wire;
    wire.arrive(parts[0]);
    change(wire.arrive(parts[1]));
    return wire.merge().frames;
  };
  EXPECT_EQ(merged([](Frame&) {}), 1U);
  EXPECT_EQ(merged([](Frame& frame) { frame.target = 2; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.vid = 2; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.priority = 2; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.tag_tpid = tpid_8021q; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.tag_tci = 2; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.action = Action::flood; }), 0U);
  EXPECT_EQ(merged([](Frame& frame) { frame.needs.offloads = offload_checksum; }), 0U);
  Wire wire;
  IpFrame piece = stream(2000);
  piece.tags = test::tag(5);
  wire.arrive(piece.part(0, 1000).bytes());
  piece.tags = test::tag(6);
  wire.arrive(piece.part(1, 1000).bytes());
  EXPECT_EQ(wire.merge().frames, 0U) << "tags in the bytes";
}

TEST(Coalescer, closes_all_pieces_for_a_fragment) {
  const auto parts = parts_of(stream(2000), 1000);
  IpFrame fragment{.payload = pattern(100)};
  std::string bytes = fragment.bytes();
  bytes[20] = 0x20;
  Wire wire;
  wire.arrive(parts[0]);
  wire.arrive(bytes);
  wire.arrive(parts[1]);
  EXPECT_EQ(wire.merge().frames, 0U);
}

TEST(Coalescer, keeps_pieces_within_their_limits) {
  Wire jumbo;
  const IpFrame large{.payload = pattern(10 * 8960)};
  for (const auto& bytes : parts_of(large, 8960)) jumbo.arrive(bytes);
  EXPECT_EQ(jumbo.merge().frames, 8U) << "two pieces";
  for (const Frame& frame : jumbo.frames()) EXPECT_LE(frame.size, Coalescer::piece_size_max);

  Wire scattered;
  const IpFrame piece{.payload = pattern(32 * 1000)};
  const auto sent = parts_of(piece, 1000);
  for (const auto& bytes : sent) scattered.arrive(bytes, head_size_max, 100);  // ten segments each
  static_cast<void>(scattered.merge());
  std::vector<std::string> left;
  for (const Frame& frame : scattered.frames()) {
    EXPECT_LT(frame.rest_count, segments_max);
    for (auto& bytes : cut(frame)) left.push_back(std::move(bytes));
  }
  EXPECT_EQ(left, sent);
  EXPECT_LT(scattered.frames().size(), 8U);
}

TEST(Coalescer, merges_flows_side_by_side_as_many_as_it_keeps_open) {
  for (const std::size_t flows : {Coalescer::open_max, Coalescer::open_max + 1}) {
    Wire wire;
    for (std::size_t number = 0; number < 3; ++number) {
      for (std::size_t flow = 0; flow < flows; ++flow) {
        std::string bytes = stream(300).part(number, 100).bytes();
        bytes[35] = static_cast<char>(flow);
        wire.arrive(finished(bytes));
      }
    }
    const auto merged = wire.merge().frames;
    if (flows == Coalescer::open_max) {
      EXPECT_EQ(merged, 2 * flows);
    } else {
      EXPECT_LT(merged, 2 * flows);
    }
  }
}

// ---- Random traffic ----

// A sender of one flow that does what senders do, and what they do not.
class Flow {
 public:
  Flow(unsigned number, std::mt19937& random) : random_(random) {
    next_.ipv6 = number % 3 == 0;
    next_.source = "02:00:00:00:00:0" + std::to_string(number % 5);
    if (number % 4 == 1) next_.tcp_options = std::string("\1\1\10\12\0\0\0\1\0\0\0\2", 12);
    if (number % 7 == 2) next_.tags = test::tag(static_cast<std::uint16_t>(number));
    next_.sequence = draw();
    next_.id = static_cast<std::uint16_t>(draw());
    constant_id_ = number % 5 == 3;
    mss_ = 1 + draw() % 1460;
    port_ = static_cast<char>(number);
  }

  std::string next() {
    if (chance(20)) next_.flags = static_cast<std::uint8_t>(next_.flags ^ 1U << (draw() % 8));
    if (chance(20)) next_.id = static_cast<std::uint16_t>(draw());
    if (chance(30)) next_.sequence -= mss_;  // sends something again
    if (chance(30)) next_.ip_options = next_.ipv6 || !next_.ip_options.empty() ? "" : "\1\1\1\1";
    if (chance(30)) next_.extension = next_.ipv6 && next_.extension.empty() ? std::string("\0\0\1\4\0\0\0\0", 8) : "";
    if (chance(15) && !next_.tcp_options.empty()) ++next_.tcp_options[7];
    std::size_t size = mss_;
    if (chance(10)) size = draw() % (mss_ + 2);
    IpFrame frame = next_;
    frame.payload = pattern(size);
    if (chance(8)) frame.flags |= 0x08;
    std::string bytes = frame.bytes();
    bytes[frame.transport_at() + 1] = port_;  // the checksum is right again below
    bytes[frame.transport_at()] = 0x50;
    const std::size_t at = frame.transport_at() + 16;
    const auto sum =
        static_cast<std::uint32_t>(~load_be16(reinterpret_cast<const std::uint8_t*>(&bytes[at])) & 0xFFFF) +
        (0xFFFF - 40000) + (0x5000U | static_cast<std::uint8_t>(port_));
    bytes.replace(at, 2, test::be16(static_cast<std::uint16_t>(~((sum & 0xFFFF) + (sum >> 16)))));
    if (chance(25))
      bytes[frame.network_at() + 8 - (frame.ipv6 ? 1 : 0)] ^= 1;  // TTL; of IPv4 the checksum is wrong now
    if (chance(25)) bytes[draw() % bytes.size()] ^= static_cast<char>(1U << (draw() % 8));
    if (chance(25)) bytes += std::string(draw() % 7, '\0');
    if (chance(40)) bytes.resize(draw() % bytes.size());
    next_.sequence += static_cast<std::uint32_t>(size);
    if (!constant_id_) ++next_.id;
    return bytes;
  }

 private:
  [[nodiscard]] std::uint32_t draw() { return static_cast<std::uint32_t>(random_()); }
  [[nodiscard]] bool chance(unsigned one_in) { return draw() % one_in == 0; }
  std::mt19937& random_;
  IpFrame next_;
  bool constant_id_ = false;
  std::uint32_t mss_ = 0;
  char port_ = 0;
};

// What frames say of their flow; empty for those that are not TCP.
std::string flow_of(const std::string& bytes) {
  const auto headers = parse_headers({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  if (!headers || headers->protocol != protocol_tcp || headers->transport + tcp_header_min > bytes.size()) return "";
  const std::size_t at = headers->network + (headers->ipv6 ? 8U : 12U);
  return bytes.substr(at, headers->ipv6 ? 32 : 8) + bytes.substr(headers->transport, 4);
}

TEST(Coalescer, gives_back_every_frame_byte_for_byte_and_in_its_flows_order) {
  std::mt19937 random(20240607);
  std::size_t arrived = 0;
  std::size_t merged = 0;
  Wire wire;
  for (int round = 0; round < 400; ++round) {
    SCOPED_TRACE(round);
    std::vector<Flow> flows;
    for (unsigned i = 0; i < 1 + random() % 10; ++i) flows.emplace_back(static_cast<unsigned>(random() % 30), random);
    std::vector<std::string> sent;
    const std::size_t count = random() % (burst_max + 1);
    std::size_t flow = 0;
    while (sent.size() < count) {
      if (random() % 4 == 0) flow = random() % flows.size();
      sent.push_back(flows[flow].next());
    }
    for (std::size_t i = 1; i < sent.size(); ++i) {
      if (random() % 30 == 0) std::swap(sent[i], sent[i - 1]);
    }
    wire.clear();
    std::uint64_t bytes_in = 0;
    for (const auto& bytes : sent) {
      wire.arrive(bytes, random() % 3 == 0 ? head_size_max : frame_size_max, 100 + random() % 1000);
      bytes_in += bytes.size();
    }
    const auto done = wire.merge();
    arrived += sent.size();
    merged += done.frames;
    std::map<std::string, std::vector<std::string>> before;
    std::map<std::string, std::vector<std::string>> after;
    for (const auto& bytes : sent) before[flow_of(bytes)].push_back(bytes);
    std::uint64_t bytes_out = done.bytes;
    for (const Frame& frame : wire.frames()) {
      bytes_out += frame.size;
      ASSERT_LE(frame.size, Coalescer::piece_size_max);
      for (auto& bytes : cut(frame)) {
        const std::string of = flow_of(bytes);
        after[of].push_back(std::move(bytes));
      }
    }
    ASSERT_TRUE(before == after);
    ASSERT_EQ(bytes_in, bytes_out);
  }
  EXPECT_GT(merged, arrived / 4) << "else this has not tested much: " << merged << " of " << arrived;
}

}  // namespace
}  // namespace patchbay::dataplane
