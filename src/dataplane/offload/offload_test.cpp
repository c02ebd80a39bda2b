#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/byte_order.h"
#include "dataplane/frame/leaving.h"
#include "dataplane/offload/checksum.h"
#include "dataplane/offload/needs.h"
#include "dataplane/offload/segmenter.h"
#include "tests/support/ip_frames.h"

namespace patchbay::dataplane {
namespace {

using test::IpFrame;
using test::pattern;

std::span<const std::uint8_t> span_of(const std::string& bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

TEST(Checksum, equals_the_definition_for_every_length_and_alignment) {
  const std::string bytes = pattern(100);
  for (std::size_t start = 0; start < 8; ++start) {
    for (std::size_t size = 0; start + size <= bytes.size(); ++size) {
      const auto finished = checksum_finish(checksum_add(span_of(bytes).subspan(start, size), 0));
      EXPECT_EQ(finished, static_cast<std::uint16_t>(~test::plain_sum(bytes.substr(start, size))))
          << start << ' ' << size;
    }
  }
}

TEST(Checksum, sums_stretches_of_odd_sizes) {
  const std::string bytes = pattern(1000);
  for (std::size_t step = 1; step < 70; ++step) {
    RunningSum sum;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      sum.add(span_of(bytes).subspan(at, std::min(step, bytes.size() - at)));
    }
    EXPECT_EQ(checksum_finish(sum.get()), static_cast<std::uint16_t>(~test::plain_sum(bytes))) << step;
  }
}

TEST(Checksum, completes_only_what_lies_inside_the_frame) {
  std::vector<std::uint8_t> frame(40, 1);
  EXPECT_TRUE(complete_checksum(frame, 20, 16));
  EXPECT_TRUE(complete_checksum(frame, 38, 0));
  EXPECT_TRUE(complete_checksum(frame, 14, 0));
  EXPECT_FALSE(complete_checksum(frame, 13, 1)) << "in the Ethernet header";
  EXPECT_FALSE(complete_checksum(frame, 20, 8)) << "SCTP";
  EXPECT_FALSE(complete_checksum(frame, 39, 0));
  EXPECT_FALSE(complete_checksum(frame, 20, 19));
  EXPECT_FALSE(complete_checksum(frame, 41, 0));
  EXPECT_FALSE(complete_checksum(frame, 0xFFFF, 0xFFFF));
}

// A frame whose first bytes are its head and whose rest lies in pieces of `piece` bytes.
class Laid {
 public:
  explicit Laid(const std::string& bytes, std::size_t head = head_size_max, std::size_t piece = 4096)
      : bytes_(bytes.begin(), bytes.end()) {
    frame.head = bytes_.data();
    frame.size = static_cast<std::uint32_t>(bytes_.size());
    frame.head_size = static_cast<std::uint32_t>(std::min(head, bytes_.size()));
    for (std::size_t at = frame.head_size; at < bytes_.size(); at += piece) {
      rest_.push_back({&bytes_[at], static_cast<std::uint32_t>(std::min(piece, bytes_.size() - at))});
    }
    frame.rest = rest_.data();
    frame.rest_count = static_cast<std::uint16_t>(rest_.size());
  }
  Laid(const Laid&) = delete;
  Laid& operator=(const Laid&) = delete;
  // As the drop reason's name, or "".
  std::string take(const VnetHeader& header, Offloads allowed = offload_all) {
    frame.action = Action::undecided;
    frame.needs = {};
    take_needs(frame, header, allowed);
    return frame.action == Action::drop ? to_string(frame.reason) : "";
  }
  Frame frame;

