#include "dataplane/ports/ethdev_receiver.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace patchbay::dataplane {
namespace {

std::uint8_t* bytes_of(const rte_mbuf& mbuf) noexcept {
  return static_cast<std::uint8_t*>(mbuf.buf_addr) + mbuf.data_off;
}

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

EthdevReceiver::~EthdevReceiver() {
  given_ = received_count_;
  complete();
}

std::size_t EthdevReceiver::receive(Burst& burst) noexcept {
  // Of copies alone nothing is left, and behind them are frames.
  constexpr std::size_t takes_max = dpdk::EthDevice::receive_descriptors / burst_max;
  for (std::size_t i = 0; i < takes_max && received_count_ == given_; ++i) {
    if (take() == 0) break;
  }
  const std::size_t count = received_count_ - given_;
  for (std::size_t i = 0; i < count; ++i) {
    describe(*received_[given_ + i], burst.frames[i], burst.heads[i], burst.segments_of(i));
  }
  given_ = received_count_;
  return count;
}

std::size_t EthdevReceiver::take() noexcept {
  const auto room = std::span(received_).subspan(received_count_);
  const auto taken = room.first(device_->receive(queue_, room.first(std::min(room.size(), burst_max))));
  if (queue_ == dpdk::EthDevice::default_queue || !device_->replicates()) {
    received_count_ += taken.size();
    return taken.size();
  }
  for (rte_mbuf* const mbuf : taken) {
    if (mbuf->data_len != 0 && (bytes_of(*mbuf)[0] & 1) != 0) {
      rte_pktmbuf_free(mbuf);
    } else {
      received_[received_count_++] = mbuf;
    }
  }
  return taken.size();
}

void EthdevReceiver::complete() noexcept {
  if (given_ != 0) rte_pktmbuf_free_bulk(received_.data(), static_cast<unsigned>(given_));
  std::copy(received_.begin() + static_cast<std::ptrdiff_t>(given_),
            received_.begin() + static_cast<std::ptrdiff_t>(received_count_), received_.begin());
  received_count_ -= std::exchange(given_, 0);
}

bool EthdevReceiver::prepare_sleep() noexcept {
  if (received_count_ != given_ || device_->interrupt_fd(queue_) < 0) return true;
  if (!armed_) device_->arm_interrupt(queue_);
  armed_ = true;
  return take() != 0;  // what came before it was armed does not interrupt
}

void EthdevReceiver::woke() noexcept {
  if (armed_) device_->disarm_interrupt(queue_);
  armed_ = false;
}

void EthdevReceiver::clear() noexcept {
  const std::size_t ring = dpdk::EthDevice::receive_descriptors;
  for (std::size_t seen = 0; seen <= ring;) {
    given_ = received_count_;
    complete();
    const std::size_t taken = take();
    if (taken == 0) break;
    seen += taken;
  }
  given_ = received_count_;
  complete();
}

}  // namespace patchbay::dataplane
