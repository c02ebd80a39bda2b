#include "dataplane/port_record.h"

namespace patchbay::dataplane {

Result<RingRecords*> PortRecord::records_for(const GuestLink& link) {
  if (ring_path.empty() || (link.features & virtio_f_ring_packed) == 0) return nullptr;
  if (!ring_file) {
    auto opened = RingFile::open(ring_path);
    if (!opened) return fail(opened.error());
    ring_file = std::move(*opened);
  }
  return &ring_file->records();
}

}  // namespace patchbay::dataplane
