#include "dataplane/virtqueue/queue_pair.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/prefetch.h"
#include "dataplane/frame/leaving.h"
#include "dataplane/offload/needs.h"

namespace patchbay::dataplane {
namespace {

struct FeatureOffload {
  std::uint64_t feature;
  Offloads offloads;
};

Offloads offloads_of(std::uint64_t features, std::span<const FeatureOffload> table) noexcept {
  Offloads offloads = 0;
  for (const auto& row : table) {
    if ((features & row.feature) != 0) offloads |= row.offloads;
  }
  // Without checksums there is nothing else (VIRTIO 1.2, 5.1.3.1).
  return (offloads & offload_checksum) != 0 ? offloads : Offloads{0};
}

Offloads asks_of(std::uint64_t features) noexcept {
  constexpr FeatureOffload table[] = {{virtio_net_f_csum, offload_checksum},
                                      {virtio_net_f_host_tso4, offload_tso4},
                                      {virtio_net_f_host_tso6, offload_tso6},
                                      {virtio_net_f_host_ecn, offload_ecn},
                                      {virtio_net_f_host_uso, offload_uso4 | offload_uso6}};
  return offloads_of(features, table);
}

Offloads takes_of(std::uint64_t features) noexcept {
  constexpr FeatureOffload table[] = {{virtio_net_f_guest_csum, offload_checksum | offload_any_headers},
                                      {virtio_net_f_guest_tso4, offload_tso4},
                                      {virtio_net_f_guest_tso6, offload_tso6},
                                      {virtio_net_f_guest_ecn, offload_ecn},
                                      {virtio_net_f_guest_uso4, offload_uso4},
                                      {virtio_net_f_guest_uso6, offload_uso6}};
  return offloads_of(features, table);
}

// The first and the last `part` bytes: all of them, if there are part to 2 * part.
template <std::size_t part>
[[gnu::always_inline]] inline void copy_ends(std::uint8_t* to, const std::uint8_t* from, std::uint32_t size) noexcept {
  std::array<std::uint8_t, part> first;
  std::array<std::uint8_t, part> last;
  std::memcpy(first.data(), from, part);
  std::memcpy(last.data(), from + size - part, part);
  std::memcpy(to, first.data(), part);
  std::memcpy(to + size - part, last.data(), part);
}

// At most head_size_max bytes, and in most frames few: without a call, in whole registers.
[[gnu::always_inline]] inline void copy_head(std::uint8_t* to, const std::uint8_t* from, std::uint32_t size) noexcept {
  if (size > 64) return copy_ends<64>(to, from, size);
  if (size >= 32) return copy_ends<32>(to, from, size);
  if (size >= 16) return copy_ends<16>(to, from, size);
  if (size >= 8) return copy_ends<8>(to, from, size);
  std::memcpy(to, from, size);
}

inline void prefetch_to_write(std::uint8_t* at, std::uint32_t size) noexcept {
  patchbay::prefetch_to_write(at);
  patchbay::prefetch_to_write(at + std::min<std::uint32_t>(size - 1, cache_line_size));
  if (size <= 2 * cache_line_size) return;
  patchbay::prefetch_to_write(at + 2 * cache_line_size);  // what is written in one go behind it comes by itself
}

// A guest's buffers lie at strides, mostly. Written in their order they train the core's own prefetcher, which asks for the
// next ones to be read; a line that is here to be read takes as long again until it can be written. So each step jumps.
constexpr auto jumping_order = [] {
  std::array<std::uint8_t, burst_max> order{};
  static_assert(std::has_single_bit(burst_max));
  for (std::size_t i = 0; i < burst_max; ++i) {
    for (std::size_t bit = 1; bit < burst_max; bit *= 2) {
      if ((i & bit) != 0) order[i] = static_cast<std::uint8_t>(order[i] | burst_max / 2 / bit);
    }
  }
  return order;
}();

// Calls each(0) to each(count - 1), in that order.
template <typename Each>
[[gnu::always_inline]] inline void for_each_jumping(std::size_t count, Each&& each) noexcept {
  constexpr std::size_t few = 4;  // too short for the prefetcher
  if (count <= few) {
    for (std::size_t i = 0; i < count; ++i) each(i);
    return;
  }
  for (const std::size_t i : jumping_order) {
    if (i < count) each(i);
  }
}

// Copies the first `size` bytes behind segments[at], and takes them away from there: `at` moves on.
void take_bytes(std::span<Segment> segments, std::size_t& at, std::uint8_t* to, std::uint32_t size) noexcept {
  while (size != 0) {
    Segment& segment = segments[at];
    const std::uint32_t part = std::min(size, segment.size);
    std::memcpy(to, segment.data, part);
    to += part;
    size -= part;
    segment.data += part;
    segment.size -= part;
    if (segment.size == 0) ++at;
  }
}

// Where the next byte goes, over a list of segments.
class Writer {
 public:
  explicit Writer(const Segment* segment) noexcept : segment_(segment) {}

