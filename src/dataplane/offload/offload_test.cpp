#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/byte_order.h"
#include "dataplane/offload/checksum.h"
#include "dataplane/offload/segmenter.h"

namespace patchbay::dataplane {
namespace {

using Bytes = std::vector<std::uint8_t>;

// The plain definition of RFC 1071, word by word.
std::uint16_t reference_sum(const Bytes& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += static_cast<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

TEST(Checksum, equals_the_definition_for_every_length_and_alignment) {
  Bytes bytes;
  for (std::size_t i = 0; i < 100; ++i) bytes.push_back(static_cast<std::uint8_t>(i * 37 + 11));
  for (std::size_t start = 0; start < 8; ++start) {
    for (std::size_t size = 0; start + size <= bytes.size(); ++size) {
      const Bytes part(bytes.begin() + static_cast<long>(start), bytes.begin() + static_cast<long>(start + size));
      const auto finished = checksum_finish(checksum_add(std::span(bytes).subspan(start, size), 0));
      EXPECT_EQ(finished, static_cast<std::uint16_t>(~reference_sum(part))) << start << ' ' << size;
    }
  }
}

TEST(Checksum, completes_only_what_lies_inside_the_frame) {
  Bytes frame(40, 1);
  EXPECT_TRUE(complete_checksum(frame, 20, 16));
  EXPECT_TRUE(complete_checksum(frame, 38, 0));
  EXPECT_FALSE(complete_checksum(frame, 20, 8)) << "SCTP";
  EXPECT_FALSE(complete_checksum(frame, 39, 0));
  EXPECT_FALSE(complete_checksum(frame, 20, 19));
  EXPECT_FALSE(complete_checksum(frame, 41, 0));
  EXPECT_FALSE(complete_checksum(frame, 0xFFFF, 0xFFFF));
}

// A TCP piece over IPv4 or IPv6 with `payload` bytes.
Bytes tcp_piece(bool ipv6, std::size_t payload, bool tagged = false) {
  Bytes frame(12, 2);
  if (tagged) frame.insert(frame.end(), {0x81, 0x00, 0x00, 0x65});
  const std::size_t length = 20 + payload;
  if (ipv6) {
    frame.insert(frame.end(), {0x86, 0xDD, 0x60, 0, 0, 0, 0, 0, 6, 64});
    for (std::uint8_t i = 0; i < 32; ++i) frame.push_back(static_cast<std::uint8_t>(0x20 + i));
  } else {
    frame.insert(frame.end(), {0x08, 0x00, 0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2});
    store_be16(&frame[frame.size() - 18], static_cast<std::uint16_t>(20 + length));
  }
  frame.insert(frame.end(), {0x10, 0x92, 0, 80, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 1, 0x50, 0x99, 0x20, 0, 0, 0, 0, 0});
  for (std::size_t i = 0; i < payload; ++i) frame.push_back(static_cast<std::uint8_t>(i * 3));
  return frame;
}

std::vector<Bytes> cut(Bytes& piece, const VnetHeader& header) {
  Segmenter segmenter;
  std::vector<Bytes> frames;
  if (!segmenter.begin(piece, header)) return frames;
  while (!segmenter.done()) {
    Frame frame;
    std::array<std::uint8_t, head_size_max> head;
    Segment segment;
    segmenter.next(frame, head, segment);
    Bytes bytes(frame.head, frame.head + frame.head_size);
    bytes.insert(bytes.end(), segment.data, segment.data + segment.size);
    EXPECT_EQ(frame.size, bytes.size());
    frames.push_back(bytes);
  }
  return frames;
}

// The checksum over pseudo-header and segment, its own field included: zero when right.
std::uint16_t tcp_residue(const Bytes& frame, std::size_t network, bool ipv6) {
  const std::size_t transport = network + (ipv6 ? 40 : 20);
  std::uint64_t sum = 6 + (frame.size() - transport);
  sum = checksum_add(std::span(frame).subspan(network + (ipv6 ? 8 : 12), ipv6 ? 32 : 8), sum);
  return checksum_finish(checksum_add(std::span(frame).subspan(transport), sum));
}

TEST(Segmenter, cuts_tcp_pieces_into_whole_frames) {
  for (const bool ipv6 : {false, true}) {
    for (const bool tagged : {false, true}) {
      SCOPED_TRACE(testing::Message() << "ipv6 " << ipv6 << " tagged " << tagged);
      Bytes piece = tcp_piece(ipv6, 3001, tagged);
      const VnetHeader header{.gso_type = ipv6 ? vnet_gso_tcpv6 : vnet_gso_tcpv4, .gso_size = 1000};
      const auto frames = cut(piece, header);
      ASSERT_EQ(frames.size(), 4U);
      const std::size_t network = tagged ? 18 : 14;
      const std::size_t tcp = network + (ipv6 ? 40 : 20);
      Bytes payload;
      for (std::size_t i = 0; i < frames.size(); ++i) {
        const Bytes& frame = frames[i];
        EXPECT_EQ(load_be32(&frame[tcp + 4]), static_cast<std::uint32_t>(0xFFFFFF00 + 1000 * i))
            << "sequence number wraps";
        EXPECT_EQ(tcp_residue(frame, network, ipv6), 0) << i;
        EXPECT_EQ(frame[tcp + 13] & 0x09, i == 3 ? 0x09 : 0) << "FIN and PSH on the last only";
        EXPECT_EQ(frame[tcp + 13] & 0x80, i == 0 ? 0x80 : 0) << "CWR on the first only";
        if (ipv6) {
          EXPECT_EQ(load_be16(&frame[network + 4]), frame.size() - network - 40);
        } else {
          EXPECT_EQ(load_be16(&frame[network + 2]), frame.size() - network);
          EXPECT_EQ(load_be16(&frame[network + 4]), 0x1234 + i);
          EXPECT_EQ(checksum_finish(checksum_add(std::span(frame).subspan(network, 20), 0)), 0);
        }
        payload.insert(payload.end(), frame.begin() + static_cast<long>(tcp + 20), frame.end());
      }
      EXPECT_EQ(payload, Bytes(piece.end() - 3001, piece.end()));
    }
  }
}

TEST(Segmenter, cuts_udp_pieces) {
  Bytes piece = tcp_piece(false, 2500);
  piece[23] = 17;  // the TCP header now reads as a UDP header and 12 bytes more of payload
  const auto frames = cut(piece, {.gso_type = vnet_gso_udp_l4, .gso_size = 1256});
  ASSERT_EQ(frames.size(), 2U);
  for (const Bytes& frame : frames) {
    EXPECT_EQ(load_be16(&frame[38]), frame.size() - 34);
    std::uint64_t sum = 17 + (frame.size() - 34);
    sum = checksum_add(std::span(frame).subspan(26, 8), sum);
    EXPECT_EQ(checksum_finish(checksum_add(std::span(frame).subspan(34), sum)), 0);
  }
}

TEST(Segmenter, refuses_what_it_cannot_cut) {
  const VnetHeader tcpv4{.gso_type = vnet_gso_tcpv4, .gso_size = 1000};
  const Bytes good = tcp_piece(false, 2000);
  const auto refused = [](Bytes piece, VnetHeader header) { return cut(piece, header).empty(); };
  EXPECT_TRUE(refused(good, {.gso_type = vnet_gso_tcpv4, .gso_size = 0})) << "no size";
  EXPECT_TRUE(refused(good, {.gso_type = 3, .gso_size = 1000})) << "UFO";
  EXPECT_TRUE(refused(good, {.gso_type = vnet_gso_tcpv6, .gso_size = 1000})) << "says IPv6, is IPv4";
  EXPECT_TRUE(refused(tcp_piece(true, 2000), tcpv4)) << "says IPv4, is IPv6";
  for (std::size_t size = 0; size <= 54; ++size) {
    EXPECT_TRUE(refused(Bytes(good.begin(), good.begin() + static_cast<long>(size)), tcpv4)) << size;
  }
  Bytes bad = good;
  bad[14] = 0x44;
  EXPECT_TRUE(refused(bad, tcpv4)) << "IPv4 header of 16 bytes";
  bad = good;
  bad[46] = 0x40;
  EXPECT_TRUE(refused(bad, tcpv4)) << "TCP header of 16 bytes";
  bad = good;
  bad[23] = 17;
  EXPECT_TRUE(refused(bad, tcpv4)) << "not TCP";
  bad = tcp_piece(true, 2000);
  bad[20] = 0;  // hop-by-hop options that lead nowhere
  EXPECT_TRUE(refused(bad, {.gso_type = vnet_gso_tcpv6, .gso_size = 1000}));
}

}  // namespace
}  // namespace patchbay::dataplane
