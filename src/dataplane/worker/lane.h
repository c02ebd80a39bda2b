// A lane: frames on their way from one worker to another, by reference.
//
// Theory  Only the worker that owns a port writes to it. So a frame for a port of another worker is lent: its head goes
//         along as a copy, the rest stays where it is, in the sender's buffers, and the port it came from hands in
//         nothing more until all frames it lent have come back (Port::loan). The receiver's worker sends them as its own,
//         and gives them back when what it wrote can be seen. A full uplink refuses: then they are the sender's again, and
//         wait in its ring.
//         Single producer, single consumer; a post shows all that was packed since the last one, at once.
// Limits  Lane::size frames.
// Threads room() to post(): the worker that sends. waiting() to release(): the one that receives. The others: any.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

#include "base/prefetch.h"
#include "dataplane/frame/frame.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

struct Snapshot;

struct Parcel {
  Port* from = nullptr;
  Port* to = nullptr;                  // null: all ports of the receiving worker that `frame` is to be flooded to,
  const Snapshot* snapshot = nullptr;  // by what the sender knew
  std::uint32_t switch_index = 0;
  std::uint32_t cut_sent = 0;  // frames of this large piece that have left already
  Frame frame;
  alignas(cache_line_size) std::array<std::uint8_t, head_size_max> head;
  std::array<Segment, segments_max + 1> segments;  // the first may be what of the head is not in `head`
};

class Lane {
 public:
  static constexpr std::uint32_t size = 256;

  // Room for as many; for at least `wanted` if there is.
  [[nodiscard]] std::uint32_t room(std::size_t wanted) noexcept;
  [[nodiscard]] bool full() noexcept { return room(1) == 0; }
  // There is room. The parcel is the caller's to complete until post().
  Parcel& pack(const Frame& frame, Port& from) noexcept;
  void post() noexcept { posted_.store(packed_, std::memory_order_release); }

  [[nodiscard]] std::uint32_t waiting() const noexcept {
    return posted_.load(std::memory_order_acquire) - released_.load(std::memory_order_relaxed);
  }
  // Of those that wait.
  [[nodiscard]] Parcel& at(std::uint32_t i) noexcept {
    return parcels_[(released_.load(std::memory_order_relaxed) + i) % size];
  }
  void release(std::uint32_t count) noexcept {
    released_.store(released_.load(std::memory_order_relaxed) + count, std::memory_order_release);
  }

  [[nodiscard]] std::uint32_t posted() const noexcept { return posted_.load(std::memory_order_acquire); }
  // All that was posted when posted() gave `mark`.
  [[nodiscard]] bool has_released(std::uint32_t mark) const noexcept {
    return static_cast<std::int32_t>(released_.load(std::memory_order_acquire) - mark) >= 0;
  }
  [[nodiscard]] bool empty() const noexcept {
    return posted_.load(std::memory_order_acquire) == released_.load(std::memory_order_acquire);
  }

 private:
  alignas(cache_line_size) std::atomic<std::uint32_t> posted_ = 0;
  alignas(cache_line_size) std::atomic<std::uint32_t> released_ = 0;
  alignas(cache_line_size) std::uint32_t packed_ = 0;  // the sender's
  std::uint32_t seen_released_ = 0;                    // the sender's
  std::array<Parcel, size> parcels_;
};

}  // namespace patchbay::dataplane