  void put(const std::uint8_t* data, std::uint32_t size) noexcept {
    while (size != 0) {
      if (offset_ == segment_->size) {
        ++segment_;
        offset_ = 0;
      }
      const std::uint32_t part = std::min(size, segment_->size - offset_);
      std::memcpy(segment_->data + offset_, data, part);
      offset_ += part;
      data += part;
      size -= part;
    }
  }

 private:
  const Segment* segment_;
  std::uint32_t offset_ = 0;
};

}  // namespace

void Ring::take_over(const Ring& old) noexcept {
  if (auto* const packed = std::get_if<PackedRing>(&kind_)) {
    const auto* const before = std::get_if<PackedRing>(&old.kind_);
    return before != nullptr ? packed->take_over(*before) : packed->catch_up();
  }
  if (auto* const split = std::get_if<SplitRing>(&kind_)) split->catch_up();
}

Result<QueuePair> QueuePair::create(const GuestLink& link, std::size_t pair, RingRecords* records) {
  QueuePair made;
  made.memory_ = link.memory;
  const bool packed = (link.features & virtio_f_ring_packed) != 0;
  const auto open = [&](std::size_t number, const char* name, Ring& ring) -> Result<void> {
    const Vring& vring = link.rings[number];
    if (!is_complete(vring)) return {};
    const auto keep = [&](auto created) -> Result<void> {
      if (!created) {
        const std::string of_pair = pair == 0 ? "" : " of queue pair " + std::to_string(pair + 1);
        return fail(created.error().code, name + of_pair + ": " + created.error().message);
      }
      ring = Ring(*created);
      return {};
    };
    return packed ? keep(PackedRing::create(*link.memory, vring, link.features, (*records)[number]))
                  : keep(SplitRing::create(*link.memory, vring, link.features));
  };
  const std::size_t to_guest = 2 * pair;
  const std::size_t from_guest = to_guest + 1;
  if (auto opened = open(to_guest, "receive ring", made.to_guest_); !opened) return fail(opened.error());
  if (auto opened = open(from_guest, "transmit ring", made.from_guest_); !opened) return fail(opened.error());
  made.call_to_guest_ = link.rings[to_guest].call_fd;
  made.call_from_guest_ = link.rings[from_guest].call_fd;
  made.asks_ = asks_of(link.features);
  made.takes_ = takes_of(link.features);
  made.mergeable_ = (link.features & virtio_net_f_mrg_rxbuf) != 0;
  const bool modern = (link.features & virtio_f_version_1) != 0;
  made.header_size_ = modern || made.mergeable_ ? vnet_header_size : vnet_header_size_legacy;
  return made;
}

void QueuePair::catch_up() noexcept {
  to_guest_.take_over({});
  from_guest_.take_over({});
  disable_room_kicks();
}

void QueuePair::take_over(const QueuePair& old) noexcept {
  to_guest_.take_over(old.to_guest_);
  from_guest_.take_over(old.from_guest_);
  disable_room_kicks();
}

ChainSpan QueuePair::gathered() const noexcept {
  ChainSpan span{.chains = static_cast<std::uint16_t>(chain_count_)};
  for (std::size_t i = 0; i < chain_count_; ++i) span.slots += chains_[i].id.slots;
  return span;
}

// A frame that the whole ring is too small for will never find room.
Put QueuePair::no_more_chains(std::uint32_t ring_size) const noexcept {
  return gathered().slots >= ring_size ? Put::bad_buffer : Put::ring_full;
}

bool QueuePair::enable_room_kicks() noexcept {
  return to_guest_ && to_guest_.with([&](auto& ring) { return ring.enable_kicks(gathered()); });
}

void QueuePair::read_positions(std::uint32_t& to_guest, std::uint32_t& from_guest) const noexcept {
  const auto read = [](const Ring& ring, std::uint32_t& position) {
    if (ring) position = ring.with([](const auto& kind) { return kind.position(); });
  };
  read(to_guest_, to_guest);
  read(from_guest_, from_guest);
}

std::size_t QueuePair::take(Burst& burst) noexcept {
  return from_guest_ ? from_guest_.with([&](auto& ring) { return take_from(ring, burst); }) : 0;
}

template <typename Kind>
std::size_t QueuePair::take_from(Kind& ring, Burst& burst) noexcept {
  const auto count = std::min<std::size_t>(ring.available(), burst_max);
  if (count == 0) return 0;
  ring.prefetch_chains(count);
  std::array<std::uint8_t, burst_max> pieces;
  Segment* room = burst.segments.data();
  std::size_t read = 0;
  for (; read < count; ++read) {
    const auto ahead = static_cast<std::uint16_t>(read);
    if (ring.read_single(ahead, Access::device_reads, *room, taken_[read])) {
      pieces[read] = 1;
    } else {
      Chain chain;
      const ChainStatus status = ring.read_chain(ahead, Access::device_reads, {room, segments_max}, chain);
      if (status == ChainStatus::broken || status == ChainStatus::none) break;
      taken_[read] = chain.id;
      pieces[read] = status == ChainStatus::good ? static_cast<std::uint8_t>(chain.segment_count) : std::uint8_t{0};
      if (pieces[read] == 0) continue;
      prefetch_to_read(room[pieces[read] - 1].data);
    }
    prefetch_to_read(room->data);
    prefetch_to_read(room->data + cache_line_size);
    room += pieces[read];
  }
  room = burst.segments.data();
  for (std::size_t i = 0; i < read; ++i) {
    take_one(burst.frames[i], burst.heads[i].data(), room, pieces[i]);
    room += pieces[i];
  }
  return read;
}

[[gnu::always_inline]] inline void QueuePair::take_one(Frame& frame, std::uint8_t* head, Segment* segments,
                                                       std::size_t count) noexcept {
  frame = Frame{};
  frame.head = head;
  const std::uint32_t size = segments->size - static_cast<std::uint32_t>(vnet_header_size);
  const bool simple = count == 1 && header_size_ == vnet_header_size && segments->size <= frame_size_max &&
                      segments->size >= vnet_header_size + ethernet_header_size;
  if (!simple) return take_any(frame, segments, count);
  const auto head_size = std::min(size, static_cast<std::uint32_t>(head_size_max));
  const std::uint8_t* const from = segments->data;
  HeaderBytes header{};
  std::memcpy(header.data(), from, vnet_header_size);
  copy_head(head, from + vnet_header_size, head_size);
  frame.head_size = head_size;
  frame.size = size;
  if (size != head_size) {
    const auto both = static_cast<std::uint32_t>(vnet_header_size) + head_size;
    segments->data += both;
    segments->size -= both;
    frame.rest = segments;
    frame.rest_count = 1;
  }
  judge(frame, header);
}

// Nearly all frames need nothing.
inline void QueuePair::judge(Frame& frame, const HeaderBytes& header_bytes) const noexcept {
  if (((header_bytes[0] & vnet_needs_csum) | header_bytes[1]) == 0) return;  // flags and gso_type
  VnetHeader header;
  std::memcpy(&header, header_bytes.data(), sizeof header);
  take_needs(frame, header, asks_);
}

void QueuePair::take_any(Frame& frame, Segment* segments, std::size_t count) const noexcept {
  std::uint64_t size_bytes = 0;
  for (std::size_t i = 0; i < count; ++i) size_bytes += segments[i].size;
  if (size_bytes < header_size_) return drop(frame, DropReason::bad_descriptor);
  const std::uint64_t size = size_bytes - header_size_;
  if (size < ethernet_header_size) return drop(frame, DropReason::frame_too_short);
  if (size > frame_size_max) return drop(frame, DropReason::oversize);
  HeaderBytes header{};
  std::size_t at = 0;
  frame.head_size = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, head_size_max));
  frame.size = static_cast<std::uint32_t>(size);
  take_bytes({segments, count}, at, header.data(), header_size_);
  take_bytes({segments, count}, at, frame.head, frame.head_size);
  frame.rest = segments + at;
  frame.rest_count = static_cast<std::uint16_t>(count - at);
  judge(frame, header);
}

