// A guest's vnic: frames come from and go into the rings that the guest shares.
//
// States  without queues (nobody connected: frames for it are dropped as not_connected) <-> connected -> faulted (its
//         ring is broken or its memory gone; moves nothing until control has disconnected it).
// Threads connect(), disconnect(): control; disconnect() is followed by a grace period before the queues are freed.
#pragma once
#include <atomic>

#include "dataplane/ports/port.h"
#include "dataplane/virtqueue/guest_queues.h"

namespace patchbay::dataplane {

class GuestPort final : public Port {
 public:
  using Port::Port;

  // Starts to use `queues`, which the caller keeps, woken by `kick_fd` (-1: none). False: the kernel does not let us watch
  // that descriptor, and nothing was started.
  [[nodiscard]] bool connect(GuestQueues* queues, int kick_fd) noexcept;
  // Stops to use them; the worker may still, until a grace period has passed. Null if not connected.
  [[nodiscard]] GuestQueues* disconnect() noexcept;
  // After that grace period: whatever was wrong with the queues is gone with them.
  void forget_fault() noexcept { clear_fault(); }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override;
  void flush(CallSignal& calls) noexcept override;
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void woke() noexcept override;
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;

 private:
  [[nodiscard]] GuestQueues* usable() const noexcept;
  void check(const GuestQueues& queues) noexcept;

  std::atomic<GuestQueues*> queues_ = nullptr;
  GuestQueues* receiving_ = nullptr;  // the worker's, between receive() and complete()
  GuestQueues* touched_ = nullptr;    // the worker's, until flush()
  int epoll_fd_ = -1;                 // control's
  int kick_fd_ = -1;                  // control's
};

}  // namespace patchbay::dataplane
