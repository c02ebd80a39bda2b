// Opening of packet sockets and queues: everything about PacketPort that may block or allocate.
#include <fmt/format.h>
#include <net/if_arp.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dataplane/ports/interface.h"
#include "dataplane/ports/packet_port.h"
#include "dataplane/ports/packet_queue.h"
#include "dataplane/ports/packet_socket.h"

namespace patchbay::dataplane {

Result<std::unique_ptr<PacketPort>> PacketPort::open(PortId id, int fault_event_fd, const std::string& nic) {
  auto interface = Interface::open(nic);
  if (!interface) return fail(interface.error());
  if (interface->hardware_type() != ARPHRD_ETHER) {
    return fail(ErrorCode::invalid, "nic " + nic + " is not an Ethernet device");
  }
  const auto mtu = interface->mtu();
  if (!mtu) return fail(mtu.error());
  const auto kind = interface->kind();
  if (!kind) return fail(kind.error());
  if (auto up = interface->set_up(); !up) return fail(up.error());

  std::unique_ptr<PacketPort> port(new PacketPort(id, fault_event_fd));
  port->if_index_ = interface->index();
  constexpr Offloads kernels = offload_all & ~(offload_uso4 | offload_uso6);
  port->offloads_ = *kind == "veth" ? Offloads{0} : kernels;
  port->nic_ = nic;
  port->mtu_ = *mtu;
  if (auto opened = port->ring_.open(nic, port->if_index_, *mtu, false); !opened) return fail(opened.error());
  port->start_sorting();
  if (auto opened = port->open_transmit(); !opened) return fail(opened.error());
  return port;
}

Result<void> PacketPort::open_transmit() {
  const auto failed = [&](const char* what) { return fail(system_error("nic " + nic_ + ": " + what, errno)); };
  transmit_fd_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!transmit_fd_) return failed("opening a packet socket");
  const int fd = transmit_fd_.get();
  constexpr int queue_bytes = 1 << 20;
  if (!set_option(fd, SOL_PACKET, PACKET_VNET_HDR, 1)) return failed("setting packet socket options");
  if (!set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, queue_bytes)) set_option(fd, SOL_SOCKET, SO_SNDBUF, queue_bytes);
  // Protocol 0: this socket only sends.
  if (!bind_to(fd, if_index_, 0)) return failed("binding the packet socket");
  return {};
}

void PacketPort::start_sorting() {
  sorter_.emplace(nic_);
  const auto first = sorter_->add(ring_.fd());
  if (first) return;
  no_sorter_ = first.error().message;
  sorter_.reset();
}

QueueAbility PacketPort::queue_ability() const {
  QueueAbility ability;
  if (sorter_) {
    ability.sorting = QueueSorting::kernel;
    ability.queues = PacketSorter::queues_max;
    ability.reason = "driver packet: the NIC itself is left to its kernel driver";
  } else {
    ability.reason = no_sorter_;
  }
  return ability;
}

// One that was used before, empty since then, or a new one.
Result<PacketPort::QueueRing*> PacketPort::free_ring() {
  const auto found = std::find_if(queues_.begin(), queues_.end(), [](const QueueRing& one) { return !one.user; });
  if (found != queues_.end()) return &*found;
  if (queues_.size() == PacketSorter::queues_max) {
    return fail(ErrorCode::no_resource, fmt::format("nic {}: all {} queues are in use", nic_, queues_.size()));
  }
  QueueRing made;
  made.ring = std::make_unique<PacketRing>(std::min(ring_slots, queue_ring_bytes / PacketRing::slot_bytes(mtu_)));
  if (auto opened = made.ring->open(nic_, if_index_, mtu_, true); !opened) return fail(opened.error());
  const auto number = sorter_->add(made.ring->fd());
  if (!number) return fail(number.error());
  made.number = *number;
  queues_.push_back(std::move(made));
  return &queues_.back();
}

Result<std::unique_ptr<Port>> PacketPort::open_queue(PortId id) {
  auto ring = free_ring();
  if (!ring) return fail(ring.error());
  auto queue = std::make_unique<PacketQueue>(id, *(*ring)->ring);
  (*ring)->user = queue.get();
  return queue;
}

void PacketPort::close_queue(Port& queue) {
  for (QueueRing& one : queues_) {
    if (one.user == &queue) one.user = nullptr;
  }
}

Result<void> PacketPort::set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) {
  const auto found =
      std::find_if(queues_.begin(), queues_.end(), [&](const QueueRing& one) { return one.user == &queue; });
  if (found == queues_.end()) return fail(ErrorCode::internal, "nic " + nic_ + ": no such queue");
  if (found->filter) sorter_->clear(*std::exchange(found->filter, std::nullopt));
  if (!filter) return {};
  if (auto set = sorter_->set(*filter, found->number); !set) return set;
  found->filter = filter;
  return {};
}

}  // namespace patchbay::dataplane