void QueuePair::give_back(std::size_t count) noexcept {
  from_guest_.with([&](auto& ring) {
    for (std::size_t i = 0; i < count; ++i) ring.push_used(taken_[i], 0);
  });
}

template <typename Kind>
Put QueuePair::gather(Kind& ring, std::uint64_t needed) noexcept {
  segment_count_ = 0;
  chain_count_ = 0;
  const std::uint16_t available = ring.available();
  for (std::uint64_t room = 0; room < needed;) {
    if (chain_count_ != 0 && !mergeable_) return Put::bad_buffer;
    if (chain_count_ == available) return no_more_chains(ring.size());
    if (chain_count_ == chains_.size() || segment_count_ == segments_.size()) return Put::bad_buffer;
    Chain chain;
    const ChainStatus status = ring.read_chain(static_cast<std::uint16_t>(chain_count_), Access::device_writes,
                                               std::span(segments_).subspan(segment_count_), chain);
    if (status == ChainStatus::broken || status == ChainStatus::none) return no_more_chains(ring.size());
    if (status == ChainStatus::malformed || chain.size_bytes < header_size_) {
      // Returned empty, so that one bad buffer does not stand in the way of the good ones behind it for ever.
      if (chain_count_ == 0) ring.push_used(chain.id, 0);
      return Put::bad_buffer;
    }
    chains_[chain_count_++] = {chain.id, chain.size_bytes};
    segment_count_ += chain.segment_count;
    room += chain.size_bytes;
  }
  return Put::delivered;
}

