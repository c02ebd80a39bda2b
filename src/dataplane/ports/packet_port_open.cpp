// Opening of packet sockets: everything about PacketPort that may block or allocate.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "dataplane/ports/interface.h"
#include "dataplane/ports/packet_port.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint32_t block_size = 1U << 16;

template <typename T>
bool set_option(int fd, int level, int option, const T& value) noexcept {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

bool bind_to(int fd, int if_index, std::uint16_t protocol) noexcept {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = if_index;
  address.sll_protocol = htons(protocol);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

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
  constexpr Offloads kernels = offload_checksum | offload_tso4 | offload_tso6 | offload_ecn;
  port->offloads_ = *kind == "veth" ? Offloads{0} : kernels;
  port->copies_ = std::make_unique_for_overwrite<std::uint8_t[]>(copies_max * copy_size);
  if (auto opened = port->open_receive(nic, *mtu); !opened) return fail(opened.error());
  if (auto opened = port->open_transmit(nic); !opened) return fail(opened.error());
  return port;
}

Result<void> PacketPort::open_receive(const std::string& nic, std::uint32_t mtu) {
  const auto failed = [&](const char* what) { return fail(system_error("nic " + nic + ": " + what, errno)); };
  // Protocol 0: nothing arrives before bind(), when all is set.
  receive_fd_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!receive_fd_) return fail(privileged_error("nic " + nic + ": opening a packet socket", errno, "CAP_NET_RAW"));
  const int fd = receive_fd_.get();
  constexpr int queue_bytes = 8 << 20;  // room for large pieces that do not fit their slots
  if (!set_option(fd, SOL_PACKET, PACKET_VERSION, int{TPACKET_V2}) || !set_option(fd, SOL_PACKET, PACKET_VNET_HDR, 1) ||
      !set_option(fd, SOL_PACKET, PACKET_COPY_THRESH, 1) || !set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)) {
    return failed("setting packet socket options");
  }
  if (!set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, queue_bytes)) set_option(fd, SOL_SOCKET, SO_RCVBUF, queue_bytes);

  constexpr std::uint32_t overhead = 256;  // slot header, addresses, virtio-net header, Ethernet header, tags
  slot_size_ = std::bit_ceil(std::min<std::uint32_t>(mtu, 65535U) + overhead);
  tpacket_req request = {};
  request.tp_frame_size = slot_size_;
  request.tp_frame_nr = ring_slots;
  request.tp_block_size = std::max(block_size, slot_size_);
  request.tp_block_nr = static_cast<unsigned>(std::uint64_t{slot_size_} * ring_slots / request.tp_block_size);
  if (!set_option(fd, SOL_PACKET, PACKET_RX_RING, request)) return failed("making the packet ring");
  ring_size_ = std::size_t{slot_size_} * ring_slots;
  void* const ring = mmap(nullptr, ring_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (ring == MAP_FAILED) return failed("mapping the packet ring");
  ring_ = static_cast<std::uint8_t*>(ring);

  // Promiscuous as long as the socket lives, so that it ends with the process however that ends.
  packet_mreq membership = {};
  membership.mr_ifindex = if_index_;
  membership.mr_type = PACKET_MR_PROMISC;
  if (!set_option(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)) return failed("asking for all frames");
  if (!bind_to(fd, if_index_, ETH_P_ALL)) return failed("binding the packet socket");
  return {};
}

Result<void> PacketPort::open_transmit(const std::string& nic) {
  const auto failed = [&](const char* what) { return fail(system_error("nic " + nic + ": " + what, errno)); };
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

}  // namespace patchbay::dataplane
