// What a worker forwards by: its ports, how to judge what comes in, and the switches' tables. Immutable once published
// (the Fdb and Learners it points to are the worker's to write).
#pragma once
#include <algorithm>
#include <vector>

#include "base/ids.h"
#include "dataplane/forwarding/tables.h"
#include "dataplane/ports/port.h"
#include "dataplane/ports/team_port.h"

namespace patchbay::dataplane {

struct Snapshot {
  static constexpr forwarding::PortIndex own_place = ~forwarding::PortIndex{0};
  struct Entry {
    Port* port = nullptr;
    std::uint32_t switch_index = 0;
    forwarding::IngressRule rule;
    unsigned worker = 0;     // that owns it
    bool coalesces = false;  // what comes in here is merged to large pieces
    // A queue brings frames of this entry's port. Else: the entry's own place.
    forwarding::PortIndex ingress = own_place;
    // Of a vnic: frames to its address that this uplink brought are counted there, too.
    struct Sorted {
      const Port* uplink = nullptr;
      Port* queue = nullptr;
    };
    std::vector<Sorted> sorted = {};
    // Of a queue of a team's member: who says whether its frames are taken, and the member.
    const TeamPort* team = nullptr;
    const UplinkPort* member = nullptr;
  };

  std::vector<Entry> entries;  // by PortIndex, in the order of their ids
  std::vector<forwarding::SwitchTable> switches;
  std::vector<std::vector<forwarding::PortIndex>> owned;  // by worker
  std::vector<Events> events;                             // by worker: the most that a port of its needs
  struct Member {
    Port* port = nullptr;
    unsigned worker = 0;
  };
  std::vector<Member> team_members;  // of all teams: the workers know only of their events

  // The last step of making one: fills `owned` and `events` for so many workers, and each `ingress`.
  void seal(std::size_t workers) {
    owned.resize(workers);
    events.resize(workers);
    for (forwarding::PortIndex i = 0; i < entries.size(); ++i) {
      owned[entries[i].worker].push_back(i);
      if (entries[i].ingress == own_place) entries[i].ingress = i;
      note_events({entries[i].port, entries[i].worker});
    }
    for (const Member& member : team_members) note_events(member);
  }

  // The port `id`, if it is in this snapshot and owned by `worker`.
  [[nodiscard]] Port* find(PortId id, unsigned worker) const noexcept {
    const auto less = [](const Entry& entry, PortId wanted) { return raw(entry.port->id()) < raw(wanted); };
    const auto found = std::lower_bound(entries.begin(), entries.end(), id, less);
    const bool is_ours = found != entries.end() && found->port->id() == id && found->worker == worker;
    if (is_ours) return found->port;
    for (const Member& member : team_members) {
      if (member.port->id() == id && member.worker == worker) return member.port;
    }
    return nullptr;
  }

 private:
  void note_events(const Member& member) {
    events[member.worker] = std::max(events[member.worker], member.port->events());
  }
};

}  // namespace patchbay::dataplane