Puts QueuePair::put(std::span<const Frame> frames) noexcept {
  if (!to_guest_) return {.ring_full = frames.size()};
  return to_guest_.with([&](auto& ring) { return put_into(ring, frames); });
}

template <typename Kind>
Puts QueuePair::put_into(Kind& ring, std::span<const Frame> frames) noexcept {
  Puts puts;
  while (!frames.empty()) {
    const std::size_t done = put_each(ring, frames.first(std::min(frames.size(), burst_max)), puts);
    frames = frames.subspan(done);
    if (done == burst_max || frames.empty()) continue;
    const Put put = put_spread(ring, frames.front());
    if (put == Put::ring_full) {
      puts.ring_full = frames.size();
      return puts;
    }
    puts.bad_buffer += put == Put::bad_buffer ? 1 : 0;
    if (put == Put::delivered) {
      ++puts.delivered;
      puts.bytes += frames.front().size;
    }
    frames = frames.subspan(1);
  }
  return puts;
}

template <typename Kind>
std::size_t QueuePair::put_each(Kind& ring, std::span<const Frame> frames, Puts& puts) noexcept {
  const auto count = std::min<std::size_t>(ring.available(static_cast<std::uint16_t>(frames.size())), frames.size());
  if (count > 1) ring.prefetch_chains(count);
  std::array<std::uint32_t, burst_max> written;
  std::size_t fit = 0;
  for (; fit < count; ++fit) {
    Segment& buffer = segments_[fit];
    if (!ring.read_single(static_cast<std::uint16_t>(fit), Access::device_writes, buffer, chains_[fit].id)) break;
    written[fit] = static_cast<std::uint32_t>(size_with(frames[fit]));  // frame_size_max and a little more
    if (buffer.size < written[fit]) break;
  }
  if (fit > 1) for_each_jumping(fit, [&](std::size_t i) { prefetch_to_write(segments_[i].data, written[i]); });
  std::uint64_t bytes = 0;
  for_each_jumping(fit, [&](std::size_t i) {
    write_whole(frames[i], segments_[i].data);
    bytes += frames[i].size;
  });
  for (std::size_t i = 0; i < fit; ++i) ring.push_used(chains_[i].id, written[i]);
  if (fit != 0) ring.look_ahead(fit);
  puts.delivered += fit;
  puts.bytes += bytes;
  return fit;
}

