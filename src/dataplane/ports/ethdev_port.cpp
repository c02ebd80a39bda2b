#include "dataplane/ports/ethdev_port.h"

#include <fmt/format.h>
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
constexpr std::uint16_t mbufs_at_once =
    64;  // about so many are copied before the device is asked: one piece of 64 KB, or two
// A driver that says that there is room, and so often in a row takes nothing, will never take the first frame.
constexpr unsigned trials_max = 16;

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

}  // namespace

Result<std::unique_ptr<EthdevPort>> EthdevPort::open(PortId id, int fault_event_fd, const dpdk::Eal& eal,
                                                     const std::string& address) {
  std::unique_ptr<EthdevPort> port(new EthdevPort(id, fault_event_fd));
  auto device = dpdk::EthDevice::create(eal, address, *port);
  if (!device) return fail(device.error());
  port->device_ = std::move(*device);
  port->receiver_.set_device(*port->device_);
  port->note_offloads();
  port->note_link();
  return port;
}

EthdevPort::~EthdevPort() = default;

std::size_t EthdevPort::receive(Burst& burst) noexcept {
  if (!from_control_.empty()) send_for_control();
  if (full_) look_for_room();
  const std::size_t count = receiver_.receive(burst);
  for (std::size_t i = 0; i < count; ++i) hand_up(burst.frames[i]);
  return count;
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

void leave_to_device(const Frame& frame, rte_mbuf& mbuf) noexcept {
  constexpr std::uint16_t ethertype_ipv6 = 0x86DD;
  constexpr std::uint16_t udp_checksum_at = 6;
  const Needs& needs = frame.needs;
  const bool ipv6 = load_be16(frame.head + addresses_size) == ethertype_ipv6;
  mbuf.l2_len = ethernet_header_size + (frame.tag_tpid != 0 ? vlan_tag_size : 0);
  mbuf.l3_len = (needs.csum_start - ethernet_header_size) & ((1U << RTE_MBUF_L3_LEN_BITS) - 1);  // at most 60
  mbuf.ol_flags |= ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
  if (needs.gso_size == 0) {
    mbuf.ol_flags |= needs.csum_offset == udp_checksum_at ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM;
    return;
  }
  mbuf.l4_len = (needs.header_size - needs.csum_start) & ((1U << RTE_MBUF_L4_LEN_BITS) - 1);  // at most 60
  mbuf.tso_segsz = needs.gso_size;
  mbuf.ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM | (ipv6 ? 0 : RTE_MBUF_F_TX_IP_CKSUM);
}

bool EthdevPort::copy(const Frame& frame, rte_mbuf& to) noexcept {
  Writer writer(device_->pool(), to);
  TagBytes tag;
  bool copied = true;
  for_each_stretch(frame, tag,
                   [&](const std::uint8_t* data, std::uint32_t size) { copied = copied && writer.append(data, size); });
  if (!copied) return false;
  if (to.pkt_len < frame_size_min) writer.append_zeros(frame_size_min - to.pkt_len);
  if (frame.needs.offloads != 0) leave_to_device(frame, to);
  return true;
}

bool EthdevPort::is_too_large(const Frame& frame) const noexcept {
  return frame_size_of(frame) > device_->mtu() + ethernet_header_size;
}

// How many of the first frames are in `sending_` now: all, unless one is too large for the device, they fill many mbufs, or the
// pool is empty.
std::size_t EthdevPort::copy_all(std::span<const Frame> frames) noexcept {
  std::size_t count = 0;
  while (count < frames.size() && !is_too_large(frames[count])) ++count;
  if (rte_pktmbuf_alloc_bulk(device_->pool(), sending_.data(), static_cast<unsigned>(count)) != 0) return 0;
  std::size_t copied = 0;
  for (unsigned mbufs = 0; copied < count && mbufs < mbufs_at_once; ++copied) {
    if (!copy(frames[copied], *sending_[copied])) break;
    mbufs += sending_[copied]->nb_segs;
  }
  if (copied < count) rte_pktmbuf_free_bulk(&sending_[copied], static_cast<unsigned>(count - copied));
  return copied;
}

std::size_t EthdevPort::transmit(std::span<const Frame> frames) noexcept {
  if (!from_control_.empty()) send_for_control();
  std::size_t done = 0;
  while (done < frames.size()) {
    const auto left = frames.subspan(done, std::min(frames.size() - done, burst_max));
    const std::size_t copied = copy_all(left);
    const bool leaves_work = std::any_of(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(copied),
                                         [](const Frame& frame) { return frame.needs.offloads != 0; });
    const std::size_t fit = leaves_work ? device_->prepare({sending_.data(), copied}) : copied;
    const std::size_t sent = fit == 0 ? 0 : device_->send({sending_.data(), fit});
    if (sent < copied) rte_pktmbuf_free_bulk(&sending_[sent], static_cast<unsigned>(copied - sent));
    for (const Frame& frame : left.first(sent)) count_egress(frame.size);
    done += sent;
    if (sent != 0) trials_ = 0;
    if (sent == left.size()) continue;
    bool refused = sent == fit && (fit < copied || is_too_large(left[sent]));
    if (!refused && sent == copied && copied != 0) continue;
    if (sent == 0 && fit != 0 && device_->has_room(mbufs_at_once).value_or(false) && ++trials_ == trials_max) {
      trials_ = 0;
      refused = true;
    }
    if (!refused) {
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
  const auto room = device_->has_room(mbufs_at_once);
  if (room.value_or(true) || ++passes_full_ % passes_between_trials == 0) full_ = false;
}

bool EthdevPort::prepare_sleep() noexcept {
  if (full() || !from_control_.empty()) return true;
  return receiver_.prepare_sleep();
}

void EthdevPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  watch_interrupt();
}

void EthdevPort::detach() noexcept {
  if (receiver_.interrupt_fd() >= 0) watch(epoll_fd_, EPOLL_CTL_DEL, receiver_.interrupt_fd(), 0);
  epoll_fd_ = -1;
}

void EthdevPort::watch_interrupt() noexcept {
  if (epoll_fd_ < 0 || receiver_.interrupt_fd() < 0) return;
  // Edge-triggered: each interrupt wakes, and nobody has to read it.
  watch(epoll_fd_, EPOLL_CTL_ADD, receiver_.interrupt_fd(), ethdev_interrupt_events);
}

Result<std::unique_ptr<Port>> EthdevPort::open_queue(PortId id) {
  const QueueAbility ability = device_->queue_ability();
  if (ability.queues == 0) {
    return fail(ErrorCode::unavailable,
                fmt::format("nic {} has no queues to sort into: {}", device_->address(), ability.reason));
  }
  const auto end = queues_.begin() + 1 + ability.queues;
  const auto free = std::find(queues_.begin() + 1, end, nullptr);
  if (free == end) {
    return fail(ErrorCode::no_resource, fmt::format("nic {}: its {} queues are taken ({})", device_->address(),
                                                    ability.queues, ability.reason));
  }
  auto queue = std::make_unique<EthdevQueue>(id, *device_, static_cast<std::uint16_t>(free - queues_.begin()));
  *free = queue.get();
  return queue;
}

void EthdevPort::close_queue(Port& queue) {
  const auto closed = std::find(queues_.begin() + 1, queues_.end(), &queue);
  if (closed == queues_.end()) return;
  (*closed)->clear();
  *closed = nullptr;
}

Result<void> EthdevPort::set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) {
  const auto found = std::find(queues_.begin() + 1, queues_.end(), &queue);
  if (found == queues_.end()) return fail(ErrorCode::internal, "a queue that is none of this uplink's");
  const unsigned starts = device_->starts();
  auto done = device_->set_filter((*found)->number(), filter);
  note_restart(starts);
  return done;
}

void EthdevPort::set_switch_mtu(std::uint16_t mtu) {
  const unsigned starts = device_->starts();
  device_->set_switch_mtu(mtu);
  note_restart(starts);
}

void EthdevPort::note_restart(unsigned starts) noexcept {
  if (device_->starts() == starts) return;
  watch_interrupt();
  for (EthdevQueue* const queue : queues_) {
    if (queue != nullptr) queue->watch_interrupt();
  }
  note_offloads();
  note_link();
  tell_control();
}

void EthdevPort::note_offloads() noexcept {
  unsigned takes = device_->completes_checksums() ? offload_checksum : 0;
  if (device_->cuts_tcp()) takes |= offload_tso4 | offload_tso6;
  takes_.store(static_cast<Offloads>(takes), std::memory_order_relaxed);
}

void EthdevPort::note_link() noexcept {
  if (!device_->tells_link()) return;
  // The link may change between the question and the note: the interrupt thread's word must not be overwritten by an
  // older one.
  for (bool up = !device_->link().up; up != device_->link().up;) {
    up = !up;
    note_carrier(up);
  }
}

std::optional<DeviceState> EthdevPort::device_state() const {
  const auto link = device_->link();
  return DeviceState{device_->driver(), device_->mac(),  device_->mtu(),
                     link.up,           link.speed_mbps, receiver_.interrupt_fd() >= 0};
}

void EthdevPort::on_link_changed(bool up) noexcept {
  note_carrier(up);
  tell_control();
}

void EthdevPort::on_device_gone() noexcept {
  set_fault(PortFault::device_gone);
}

}  // namespace patchbay::dataplane
