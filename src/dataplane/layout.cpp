// Layouts: the snapshots that workers forward by, and which worker has which port.
#include <algorithm>
#include <map>
#include <utility>

#include "dataplane/worker_dataplane.h"

namespace patchbay::dataplane {

std::unique_ptr<Snapshot> WorkerDataplane::make_snapshot(const Layout& layout) {
  auto snapshot = std::make_unique<Snapshot>();
  std::map<std::uint32_t, Snapshot::Entry> entries;  // by id
  for (std::uint32_t number = 0; number < layout.switches.size(); ++number) {
    const SwitchLayout& one = layout.switches[number];
    if (one.uplink) {
      const PortRecord& uplink = find(*one.uplink);
      const bool reflects = uplink.team != nullptr && uplink.team->switch_independent();
      entries[raw(*one.uplink)] = {uplink.port.get(),
                                   number,
                                   {.uplink = true, .reflects = reflects, .learner = learning_.learner(*one.uplink)},
                                   uplink.worker,
                                   one.gro && uplink.port->gives_bare_frames()};
      if (uplink.team != nullptr) {
        for (const auto& member : uplink.team->members())
          snapshot->team_members.push_back({member.port, uplink.worker});
      }
    }
    for (const VnicLayout& vnic : one.vnics) {
      entries[raw(vnic.port)] = {find(vnic.port).port.get(),
                                 number,
                                 {.uplink = false,
                                  .mac = vnic.mac.to_uint64(),
                                  .mac_spoofing = vnic.mac_spoofing,
                                  .trust_priority = vnic.trust_priority,
                                  .vlans = forwarding::PortVlans::of(vnic.vlan),
                                  .learner = learning_.learner(vnic.port)},
                                 find(vnic.port).worker};
      for (const PortId port : vnic.queues) {
        const PortRecord& queue = find(port);
        if (queue.in_software) {
          entries[raw(vnic.port)].sorted.push_back({find(*queue.queue_of).port.get(), queue.port.get()});
        } else {
          entries[raw(port)] = entry_of_queue(queue, entries[raw(*one.uplink)]);
        }
      }
    }
  }
  std::map<std::uint32_t, forwarding::PortIndex> index_of;
  for (const auto& [id, entry] : entries) {
    index_of[id] = static_cast<forwarding::PortIndex>(snapshot->entries.size());
    snapshot->entries.push_back(entry);
  }
  for (const SwitchLayout& one : layout.switches) {
    for (const VnicLayout& vnic : one.vnics) {
      for (const PortId queue : vnic.queues) {
        if (const auto found = index_of.find(raw(queue)); found != index_of.end()) {
          snapshot->entries[found->second].ingress = index_of.at(raw(*one.uplink));
        }
      }
    }
  }
  for (const SwitchLayout& one : layout.switches) {
    std::vector<forwarding::SwitchTable::Member> members;
    for (const VnicLayout& vnic : one.vnics) {
      members.push_back(
          {index_of[raw(vnic.port)], vnic.mac, vnic.vlan, vnic.mac_spoofing, learning_.learner(vnic.port)});
    }
    std::optional<forwarding::SwitchTable::Uplink> uplink;
    if (one.uplink) uplink = {index_of[raw(*one.uplink)], learning_.learner(*one.uplink)};
    snapshot->switches.emplace_back(members, uplink, one.mtu, learning_.fdb(one.name));
  }
  return snapshot;
}

void WorkerDataplane::attach(PortRecord& record, unsigned worker) {
  record.attached = true;
  record.worker = worker;
  record.port->attach(workers_->at(worker).epoll_fd());
}

void WorkerDataplane::tell_mtus(const Layout& layout) {
  for (auto& [id, record] : ports_) {
    if (record.uplink == nullptr) continue;
    const PortId carrier = record.in_team.value_or(PortId{id});
    const auto on = std::find_if(layout.switches.begin(), layout.switches.end(),
                                 [carrier](const SwitchLayout& one) { return one.uplink == carrier; });
    if (on == layout.switches.end() || std::exchange(record.switch_mtu, on->mtu) == on->mtu) continue;
    if (record.uplink->queue_ability().restarts) {
      workers_->at_rest([&uplink = *record.uplink, mtu = on->mtu] { uplink.set_switch_mtu(mtu); });
    } else {
      record.uplink->set_switch_mtu(on->mtu);
    }
  }
}

void WorkerDataplane::publish(const Layout& layout) {
  learning_.prepare(layout);
  tell_mtus(layout);
  std::map<PortId, std::optional<unsigned>> wanted;  // and the worker that is asked for
  for (const SwitchLayout& one : layout.switches) {
    if (one.uplink) wanted[*one.uplink] = std::nullopt;
    for (const VnicLayout& vnic : one.vnics) wanted[vnic.port] = asked_worker(vnic);
  }
  std::map<PortId, PortId> vnic_of;  // of queues that are received from
  for (const SwitchLayout& one : layout.switches) {
    for (const VnicLayout& vnic : one.vnics) {
      for (const PortId queue : vnic.queues) {
        require(one.uplink && find(queue).queue_of, "a queue of the switch's uplink");
        if (!find(queue).in_software) vnic_of[queue] = vnic.port;
      }
    }
  }
  // A port is watched before its worker sees it, and until no worker sees it any more.
  std::vector<std::size_t> added(workers_->count());
  for (auto& [id, record] : ports_) {
    const auto found = wanted.find(PortId{id});
    if (record.attached || found == wanted.end()) continue;
    attach(record, found->second.value_or(workers_->least_used(added)));
    ++added[record.worker];
  }
  for (const auto& [queue, vnic] : vnic_of) {
    if (!find(queue).attached) attach(find(queue), find(vnic).worker);
  }
  workers_->publish(make_snapshot(layout));
  layout_ = layout;
  learning_.forget_old();
  for (auto& [id, record] : ports_) {
    if (!record.attached || wanted.contains(PortId{id}) || vnic_of.contains(PortId{id})) continue;
    record.attached = false;
    record.port->detach();
    // The lanes were drained: what others had of its last burst is back, and nobody else takes it. (A guest's: end_loan().)
    if (record.guest == nullptr && record.port->loan.open.load(std::memory_order_acquire)) {
      static_cast<void>(settle_loan(*record.port));
    }
  }
  for (const auto& [port, worker] : wanted) {
    if (worker) move_port(port, *worker);
  }
}

std::optional<unsigned> WorkerDataplane::asked_worker(const VnicLayout& vnic) const {
  return vnic.worker && *vnic.worker < workers_->count() ? vnic.worker : std::nullopt;
}

void WorkerDataplane::move_port(PortId port, unsigned worker) {
  PortRecord& record = find(port);
  require(record.attached && worker < workers_->count(), "a port of the layout, and a worker");
  if (record.worker == worker) return;
  std::vector<PortRecord*> moving{&record};
  for (const SwitchLayout& one : layout_.switches) {
    for (const VnicLayout& vnic : one.vnics) {
      if (vnic.port != port) continue;
      for (const PortId queue : vnic.queues) {
        if (find(queue).attached) moving.push_back(&find(queue));  // a vnic's queues go where it goes
      }
    }
  }
  workers_->at_rest([&] {
    for (PortRecord* const moved : moving) {
      moved->port->detach();
      attach(*moved, worker);
    }
    workers_->publish(make_snapshot(layout_));
  });
  workers_->wake();
}

std::optional<unsigned> WorkerDataplane::worker_of(PortId port) const {
  const PortRecord& record = find(port);
  return record.attached ? std::optional(record.worker) : std::nullopt;
}

}  // namespace patchbay::dataplane
