#include "dataplane/ports/ethdev_port.h"

#include <rte_mbuf.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/byte_order.h"
#include "dataplane/frame/leaving.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint32_t frame_size_min = 60;  // without FCS: shorter ones are filled up with zeros
// Drivers judge the room in a ring by single descriptors, not all of which they keep account of: every so many passes
// the truth is found out by sending.
constexpr unsigned passes_between_trials = 16;

std::uint8_t* bytes_of(const rte_mbuf& mbuf) noexcept {
  return static_cast<std::uint8_t*>(mbuf.buf_addr) + mbuf.data_off;
}

// Writes a frame into a chain of mbufs, which grows as needed.
class Writer {
 public:
  Writer(rte_mempool* pool, rte_mbuf& first) noexcept : pool_(pool), first_(first), last_(&first) {}

  [[nodiscard]] bool append(const std::uint8_t* data, std::size_t size) noexcept {
    while (size != 0) {
      if (room() == 0 && !grow()) return false;
      const std::size_t part = std::min(size, room());
      std::memcpy(bytes_of(*last_) + last_->data_len, data, part);
      added(part);
      data += part;
      size -= part;
    }
    return true;
  }
  // Only for what fits the first mbuf.
  void append_zeros(std::size_t size) noexcept {
    std::memset(bytes_of(*last_) + last_->data_len, 0, size);
    added(size);
  }

 private:
  [[nodiscard]] std::size_t room() const noexcept {
    return std::size_t{last_->buf_len} - last_->data_off - last_->data_len;
  }
  [[nodiscard]] bool grow() noexcept {
    rte_mbuf* const next = rte_pktmbuf_alloc(pool_);
    if (next == nullptr) return false;
    last_->next = next;
    last_ = next;
    ++first_.nb_segs;
    return true;
  }
  void added(std::size_t size) noexcept {
    last_->data_len = static_cast<std::uint16_t>(last_->data_len + size);
    first_.pkt_len += static_cast<std::uint32_t>(size);
  }

  rte_mempool* pool_;
  rte_mbuf& first_;
  rte_mbuf* last_;
};

// The frame in `mbuf`: its head where it lies, unless the driver cut it inside of what decisions look at.
void describe(rte_mbuf& mbuf, Frame& frame, std::array<std::uint8_t, head_size_max>& head,
              std::span<Segment, segments_max> segments) noexcept {
  frame = Frame{};
  frame.size = mbuf.pkt_len;
  if ((mbuf.ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
    frame.tag_tpid = tpid_8021q;
    frame.tag_tci = mbuf.vlan_tci;
  }
  const rte_mbuf* at = &mbuf;
  std::uint32_t skip = mbuf.data_len;  // bytes of `at` that are in the head
  frame.head = bytes_of(mbuf);
  frame.head_size = mbuf.data_len;
  if (mbuf.nb_segs > 1 && mbuf.data_len < head_size_max) {
    frame.head = head.data();
    frame.head_size = 0;
    for (skip = 0; at != nullptr; at = at->next, skip = 0) {
      skip = std::min<std::uint32_t>(at->data_len, static_cast<std::uint32_t>(head.size()) - frame.head_size);
      std::memcpy(head.data() + frame.head_size, bytes_of(*at), skip);
      frame.head_size += skip;
      if (skip < at->data_len || at->next == nullptr) break;
    }
  }
  frame.rest = segments.data();
  for (; at != nullptr; at = at->next, skip = 0) {
    if (at->data_len == skip) continue;
    if (frame.rest_count == segments.size()) return drop(frame, DropReason::oversize);
    segments[frame.rest_count++] = {bytes_of(*at) + skip, at->data_len - skip};
  }
}

}  // namespace

Result<std::unique_ptr<EthdevPort>> EthdevPort::open(PortId id, int fault_event_fd, const dpdk::Eal& eal,
                                                     const std::string& address) {
  std::unique_ptr<EthdevPort> port(new EthdevPort(id, fault_event_fd));
  auto device = dpdk::EthDevice::create(eal, address, *port);
  if (!device) return fail(device.error());
  port->device_ = std::move(*device);
  if (!port->device_->tells_link()) return port;
  // The link may change between the question and the note: the interrupt thread's word must not be overwritten by an
  // older one.
  for (bool noted = !port->device_->link().up; noted != port->device_->link().up;) {
    noted = !noted;
    port->note_carrier(noted);
  }
  return port;
}

EthdevPort::~EthdevPort() {
  given_ = received_count_;
  complete(0);
}

std::size_t EthdevPort::receive(Burst& burst) noexcept {
  if (!from_control_.empty()) send_for_control();
  if (full_) look_for_room();
  if (received_count_ == given_) take_from_device();
  const std::size_t count = received_count_ - given_;
  for (std::size_t i = 0; i < count; ++i) {
    describe(*received_[given_ + i], burst.frames[i], burst.heads[i], burst.segments_of(i));
    hand_up(burst.frames[i]);
  }
  given_ = received_count_;
  return count;
}

void EthdevPort::take_from_device() noexcept {
  const auto room = std::span(received_).subspan(received_count_);
  received_count_ += device_->receive(room.first(std::min(room.size(), burst_max)));
}

