// One vnic of the generator: memory, pairs of queues, a front-end, and the frames that it sends and judges.
//
// Theory  Sender and receiver of a frame are the same thread, so what is on its way is a subtraction. Each buffer of
//         a transmit queue is prepared once a run and only stamped then (frames.h); judge.h looks at what is received.
//         With several pairs each burst goes out by the next one, and each has flows of its own, as with a guest that
//         has a CPU for each pair. In by which queue they come is the switch's choice, and order holds in a queue only.
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
#include "tests/performance/judge.h"
#include "tests/performance/shared_memory.h"
#include "tests/performance/tsc.h"

namespace patchbay::bench {

struct VnicShape {
  std::uint16_t pairs = 1;             // of queues
  std::uint16_t entries = 1024;        // of each queue
  std::uint16_t transmit_buffers = 0;  // used in turn; 0: as many as entries
  std::size_t receive_bytes = 1536;    // of each receive buffer, header included: what Linux offers for an MTU of 1500
  std::size_t frame_bytes_max = 1514;  // that it will send
  bool huge_pages = false;
  bool offloads = false;  // negotiates what TCP pieces need
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
        ring_bytes_(ring_aligned(Queue::size_bytes(shape.entries))),
        receive_at_(2 * shape.pairs * ring_bytes_),
        transmit_at_(receive_at_ + shape.pairs * shape.entries * shape.receive_bytes),
        memory_(transmit_at_ + shape.pairs * transmit_buffers(shape) * transmit_stride_, shape.huge_pages) {
    for (std::uint16_t pair = 0; pair < shape.pairs; ++pair) {
      std::uint8_t* const rings = memory_.data() + 2 * pair * ring_bytes_;
      Lane& lane = lanes_.emplace_back(pair, Queue(rings, shape.entries), Queue(rings + ring_bytes_, shape.entries));
      lane.prepared.resize(transmit_buffers(shape));
      lane.free_count = transmit_buffers(shape);
      for (std::uint16_t id = 0; id < shape.entries; ++id) offer_receive(lane, id);
      for (std::uint16_t id = 0; id < transmit_buffers(shape); ++id) lane.free.push_back(id);
      static_cast<void>(lane.receive.publish());
    }
  }

  // Again, if the back-end went away: the guest notices nothing, buffers that it offered stay offered.
  void attach(FrontEnd front_end) {
    const std::uint64_t features = f_version_1 | net_f_mrg_rxbuf | Queue::feature |
                                   (shape_.offloads ? offload_features : 0) | (shape_.pairs > 1 ? net_f_mq : 0);
    std::vector<std::size_t> queues;
    for (std::size_t ring = 0; ring < 2 * std::size_t{shape_.pairs}; ++ring) queues.push_back(ring * ring_bytes_);
    front_end.set_up(memory_, {.queues = queues, .parts = Queue::parts(shape_.entries), .entries = shape_.entries},
                     features);
    front_end_ = std::make_unique<FrontEnd>(std::move(front_end));
  }

  // Before a run: `peer` is who this vnic sends to and receives from.
  void prepare(const RunFrames& frames, const Vnic& peer) {
    template_ = make_frame(mac_, peer.mac_, frames.size, frames.gso_size);
    prepare(frames, peer.number_, make_frame(peer.mac_, mac_, frames.size, frames.gso_size));
  }

  // Before a run in which something out there sends each frame back, with its MAC addresses exchanged; `mirror`: whom
  // this vnic sends to.
  void prepare_mirrored(const RunFrames& frames, MacAddr mirror) {
    template_ = make_frame(mac_, mirror, frames.size, frames.gso_size);
    auto expected = template_;
    std::swap_ranges(expected.begin(), expected.begin() + 6, expected.begin() + 6);
    prepare(frames, number_, std::move(expected));
  }

  // Before a run of numbered frames to `peer`, which may be another process's; receive_each() takes such.
  void prepare_numbered(const RunFrames& frames, MacAddr peer) {
    template_ = make_numbered_frame(mac_, peer, frames.size);
    prepare(frames, number_, {});
  }

  // Transmit buffers that the back-end is done with are free again.
  void reclaim() noexcept {
    Used used;
    for (Lane& lane : lanes_) {
      while (lane.transmit.reap(used)) {
        lane.free[lane.free_end++ % lane.free.size()] = used.id;
        ++lane.free_count;
      }
    }
  }
  // Frames sent that the back-end is not done with.
  [[nodiscard]] std::size_t under_way() const noexcept {
    std::size_t count = 0;
    for (const Lane& lane : lanes_) count += lane.free.size() - lane.free_count;
    return count;
  }
  // Of the pair that is next.
  [[nodiscard]] std::size_t room() const noexcept { return lanes_[next_lane_].free_count; }

