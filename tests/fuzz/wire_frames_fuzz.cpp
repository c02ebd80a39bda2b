// Frames from the wire, with a virtio-net header of any content: completing checksums, cutting pieces and classifying
// must stay within the frame, and what is cut must add up to what came in. Then the same frame at a port of each VLAN
// mode: what may go on is in a VLAN of its sender, and goes to one who hears that.
//
// Input   struct virtio_net_hdr of 10 bytes, then the frame.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dataplane/offload/checksum.h"
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

  Segmenter segmenter;
  if (segmenter.begin(bytes, header)) {
    std::size_t payload = 0;
    while (!segmenter.done()) {
      Frame frame;
      std::array<std::uint8_t, head_size_max> head;
      Segment segment;
      segmenter.next(frame, head, segment);
      payload += segment.size;
      if (segment.size == 0 || segment.size > header.gso_size || payload > bytes.size()) std::abort();
    }
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
