#include "dataplane/ports/packet_port.h"

#include <net/if.h>
#include <sys/epoll.h>

#include <cerrno>

#include "dataplane/ports/packet_socket.h"

namespace patchbay::dataplane {

// Frames from the wire never wait for anything.
void PacketPort::complete(std::size_t) noexcept {
  ring_.complete();
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

void PacketPort::on_event(std::uint32_t events) noexcept {
  if ((events & EPOLLOUT) != 0) set_full(false);
  if ((events & (static_cast<std::uint32_t>(EPOLLERR) | static_cast<std::uint32_t>(EPOLLHUP))) == 0) return;
  // The interface went down, or away.
  clear_error(ring_.fd());
  clear_error(transmit_fd_.get());
  char name[IF_NAMESIZE];
  if (if_indextoname(static_cast<unsigned>(if_index_), name) == nullptr) set_fault(PortFault::device_gone);
}

void PacketPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  watch(epoll_fd_, EPOLL_CTL_ADD, ring_.fd(), EPOLLIN);
  watch(epoll_fd_, EPOLL_CTL_ADD, transmit_fd_.get(), full_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
}

void PacketPort::detach() noexcept {
  watch(epoll_fd_, EPOLL_CTL_DEL, ring_.fd(), 0);
  watch(epoll_fd_, EPOLL_CTL_DEL, transmit_fd_.get(), 0);
  epoll_fd_ = -1;
}

std::uint64_t PacketPort::kernel_drops() noexcept {
  std::uint64_t drops = ring_.drops();
  for (QueueRing& queue : queues_) drops += queue.ring->drops();
  return drops;
}

}  // namespace patchbay::dataplane
