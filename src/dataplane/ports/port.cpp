#include "dataplane/ports/port.h"

#include <sys/epoll.h>
#include <unistd.h>

namespace patchbay::dataplane {

PortCounters Port::counters() const noexcept {
  PortCounters result;
  result.ingress = {ingress_frames_.get(), ingress_bytes_.get()};
  result.egress = {egress_frames_.get(), egress_bytes_.get()};
  result.flood_copies = flood_copies_.get();
  result.cut_frames = cut_frames_.get();
  result.merged_frames = merged_frames_.get();
  for (std::size_t i = 0; i < drop_reason_count; ++i) result.drops[i] = drops_[i].get();
  const std::uint64_t refused = refused_source_.load(std::memory_order_relaxed);
  if (refused != 0) result.refused_source = MacAddr::from_uint64(refused);
  return result;
}

void Port::set_fault(PortFault fault) noexcept {
  auto none = PortFault::none;
  if (fault_.compare_exchange_strong(none, fault, std::memory_order_acq_rel)) tell_control();
}

void Port::tell_control() const noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(fault_event_fd_, &one, sizeof one));
}

bool Port::watch(int epoll_fd, int operation, int fd, std::uint32_t events) const noexcept {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = raw(id_);
  return epoll_ctl(epoll_fd, operation, fd, &event) == 0;
}

}  // namespace patchbay::dataplane
