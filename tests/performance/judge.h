// Judges what arrives in the buffers of one receive queue: frames of this run or not, for this vnic or not, whole or not.
//
// Theory  A frame is judged by its stamp, its length and its virtio-net header; every byte is looked at where asked. It may
//         fill several buffers, which follow each other in their queue: so each queue has a judge, and all judges of a
//         vnic add to the same counts.
// Limits  Where TCP pieces may be cut, those of one flow have to arrive in order, one after the other.
// Threads One.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/byte_order.h"
#include "tests/performance/frames.h"
#include "tests/performance/histogram.h"
#include "tests/performance/sequence.h"

namespace patchbay::bench {

// What all frames of one measurement have in common.
struct RunFrames {
  std::uint32_t run = 0;  // from 1
  std::size_t size = 64;
  std::uint16_t gso_size = 0;  // payload of each segment of a TCP piece; 0: UDP frames
  bool may_be_cut = false;     // whoever is on the way may cut TCP pieces; one has arrived once all of its payload has
  std::uint32_t flows = 1;
  std::uint32_t macs = 0;    // addresses behind a vnic, which its frames come from and its peer's go to; 0: its own
  bool check_bytes = false;  // compares every byte of received frames, not only the stamp
  // Frames with nothing but a number, from this one on (make_numbered_frame()); numbers.h judges those.
  std::optional<std::uint32_t> first_number = std::nullopt;
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

// What came to a vnic over all of its queues.
struct Arrivals {
  VnicCounts counts;
  std::uint64_t next_expected = 0;  // sequence number that the next frame has, if none is lost
  Sequence sequence;

  void see(std::uint32_t number) noexcept {
    sequence.see(number);
    const auto ahead = static_cast<std::uint32_t>(number - static_cast<std::uint32_t>(next_expected));
    if (ahead > UINT32_MAX / 2) {
      ++counts.reordered;
    } else {
      next_expected += ahead + std::uint64_t{1};
    }
  }
};

class Judge {
 public:
  // Before a run. `expected`: what frames for vnic `number` look like, but for flow and stamp.
  void prepare(const RunFrames& frames, std::uint32_t number, std::vector<std::uint8_t> expected) {
    frames_ = frames;
    number_ = number;
    expected_ = std::move(expected);
    piece_size_ = 0;
  }

  // A used buffer is a frame, or a piece of one that began in an earlier buffer.
  void take(const std::uint8_t* data, std::size_t size, std::uint32_t now, Histogram& latency,
            Arrivals& arrivals) noexcept {
    if (pieces_left_ == 0) {
      if (size < net_header_bytes + (frames_.may_be_cut ? piece_header_bytes : frame_bytes_least(frames_.gso_size))) {
        ++arrivals.counts.stray;
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
      } else if (!continue_piece(data, arrivals.counts)) {
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
    judge(now, latency, arrivals);
  }

 private:
  // A frame with some of a TCP piece begins: the first of it, which has the stamp, or what follows on the last one. False,
  // and the frame counts for nothing, if it is neither: then some of the piece is lost.
  [[nodiscard]] bool continue_piece(const std::uint8_t* frame, VnicCounts& counts) noexcept {
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

  void judge(std::uint32_t now, Histogram& latency, Arrivals& arrivals) const noexcept {
    VnicCounts& counts = arrivals.counts;
    if (stamp_.run != frames_.run) {
      ++counts.stray;
    } else if (stamp_.target != number_) {
      ++counts.misdelivered;
    } else if (frame_size_ != frames_.size || damage_ != nullptr) {
      if (counts.damaged++ == 0) counts.first_damage = damage_ != nullptr ? damage_ : "length";
    } else {
      ++counts.received;
      latency.add(now - stamp_.cycles);
      arrivals.see(stamp_.sequence);
    }
  }

  RunFrames frames_;
  std::uint32_t number_ = 0;
  std::vector<std::uint8_t> expected_;

  // The frame that is being received.
  std::uint16_t pieces_left_ = 0;
  std::size_t frame_size_ = 0;
  std::size_t piece_size_ = 0;    // of the TCP piece, where it may be cut, headers included
  const char* damage_ = nullptr;  // what is wrong with it
  Stamp stamp_;
};

}  // namespace patchbay::bench