  // Sends `count` frames, at most room().
  void send(std::size_t count) noexcept {
    if (count == 0) return;
    Lane& lane = lanes_[next_lane_];
    if (++next_lane_ == lanes_.size()) next_lane_ = 0;
    for (std::size_t ahead = 0; ahead < count; ++ahead) {
      prefetch_to_write(transmit_buffer(lane, lane.free[(lane.free_begin + ahead) % lane.free.size()]));
    }
    const auto now = static_cast<std::uint32_t>(tsc());
    for (; count != 0; --count) {
      const std::uint16_t id = lane.free[lane.free_begin++ % lane.free.size()];
      --lane.free_count;
      std::uint8_t* const at = transmit_buffer(lane, id);
      if (lane.prepared[id] != frames_.run) {
        std::ranges::copy(make_net_header(frames_.gso_size), at);
        std::memcpy(at + net_header_bytes, template_.data(), template_.size());
        lane.prepared[id] = frames_.run;
      }
      const auto sequence = static_cast<std::uint32_t>(arrivals_.counts.sent);
      if (frames_.first_number) {
        store_be32(at + net_header_bytes + number_offset, *frames_.first_number + sequence);
      } else {
        stamp(at + net_header_bytes, stamp_offset(frames_.gso_size),
              {.run = frames_.run, .target = peer_number_, .sequence = sequence, .cycles = now}, next_flow(lane));
      }
      ++arrivals_.counts.sent;
      offer_transmit(lane, id, at);
    }
    if (lane.transmit.publish()) kick(2 * lane.number + 1U);
  }

  // Takes what has arrived and offers the buffers again; latencies in cycles go to `latency`. How many buffers came.
  std::size_t receive(Histogram& latency) noexcept {
    std::size_t count = 0;
    for (Lane& lane : lanes_) {
      count += receive(lane, [&](const std::uint8_t* data, std::size_t size, std::uint32_t now) {
        lane.judge.take(data, size, now, latency, arrivals_);
      });
    }
    return count;
  }
  // The same, but take(bytes of the frame) judges. The frames fit into one buffer each.
  template <typename Take>
  std::size_t receive_each(Take&& take) noexcept {
    std::size_t count = 0;
    for (Lane& lane : lanes_) {
      count += receive(lane, [&](const std::uint8_t* data, std::size_t size, std::uint32_t) {
        take(std::span(data, size).subspan(std::min(size, net_header_bytes)));
      });
    }
    return count;
  }

  // Frames of this run that fit into all receive buffers together.
  [[nodiscard]] std::size_t frames_received_at_once() const noexcept {
    const std::size_t buffers = (net_header_bytes + frames_.size + shape_.receive_bytes - 1) / shape_.receive_bytes;
    const std::size_t segments = frames_.may_be_cut ? frames_.size / frames_.gso_size + 1 : 1;
    return shape_.entries / std::max(buffers, segments);  // of one queue: they may all come by the same
  }
  // Sequence number that the next frame from the peer has, if none is lost.
  [[nodiscard]] std::uint64_t next_expected() const noexcept { return arrivals_.next_expected; }
  // The order in which the peer's frames came.
  [[nodiscard]] const Sequence& sequence() const noexcept { return arrivals_.sequence; }
  [[nodiscard]] const VnicCounts& counts() const noexcept { return arrivals_.counts; }
  [[nodiscard]] bool back_end_wants_kicks() const noexcept { return lanes_[0].transmit.wants_kicks(); }
  [[nodiscard]] bool is_detached() { return front_end_->is_closed(); }
  [[nodiscard]] const VnicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint64_t features() const noexcept { return front_end_->features(); }

 private:
  // A pair of queues.
  struct Lane {
    Lane(std::uint16_t pair, Queue&& receive_queue, Queue&& transmit_queue)
        : number(pair), receive(std::move(receive_queue)), transmit(std::move(transmit_queue)) {}

    std::uint16_t number;
    Queue receive;
    Queue transmit;
    Judge judge;
    std::uint32_t flow = 0;               // of those that this pair sends, the last
    std::vector<std::uint32_t> prepared;  // the run that each transmit buffer was prepared for
    // Free transmit buffers: a ring of numbers.
    std::vector<std::uint16_t> free;
    std::size_t free_begin = 0;
    std::size_t free_end = 0;
    std::size_t free_count = 0;
  };

