// What the data plane keeps of each port.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "dataplane/ports/guest_port.h"
#include "dataplane/ports/host_port.h"
#include "dataplane/ports/team_port.h"
#include "dataplane/receive_rings.h"
#include "dataplane/virtqueue/guest_queues.h"
#include "dataplane/virtqueue/ring_record.h"

namespace patchbay::dataplane {

// A port, and the same port again as the kind that control has special calls for.
struct PortRecord {
  std::unique_ptr<Port> port;
  GuestPort* guest = nullptr;
  HostPort* host = nullptr;
  UplinkPort* uplink = nullptr;
  TeamPort* team = nullptr;
  std::uint16_t switch_mtu = 0;         // of an uplink: as it was told last
  std::optional<PortId> in_team = {};   // of an uplink that is a member of that
  std::optional<PortId> queue_of = {};  // of a queue: its uplink
  bool in_software = false;             // of a queue: no worker receives from it
  PortCounters closed_queues = {};      // of an uplink: what those had counted
  std::string ring_path = {};           // of a guest, if positions of its rings are kept
  std::string mark_path = {};           // the same; an empty file while the guest is connected
  std::unique_ptr<RingFile> ring_file;  // of a guest that had packed rings since its port was opened
  std::unique_ptr<GuestQueues> queues;  // of a connected guest
  ReceiveRings receivers;               // of a guest
  bool attached = false;
  unsigned worker = 0;  // that owns it while it is attached

  // Where the queues of `link` keep their positions; null: nowhere. Errors: as RingFile::open().
  [[nodiscard]] Result<RingRecords*> records_for(const GuestLink& link);
};

}  // namespace patchbay::dataplane