 private:
  std::vector<std::uint8_t> bytes_;
  std::vector<Segment> rest_;
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

std::vector<std::string> cut(const Frame& piece, std::uint32_t skip = 0) {
  std::vector<std::string> frames;
  Segmenter segmenter;
  segmenter.begin(piece, skip);
  while (!segmenter.done()) {
    Frame frame;
    std::array<std::uint8_t, head_size_max> head;
    std::array<Segment, segments_max> segments;
    segmenter.next(frame, head, segments);
    EXPECT_EQ(frame.needs.offloads, 0);
    frames.push_back(text_of(frame));
    EXPECT_EQ(frames.back().size(), tagged_size(frame));
  }
  return frames;
}

struct Kind {
  const char* name;
  IpFrame piece;
  std::uint16_t gso_size;
};

std::vector<Kind> kinds() {
  const std::string timestamp = {1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7};
  const std::string router_alert = {static_cast<char>(0x94), 4, 0, 0};
  const std::string padding = {0, 0, 1, 4, 0, 0, 0, 0};
  return {
      {"tcp over ipv4", {.payload = pattern(3000)}, 1000},
      {"last frame short and odd", {.payload = pattern(3001)}, 1000},
      {"odd frames", {.payload = pattern(4000)}, 999},
      {"one byte in the last frame", {.payload = pattern(2897)}, 1448},
      {"fin and psh on the last", {.flags = 0x19, .payload = pattern(4000)}, 1448},
      {"cwr on the first", {.flags = 0x90, .payload = pattern(4000)}, 1448},
      {"all of them, and ece", {.flags = 0xD9, .payload = pattern(4000)}, 1448},
      {"timestamps", {.tcp_options = timestamp, .payload = pattern(64000)}, 1448},
      {"most options", {.tcp_options = std::string(40, 1), .payload = pattern(9000)}, 1420},
      {"ip options", {.ip_options = router_alert, .payload = pattern(5000)}, 1400},
      {"ip id wraps", {.id = 0xFFFF, .payload = pattern(5000)}, 1400},
      {"tcp over ipv6", {.ipv6 = true, .flags = 0x99, .payload = pattern(3001)}, 1000},
      {"ipv6, timestamps", {.ipv6 = true, .tcp_options = timestamp, .payload = pattern(64001)}, 1428},
      {"ipv6 extension header", {.ipv6 = true, .extension = padding, .payload = pattern(5000)}, 1400},
      {"udp over ipv4", {.udp = true, .payload = pattern(5001)}, 1472},
      {"udp over ipv6", {.ipv6 = true, .udp = true, .payload = pattern(5000)}, 1452},
      {"jumbo", {.payload = pattern(65000)}, 8960},
      {"smallest frames", {.payload = pattern(256)}, 1},
  };
}

TEST(Segmenter, cuts_pieces_into_what_a_sender_without_offloads_would_send) {
  for (const Kind& kind : kinds()) {
    for (const bool tagged : {false, true}) {
      for (const std::size_t head : {std::size_t{0}, std::size_t{1}, head_size_max, frame_size_max}) {
        SCOPED_TRACE(std::string(kind.name) + (tagged ? ", tagged" : "") + ", head " + std::to_string(head));
        IpFrame piece = kind.piece;
        if (tagged) piece.tags = test::tag(101);
        Laid laid(piece.bytes(false), std::max(head, piece.header_size()), 1217);
        ASSERT_EQ(laid.take(piece.header(kind.gso_size)), "");
        EXPECT_EQ(frame_size_of(laid.frame), piece.header_size() + kind.gso_size);
        const auto frames = cut(laid.frame);
        ASSERT_EQ(frames.size(), piece.parts(kind.gso_size));
        for (std::size_t i = 0; i < frames.size(); ++i) EXPECT_EQ(frames[i], piece.part(i, kind.gso_size).bytes()) << i;
      }
    }
  }
}

TEST(Segmenter, does_not_care_how_the_piece_lies_and_what_its_headers_say_of_its_length) {
  const IpFrame piece{.payload = pattern(3000)};
  std::string bytes = piece.bytes(false);
  bytes.replace(16, 2, std::string(2, '\0'));    // IP total length, as some drivers leave it
  bytes.replace(24, 2, std::string(2, '\xAA'));  // IP checksum
  bytes.replace(50, 2, std::string(2, '\xAA'));  // the pseudo-header's sum
  for (const std::size_t step : {47U, 99U, 500U, 1447U}) {
    Laid laid(bytes, head_size_max, step);
    ASSERT_EQ(laid.take(piece.header(700)), "") << step;
    const auto frames = cut(laid.frame);
    ASSERT_EQ(frames.size(), 5U);
    for (std::size_t i = 0; i < frames.size(); ++i)
      EXPECT_EQ(frames[i], piece.part(i, 700).bytes()) << step << ' ' << i;
  }
}

TEST(Segmenter, goes_on_after_the_frames_that_have_left) {
  const IpFrame piece{.payload = pattern(3001)};
  Laid laid(piece.bytes(false), 100, 333);
  ASSERT_EQ(laid.take(piece.header(500)), "");
  for (std::uint32_t skip = 0; skip < 10; ++skip) {
    const auto frames = cut(laid.frame, skip);
    const std::size_t first = std::min<std::size_t>(skip, 6);
    ASSERT_EQ(frames.size(), 7 - first) << skip;
    EXPECT_EQ(frames[0], piece.part(first, 500).bytes());
    EXPECT_EQ(frames.back(), piece.part(6, 500).bytes());
  }
}

TEST(Needs, a_checksum_is_completed_in_the_head) {
  for (const std::size_t payload : {0U, 1U, 10U, 1001U}) {
    for (const bool ipv6 : {false, true}) {
      for (const bool udp : {false, true}) {
        const IpFrame frame{.ipv6 = ipv6, .udp = udp, .payload = pattern(payload)};
        Laid laid(frame.bytes(false), head_size_max, 333);
        ASSERT_EQ(laid.take(frame.header()), "");
        EXPECT_EQ(laid.frame.needs.offloads, offload_checksum);
        EXPECT_EQ(frame_size_of(laid.frame), laid.frame.size);
        complete_checksum(laid.frame);
        EXPECT_EQ(laid.frame.needs.offloads, 0);
        EXPECT_EQ(text_of(laid.frame), frame.bytes()) << payload << ipv6 << udp;
      }
    }
  }
}

TEST(Needs, says_what_a_piece_needs_and_passes_it_on_with_the_tag_counted) {
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    const IpFrame& piece = kind.piece;
    Laid laid(piece.bytes(false));
    VnetHeader header = piece.header(kind.gso_size);
    header.hdr_len = 9;  // nobody reads it
    ASSERT_EQ(laid.take(header), "");
    const bool ecn = !piece.udp && (piece.flags & 0x80) != 0;
    EXPECT_EQ((laid.frame.needs.offloads & offload_ecn) != 0, ecn);
    VnetHeader leaves = leaving_header(laid.frame);
    EXPECT_EQ(leaves.flags, vnet_needs_csum);
    EXPECT_EQ(leaves.gso_type, header.gso_type | (ecn ? vnet_gso_ecn : 0));
    EXPECT_EQ(leaves.gso_size, kind.gso_size);
    EXPECT_EQ(leaves.hdr_len, piece.header_size()) << "the truth";
    EXPECT_EQ(leaves.csum_start, header.csum_start);
    EXPECT_EQ(leaves.csum_offset, header.csum_offset);
    laid.frame.tag_tpid = tpid_8021q;
    leaves = leaving_header(laid.frame);
    EXPECT_EQ(leaves.hdr_len, piece.header_size() + 4);
    EXPECT_EQ(leaves.csum_start, header.csum_start + 4);
  }
}

TEST(Needs, a_piece_that_fits_one_frame_needs_only_its_checksum) {
  const IpFrame piece{.payload = pattern(1000)};
  for (const std::uint16_t gso_size : {std::uint16_t{1000}, std::uint16_t{1001}, std::uint16_t{65535}}) {
    Laid laid(piece.bytes(false));
    ASSERT_EQ(laid.take(piece.header(gso_size)), "");
    EXPECT_EQ(laid.frame.needs.offloads, offload_checksum);
    EXPECT_EQ(frame_size_of(laid.frame), laid.frame.size);
  }
  Laid laid(piece.bytes(false));
  ASSERT_EQ(laid.take(piece.header(999)), "");
  EXPECT_EQ(laid.frame.needs.offloads, offload_checksum | offload_tso4);
}

TEST(Needs, nothing_is_asked_for_nothing) {
  const IpFrame frame{.payload = pattern(100)};
  Laid laid(frame.bytes());
  VnetHeader header;
  header.flags = 2;  // DATA_VALID: means nothing on the way to us
  header.csum_start = header.csum_offset = header.gso_size = 0xFFFF;
  EXPECT_EQ(laid.take(header), "");
  EXPECT_EQ(laid.frame.needs.offloads, 0);
}

// ---- Headers that lie ----

struct Lie {
  const char* name;
  const char* reason;
  void (*change)(VnetHeader&);
  IpFrame frame = {.payload = pattern(3000)};
};

TEST(Needs, headers_that_lie_are_refused) {
  const Lie lies[] = {
      {"gso_size 0", "bad_offload", [](VnetHeader& h) { h.gso_size = 0; }},
      {"a piece without a checksum", "bad_offload", [](VnetHeader& h) { h.flags = 0; }},
      {"more frames than anybody sends", "offload_unsupported", [](VnetHeader& h) { h.gso_size = 11; }},
      {"says IPv6, is IPv4", "bad_offload", [](VnetHeader& h) { h.gso_type = vnet_gso_tcpv6; }},
      {"says IPv4, is IPv6",
       "bad_offload",
       [](VnetHeader& h) { h.gso_type = vnet_gso_tcpv4; },
       {.ipv6 = true, .payload = pattern(3000)}},
      {"says UDP, is TCP", "bad_offload", [](VnetHeader& h) { h.gso_type = vnet_gso_udp_l4; }},
      {"says TCP, is UDP",
       "bad_offload",
       [](VnetHeader& h) { h.gso_type = vnet_gso_tcpv4; },
       {.udp = true, .payload = pattern(3000)}},
      {"UFO", "offload_unsupported", [](VnetHeader& h) { h.gso_type = 3; }, {.udp = true, .payload = pattern(3000)}},
      {"unknown kind", "offload_unsupported", [](VnetHeader& h) { h.gso_type = 0x7F; }},
      {"checksum in the addresses", "bad_offload", [](VnetHeader& h) { h.csum_start = 0, h.csum_offset = 6; }},
      {"checksum in the IP header", "bad_offload", [](VnetHeader& h) { h.csum_start = 14, h.csum_offset = 10; }},
      {"checksum before TCP", "bad_offload", [](VnetHeader& h) { h.csum_start -= 2; }},
      {"checksum behind TCP", "bad_offload", [](VnetHeader& h) { h.csum_start += 2; }},
      {"checksum in the ports", "bad_offload", [](VnetHeader& h) { h.csum_offset = 0; }},
      {"checksum outside", "bad_offload", [](VnetHeader& h) { h.csum_start = 0xFFFF; }},
      {"offset outside", "bad_offload", [](VnetHeader& h) { h.csum_offset = 0xFFFF; }},
      {"UDP's inner checksum, cut",
       "bad_offload",
       [](VnetHeader& h) { h.csum_start += 28; },
       {.udp = true, .payload = pattern(3000)}},
      {"SYN", "bad_offload", [](VnetHeader&) {}, {.flags = 0x02, .payload = pattern(3000)}},
      {"RST", "bad_offload", [](VnetHeader&) {}, {.flags = 0x14, .payload = pattern(3000)}},
      {"URG", "bad_offload", [](VnetHeader&) {}, {.flags = 0x30, .payload = pattern(3000)}},
      {"headers longer than the head",
       "offload_unsupported",
       [](VnetHeader&) {},
       {.ipv6 = true,
        .tcp_options = std::string(40, 1),
        .extension = std::string("\0\2", 2) + std::string(22, '\0'),
        .payload = pattern(3000)}},
  };
  for (const Lie& lie : lies) {
    SCOPED_TRACE(lie.name);
    Laid laid(lie.frame.bytes(false));
    VnetHeader header = lie.frame.header(1000);
    lie.change(header);
    EXPECT_EQ(laid.take(header), lie.reason);
  }
}

TEST(Needs, frames_that_are_not_what_is_asked_for_are_refused) {
  const IpFrame good{.payload = pattern(3000)};
  const VnetHeader header = good.header(1000);
  const struct {
    const char* name;
    std::size_t at;
    char value;
  } cases[] = {
      {"not IP", 12, 0x09},
      {"IP version 5", 14, 0x55},
      {"IPv4 header of 16 bytes", 14, 0x44},
      {"options that are not there", 14, 0x4F},
      {"not TCP", 23, 17},
      {"SCTP", 23, static_cast<char>(132)},
      {"more fragments", 20, 0x20},
      {"a later fragment", 21, 1},
      {"TCP header of 16 bytes", 46, 0x40},
  };
  for (const auto& row : cases) {
    std::string bytes = good.bytes(false);
    bytes[row.at] = row.value;
    Laid laid(bytes);
    EXPECT_EQ(laid.take(header), "bad_offload") << row.name;
  }
  for (std::size_t size = 14; size < 54; ++size) {
    Laid laid(good.bytes(false).substr(0, size));
    EXPECT_EQ(laid.take(header), "bad_offload") << size;
  }
  Laid bare(good.bytes(false).substr(0, 54));
  EXPECT_EQ(bare.take(header), "") << "no payload: a frame";
  EXPECT_EQ(bare.frame.needs.offloads, offload_checksum);

  IpFrame loop{.ipv6 = true, .extension = std::string(8, '\0'), .payload = pattern(3000)};
  std::string bytes = loop.bytes(false);
  for (std::size_t at = 54; at < 126; at += 8) bytes[at] = 60;  // nothing but extension headers
  Laid laid(bytes);
  EXPECT_EQ(laid.take(loop.header(1000)), "bad_offload");
}

TEST(Needs, a_guest_asks_only_for_what_was_negotiated) {
  const IpFrame v4{.flags = 0x90, .payload = pattern(3000)};
  const IpFrame v6{.ipv6 = true, .payload = pattern(3000)};
  const IpFrame udp{.udp = true, .payload = pattern(3000)};
  const struct {
    const IpFrame& frame;
    std::uint16_t gso_size;
    Offloads allowed;
    const char* reason;
  } cases[] = {
      {v4, 0, 0, "bad_offload"},
      {v4, 0, offload_checksum, ""},
      {v4, 1000, offload_checksum, "bad_offload"},
      {v4, 1000, offload_checksum | offload_tso4, ""},
      {v6, 1000, offload_checksum | offload_tso4, "bad_offload"},
      {v6, 1000, offload_checksum | offload_tso6, ""},
      {udp, 1000, offload_checksum | offload_tso4 | offload_tso6, "bad_offload"},
      {udp, 1000, offload_checksum | offload_uso4, ""},
  };
  for (const auto& row : cases) {
    Laid laid(row.frame.bytes(false));
    EXPECT_EQ(laid.take(row.frame.header(row.gso_size), row.allowed), row.reason) << int{row.allowed};
  }
  Laid laid(v4.bytes(false));
  VnetHeader header = v4.header(1000);
  header.gso_type |= vnet_gso_ecn;
  EXPECT_EQ(laid.take(header, offload_checksum | offload_tso4), "bad_offload") << "says ECN";
  EXPECT_EQ(laid.take(header, offload_checksum | offload_tso4 | offload_ecn), "");
}

// A tunnel's inner checksum, as a guest that encapsulates leaves it.
TEST(Needs, a_checksum_inside_of_a_tunnel_is_completed_there) {
  const IpFrame inner{.payload = pattern(500)};
  IpFrame outer{.udp = true};
  outer.payload = std::string(8, '\x08') + inner.bytes(false);  // VXLAN
  VnetHeader header = inner.header();
  const std::size_t at = outer.header_size() + 8;
  header.csum_start = static_cast<std::uint16_t>(header.csum_start + at);
  Laid laid(outer.bytes());
  ASSERT_EQ(laid.take(header), "");
  complete_checksum(laid.frame);
  EXPECT_EQ(text_of(laid.frame).substr(at), inner.bytes());

  Laid short_head(outer.bytes(), 100);
  EXPECT_EQ(short_head.take(header), "offload_unsupported") << "the field is not in the head";
}

TEST(Needs, plain_headers_are_those_that_devices_find_their_way_through) {
  const struct {
    const char* name;
    IpFrame frame;
    bool plain;
  } cases[] = {
      {"TCP", {}, true},
      {"UDP over IPv4", {.udp = true}, true},
      {"options of both", {.ip_options = std::string(8, '\x01'), .tcp_options = std::string(12, '\x01')}, true},
      {"TCP over IPv6", {.ipv6 = true}, true},
      {"UDP over IPv6", {.ipv6 = true, .udp = true}, true},
      {"an extension header", {.ipv6 = true, .extension = {0, 0, 1, 4, 0, 0, 0, 0}}, false},
      {"a tag", {.tags = test::tag(7)}, false},
  };
  for (const auto& row : cases) {
    IpFrame frame = row.frame;
    frame.payload = pattern(3000);
    for (const std::uint16_t gso_size : {std::uint16_t{0}, std::uint16_t{1000}}) {
      Laid laid(frame.bytes(false));
      ASSERT_EQ(laid.take(frame.header(gso_size)), "");
      EXPECT_EQ(has_plain_headers(laid.frame), row.plain) << row.name;
    }
  }
  const IpFrame inner{.payload = pattern(500)};
  const IpFrame outer{.udp = true, .payload = std::string(8, '\x08') + inner.bytes(false)};
  VnetHeader header = inner.header();
  header.csum_start = static_cast<std::uint16_t>(header.csum_start + outer.header_size() + 8);
  Laid tunnel(outer.bytes());
  ASSERT_EQ(tunnel.take(header), "");
  EXPECT_FALSE(has_plain_headers(tunnel.frame));
  std::string gre = inner.bytes(false);
  gre[23] = 47;  // its own checksum is at 4
  header = inner.header();
  header.csum_offset = 4;
  Laid other(gre);
  ASSERT_EQ(other.take(header), "");
  EXPECT_FALSE(has_plain_headers(other.frame));
}

TEST(Needs, a_kernels_checksum_in_any_place_is_completed_at_once) {
  const IpFrame inner{.payload = pattern(500)};
  IpFrame outer{.ipv6 = true, .udp = true, .extension = std::string("\0\2", 2) + std::string(22, '\0')};
  outer.payload = std::string(8, '\x08') + inner.bytes(false);
  VnetHeader header = inner.header();
  const std::size_t at = outer.header_size() + 8;
  header.csum_start = static_cast<std::uint16_t>(header.csum_start + at);
  Laid laid(outer.bytes(), frame_size_max);
  ASSERT_EQ(laid.take(header), "offload_unsupported");
  laid.frame.action = Action::undecided;
  take_needs_of_kernel(laid.frame, header);
  EXPECT_EQ(laid.frame.action, Action::undecided);
  EXPECT_EQ(laid.frame.needs.offloads, 0);
  EXPECT_EQ(text_of(laid.frame).substr(at), inner.bytes());

  header.csum_start = 0;
  header.csum_offset = 6;
  take_needs_of_kernel(laid.frame, header);
  EXPECT_EQ(laid.frame.action, Action::drop) << "not in the addresses";
}

TEST(Needs, random_headers_never_lead_outside_of_the_frame) {
  std::uint64_t state = 42;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  const auto all = kinds();
  std::vector<std::string> starts;
  for (const Kind& kind : all) starts.push_back(kind.piece.bytes(false).substr(0, 1600));
  std::size_t taken = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::size_t which = random() % all.size();
    const Kind& kind = all[which];
    std::string bytes = starts[which].substr(0, 14 + random() % 1500);
    for (unsigned i = 0; i < random() % 3; ++i) {
      bytes[12 + random() % std::min<std::size_t>(bytes.size() - 12, 70)] = static_cast<char>(random());
    }
    VnetHeader header = kind.piece.header(static_cast<std::uint16_t>(random() % 4 == 0 ? random() : random() % 2000));
    if (random() % 4 == 0) header.csum_start = static_cast<std::uint16_t>(random() % 200);
    if (random() % 4 == 0) header.csum_offset = static_cast<std::uint16_t>(random() % 20);
    if (random() % 4 == 0) header.gso_type = static_cast<std::uint8_t>(random());
    Laid laid(bytes, head_size_max, 1 + random() % 500);
    if (!laid.take(header).empty() || laid.frame.needs.offloads == 0) continue;
    ++taken;
    if (laid.frame.needs.gso_size == 0) {
      complete_checksum(laid.frame);
      EXPECT_EQ(text_of(laid.frame).substr(0, 34), bytes.substr(0, 34)) << "addresses and IP header are as they were";
      continue;
    }
    const auto frames = cut(laid.frame);
    EXPECT_LE(frames.size(), frames_cut_max);
    for (const std::string& frame : frames) EXPECT_EQ(frame.substr(0, 14), bytes.substr(0, 14));
  }
  EXPECT_GT(taken, 1000U);
}

}  // namespace
}  // namespace patchbay::dataplane
