// Opening of AF_XDP sockets: everything about XdpPort that may block or allocate.
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "dataplane/ports/interface.h"
#include "dataplane/ports/xdp_port.h"
#include "dataplane/ports/xdp_queue_port.h"

namespace patchbay::dataplane {
Result<std::unique_ptr<XdpPort>> XdpPort::open(PortId id, int fault_event_fd, const std::string& nic,
                                               const model::DriverPlan& plan, const std::string& notes_dir) {
  auto interface = Interface::open(nic);
  if (!interface) return fail(interface.error());
  if (interface->hardware_type() != ARPHRD_ETHER) {
    return fail(ErrorCode::invalid, "nic " + nic + " is not an Ethernet device");
  }
  if (auto up = interface->set_up(); !up) return fail(up.error());
  std::unique_ptr<XdpPort> port(new XdpPort(id, fault_event_fd));
  port->nic_ = nic;
  port->if_index_ = interface->index();
  if (auto opened = port->open_queues(nic, plan); !opened) return fail(opened.error());
  if (auto asked = port->ask_for_all_frames(nic); !asked) return fail(asked.error());
  port->start_sorting(notes_dir);
  return port;
}

Result<void> XdpPort::open_queues(const std::string& nic, const model::DriverPlan& plan) {
  auto program = XdpProgram::load(nic, plan.queues, plan.multi_buffer);
  if (!program) return fail(program.error());
  const std::uint32_t share = std::bit_floor(rx_chunks_all / std::max(plan.queues, 1U));
  for (unsigned number = 0; number < plan.queues; ++number) {
    auto queue = XdpQueue::open({.nic = nic,
                                 .queue = number,
                                 .rx_chunks = std::clamp(share, rx_chunks_min, rx_chunks_max),
                                 .tx_chunks = number == 0 ? tx_chunks : 0,
                                 .multi_buffer = plan.multi_buffer});
    if (!queue) return fail(queue.error());
    if (auto set = program->set_socket(number, (*queue)->fd()); !set) return set;
    queues_.push_back(std::move(*queue));
  }
  users_.resize(queues_.size());
  // Last: from here on the frames are ours.
  if (auto attached = program->attach(if_index_, plan.native); !attached) return attached;
  program_.push_back(std::move(*program));
  return {};
}

// By packet membership, so that it ends with the process however that ends. Protocol 0: the socket itself receives nothing.
Result<void> XdpPort::ask_for_all_frames(const std::string& nic) {
  promiscuous_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  packet_mreq membership = {};
  membership.mr_ifindex = if_index_;
  membership.mr_type = PACKET_MR_PROMISC;
  if (!promiscuous_ ||
      setsockopt(promiscuous_.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) != 0) {
    return fail(system_error("nic " + nic + ": asking for all frames", errno));
  }
  return {};
}

// ---- Queues of vnics ------------------------------------------------------------------------------------------------

void XdpPort::put_back_left(const std::string& notes_dir) {
  for (const std::string& path : NtupleNote::paths_in(notes_dir)) {
    if (auto note = NtupleNote::read(path)) {
      const unsigned index = note->if_index;
      static_cast<void>(NtupleRules::put_back(NtupleRules::ask_interface(index), std::move(*note)));
    } else if (note.error().code == ErrorCode::invalid) {
      unlink(path.c_str());
    }
  }
}

// When the program is attached, for drivers start the NIC anew for that.
void XdpPort::start_sorting(const std::string& notes_dir) {
  const auto index = static_cast<unsigned>(if_index_);
  auto rules = NtupleRules::open(NtupleRules::ask_interface(index), static_cast<std::uint32_t>(queues_.size()),
                                 NtupleNote::of(notes_dir, index));
  if (rules) {
    rules_ = std::move(*rules);
  } else {
    no_rules_ = rules.error().message;
  }
}

QueueAbility XdpPort::queue_ability() const {
  QueueAbility ability;
  ability.reason = no_rules_;
  if (!rules_) return ability;
  ability.sorting = QueueSorting::ntuple;
  ability.queues = static_cast<std::uint16_t>(rules_->queues());
  ability.reason = rules_->reason();
  return ability;
}

Result<std::unique_ptr<Port>> XdpPort::open_queue(PortId id) {
  for (std::uint32_t number = NtupleRules::default_queues; number < queues_.size(); ++number) {
    if (users_[number] != nullptr) continue;
    XdpQueue& queue = *queues_[number];
    auto port = std::make_unique<XdpQueuePort>(id, queue);
    users_[number] = port.get();
    if (epoll_fd_ >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, queue.fd(), 0);
    queue.ask_for();
    return port;
  }
  return fail(ErrorCode::no_resource, "nic " + nic_ + ": all its queues are in use");
}

void XdpPort::close_queue(Port& queue) {
  const auto found = std::find(users_.begin(), users_.end(), &queue);
  if (found == users_.end()) return;
  *found = nullptr;
  XdpQueue& freed = *queues_[static_cast<std::size_t>(found - users_.begin())];
  freed.give_back();
  if (epoll_fd_ >= 0) watch_queue(freed);
}

Result<void> XdpPort::set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) {
  const auto found = std::find(users_.begin(), users_.end(), &queue);
  if (found == users_.end()) return fail(ErrorCode::internal, "nic " + nic_ + ": no such queue");
  const auto number = static_cast<std::uint32_t>(found - users_.begin());
  if (!rules_) return fail(ErrorCode::unavailable, "nic " + nic_ + ": " + no_rules_);
  rules_->clear(number);
  if (!filter) return {};
  if (const auto set = rules_->set(number, *filter); !set) {
    return fail(set.error().code, "nic " + nic_ + ": " + set.error().message);
  }
  return {};
}

}  // namespace patchbay::dataplane
