#include "dataplane/offload/coalescer.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "dataplane/offload/checksum.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t ipv4_header = 20;
constexpr std::uint16_t ipv4_do_not_fragment = 0x4000;
constexpr std::uint16_t tcp_checksum_at = 16;
constexpr std::size_t tcp_flags_at = 13;
constexpr std::uint8_t tcp_only_last = 0x01 | 0x08;            // FIN, PSH
constexpr std::uint8_t tcp_never = 0x02 | 0x04 | 0x20 | 0x80;  // SYN, RST, URG, CWR

bool equal(const std::uint8_t* one, const std::uint8_t* other, std::size_t from, std::size_t to) noexcept {
  return std::memcmp(one + from, other + from, to - from) == 0;
}

// Where source and destination address start, and both end.
std::size_t addresses_begin(const Headers& headers) noexcept {
  return headers.network + (headers.ipv6 ? 8U : 12U);
}
std::size_t addresses_end(const Headers& headers) noexcept {
  return headers.network + (headers.ipv6 ? ipv6_header : std::size_t{ipv4_header});
}

bool same_flow(const std::uint8_t* one, const Headers& of_one, const std::uint8_t* other,
               const Headers& of_other) noexcept {
  if (of_one.ipv6 != of_other.ipv6 || load_be32(one + of_one.transport) != load_be32(other + of_other.transport)) {
    return false;
  }
  const std::size_t begin = addresses_begin(of_one);
  return std::memcmp(one + begin, other + addresses_begin(of_other), addresses_end(of_one) - begin) == 0;
}

std::uint64_t load(const std::uint8_t* at) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

std::uint64_t flow_of(const std::uint8_t* head, const Headers& headers) noexcept {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15;
  const std::uint8_t* const addresses = head + addresses_begin(headers);
  std::uint64_t flow = load(addresses);
  if (headers.ipv6) flow ^= load(addresses + 8) ^ (load(addresses + 16) ^ load(addresses + 24)) * odd;
  return flow * odd ^ load_be32(head + headers.transport);
}

// As parse_headers(), which most frames do not need. may_be_tcp() holds for the frame.
std::optional<Headers> headers_of(const Frame& frame) noexcept {
  constexpr std::uint16_t fragment_bits = 0x3FFF;
  const std::uint8_t* const ip = frame.head + ethernet_header_size;
  const std::uint16_t type = load_be16(frame.head + addresses_size);
  Headers headers;
  headers.network = ethernet_header_size;
  headers.protocol = protocol_tcp;
  headers.ipv6 = type == 0x86DD;
  headers.transport = static_cast<std::uint16_t>(addresses_end(headers));
  if (type == 0x0800 && ip[0] == 0x45 && (load_be16(ip + 6) & fragment_bits) == 0) return headers;
  if (headers.ipv6 && ip[0] >> 4 == 6 && ip[6] == protocol_tcp) return headers;
  return parse_headers({frame.head, frame.head_size});
}

// A checksum of 0xFFFF is right where 0 is, but the Segmenter writes 0.
bool is_right(std::uint64_t sum, const std::uint8_t* field) noexcept {
  return checksum_finish(sum) == 0 && load_be16(field) != 0xFFFF;
}

std::uint64_t pseudo_sum(const std::uint8_t* head, const Headers& headers, std::size_t tcp_size) noexcept {
  const std::size_t begin = addresses_begin(headers);
  return checksum_add({head + begin, addresses_end(headers) - begin}, tcp_size + protocol_tcp);
}

// Both checksums of a bare frame.
bool verify(const Frame& frame, const Headers& headers) noexcept {
  const std::uint8_t* const ip = frame.head + headers.network;
  if (!headers.ipv6 && !is_right(checksum_add({ip, ipv4_header}, 0), ip + 10)) return false;
  RunningSum sum(pseudo_sum(frame.head, headers, frame.size - headers.transport));
  sum.add({frame.head + headers.transport, frame.head_size - headers.transport});
  for (std::size_t i = 0; i < frame.rest_count; ++i) sum.add({frame.rest[i].data, frame.rest[i].size});
  return is_right(sum.get(), frame.head + headers.transport + tcp_checksum_at);
}

