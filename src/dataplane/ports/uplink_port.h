// A port to the wire: what control asks of it beyond any port, and what all of them do alike when they send.
//
// States  With carrier, and full or not: a full one takes nothing until its descriptor, or the device, reports room.
//         Without carrier frames are dropped (not_connected), and it is never full.
// Threads set_carrier(), kernel_drops(), device_state(), queues: control. note_carrier(): any. The rest: the worker.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>

#include "dataplane/ports/mailbox.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class UplinkPort : public Port {
 public:
  using Port::Port;
  virtual void set_carrier(bool up) noexcept { note_carrier(up); }
  // Frames that the kernel, or the NIC itself, had no room for.
  [[nodiscard]] virtual std::uint64_t kernel_drops() noexcept = 0;
  // Of a device that the data plane drives itself; else nothing.
  [[nodiscard]] virtual std::optional<DeviceState> device_state() const { return std::nullopt; }
  // Of a device that no kernel sees: frames of the slow protocols that came in, and frames of control's that leave before
  // all others. Null: control has sockets of its own.
  [[nodiscard]] virtual Mailbox* to_control() noexcept { return nullptr; }
  [[nodiscard]] virtual Mailbox* from_control() noexcept { return nullptr; }

  // ---- Queues beside the default one, which is this port's own: control's.
  [[nodiscard]] virtual QueueAbility queue_ability() const { return {}; }
  // A port that only receives. Of a kind that sorts in software: never called, as the two below.
  [[nodiscard]] virtual Result<std::unique_ptr<Port>> open_queue(PortId id);
  // Before its destruction; it has no filter and nobody receives from it.
  virtual void close_queue(Port& queue);
  // Nothing: none any more. If queue_ability().restarts, all workers rest.
  [[nodiscard]] virtual Result<void> set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter);
  // Frames that its ring, or that of one of its queues, holds.
  [[nodiscard]] virtual std::size_t ring_frames() const noexcept { return 2048; }
  // Of the switch on it, before frames of this size come: not every sorting takes all sizes, and queue_ability() may be
  // another one then, without any filter. Until it is told, it expects the largest. If queue_ability().restarts, all workers
  // rest.
  virtual void set_switch_mtu(std::uint16_t mtu) { static_cast<void>(mtu); }

  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept final {
    if (!carrier_.load(std::memory_order_relaxed)) {
      count_drop(DropReason::not_connected, frames.size());
      return frames.size();
    }
    if (full_) return 0;  // those that wait already come first
    return transmit(frames);
  }
  [[nodiscard]] bool full() const noexcept final { return full_ && carrier_.load(std::memory_order_relaxed); }

 protected:
  // send(), with carrier and not full.
  [[nodiscard]] virtual std::size_t transmit(std::span<const Frame> frames) noexcept = 0;
  void note_carrier(bool up) noexcept { carrier_.store(up, std::memory_order_relaxed); }

  bool full_ = false;

 private:
  std::atomic<bool> carrier_ = true;
};

}  // namespace patchbay::dataplane
