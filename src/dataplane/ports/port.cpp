#include "dataplane/ports/port.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <utility>

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

std::size_t settle_loan(Port& port) noexcept {
  Loan& loan = port.loan;
  const std::uint32_t refused = loan.refused.exchange(0, std::memory_order_relaxed);
  const std::uint64_t refused_bytes = loan.refused_bytes.exchange(0, std::memory_order_relaxed);
  port.cut_sent = loan.refused_cut.exchange(0, std::memory_order_relaxed);
  const bool asked = std::exchange(loan.asks_uplink, false);
  loan.uplink_has_it = asked && refused == 0;
  // A frame to all that the uplink was asked to take is behind the ones that are done.
  const std::uint32_t of_done = asked ? 0 : refused;
  port.count_ingress(loan.done - of_done, loan.bytes - (asked ? 0 : refused_bytes));
  port.complete(loan.done - of_done);
  loan.open.store(false, std::memory_order_release);
  return refused;
}

}  // namespace patchbay::dataplane