  static constexpr std::size_t receive_batch = 64;
  static constexpr std::size_t fragment_bytes = 32768;  // of a socket's page fragments in Linux
  static constexpr std::size_t parts_max = 1 + (frame_bytes_max + fragment_bytes - 1) / fragment_bytes;

  [[nodiscard]] static std::size_t transmit_buffers(const VnicShape& shape) noexcept {
    return shape.transmit_buffers != 0 ? std::min(shape.transmit_buffers, shape.entries) : shape.entries;
  }

  void prepare(const RunFrames& frames, std::uint32_t peer_number, std::vector<std::uint8_t> expected) {
    frames_ = frames;
    peer_number_ = peer_number;
    arrivals_ = {};
    for (Lane& lane : lanes_) {
      lane.judge.prepare(frames, number_, expected);
      lane.flow = 0;
    }
  }

  template <typename Take>
  std::size_t receive(Lane& lane, Take&& take) noexcept {
    std::array<Used, receive_batch> batch;
    std::size_t count = 0;
    // All are asked for before the first is looked at: the lines are in another core's cache.
    while (count < batch.size() && lane.receive.reap(batch[count])) {
      prefetch_to_read(receive_buffer(lane, batch[count++].id));
    }
    if (count == 0) return 0;
    const auto now = static_cast<std::uint32_t>(tsc());
    for (const Used& used : std::span(batch).first(count)) {
      take(receive_buffer(lane, used.id), std::min<std::size_t>(used.written, shape_.receive_bytes), now);
      offer_receive(lane, used.id);
    }
    if (lane.receive.publish()) kick(2 * std::size_t{lane.number});
    return count;
  }

  [[nodiscard]] std::uint8_t* transmit_buffer(const Lane& lane, std::uint16_t id) const noexcept {
    const std::size_t index = lane.number * transmit_buffers(shape_) + id;
    return memory_.data() + transmit_at_ + index * transmit_stride_ + table_bytes_;
  }
  [[nodiscard]] std::uint8_t* receive_buffer(const Lane& lane, std::uint16_t id) const noexcept {
    const std::size_t index = std::size_t{lane.number} * shape_.entries + id;
    return memory_.data() + receive_at_ + index * shape_.receive_bytes;
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

  void offer_receive(Lane& lane, std::uint16_t id) noexcept {
    lane.receive.offer(id, guest_address(receive_buffer(lane, id)), static_cast<std::uint32_t>(shape_.receive_bytes),
                       true);
  }
  void offer_transmit(Lane& lane, std::uint16_t id, std::uint8_t* at) noexcept {
    const std::size_t size = net_header_bytes + frames_.size;
    if (frames_.gso_size == 0) {
      lane.transmit.offer(id, guest_address(at), static_cast<std::uint32_t>(size), false);
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
    lane.transmit.offer_table(id, table, guest_address(table), std::span(parts).first(count));
  }
  void kick(std::size_t ring) noexcept {
    front_end_->kick(ring);
    ++arrivals_.counts.kicks;
  }
  [[nodiscard]] static std::uint32_t address_behind(std::uint32_t vnic, std::uint32_t index) noexcept {
    return 0x80000000U | vnic << 20 | index;
  }
  // Pair n of p has the flows n, n + p, n + 2 p, …
  [[nodiscard]] Flow next_flow(Lane& lane) noexcept {
    const auto pairs = static_cast<std::uint32_t>(lanes_.size());
    if (++lane.flow >= (frames_.flows + pairs - 1) / pairs) lane.flow = 0;
    const std::uint32_t flow = lane.flow * pairs + lane.number;
    if (frames_.macs == 0) return {.number = flow};
    if (++mac_index_ >= frames_.macs) mac_index_ = 0;
    return {.number = flow,
            .source = address_behind(number_, mac_index_),
            .destination = address_behind(peer_number_, mac_index_)};
  }

  const std::uint32_t number_;
  const MacAddr mac_;
  const VnicShape shape_;
  const std::size_t table_bytes_;  // before each transmit buffer
  const std::size_t transmit_stride_;
  const std::size_t ring_bytes_;
  const std::size_t receive_at_;  // offsets in the memory, which begins with the rings
  const std::size_t transmit_at_;
  SharedMemory memory_;
  std::vector<Lane> lanes_;
  std::size_t next_lane_ = 0;
  std::unique_ptr<FrontEnd> front_end_;

  RunFrames frames_;
  std::uint32_t peer_number_ = 0;
  std::vector<std::uint8_t> template_;
  std::uint32_t mac_index_ = 0;
  Arrivals arrivals_;
};

}  // namespace patchbay::bench
