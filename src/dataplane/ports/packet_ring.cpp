#include "dataplane/ports/packet_ring.h"

#include <linux/if_ether.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "dataplane/offload/needs.h"
#include "dataplane/ports/packet_socket.h"
#include "dataplane/ports/packet_sorter.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint32_t block_size = 1U << 16;

VnetHeader load_header(const std::uint8_t* at) noexcept {
  VnetHeader header;
  std::memcpy(static_cast<void*>(&header), at, vnet_header_size_legacy);
  return header;
}

// The frame in a slot.
std::uint8_t* bytes_of(const tpacket2_hdr& slot) noexcept {
  return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(&slot)) + slot.tp_mac;
}

}  // namespace

PacketRing::~PacketRing() {
  if (ring_ != nullptr) munmap(ring_, ring_size_);
}

std::uint32_t PacketRing::slot_bytes(std::uint32_t mtu) noexcept {
  constexpr std::uint32_t overhead = 256;  // slot header, addresses, virtio-net header, Ethernet header, tags
  return std::bit_ceil(std::min<std::uint32_t>(mtu, 65535U) + overhead);
}

Result<void> PacketRing::open(const std::string& nic, int if_index, std::uint32_t mtu, bool silent) {
  const auto failed = [&](const char* what) { return fail(system_error("nic " + nic + ": " + what, errno)); };
  // Protocol 0: nothing arrives before bind(), when all is set.
  fd_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) return fail(privileged_error("nic " + nic + ": opening a packet socket", errno, "CAP_NET_RAW"));
  const int fd = fd_.get();
  constexpr int queue_bytes = 8 << 20;  // room for large pieces that do not fit their slots
  if (!set_option(fd, SOL_PACKET, PACKET_VERSION, int{TPACKET_V2}) || !set_option(fd, SOL_PACKET, PACKET_VNET_HDR, 1) ||
      !set_option(fd, SOL_PACKET, PACKET_COPY_THRESH, 1) || !set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)) {
    return failed("setting packet socket options");
  }
  if (!set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, queue_bytes)) set_option(fd, SOL_SOCKET, SO_RCVBUF, queue_bytes);

  slot_size_ = slot_bytes(mtu);
  tpacket_req request = {};
  request.tp_frame_size = slot_size_;
  request.tp_frame_nr = slots_;
  request.tp_block_size = std::max(block_size, slot_size_);
  request.tp_block_nr = static_cast<unsigned>(std::uint64_t{slot_size_} * slots_ / request.tp_block_size);
  if (!set_option(fd, SOL_PACKET, PACKET_RX_RING, request)) return failed("making the packet ring");
  ring_size_ = std::size_t{slot_size_} * slots_;
  void* const ring = mmap(nullptr, ring_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (ring == MAP_FAILED) return failed("mapping the packet ring");
  ring_ = static_cast<std::uint8_t*>(ring);

  copies_ = std::make_unique_for_overwrite<std::uint8_t[]>(copies_max * copy_size);
  if (silent) {
    if (!silence_socket(fd)) return failed("setting packet socket options");
  } else {
    // Promiscuous as long as the socket lives, so that it ends with the process however that ends.
    packet_mreq membership = {};
    membership.mr_ifindex = if_index;
    membership.mr_type = PACKET_MR_PROMISC;
    if (!set_option(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)) return failed("asking for all frames");
  }
  if (!bind_to(fd, if_index, ETH_P_ALL)) return failed("binding the packet socket");
  return {};
}

tpacket2_hdr* PacketRing::slot(std::uint32_t index) const noexcept {
  return reinterpret_cast<tpacket2_hdr*>(ring_ + std::size_t{index} * slot_size_);
}

bool PacketRing::slot_ready(std::uint32_t index) const noexcept {
  return (__atomic_load_n(&slot(index)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

std::size_t PacketRing::receive(Burst& burst) noexcept {
  std::size_t count = 0;
  while (count < burst_max && taken_slots_ < slots_) {
    const std::uint32_t index = (next_slot_ + taken_slots_) % slots_;
    if (!slot_ready(index) || !take_slot(*slot(index), burst, count)) break;
    ++taken_slots_;
  }
  return count;
}

bool PacketRing::take_slot(tpacket2_hdr& header, Burst& burst, std::size_t& count) noexcept {
  const std::uint32_t status = header.tp_status;
  const bool copied = (status & TP_STATUS_COPY) != 0;
  if (copied && copy_count_ == copies_max) return false;
  VnetHeader vnet = load_header(bytes_of(header) - vnet_header_size_legacy);
  std::span<std::uint8_t> bytes(bytes_of(header), header.tp_snaplen);
  bool whole = header.tp_len <= header.tp_snaplen;
  if (copied) {
    const auto copy = read_copy(header, vnet);
    whole = !copy.empty();
    if (whole) bytes = copy;
  }
  Frame& frame = burst.frames[count++];
  frame = Frame{};
  frame.head = bytes.data();
  frame.head_size = static_cast<std::uint32_t>(bytes.size());
  frame.size = frame.head_size;
  if ((status & TP_STATUS_VLAN_VALID) != 0) {
    frame.tag_tci = header.tp_vlan_tci;
    frame.tag_tpid = (status & TP_STATUS_VLAN_TPID_VALID) != 0 ? header.tp_vlan_tpid : tpid_8021q;
  }
  if (whole) {
    take_needs_of_kernel(frame, vnet);
  } else {
    drop(frame, DropReason::kernel_queue_full);
  }
  return true;
}

// Copies come in the order of their slots, but a slot may have lost its copy, and a copy its slot: the interface went down
// in between, for one. Copies that do not start as the slot does belong to slots that are gone.
std::span<std::uint8_t> PacketRing::read_copy(const tpacket2_hdr& slot, VnetHeader& header) noexcept {
  constexpr unsigned reads_max = 4096;  // more than the queue holds
  std::uint8_t* const copy = &copies_[copy_count_ * copy_size];
  for (unsigned i = 0; i < reads_max; ++i) {
    std::uint8_t header_bytes[vnet_header_size_legacy];
    iovec parts[2] = {{header_bytes, sizeof header_bytes}, {copy, copy_size}};
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t size = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) break;
    if (size != static_cast<ssize_t>(sizeof header_bytes + slot.tp_len)) continue;  // or an error, which is now read
    if ((message.msg_flags & MSG_TRUNC) != 0) continue;
    if (std::memcmp(copy, bytes_of(slot), slot.tp_snaplen) != 0) continue;
    header = load_header(header_bytes);
    ++copy_count_;
    return {copy, slot.tp_len};
  }
  return {};
}

void PacketRing::complete() noexcept {
  copy_count_ = 0;
  for (; taken_slots_ != 0; --taken_slots_) {
    __atomic_store_n(&slot(next_slot_)->tp_status, std::uint32_t{TP_STATUS_KERNEL}, __ATOMIC_RELEASE);
    next_slot_ = (next_slot_ + 1) % slots_;
  }
}

std::uint64_t PacketRing::drops() noexcept {
  tpacket_stats statistics = {};
  socklen_t size = sizeof statistics;
  // The kernel starts from zero after each reading.
  if (getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) {
    drops_ += statistics.tp_drops;
  }
  return drops_;
}

}  // namespace patchbay::dataplane
