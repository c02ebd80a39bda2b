#include "dataplane/ports/packet_port.h"

#include <net/if.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dataplane/offload/needs.h"

namespace patchbay::dataplane {
namespace {

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

PacketPort::~PacketPort() {
  if (ring_ != nullptr) munmap(ring_, ring_size_);
}

tpacket2_hdr* PacketPort::slot(std::uint32_t index) const noexcept {
  return reinterpret_cast<tpacket2_hdr*>(ring_ + std::size_t{index} * slot_size_);
}

bool PacketPort::slot_ready(std::uint32_t index) const noexcept {
  return (__atomic_load_n(&slot(index)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

std::size_t PacketPort::receive(Burst& burst) noexcept {
  std::size_t count = 0;
  while (count < burst_max && taken_slots_ < ring_slots) {
    const std::uint32_t index = (next_slot_ + taken_slots_) % ring_slots;
    if (!slot_ready(index) || !take_slot(*slot(index), burst, count)) break;
    ++taken_slots_;
  }
  return count;
}

bool PacketPort::take_slot(tpacket2_hdr& header, Burst& burst, std::size_t& count) noexcept {
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
std::span<std::uint8_t> PacketPort::read_copy(const tpacket2_hdr& slot, VnetHeader& header) noexcept {
  constexpr unsigned reads_max = 4096;  // more than the queue holds
  std::uint8_t* const copy = &copies_[copy_count_ * copy_size];
  for (unsigned i = 0; i < reads_max; ++i) {
    std::uint8_t header_bytes[vnet_header_size_legacy];
    iovec parts[2] = {{header_bytes, sizeof header_bytes}, {copy, copy_size}};
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t size = recvmsg(receive_fd_.get(), &message, MSG_DONTWAIT);
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

// Frames from the wire never wait for anything, so all slots go back, whatever `count` is.
void PacketPort::complete(std::size_t) noexcept {
  copy_count_ = 0;
  for (; taken_slots_ != 0; --taken_slots_) {
    __atomic_store_n(&slot(next_slot_)->tp_status, std::uint32_t{TP_STATUS_KERNEL}, __ATOMIC_RELEASE);
    next_slot_ = (next_slot_ + 1) % ring_slots;
  }
}

void PacketPort::prepare_message(std::size_t i, const Frame& frame) noexcept {
  auto& iov = iovs_[i];
  std::size_t n = 0;
  headers_[i] = leaving_header(frame);
  iov[n++] = {&headers_[i], vnet_header_size_legacy};
  for_each_stretch(frame, tags_[i], [&](const std::uint8_t* data, std::uint32_t size) {
    iov[n++] = {const_cast<std::uint8_t*>(data), size};
  });
  messages_[i].msg_hdr.msg_iov = iov.data();
  messages_[i].msg_hdr.msg_iovlen = n;
}

std::size_t PacketPort::transmit(std::span<const Frame> frames) noexcept {
  for (std::size_t i = 0; i < frames.size(); ++i) prepare_message(i, frames[i]);
  std::size_t done = 0;
  while (done < frames.size()) {
    const int sent =
        sendmmsg(transmit_fd_.get(), &messages_[done], static_cast<unsigned>(frames.size() - done), MSG_DONTWAIT);
    for (int i = 0; i < sent; ++i) count_egress(frames[done++].size);
    if (sent > 0) continue;
    if (errno == EAGAIN || errno == EINTR) {
      set_full(true);
      break;
    }
    const bool gone = errno == ENETDOWN || errno == ENXIO || errno == ENODEV;
    count_drop(gone ? DropReason::not_connected : DropReason::uplink_refused);
    ++done;
  }
  return done;
}

void PacketPort::set_full(bool full) noexcept {
  if (full_ == full) return;
  full_ = full;
  watch(epoll_fd_, EPOLL_CTL_MOD, transmit_fd_.get(), full ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
}

bool PacketPort::prepare_sleep() noexcept {
  return taken_slots_ < ring_slots && slot_ready((next_slot_ + taken_slots_) % ring_slots);
}

void PacketPort::on_event(std::uint32_t events) noexcept {
  if ((events & EPOLLOUT) != 0) set_full(false);
  if ((events & (static_cast<std::uint32_t>(EPOLLERR) | static_cast<std::uint32_t>(EPOLLHUP))) == 0) return;
  // Reading the errors clears them; the interface went down, or away.
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(receive_fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  getsockopt(transmit_fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  char name[IF_NAMESIZE];
  if (if_indextoname(static_cast<unsigned>(if_index_), name) == nullptr) set_fault(PortFault::device_gone);
}

void PacketPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  watch(epoll_fd_, EPOLL_CTL_ADD, receive_fd_.get(), EPOLLIN);
  watch(epoll_fd_, EPOLL_CTL_ADD, transmit_fd_.get(), full_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
}

void PacketPort::detach() noexcept {
  watch(epoll_fd_, EPOLL_CTL_DEL, receive_fd_.get(), 0);
  watch(epoll_fd_, EPOLL_CTL_DEL, transmit_fd_.get(), 0);
  epoll_fd_ = -1;
}

std::uint64_t PacketPort::kernel_drops() noexcept {
  tpacket_stats statistics = {};
  socklen_t size = sizeof statistics;
  // The kernel starts from zero after each reading.
  if (getsockopt(receive_fd_.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) {
    kernel_drops_ += statistics.tp_drops;
  }
  return kernel_drops_;
}

}  // namespace patchbay::dataplane
