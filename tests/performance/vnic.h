// One vnic of the generator: memory, two queues, a front-end, and the frames that it sends and judges.
//
// Theory  Sender and receiver of a frame are the same thread, so what is on its way is a subtraction. Each buffer of
//         the transmit queue is prepared once a run and only stamped then (frames.h). A received frame is judged by its
//         stamp; damage beyond that is looked for where asked.
//         A TCP piece goes out as Linux sends it: a table of its headers and of page fragments of its payload.
// Limits  Frames of up to frame_bytes_max; larger ones than a receive buffer come in several (mergeable buffers).
// Threads One.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/mac_addr.h"
#include "tests/performance/driver_queue.h"
#include "tests/performance/frames.h"
#include "tests/performance/front_end.h"
#include "tests/performance/histogram.h"
#include "tests/performance/sequence.h"
#include "tests/performance/shared_memory.h"
#include "tests/performance/tsc.h"

namespace patchbay::bench {

struct VnicShape {
  std::uint16_t entries = 1024;        // of each queue
  std::uint16_t transmit_buffers = 0;  // used in turn; 0: as many as entries
  std::size_t receive_bytes = 2048;    // of each receive buffer, header included
  std::size_t frame_bytes_max = 1514;  // that it will send
  bool huge_pages = false;
  bool offloads = false;  // negotiates what TCP pieces need
};

// What all frames of one measurement have in common.
struct RunFrames {
  std::uint32_t run = 0;  // from 1
  std::size_t size = 64;
  std::uint16_t gso_size = 0;  // payload of each segment of a TCP piece; 0: UDP frames
  bool may_be_cut = false;     // whoever is on the way may cut TCP pieces; one has arrived once all of its payload has
  std::uint32_t flows = 1;
  std::uint32_t macs = 0;    // addresses behind a vnic, which its frames come from and its peer's go to; 0: its own
  bool check_bytes = false;  // compares every byte of received frames, not only the stamp
};

struct VnicCounts {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t misdelivered = 0;  // of this run, for another vnic
  std::uint64_t damaged = 0;       // wrong length or bytes
  std::uint64_t reordered = 0;     // older than one that came before, or a second time
  std::uint64_t stray = 0;         // of another run, or not ours at all
  std::uint64_t kicks = 0;
  const char* first_damage = "";  // what was wrong with the first that was damaged
};

template <typename Queue>
class Vnic {
 public:
  Vnic(std::uint32_t number, MacAddr mac, const VnicShape& shape)
      : number_(number),
        mac_(mac),
        shape_(shape),
        table_bytes_(shape.offloads ? ring_aligned(parts_max * table_entry_bytes) : 0),
        transmit_stride_(table_bytes_ + ring_aligned(net_header_bytes + shape.frame_bytes_max)),
        receive_at_(2 * ring_aligned(Queue::size_bytes(shape.entries))),
        transmit_at_(receive_at_ + shape.entries * shape.receive_bytes),
        memory_(transmit_at_ + transmit_buffers(shape) * transmit_stride_, shape.huge_pages),
        receive_(memory_.data(), shape.entries),
        transmit_(memory_.data() + receive_at_ / 2, shape.entries) {
    prepared_.resize(transmit_buffers(shape));
    for (std::uint16_t id = 0; id < shape.entries; ++id) offer_receive(id);
    for (std::uint16_t id = 0; id < transmit_buffers(shape); ++id) free_.push_back(id);
    static_cast<void>(receive_.publish());
  }

  // Again, if the back-end went away: the guest notices nothing, buffers that it offered stay offered.
  void attach(FrontEnd front_end) {
    const std::uint64_t features =
        f_version_1 | net_f_mrg_rxbuf | Queue::feature | (shape_.offloads ? offload_features : 0);
    front_end.set_up(memory_,
                     {.queues = {0, receive_at_ / 2}, .parts = Queue::parts(shape_.entries), .entries = shape_.entries},
                     features);
    front_end_ = std::make_unique<FrontEnd>(std::move(front_end));
  }

  // Before a run: `peer` is who this vnic sends to and receives from.
  void prepare(const RunFrames& frames, const Vnic& peer) {
    prepare(frames, peer.number_);
    template_ = make_frame(mac_, peer.mac_, frames.size, frames.gso_size);
    expected_ = make_frame(peer.mac_, mac_, frames.size, frames.gso_size);
  }

  // Before a run in which something out there sends each frame back, with its MAC addresses exchanged; `mirror`: whom
  // this vnic sends to.
  void prepare_mirrored(const RunFrames& frames, MacAddr mirror) {
    prepare(frames, number_);
    template_ = make_frame(mac_, mirror, frames.size, frames.gso_size);
    expected_ = template_;
    std::swap_ranges(expected_.begin(), expected_.begin() + 6, expected_.begin() + 6);
  }

