// Cuts one large piece of TCP or UDP segmentation offload into frames of the size that its sender asked for.
//
// Theory  Each frame is the piece's headers with length, identification, sequence number, flags and checksums made
//         right, and a slice of its payload. Headers are written into the frame's private head; the payload stays where
//         it is.
// Limits  TCP over IPv4 and IPv6 and UDP (USO), up to two VLAN tags, eight IPv6 extension headers; headers of at most
//         head_size_max bytes. Anything else is refused by begin().
// Threads The worker that owns the port it belongs to.
// Source  VIRTIO 1.2, section 5.1.6.2; RFC 9293; Linux Documentation/networking/segmentation-offloads.rst.
#pragma once
#include <cstdint>
#include <span>

#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

class Segmenter {
 public:
  // Starts with `piece` (a whole frame, which must stay until done()), described by `header`. False: of a kind that
  // cannot be cut, and nothing was started.
  [[nodiscard]] bool begin(std::span<std::uint8_t> piece, const VnetHeader& header) noexcept;
  // All of the piece has been given out, or none was started.
  [[nodiscard]] bool done() const noexcept { return offset_ >= payload_.size(); }
  // Makes the next frame, its headers in `head` and its payload in `segment`. Must not be called when done().
  void next(Frame& frame, std::span<std::uint8_t, head_size_max> head, Segment& segment) noexcept;

 private:
  [[nodiscard]] bool parse(std::span<const std::uint8_t> piece) noexcept;
  void fix_network(std::span<std::uint8_t> head, std::uint32_t payload_size) const noexcept;
  void fix_transport(std::span<std::uint8_t> head, const Segment& payload, bool last) const noexcept;

  std::span<std::uint8_t> piece_;
  std::span<std::uint8_t> payload_;
  std::size_t offset_ = 0;  // of the next frame's payload
  std::uint32_t number_ = 0;
  std::uint16_t payload_size_max_ = 0;
  std::uint16_t network_ = 0;    // where the IP header starts
  std::uint16_t transport_ = 0;  // where the TCP or UDP header starts
  bool ipv6_ = false;
  bool udp_ = false;
};

}  // namespace patchbay::dataplane
