// Merges consecutive TCP segments of a burst to large pieces: receive coalescing (GRO) for uplinks whose driver gives bare
// frames of the wire.
//
// Theory  The reverse of the Segmenter, which cuts such a piece into the same frames again, byte for byte: two frames are
//         merged only if all their headers are equal but for what the Segmenter makes anew. Both checksums of each
//         are verified before, in software; whoever takes the piece need not look at them. Payload stays where it is. The
//         piece is the first of its frames, with its headers changed in place.
//         Each open piece is one flow. A frame of a flow that cannot join the flow's piece closes it and stays behind it,
//         so no flow changes its order; nor does a fragment, which closes all pieces, for it does not say of which flow it is.
//         The checks are in the order of their cost: frames that are no TCP, or too short to be worth a piece, are told by
//         their first line, and only of frames that follow each other checksums are read.
// Limits  Within one burst. open_max flows at a time; one more closes another. A piece: piece_size_max bytes, less than
//         segments_max segments. Frames with IP options, extension headers, padding, SYN, RST, URG or CWR are left alone.
// Threads The worker that it belongs to.
// Source  RFC 9293; Linux Documentation/networking/segmentation-offloads.rst; the conditions are those of Linux's GRO, and
//         the window, which may not differ here.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/byte_order.h"
#include "dataplane/frame/frame.h"
#include "dataplane/offload/headers.h"

namespace patchbay::dataplane {

class Coalescer {
 public:
  static constexpr std::size_t open_max = 8;
  static constexpr std::uint32_t piece_size_max = 65535;
  static constexpr std::uint32_t opening_size_min = 128;  // a shorter frame starts no piece

  // Frames that are gone from the burst, and the bytes of their headers: those that no frame has any more.
  struct Merged {
    std::size_t frames = 0;
    std::uint64_t bytes = 0;
  };

  // Merges the first `count` frames of `burst`, which may be written to, as far as they go one way (Action::unicast), and
  // closes the gaps. takes(const Frame&) gives what that way does by itself: nothing is merged that had to be cut for it.
  // The list of frame i's segments, if it has any, is burst.segments_of(i).
  template <typename Takes>
  [[nodiscard]] Merged merge(Burst& burst, std::size_t count, Takes takes) noexcept;

 private:
  struct Segmented {  // what has to be known of a frame of TCP
    Headers headers;
    std::uint64_t flow = 0;  // equal for frames of one flow, and hardly for others
    std::uint16_t header_size = 0;
    std::uint32_t payload = 0;  // bytes
    bool joins = false;         // may be part of a piece
  };
  struct Piece {
    Frame* frame = nullptr;
    Segment* segments = nullptr;
    Segmented first;
    std::uint32_t frames = 1;
    std::uint32_t next_sequence = 0;
    std::uint8_t last_flags = 0;  // FIN and PSH of its last frame
    bool verified = false;        // the first frame's checksums
  };

  // Most frames need no more than this.
  [[nodiscard]] static bool may_be_tcp(const Frame& frame) noexcept;
  // Nothing if it is not, or says nothing of its flow; then, if it is a fragment, all pieces are closed.
  [[nodiscard]] bool read(const Frame& frame, Segmented& segmented) noexcept;
  // Adds it to its flow's piece, or closes that.
  [[nodiscard]] bool join(const Frame& frame, const Segmented& segmented) noexcept;
  void open(Frame& frame, const Segmented& segmented, Segment* segments) noexcept;
  void close(std::size_t at) noexcept;
  void close_all() noexcept;
  [[nodiscard]] static bool follows(const Piece& piece, const Frame& frame, const Segmented& segmented) noexcept;
  static void add(Piece& piece, const Frame& frame, const Segmented& segmented) noexcept;
  static void finish(const Piece& piece) noexcept;

  std::array<std::uint64_t, open_max> flows_{};  // of the pieces that are open
  std::array<Piece, open_max> open_;
  std::size_t open_count_ = 0;
  std::size_t closed_next_ = 0;  // when all are open: in turn
};

inline bool Coalescer::may_be_tcp(const Frame& frame) noexcept {
  constexpr std::size_t size_min = ethernet_header_size + 20 + tcp_header_min;
  if (frame.head_size < size_min || frame.needs.offloads != 0) return false;
  const std::uint16_t type = load_be16(frame.head + addresses_size);
  if (type == 0x0800) return frame.head[ethernet_header_size + 9] == protocol_tcp;
  if (type == 0x86DD) {
    const std::uint8_t next = frame.head[ethernet_header_size + 6];
    return next == protocol_tcp || next == 0 || next == 43 || next == 44 || next == 60;  // or an extension header
  }
  return type == tpid_8021q || type == tpid_8021ad || type == tpid_9100;
}

template <typename Takes>
Coalescer::Merged Coalescer::merge(Burst& burst, std::size_t count, Takes takes) noexcept {
  Merged merged;
  if (count < 2) return merged;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Frame& frame = burst.frames[i];
    Segmented segmented;
    bool opens = false;
    if (frame.action == Action::unicast && may_be_tcp(frame)) {
      const Offloads taken = frame.size < opening_size_min ? Offloads{0} : takes(frame);
      const bool may_open = (taken & (offload_tso4 | offload_tso6)) != 0;
      if ((may_open || open_count_ != 0) && read(frame, segmented)) {
        if (open_count_ != 0 && join(frame, segmented)) {
          ++merged.frames;
          merged.bytes += segmented.header_size;
          continue;
        }
        opens = segmented.joins && (taken & (segmented.headers.ipv6 ? offload_tso6 : offload_tso4)) != 0;
      }
    }
    if (kept != i) burst.frames[kept] = frame;
    if (opens) open(burst.frames[kept], segmented, burst.segments_of(i).data());
    ++kept;
  }
  close_all();
  return merged;
}

}  // namespace patchbay::dataplane