  // Transmit buffers that the back-end is done with are free again.
  void reclaim() noexcept {
    Used used;
    while (transmit_.reap(used)) {
      free_[free_end_++ % free_.size()] = used.id;
      ++free_count_;
    }
  }
  [[nodiscard]] std::size_t room() const noexcept { return free_count_; }

  // Sends `count` frames, at most room().
  void send(std::size_t count) noexcept {
    if (count == 0) return;
    for (std::size_t ahead = 0; ahead < count; ++ahead) {
      prefetch_to_write(transmit_buffer(free_[(free_begin_ + ahead) % free_.size()]));
    }
    const auto now = static_cast<std::uint32_t>(tsc());
    for (; count != 0; --count) {
      const std::uint16_t id = free_[free_begin_++ % free_.size()];
      --free_count_;
      std::uint8_t* const at = transmit_buffer(id);
      if (prepared_[id] != frames_.run) {
        std::ranges::copy(make_net_header(frames_.gso_size), at);
        std::memcpy(at + net_header_bytes, template_.data(), template_.size());
        prepared_[id] = frames_.run;
      }
      stamp(at + net_header_bytes, stamp_offset(frames_.gso_size),
            {.run = frames_.run,
             .target = peer_number_,
             .sequence = static_cast<std::uint32_t>(counts.sent),
             .cycles = now},
            next_flow());
      ++counts.sent;
      offer_transmit(id, at);
    }
    if (transmit_.publish()) kick(1);
  }

  // Takes what has arrived and offers the buffers again; latencies in cycles go to `latency`. How many buffers came.
  std::size_t receive(Histogram& latency) noexcept {
    std::array<Used, receive_batch> batch;
    std::size_t count = 0;
    // All are asked for before the first is looked at: the lines are in another core's cache.
    while (count < batch.size() && receive_.reap(batch[count])) prefetch_to_read(receive_buffer(batch[count++].id));
    if (count == 0) return 0;
    const auto now = static_cast<std::uint32_t>(tsc());
    for (const Used& used : std::span(batch).first(count)) {
      take(used, now, latency);
      offer_receive(used.id);
    }
    if (receive_.publish()) kick(0);
    return count;
  }

  // Frames of this run that fit into all receive buffers together.
  [[nodiscard]] std::size_t frames_received_at_once() const noexcept {
    const std::size_t buffers = (net_header_bytes + frames_.size + shape_.receive_bytes - 1) / shape_.receive_bytes;
    const std::size_t segments = frames_.may_be_cut ? frames_.size / frames_.gso_size + 1 : 1;
    return shape_.entries / std::max(buffers, segments);
  }
  // Sequence number that the next frame from the peer has, if none is lost.
  [[nodiscard]] std::uint64_t next_expected() const noexcept { return next_expected_; }
  // The order in which the peer's frames came.
  [[nodiscard]] const Sequence& sequence() const noexcept { return sequence_; }
  [[nodiscard]] bool back_end_wants_kicks() const noexcept { return transmit_.wants_kicks(); }
  [[nodiscard]] bool is_detached() { return front_end_->is_closed(); }
  [[nodiscard]] const VnicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint64_t features() const noexcept { return front_end_->features(); }

  VnicCounts counts;

 private:
  static constexpr std::size_t receive_batch = 64;
  static constexpr std::size_t fragment_bytes = 32768;  // of a socket's page fragments in Linux
  static constexpr std::size_t parts_max = 1 + (frame_bytes_max + fragment_bytes - 1) / fragment_bytes;

  [[nodiscard]] static std::size_t transmit_buffers(const VnicShape& shape) noexcept {
    return shape.transmit_buffers != 0 ? std::min(shape.transmit_buffers, shape.entries) : shape.entries;
  }

  void prepare(const RunFrames& frames, std::uint32_t peer_number) {
    frames_ = frames;
    peer_number_ = peer_number;
    counts = {};
    next_expected_ = 0;
    sequence_ = {};
    flow_ = {};
    piece_size_ = 0;
  }

