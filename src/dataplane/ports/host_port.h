// A host vnic: a tap interface, so that the host takes part in a switch as one more machine.
//
// Theory  The interface is persistent and marked as ours by its alias. It stays, with the addresses and routes that the
//         administrator gave it, when the daemon ends, and the next run takes it over; it has no carrier meanwhile.
//         The alias also names the owner (the daemon's state directory): what a daemon that was killed between storing
//         a deletion and removing the interface has left, the next run with the same state finds and removes.
//         Frames carry virtio-net headers in both directions: the host leaves checksums and the cutting of large pieces to
//         whoever needs it done, and takes both from others.
//         Frames that were read but could not go on (the uplink is full) are kept and come again.
// Limits  One read() a frame; frames up to frame_size_max.
// Threads open(), close_interface(): control. The rest: the worker.
#pragma once
#include <array>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/dataplane.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class HostPort final : public Port {
 public:
  // Errors: as Dataplane::open_host_port().
  [[nodiscard]] static Result<std::unique_ptr<HostPort>> open(PortId id, int fault_event_fd,
                                                              const HostPortConfig& config);
  // The alias of the host interfaces of `owner`.
  [[nodiscard]] static std::string alias_of(const std::string& owner);
  [[nodiscard]] Result<void> set_mtu(std::uint16_t mtu);
  // Lets the interface disappear when this port is destroyed.
  void release_interface() noexcept;

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] Offloads takes() const noexcept override { return offloads_; }
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void on_event(std::uint32_t events) noexcept override;
  [[nodiscard]] Events events() const noexcept override { return Events::work; }
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;

 private:
  HostPort(PortId id, int fault_event_fd)
      : Port(id, fault_event_fd), buffer_(std::make_unique_for_overwrite<std::uint8_t[]>(burst_max * frame_size_max)) {}
  [[nodiscard]] bool read_one(std::size_t place) noexcept;

  std::string name_;
  UniqueFd fd_;
  int epoll_fd_ = -1;
  bool readable_ = true;  // as far as known; the next read tells
  Offloads offloads_ = 0;
  std::unique_ptr<std::uint8_t[]> buffer_;  // frame_size_max for each frame; its pages are there once they are used
  std::array<VnetHeader, burst_max> headers_{};
  std::array<std::uint32_t, burst_max> sizes_{};  // of the frames in buffer_, oldest at first_
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace patchbay::dataplane
