#include "dataplane/offload/segmenter.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"
#include "dataplane/offload/checksum.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint8_t tcp_fin = 0x01;
constexpr std::uint8_t tcp_psh = 0x08;
constexpr std::uint8_t tcp_cwr = 0x80;

}  // namespace

void Segmenter::begin(const Frame& piece, std::uint32_t skip) noexcept {
  piece_ = piece;
  // take_needs() has seen these headers, before a tag was taken out.
  headers_ = parse_headers({piece.head, piece.needs.header_size}).value_or(Headers{});
  payload_size_ = piece.size - piece.needs.header_size;
  offset_ = 0;
  stretch_ = 0;
  stretch_offset_ = 0;
  number_ = std::min(skip, (payload_size_ - 1) / piece.needs.gso_size);
  advance(number_ * piece.needs.gso_size);
}

Segment Segmenter::stretch(std::size_t i) const noexcept {
  if (i != 0) return piece_.rest[i - 1];
  return {piece_.head + piece_.needs.header_size, piece_.head_size - piece_.needs.header_size};
}

void Segmenter::advance(std::uint32_t size) noexcept {
  offset_ += size;
  while (size != 0) {
    const std::uint32_t left = stretch(stretch_).size - stretch_offset_;
    const std::uint32_t part = std::min(size, left);
    size -= part;
    stretch_offset_ += part;
    if (part < left) break;
    ++stretch_;
    stretch_offset_ = 0;
  }
}

std::uint16_t Segmenter::slice(std::uint32_t size, std::span<Segment, segments_max> segments) noexcept {
  std::uint16_t count = 0;
  while (size != 0) {
    const Segment whole = stretch(stretch_);
    const Segment part = {whole.data + stretch_offset_, std::min(size, whole.size - stretch_offset_)};
    if (part.size != 0) segments[count++] = part;
    size -= part.size;
    advance(part.size);
    if (part.size == 0) {  // nothing of the payload is in the head
      ++stretch_;
      stretch_offset_ = 0;
    }
  }
  return count;
}

void Segmenter::next(Frame& frame, std::span<std::uint8_t, head_size_max> head,
                     std::span<Segment, segments_max> segments) noexcept {
  const std::uint32_t size = std::min<std::uint32_t>(piece_.needs.gso_size, payload_size_ - offset_);
  const bool last = offset_ + size == payload_size_;
  const auto headers = head.first(piece_.needs.header_size);
  std::memcpy(headers.data(), piece_.head, headers.size());
  frame = piece_;
  frame.needs = {};
  frame.head = headers.data();
  frame.head_size = static_cast<std::uint32_t>(headers.size());
  frame.size = frame.head_size + size;
  fix_network(headers, size);
  const std::uint32_t offset = offset_;
  frame.rest_count = slice(size, segments);
  frame.rest = segments.data();
  fix_transport(headers, segments.first(frame.rest_count), offset, last);
  ++number_;
}

void Segmenter::fix_network(std::span<std::uint8_t> head, std::uint32_t payload_size) const noexcept {
  std::uint8_t* const ip = head.data() + headers_.network;
  const std::size_t size = head.size() - headers_.network + payload_size;
  if (headers_.ipv6) return store_be16(ip + 4, static_cast<std::uint16_t>(size - ipv6_header));
  store_be16(ip + 2, static_cast<std::uint16_t>(size));
  if (!piece_.needs.one_id) store_be16(ip + 4, static_cast<std::uint16_t>(load_be16(ip + 4) + number_));
  store_be16(ip + 10, 0);
  store_be16(ip + 10, checksum_finish(checksum_add(head.subspan(headers_.network, std::size_t{ip[0] & 0x0FU} * 4), 0)));
}

void Segmenter::fix_transport(std::span<std::uint8_t> head, std::span<const Segment> payload, std::uint32_t offset,
                              bool last) const noexcept {
  std::uint8_t* const header = head.data() + headers_.transport;
  std::size_t size = head.size() - headers_.transport;
  for (const Segment& segment : payload) size += segment.size;
  const bool udp = headers_.protocol == protocol_udp;
  std::uint8_t* checksum_at = nullptr;
  if (udp) {
    store_be16(header + 4, static_cast<std::uint16_t>(size));
    checksum_at = header + 6;
  } else {
    store_be32(header + 4, load_be32(header + 4) + offset);
    if (!last) header[13] = static_cast<std::uint8_t>(header[13] & ~(tcp_fin | tcp_psh));
    if (number_ != 0) header[13] = static_cast<std::uint8_t>(header[13] & ~tcp_cwr);
    checksum_at = header + 16;
  }
  store_be16(checksum_at, 0);
  // Pseudo-header: addresses, length and protocol. A routing header's final destination is not looked at: kernels do
  // not offload segmentation of such packets.
  const auto addresses =
      headers_.ipv6 ? head.subspan(headers_.network + 8U, 32) : head.subspan(headers_.network + 12U, 8);
  RunningSum sum(size + headers_.protocol);
  sum.add(addresses);
  sum.add(head.subspan(headers_.transport));
  for (const Segment& segment : payload) sum.add({segment.data, segment.size});
  const std::uint16_t checksum = checksum_finish(sum.get());
  store_be16(checksum_at, checksum == 0 && udp ? 0xFFFF : checksum);
}

}  // namespace patchbay::dataplane