  [[nodiscard]] std::uint8_t* transmit_buffer(std::uint16_t id) const noexcept {
    return memory_.data() + transmit_at_ + id * transmit_stride_ + table_bytes_;
  }
  [[nodiscard]] std::uint8_t* receive_buffer(std::uint16_t id) const noexcept {
    return memory_.data() + receive_at_ + id * shape_.receive_bytes;
  }
  [[nodiscard]] std::uint64_t guest_address(const std::uint8_t* at) const noexcept {
    return guest_base + static_cast<std::uint64_t>(at - memory_.data());
  }
  // The two lines that header and stamp lie in.
  static void prefetch_to_write(const std::uint8_t* at) noexcept {
    asm volatile("prefetchw %0\n\tprefetchw %1" ::"m"(*at), "m"(*(at + 64)));
  }
  static void prefetch_to_read(const std::uint8_t* at) noexcept {
    __builtin_prefetch(at);
    __builtin_prefetch(at + 64);
  }

  void offer_receive(std::uint16_t id) noexcept {
    receive_.offer(id, guest_address(receive_buffer(id)), static_cast<std::uint32_t>(shape_.receive_bytes), true);
  }
  void offer_transmit(std::uint16_t id, std::uint8_t* at) noexcept {
    const std::size_t size = net_header_bytes + frames_.size;
    if (frames_.gso_size == 0) {
      transmit_.offer(id, guest_address(at), static_cast<std::uint32_t>(size), false);
      return;
    }
    std::array<Part, parts_max> parts;
    std::size_t count = 0;
    std::size_t from = 0;
    std::size_t part_bytes = net_header_bytes + piece_header_bytes;
    for (; from < size; from += part_bytes, part_bytes = fragment_bytes) {
      part_bytes = std::min(part_bytes, size - from);
      parts[count++] = {.address = guest_address(at + from), .size = static_cast<std::uint32_t>(part_bytes)};
    }
    std::uint8_t* const table = at - table_bytes_;
    transmit_.offer_table(id, table, guest_address(table), std::span(parts).first(count));
  }
  void kick(std::size_t ring) noexcept {
    front_end_->kick(ring);
    ++counts.kicks;
  }
  [[nodiscard]] static std::uint32_t address_behind(std::uint32_t vnic, std::uint32_t index) noexcept {
    return 0x80000000U | vnic << 20 | index;
  }
  [[nodiscard]] Flow next_flow() noexcept {
    if (++flow_.number >= frames_.flows) flow_.number = 0;
    if (frames_.macs == 0) return flow_;
    if (++mac_index_ >= frames_.macs) mac_index_ = 0;
    return {.number = flow_.number,
            .source = address_behind(number_, mac_index_),
            .destination = address_behind(peer_number_, mac_index_)};
  }

  // A used buffer is a frame, or a piece of one that began in an earlier buffer.
  void take(const Used& used, std::uint32_t now, Histogram& latency) noexcept {
    const std::uint8_t* data = receive_buffer(used.id);
    std::size_t size = std::min<std::size_t>(used.written, shape_.receive_bytes);
    if (pieces_left_ == 0) {
      if (size < net_header_bytes + (frames_.may_be_cut ? piece_header_bytes : frame_bytes_least(frames_.gso_size))) {
        ++counts.stray;
        return;
      }
      std::uint16_t pieces = 0;
      std::memcpy(&pieces, data + net_header_bytes - 2, sizeof pieces);
      pieces_left_ = std::max<std::uint16_t>(pieces, 1);
      const bool intact = frames_.gso_size == 0 || frames_.may_be_cut || is_net_header_intact(data, frames_.gso_size);
      damage_ = intact ? nullptr : "virtio-net header";
      data += net_header_bytes;
      size -= net_header_bytes;
      frame_size_ = 0;
      if (!frames_.may_be_cut) {
        stamp_ = stamp_of(data, stamp_offset(frames_.gso_size));
      } else if (!continue_piece(data)) {
        return;
      }
    }
    if (frames_.check_bytes && damage_ == nullptr) check_bytes({data, size});
    frame_size_ += size;
    if (--pieces_left_ != 0) return;
    if (frames_.may_be_cut) {
      piece_size_ += frame_size_ - piece_header_bytes;
      if (piece_size_ < frames_.size && damage_ == nullptr) return;  // more is to come
      frame_size_ = piece_size_;
    }
    judge(now, latency);
  }

  // A frame with some of a TCP piece begins: the first of it, which has the stamp, or what follows on the last one. False,
  // and the frame counts for nothing, if it is neither: then some of the piece is lost.
  [[nodiscard]] bool continue_piece(const std::uint8_t* frame) noexcept {
    constexpr std::uint16_t ipv4 = 0x0800;
    const bool is_ours = load_be16(frame + 12) == ipv4 && frame[23] == 6;
    const std::size_t at = piece_header_bytes + load_be32(frame + ports_offset + 4) - 1;
    if (is_ours && at == piece_header_bytes) {
      stamp_ = stamp_of(frame, piece_header_bytes);
    } else if (!is_ours || at != piece_size_) {
      pieces_left_ = 0;
      ++counts.stray;
      return false;
    }
    piece_size_ = at;
    return true;
  }

