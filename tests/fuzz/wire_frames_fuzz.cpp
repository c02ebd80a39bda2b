// Frames from the wire, with a virtio-net header of any content: judging what they need, completing checksums, cutting
// pieces and classifying must stay within the frame, and what is cut must add up to what came in. Then the same frame at
// a port of each VLAN mode: what may go on is in a VLAN of its sender, and goes to one who hears that.
//
// Input   struct virtio_net_hdr of 10 bytes, then the frame.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dataplane/offload/checksum.h"
#include "dataplane/offload/needs.h"
#include "dataplane/offload/segmenter.h"
#include "tests/support/every_mode.h"

using namespace patchbay;
using namespace patchbay::dataplane;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < vnet_header_size_legacy || size > frame_size_max) return 0;
  VnetHeader header;
  std::memcpy(static_cast<void*>(&header), data, vnet_header_size_legacy);
  std::vector<std::uint8_t> bytes(data + vnet_header_size_legacy, data + size);
  static_cast<void>(complete_checksum(bytes, header.csum_start, header.csum_offset));

  std::vector<std::uint8_t> again(data + vnet_header_size_legacy, data + size);
  Frame whole;
  whole.head = again.data();
  whole.size = static_cast<std::uint32_t>(again.size());
  whole.head_size = std::min<std::uint32_t>(whole.size, head_size_max);
  Segment rest = {again.data() + whole.head_size, whole.size - whole.head_size};
  whole.rest = &rest;
  whole.rest_count = rest.size == 0 ? 0 : 1;
  take_needs(whole, header, offload_all);
  const bool taken = whole.action != Action::drop && whole.needs.offloads != 0;
  if (taken && whole.needs.gso_size == 0) complete_checksum(whole);
  if (taken && whole.needs.gso_size != 0) {
    Segmenter segmenter;
    segmenter.begin(whole);
    std::size_t payload = whole.needs.header_size;
    for (unsigned frames = 0; !segmenter.done(); ++frames) {
      Frame frame;
      std::array<std::uint8_t, head_size_max> head;
      std::array<Segment, segments_max> segments;
      segmenter.next(frame, head, segments);
      const std::uint32_t part = frame.size - frame.head_size;
      payload += part;
      if (part == 0 || part > header.gso_size || frames == frames_cut_max) std::abort();
    }
    if (payload != again.size()) std::abort();
  }

  static test::EveryMode on;
  for (forwarding::PortIndex port = 0; port < on.ports(); ++port) {
    std::vector<std::uint8_t> copy = bytes;
    Frame frame;
    frame.head = copy.data();
    frame.head_size = frame.size = static_cast<std::uint32_t>(copy.size());
    on.decide({&frame, 1}, port);
  }
  return 0;
}