void EthdevPort::hand_up(const Frame& frame) noexcept {
  constexpr std::uint64_t slow_protocols = 0x0180C2000002;  // IEEE 802.3, annex 57A
  if (frame.head_size < ethernet_header_size || load_be48(frame.head) != slow_protocols) return;
  if (to_control_.put({frame.head, frame.head_size})) tell_control();
}

// The first free places of the ring are for these; one that finds none waits for the next pass.
void EthdevPort::send_for_control() noexcept {
  const auto send_one = [this](std::span<const std::uint8_t> bytes) noexcept {
    rte_mbuf* mbuf = rte_pktmbuf_alloc(device_->pool());
    if (mbuf == nullptr) return false;
    std::copy(bytes.begin(), bytes.end(), bytes_of(*mbuf));
    mbuf->data_len = static_cast<std::uint16_t>(bytes.size());
    mbuf->pkt_len = static_cast<std::uint32_t>(bytes.size());
    if (device_->send({&mbuf, 1}) == 1) return true;
    rte_pktmbuf_free(mbuf);
    return false;
  };
  while (from_control_.take(send_one)) {
  }
}

// Frames from the wire never wait for anything, so all mbufs that were given go back, whatever `count` is.
void EthdevPort::complete(std::size_t) noexcept {
  if (given_ != 0) rte_pktmbuf_free_bulk(received_.data(), static_cast<unsigned>(given_));
  std::copy(received_.begin() + static_cast<std::ptrdiff_t>(given_),
            received_.begin() + static_cast<std::ptrdiff_t>(received_count_), received_.begin());
  received_count_ -= std::exchange(given_, 0);
}

bool EthdevPort::copy(const Frame& frame, rte_mbuf& to) noexcept {
  Writer writer(device_->pool(), to);
  TagBytes tag;
  bool copied = true;
  for_each_stretch(frame, tag,
                   [&](const std::uint8_t* data, std::uint32_t size) { copied = copied && writer.append(data, size); });
  if (!copied) return false;
  if (to.pkt_len < frame_size_min) writer.append_zeros(frame_size_min - to.pkt_len);
  return true;
}

// How many of the first frames are in `sending_` now: all, unless one is too large for the device or the pool is empty.
std::size_t EthdevPort::copy_all(std::span<const Frame> frames) noexcept {
  const std::uint32_t size_max = device_->mtu() + static_cast<std::uint32_t>(ethernet_header_size);
  std::size_t count = 0;
  while (count < frames.size() && frames[count].size <= size_max) ++count;
  if (rte_pktmbuf_alloc_bulk(device_->pool(), sending_.data(), static_cast<unsigned>(count)) != 0) return 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (copy(frames[i], *sending_[i])) continue;
    rte_pktmbuf_free_bulk(&sending_[i], static_cast<unsigned>(count - i));
    return i;
  }
  return count;
}

std::size_t EthdevPort::transmit(std::span<const Frame> frames) noexcept {
  if (!from_control_.empty()) send_for_control();
  std::size_t done = 0;
  while (done < frames.size()) {
    const auto left = frames.subspan(done, std::min(frames.size() - done, burst_max));
    const std::size_t copied = copy_all(left);
    const std::size_t sent = copied == 0 ? 0 : device_->send({sending_.data(), copied});
    if (sent < copied) rte_pktmbuf_free_bulk(&sending_[sent], static_cast<unsigned>(copied - sent));
    for (const Frame& frame : left.first(sent)) count_egress(frame.size);
    done += sent;
    if (sent == left.size()) continue;
    const bool too_large = sent == copied && left[sent].size > device_->mtu() + ethernet_header_size;
    if (!too_large) {
      full_ = true;
      passes_full_ = 0;
      break;
    }
    count_drop(DropReason::uplink_refused);
    ++done;
  }
  return done;
}

void EthdevPort::look_for_room() noexcept {
  const auto room = device_->has_room(burst_max);
  if (room.value_or(true) || ++passes_full_ % passes_between_trials == 0) full_ = false;
}

bool EthdevPort::prepare_sleep() noexcept {
  if (full() || received_count_ != given_ || !from_control_.empty() || device_->interrupt_fd() < 0) return true;
  if (!armed_) device_->arm_interrupt();
  armed_ = true;
  take_from_device();  // what came before it was armed does not interrupt
  return received_count_ != given_;
}

void EthdevPort::woke() noexcept {
  if (armed_) device_->disarm_interrupt();
  armed_ = false;
}

void EthdevPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  if (device_->interrupt_fd() < 0) return;
  // Edge-triggered: each interrupt wakes, and nobody has to read it.
  watch(epoll_fd_, EPOLL_CTL_ADD, device_->interrupt_fd(),
        static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET));
}

void EthdevPort::detach() noexcept {
  if (device_->interrupt_fd() >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, device_->interrupt_fd(), 0);
  epoll_fd_ = -1;
}

std::optional<DeviceState> EthdevPort::device_state() const {
  const auto link = device_->link();
  return DeviceState{device_->driver(), device_->mac(),  device_->mtu(),
                     link.up,           link.speed_mbps, device_->interrupt_fd() >= 0};
}

void EthdevPort::on_link_changed(bool up) noexcept {
  note_carrier(up);
  tell_control();
}

void EthdevPort::on_device_gone() noexcept {
  set_fault(PortFault::device_gone);
}

}  // namespace patchbay::dataplane