// The length that the IP header says is the frame's: nothing is behind the packet.
bool is_exact(const Frame& frame, const Headers& headers) noexcept {
  const std::uint8_t* const ip = frame.head + headers.network;
  const std::size_t size = frame.size - headers.network;
  return headers.ipv6 ? load_be16(ip + 4) + ipv6_header == size : load_be16(ip + 2) == size;
}

bool same_headers(const Frame& one, const Frame& other, const Headers& headers, std::size_t header_size) noexcept {
  const std::size_t network = headers.network;
  const std::size_t transport = headers.transport;
  const auto same = [&](std::size_t from, std::size_t to) { return equal(one.head, other.head, from, to); };
  // Apart from the packet's length, and the id and checksum of IPv4. The addresses are the flow's.
  const bool same_ip = headers.ipv6 ? same(network, network + 4) && same(network + 6, network + 8)
                                    : same(network, network + 2) && same(network + 6, network + 10);
  const std::uint8_t flags = one.head[transport + tcp_flags_at] ^ other.head[transport + tcp_flags_at];
  // Apart from sequence number, FIN and PSH, and checksum.
  return same_ip && same(0, network) && same(transport + 8, transport + tcp_flags_at) &&
         (flags & ~tcp_only_last) == 0 && same(transport + 14, transport + tcp_checksum_at) &&
         same(transport + 18, header_size);
}

}  // namespace

bool Coalescer::read(const Frame& frame, Segmented& segmented) noexcept {
  const auto headers = headers_of(frame);
  if (!headers) return false;
  if (headers->fragment) {
    close_all();
    return false;
  }
  const std::size_t transport = headers->transport;
  if (headers->protocol != protocol_tcp || transport + tcp_header_min > frame.head_size) return false;
  segmented.headers = *headers;
  segmented.flow = flow_of(frame.head, *headers);
  const std::uint8_t* const tcp = frame.head + transport;
  const std::size_t tcp_size = std::size_t{tcp[12]} >> 4 << 2;
  const std::size_t header_size = transport + tcp_size;
  const bool in_head = header_size <= std::min<std::size_t>(frame.head_size, head_size_max);
  if (tcp_size < tcp_header_min || !in_head || header_size >= frame.size) return true;
  segmented.header_size = static_cast<std::uint16_t>(header_size);
  segmented.payload = frame.size - segmented.header_size;
  segmented.joins = transport == addresses_end(*headers) && (tcp[tcp_flags_at] & tcp_never) == 0 &&
                    is_exact(frame, *headers) && frame.rest_count < segments_max;
  return true;
}

bool Coalescer::join(const Frame& frame, const Segmented& segmented) noexcept {
  std::size_t at = 0;
  while (at < open_count_ && (flows_[at] != segmented.flow || !same_flow(open_[at].frame->head, open_[at].first.headers,
                                                                         frame.head, segmented.headers))) {
    ++at;
  }
  if (at == open_count_) return false;
  Piece& piece = open_[at];
  bool joined = segmented.joins && follows(piece, frame, segmented);
  if (joined && !piece.verified) joined = piece.verified = verify(*piece.frame, piece.first.headers);
  joined = joined && verify(frame, segmented.headers);
  if (joined) add(piece, frame, segmented);
  if (!joined || piece.last_flags != 0 || segmented.payload < piece.first.payload) close(at);
  return joined;
}

bool Coalescer::follows(const Piece& piece, const Frame& frame, const Segmented& segmented) noexcept {
  const Segmented& first = piece.first;
  const Headers& headers = first.headers;
  if (segmented.header_size != first.header_size || segmented.headers.network != headers.network) return false;
  if (load_be32(frame.head + headers.transport + 4) != piece.next_sequence) return false;
  const bool same_way = frame.target == piece.frame->target && frame.vid == piece.frame->vid &&
                        frame.priority == piece.frame->priority && frame.tag_tpid == piece.frame->tag_tpid &&
                        frame.tag_tci == piece.frame->tag_tci;
  if (!same_way || segmented.payload > first.payload) return false;
  if (piece.frame->size + segmented.payload > piece_size_max) return false;
  if (std::size_t{piece.frame->rest_count} + frame.rest_count + 1 >= segments_max) return false;
  if (!headers.ipv6) {
    const std::uint8_t* const ip = piece.frame->head + headers.network;
    const auto ahead = static_cast<std::uint16_t>(load_be16(frame.head + headers.network + 4) - load_be16(ip + 4));
    const bool may_stay =
        (load_be16(ip + 6) & ipv4_do_not_fragment) != 0 && (piece.frames == 1 || piece.frame->needs.one_id);
    const bool counts = ahead == piece.frames && !piece.frame->needs.one_id;
    if (!counts && !(ahead == 0 && may_stay)) return false;
  }
  return same_headers(*piece.frame, frame, headers, first.header_size);
}

