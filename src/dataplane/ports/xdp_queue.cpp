#include "dataplane/ports/xdp_queue.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "dataplane/frame/leaving.h"

// Newer than the headers of the oldest system that this is built on.
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif

namespace patchbay::dataplane {
namespace {

// Writes a frame over one chunk or several.
class ChunkWriter {
 public:
  ChunkWriter(std::uint8_t* umem, std::span<const std::uint64_t> chunks) noexcept : umem_(umem), chunks_(chunks) {}

  void write(const std::uint8_t* from, std::size_t size) noexcept {
    while (size != 0 && next_ < chunks_.size()) {
      const std::size_t part = std::min(size, XdpQueue::chunk_size - used_);
      std::memcpy(umem_ + chunks_[next_] + used_, from, part);
      from += part;
      size -= part;
      used_ += part;
      if (used_ < XdpQueue::chunk_size) continue;
      used_ = 0;
      ++next_;
    }
  }

 private:
  std::uint8_t* umem_;
  std::span<const std::uint64_t> chunks_;
  std::size_t next_ = 0;
  std::size_t used_ = 0;  // of chunks_[next_]
};

Error open_error(const XdpQueueConfig& config, int error) {
  const std::string what =
      "nic " + config.nic + ": opening an AF_XDP socket on its queue " + std::to_string(config.queue);
  if (error == EBUSY) {
    return make_error(ErrorCode::in_use, what + ": another process has one there; end that, or use --driver packet");
  }
  if (error == ENOBUFS || error == EPERM) {
    return make_error(ErrorCode::no_resource, what +
                                                  ": the memory that it locks is not permitted; give patchbayd "
                                                  "CAP_NET_RAW and CAP_IPC_LOCK, or use --driver packet");
  }
  return system_error(what, error);
}

}  // namespace

// A queue becomes free a moment after its socket was closed, in a kernel thread: after a restart, or when the uplink is
// opened anew.
Result<std::unique_ptr<XdpQueue>> XdpQueue::open(const XdpQueueConfig& config) {
  constexpr auto wait_max = std::chrono::seconds(1);
  const auto limit = std::chrono::steady_clock::now() + wait_max;
  for (;;) {
    std::unique_ptr<XdpQueue> queue(new XdpQueue(config));
    const int error = queue->open_once();
    if (error == 0) return queue;
    if (error != EBUSY || std::chrono::steady_clock::now() > limit) return fail(open_error(config, error));
    queue.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

int XdpQueue::open_once() {
  umem_size_ = std::size_t{config_.rx_chunks + config_.tx_chunks} * chunk_size;
  void* const bytes = mmap(nullptr, umem_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) return errno;
  umem_bytes_ = static_cast<std::uint8_t*>(bytes);

  constexpr std::uint32_t completion_min = 64;  // a ring that is not used needs a size all the same
  xsk_umem_config memory = {};
  memory.fill_size = config_.rx_chunks;
  memory.comp_size = std::max(config_.tx_chunks, completion_min);
  memory.frame_size = chunk_size;
  if (const int error = xsk_umem__create(&umem_, umem_bytes_, umem_size_, &fill_, &completion_, &memory); error != 0) {
    return -error;
  }
  fill_all();

  xsk_socket_config socket = {};
  socket.rx_size = config_.rx_chunks;
  socket.tx_size = config_.tx_chunks;
  socket.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
  socket.bind_flags =
      static_cast<std::uint16_t>(XDP_COPY | XDP_USE_NEED_WAKEUP | (config_.multi_buffer ? XDP_USE_SG : 0));
  xsk_ring_prod* const tx = config_.tx_chunks != 0 ? &tx_ : nullptr;
  if (const int error = xsk_socket__create(&socket_, config_.nic.c_str(), config_.queue, umem_, &rx_, tx, &socket);
      error != 0) {
    socket_ = nullptr;
    return -error;
  }
  constexpr int queue_bytes = 1 << 20;
  static_cast<void>(setsockopt(fd(), SOL_SOCKET, SO_SNDBUFFORCE, &queue_bytes, sizeof queue_bytes));
  return 0;
}

void XdpQueue::fill_all() noexcept {
  std::uint32_t index = 0;
  const std::uint32_t count = xsk_ring_prod__reserve(&fill_, config_.rx_chunks, &index);
  for (std::uint32_t i = 0; i < count; ++i) {
    *xsk_ring_prod__fill_addr(&fill_, index + i) = std::uint64_t{i} * chunk_size;
  }
  xsk_ring_prod__submit(&fill_, count);
  free_.reserve(config_.tx_chunks);
  for (std::uint32_t i = 0; i < config_.tx_chunks; ++i) {
    free_.push_back(std::uint64_t{config_.rx_chunks + i} * chunk_size);
  }
}

XdpQueue::~XdpQueue() {
  if (socket_ != nullptr) xsk_socket__delete(socket_);
  if (umem_ != nullptr) static_cast<void>(xsk_umem__delete(umem_));
  if (umem_bytes_ != nullptr) munmap(umem_bytes_, umem_size_);
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

bool XdpQueue::is_uplinks() noexcept {
  Holder holder = holder_.load(std::memory_order_acquire);
  if (holder == Holder::asked && rx_count_ == 0) {
    // Control may have given it back by now.
    if (holder_.compare_exchange_strong(holder, Holder::vnic, std::memory_order_acq_rel)) return false;
  }
  return holder != Holder::vnic;
}

std::size_t XdpQueue::receive(Burst& burst) noexcept {
  constexpr std::uint32_t descriptors_max = 2 * burst_max;  // at least pieces_max
  std::uint32_t first = 0;
  const std::uint32_t waiting = xsk_ring_cons__peek(&rx_, descriptors_max, &first);
  if (rx_count_ == 0) rx_first_ = first;
  std::uint32_t used = 0;
  std::size_t count = 0;
  while (used < waiting && count < burst_max) {
    Frame& frame = burst.frames[count];
    const auto segments = burst.segments_of(count);
    frame = Frame{};
    std::uint32_t pieces = 0;
    bool more = true;
    while (more && pieces < pieces_max && used + pieces < waiting) {
      const xdp_desc& descriptor = *xsk_ring_cons__rx_desc(&rx_, first + used + pieces);
      if (pieces == 0) {
        frame.head = at(descriptor.addr);
        frame.head_size = descriptor.len;
      } else {
        segments[pieces - 1] = {at(descriptor.addr), descriptor.len};
      }
      frame.size += descriptor.len;
      more = (descriptor.options & XDP_PKT_CONTD) != 0;
      ++pieces;
    }
    // Its other pieces come with the next burst; the kernel shows frames only as a whole.
    if (more && pieces < pieces_max) break;
    frame.rest = segments.data();
    frame.rest_count = static_cast<std::uint16_t>(pieces - 1);
    if (more) drop(frame, DropReason::oversize);
    ++count;
    used += pieces;
  }
  xsk_ring_cons__cancel(&rx_, waiting - used);
  rx_count_ += used;
  return count;
}

void XdpQueue::complete() noexcept {
  const std::uint32_t done = std::exchange(rx_count_, 0);
  if (done == 0) return;
  std::uint32_t index = 0;
  if (xsk_ring_prod__reserve(&fill_, done, &index) != done) return;  // cannot be: the fill ring holds all chunks
  for (std::uint32_t i = 0; i < done; ++i) {
    const std::uint64_t address = xsk_ring_cons__rx_desc(&rx_, rx_first_ + i)->addr;
    *xsk_ring_prod__fill_addr(&fill_, index + i) = address & ~std::uint64_t{chunk_size - 1};
  }
  xsk_ring_prod__submit(&fill_, done);
  xsk_ring_cons__release(&rx_, done);
}

std::uint64_t XdpQueue::kernel_drops() const noexcept {
  xdp_statistics statistics = {};
  socklen_t size = sizeof statistics;
  if (getsockopt(fd(), SOL_XDP, XDP_STATISTICS, &statistics, &size) != 0) return 0;
  // In copy mode each frame that found the fill ring empty is among the dropped.
  return statistics.rx_dropped + statistics.rx_ring_full;
}

// ---- Sending --------------------------------------------------------------------------------------------------------

XdpQueue::Put XdpQueue::put(const Frame& frame) noexcept {
  const std::size_t size = tagged_size(frame);
  const std::size_t chunks = (size + chunk_size - 1) / chunk_size;
  if (config_.tx_chunks == 0 || chunks > (config_.multi_buffer ? pieces_max : 1)) return Put::too_large;
  std::uint32_t index = 0;
  if (free_.size() < chunks || xsk_ring_prod__reserve(&tx_, static_cast<std::uint32_t>(chunks), &index) != chunks) {
    return Put::no_room;
  }
  const std::span<const std::uint64_t> taken = std::span(free_).last(chunks);
  ChunkWriter writer(umem_bytes_, taken);
  TagBytes tag;
  for_each_stretch(frame, tag, [&](const std::uint8_t* data, std::uint32_t bytes) { writer.write(data, bytes); });
  std::size_t left = size;
  for (std::size_t i = 0; i < chunks; ++i) {
    xdp_desc& descriptor = *xsk_ring_prod__tx_desc(&tx_, index + static_cast<std::uint32_t>(i));
    descriptor.addr = taken[i];
    descriptor.len = static_cast<std::uint32_t>(std::min<std::size_t>(left, chunk_size));
    descriptor.options = i + 1 < chunks ? XDP_PKT_CONTD : 0;
    left -= descriptor.len;
  }
  free_.resize(free_.size() - chunks);
  xsk_ring_prod__submit(&tx_, static_cast<std::uint32_t>(chunks));
  return Put::taken;
}

std::uint32_t XdpQueue::pending() const noexcept {
  if (config_.tx_chunks == 0) return 0;
  return __atomic_load_n(tx_.producer, __ATOMIC_RELAXED) - __atomic_load_n(tx_.consumer, __ATOMIC_ACQUIRE);
}

bool XdpQueue::kick() noexcept {
  // The kernel takes at most 32 descriptors a call and says EAGAIN when more are waiting, and when it is full.
  std::uint32_t before = pending();
  while (before != 0) {
    if (sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 && errno != EAGAIN && errno != EINTR) return false;
    const std::uint32_t now = pending();
    if (now >= before) return now == 0;
    before = now;
  }
  return true;
}

void XdpQueue::reclaim() noexcept {
  if (config_.tx_chunks == 0) return;
  std::uint32_t index = 0;
  const std::uint32_t count = xsk_ring_cons__peek(&completion_, config_.tx_chunks, &index);
  for (std::uint32_t i = 0; i < count && free_.size() < free_.capacity(); ++i) {
    free_.push_back(*xsk_ring_cons__comp_addr(&completion_, index + i));
  }
  xsk_ring_cons__release(&completion_, count);
}

}  // namespace patchbay::dataplane
