// Opening of AF_XDP sockets: everything about XdpPort that may block or allocate.
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "dataplane/ports/interface.h"
#include "dataplane/ports/xdp_port.h"

namespace patchbay::dataplane {

Result<std::unique_ptr<XdpPort>> XdpPort::open(PortId id, int fault_event_fd, const std::string& nic,
                                               const model::DriverPlan& plan) {
  auto interface = Interface::open(nic);
  if (!interface) return fail(interface.error());
  if (interface->hardware_type() != ARPHRD_ETHER) {
    return fail(ErrorCode::invalid, "nic " + nic + " is not an Ethernet device");
  }
  if (auto up = interface->set_up(); !up) return fail(up.error());
  std::unique_ptr<XdpPort> port(new XdpPort(id, fault_event_fd));
  port->if_index_ = interface->index();
  if (auto opened = port->open_queues(nic, plan); !opened) return fail(opened.error());
  if (auto asked = port->ask_for_all_frames(nic); !asked) return fail(asked.error());
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

}  // namespace patchbay::dataplane