void Coalescer::add(Piece& piece, const Frame& frame, const Segmented& segmented) noexcept {
  Frame& whole = *piece.frame;
  const std::size_t network = piece.first.headers.network;
  if (!piece.first.headers.ipv6 && piece.frames == 1) {
    whole.needs.one_id = load_be16(frame.head + network + 4) == load_be16(whole.head + network + 4);
  }
  Segment* const list = piece.segments;
  if (frame.head_size > segmented.header_size) {
    list[whole.rest_count++] = {frame.head + segmented.header_size, frame.head_size - segmented.header_size};
  }
  for (std::size_t i = 0; i < frame.rest_count; ++i) list[whole.rest_count++] = frame.rest[i];
  whole.rest = list;
  whole.size += segmented.payload;
  piece.next_sequence += segmented.payload;
  piece.last_flags = frame.head[segmented.headers.transport + tcp_flags_at] & tcp_only_last;
  ++piece.frames;
}

void Coalescer::open(Frame& frame, const Segmented& segmented, Segment* segments) noexcept {
  const std::uint8_t* const tcp = frame.head + segmented.headers.transport;
  if ((tcp[tcp_flags_at] & tcp_only_last) != 0) return;  // nothing may follow in the same piece
  if (open_count_ == open_max) {
    closed_next_ = (closed_next_ + 1) % open_max;
    close(closed_next_);
  }
  flows_[open_count_] = segmented.flow;
  Piece& piece = open_[open_count_++];
  piece = Piece{};
  piece.frame = &frame;
  piece.segments = segments;
  piece.first = segmented;
  piece.next_sequence = load_be32(tcp + 4) + segmented.payload;
}

void Coalescer::close(std::size_t at) noexcept {
  finish(open_[at]);
  --open_count_;
  if (at == open_count_) return;
  open_[at] = open_[open_count_];
  flows_[at] = flows_[open_count_];
}

void Coalescer::close_all() noexcept {
  for (std::size_t i = 0; i < open_count_; ++i) finish(open_[i]);
  open_count_ = 0;
}

// Headers as they are of a piece that a sender left to offloads: lengths of the whole, and the pseudo-header's sum.
void Coalescer::finish(const Piece& piece) noexcept {
  if (piece.frames == 1) return;
  Frame& whole = *piece.frame;
  const Headers& headers = piece.first.headers;
  std::uint8_t* const ip = whole.head + headers.network;
  std::uint8_t* const tcp = whole.head + headers.transport;
  const std::size_t size = whole.size - headers.network;
  if (headers.ipv6) {
    store_be16(ip + 4, static_cast<std::uint16_t>(size - ipv6_header));
  } else {
    store_be16(ip + 2, static_cast<std::uint16_t>(size));
    store_be16(ip + 10, 0);
    store_be16(ip + 10, checksum_finish(checksum_add({ip, ipv4_header}, 0)));
  }
  tcp[tcp_flags_at] |= piece.last_flags;
  const std::uint16_t inverted = checksum_finish(pseudo_sum(whole.head, headers, whole.size - headers.transport));
  store_be16(tcp + tcp_checksum_at, static_cast<std::uint16_t>(~inverted));
  whole.needs.offloads = offload_checksum | (headers.ipv6 ? offload_tso6 : offload_tso4);
  whole.needs.gso_size = static_cast<std::uint16_t>(piece.first.payload);
  whole.needs.header_size = piece.first.header_size;
  whole.needs.csum_start = headers.transport;
  whole.needs.csum_offset = tcp_checksum_at;
}

}  // namespace patchbay::dataplane