  // The piece of the frame that starts at frame_size_; flow and stamp are compared by judge() alone.
  void check_bytes(std::span<const std::uint8_t> piece) noexcept {
    std::size_t from = 0;
    if (frames_.may_be_cut) {
      // Headers are another's from the second frame on.
      from = frame_size_ != 0 ? 0 : piece_header_bytes + (piece_size_ == piece_header_bytes ? stamp_bytes : 0);
      const std::size_t at =
          piece_size_ + (frame_size_ != 0 ? frame_size_ - piece_header_bytes : from - piece_header_bytes);
      if (at + piece.size() - from > expected_.size() ||
          std::memcmp(piece.data() + from, expected_.data() + at, piece.size() - from) != 0) {
        damage_ = "payload";
      }
      return;
    }
    if (frame_size_ == 0) {
      const std::size_t stamp_at = stamp_offset(frames_.gso_size);
      const std::size_t checked_head = frames_.macs == 0 ? 6 : 2;  // of the destination
      constexpr std::size_t type_at = 12;                          // of Ethernet; then come IP and the ports
      constexpr std::size_t after_ports = ports_offset + 4;
      const auto is_same = [&](std::size_t begin, std::size_t end) {
        return std::memcmp(piece.data() + begin, expected_.data() + begin, end - begin) == 0;
      };
      if (!is_same(0, checked_head)) damage_ = "destination";
      if (!is_same(type_at, ports_offset)) damage_ = "type or IP header";
      if (frames_.gso_size == 0) {
        if (!is_same(after_ports, stamp_at)) damage_ = "UDP header";
      } else {
        const bool same = is_same(after_ports, piece_checksum_offset) && is_same(piece_checksum_offset + 2, stamp_at);
        if (!same || !has_pseudo_checksum(piece.data(), frames_.size)) damage_ = "TCP header";
      }
      from = stamp_at + stamp_bytes;
    }
    if (frame_size_ + piece.size() > expected_.size()) {
      damage_ = "length";
    } else if (std::memcmp(piece.data() + from, expected_.data() + frame_size_ + from, piece.size() - from) != 0) {
      damage_ = "payload";
    }
  }

  void judge(std::uint32_t now, Histogram& latency) noexcept {
    if (stamp_.run != frames_.run) {
      ++counts.stray;
    } else if (stamp_.target != number_) {
      ++counts.misdelivered;
    } else if (frame_size_ != frames_.size || damage_ != nullptr) {
      if (counts.damaged++ == 0) counts.first_damage = damage_ != nullptr ? damage_ : "length";
    } else {
      ++counts.received;
      latency.add(now - stamp_.cycles);
      sequence_.see(stamp_.sequence);
      const auto ahead = static_cast<std::uint32_t>(stamp_.sequence - static_cast<std::uint32_t>(next_expected_));
      if (ahead > UINT32_MAX / 2) {
        ++counts.reordered;
      } else {
        next_expected_ += ahead + std::uint64_t{1};
      }
    }
  }

  const std::uint32_t number_;
  const MacAddr mac_;
  const VnicShape shape_;
  const std::size_t table_bytes_;  // before each transmit buffer
  const std::size_t transmit_stride_;
  const std::size_t receive_at_;  // offsets in the memory; half of it is where the transmit queue starts
  const std::size_t transmit_at_;
  SharedMemory memory_;
  Queue receive_;
  Queue transmit_;
  std::unique_ptr<FrontEnd> front_end_;

  RunFrames frames_;
  std::uint32_t peer_number_ = 0;
  std::vector<std::uint8_t> template_;
  std::vector<std::uint8_t> expected_;
  Flow flow_;
  std::uint32_t mac_index_ = 0;
  std::vector<std::uint32_t> prepared_;  // the run that each transmit buffer was prepared for
  std::uint64_t next_expected_ = 0;
  Sequence sequence_;

  // Free transmit buffers: a ring of numbers.
  std::vector<std::uint16_t> free_;
  std::size_t free_begin_ = 0;
  std::size_t free_end_ = 0;
  std::size_t free_count_ = transmit_buffers(shape_);

  // The frame that is being received.
  std::uint16_t pieces_left_ = 0;
  std::size_t frame_size_ = 0;
  std::size_t piece_size_ = 0;    // of the TCP piece, where it may be cut, headers included
  const char* damage_ = nullptr;  // what is wrong with it
  Stamp stamp_;
};

}  // namespace patchbay::bench