template <typename Kind>
Put QueuePair::put_spread(Kind& ring, const Frame& frame) noexcept {
  const std::uint64_t needed = size_with(frame);
  if (const Put gathered = gather(ring, needed); gathered != Put::delivered) return gathered;
  write_spread(frame);
  std::uint64_t left = needed;
  for (std::size_t i = 0; i < chain_count_; ++i) {
    const std::uint64_t part = std::min(left, chains_[i].size_bytes);
    ring.push_used(chains_[i].id, static_cast<std::uint32_t>(part));
    left -= part;
  }
  return Put::delivered;
}

[[gnu::always_inline]] inline void QueuePair::write_whole(const Frame& frame, std::uint8_t* to) const noexcept {
  if (frame.needs.offloads == 0 && header_size_ == vnet_header_size) {
    VnetHeader plain;
    plain.num_buffers = 1;
    std::memcpy(to, &plain, sizeof plain);
  } else {
    VnetHeader header = leaving_header(frame);
    header.num_buffers = 1;
    std::memcpy(to, &header, header_size_);
  }
  to += header_size_;
  if (frame.tag_tpid == 0 && frame.head_size <= head_size_max) {
    copy_head(to, frame.head, frame.head_size);
    to += frame.head_size;
    for (std::size_t i = 0; i < frame.rest_count; ++i) {
      std::memcpy(to, frame.rest[i].data, frame.rest[i].size);
      to += frame.rest[i].size;
    }
    return;
  }
  TagBytes tag;
  for_each_stretch(frame, tag, [&](const std::uint8_t* data, std::uint32_t size) {
    std::memcpy(to, data, size);
    to += size;
  });
}

void QueuePair::write_spread(const Frame& frame) noexcept {
  VnetHeader header = leaving_header(frame);
  header.num_buffers = static_cast<std::uint16_t>(chain_count_);
  std::uint8_t header_bytes[vnet_header_size];
  std::memcpy(header_bytes, &header, sizeof header_bytes);
  Writer writer(segments_.data());
  writer.put(header_bytes, header_size_);
  TagBytes tag;
  for_each_stretch(frame, tag, [&](const std::uint8_t* data, std::uint32_t size) { writer.put(data, size); });
}

void QueuePair::show_deliveries() noexcept {
  if (to_guest_) to_guest_.with([](auto& ring) { ring.show(); });
}

void QueuePair::show_returns() noexcept {
  if (from_guest_) from_guest_.with([](auto& ring) { ring.show(); });
}

void QueuePair::call(CallSignal& calls) noexcept {
  const auto wanted = [](Ring& ring) { return ring && ring.with([](auto& kind) { return kind.call_wanted(); }); };
  if (wanted(to_guest_) || greeting_due_) calls.call(call_to_guest_);
  if (wanted(from_guest_) || greeting_due_) calls.call(call_from_guest_);
  greeting_due_ = false;
}

}  // namespace patchbay::dataplane
