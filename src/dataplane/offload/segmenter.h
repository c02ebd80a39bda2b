// Cuts one large piece of TCP or UDP segmentation offload into frames of the size that its sender asked for.
//
// Theory  Each frame is the piece's headers with length, identification, sequence number, flags and checksums made
//         right, and a slice of its payload. Headers are written into the frame's private head; the payload stays where
//         it is. What the headers say of the length is not read.
// Limits  Pieces as take_needs() lets them through: TCP and UDP (USO) over IPv4 and IPv6, frames_cut_max frames.
// Threads The worker that it belongs to.
// Source  VIRTIO 1.2, section 5.1.6.2; RFC 9293; Linux Documentation/networking/segmentation-offloads.rst.
#pragma once
#include <cstdint>
#include <span>

#include "dataplane/frame/frame.h"
#include "dataplane/offload/headers.h"

namespace patchbay::dataplane {

class Segmenter {
 public:
  // Starts with `piece` (needs.gso_size is not 0), which must stay until done(), without its first `skip` frames: those that
  // have left already. If there are not as many, the last one is left over.
  void begin(const Frame& piece, std::uint32_t skip = 0) noexcept;
  // All of the piece has been given out.
  [[nodiscard]] bool done() const noexcept { return offset_ >= payload_size_; }
  // Makes the next frame: headers in `head`, its payload in `segments`, VLAN, tag and destination those of the piece. Must
  // not be called when done().
  void next(Frame& frame, std::span<std::uint8_t, head_size_max> head,
            std::span<Segment, segments_max> segments) noexcept;

 private:
  // The stretch of payload with number `i`: what is left of the head, then the rest.
  [[nodiscard]] Segment stretch(std::size_t i) const noexcept;
  void advance(std::uint32_t size) noexcept;
  std::uint16_t slice(std::uint32_t size, std::span<Segment, segments_max> segments) noexcept;
  void fix_network(std::span<std::uint8_t> head, std::uint32_t payload_size) const noexcept;
  void fix_transport(std::span<std::uint8_t> head, std::span<const Segment> payload, std::uint32_t offset,
                     bool last) const noexcept;

  Frame piece_;
  Headers headers_;
  std::uint32_t payload_size_ = 0;
  std::uint32_t offset_ = 0;  // of the next frame's payload
  std::uint32_t number_ = 0;
  std::size_t stretch_ = 0;           // where that payload starts: in which stretch,
  std::uint32_t stretch_offset_ = 0;  // and where in it
};

}  // namespace patchbay::dataplane
