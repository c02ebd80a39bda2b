// What a frame still needs: taken over from the virtio-net header that came with it, if the frame itself agrees.
//
// Theory  The header is a hostile guest's as well as a kernel's. It only says what is wanted; where checksum and payload
//         are is read from the frame's own head, and a header that says otherwise is refused. So completing a checksum
//         can never write into addresses, tags or IP headers, on which decisions were made, and cutting a piece never
//         looks outside of it. hdr_len is not read at all.
// Limits  Headers and the checksum's field have to lie in the head; frames_cut_max frames of one piece. UFO (IP fragments)
//         is not spoken: for IPv6 it has no fragment id, and Linux drivers have not sent it since 4.14.
// Source  VIRTIO 1.2, section 5.1.6.2.
#pragma once
#include "dataplane/frame/frame.h"

namespace patchbay::dataplane {

// Frames that one piece may be cut into. Any piece with 256 bytes or more a frame has fewer.
inline constexpr std::uint32_t frames_cut_max = 256;

// Sets frame.needs by `header`, which may ask for what is in `allowed`. Drops the frame: as bad_offload if the header
// contradicts the frame or asks for more, as offload_unsupported if it asks for what cannot be completed here.
void take_needs(Frame& frame, const VnetHeader& header, Offloads allowed) noexcept;

// The same for a frame that a kernel gave, whole in its head, in memory that no guest can write: a checksum in a place that
// is not carried on is completed at once, so that nothing is dropped which the kernel would have finished for others.
void take_needs_of_kernel(Frame& frame, const VnetHeader& header) noexcept;

// Of a frame that needs something: it is for TCP or UDP, whose header stands behind Ethernet's and IP's, and nothing else does:
// no tag, no IPv6 extension header, no tunnel.
[[nodiscard]] bool has_plain_headers(const Frame& frame) noexcept;

}  // namespace patchbay::dataplane
