// A port: where the switch meets a guest, the host or the wire.
//
// Theory  A worker calls receive(), decides what becomes of the burst, hands frames to the send() of other ports, and
//         then tells complete() how many of the burst are done with. Frames that are not done (the uplink is full) come
//         again with the next receive(). A pass ends at the ports that had a part in it: flush() at all of them, then
//         settle() at all, then notify(). Frames that need more than takes() says are finished before send().
// States  closed -> attached (its descriptors are watched by a worker; it is in the layout) -> closed.
// Threads receive() to on_event(): the worker that owns the port. attach(), detach(), fault(), counters(): control.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/counter.h"
#include "base/ids.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"
#include "dataplane/virtqueue/call_signal.h"

namespace patchbay::dataplane {

// An uplink carries the frames of many, which never wait for a way out: it is received from up to so many times in a pass,
// and before complete(), which then is told of all of them.
inline constexpr std::size_t uplink_bursts = 8;

// What a port's worker has lent to other workers of the burst that was received last, or of the bursts of an uplink. Nothing
// more is received until it is all back.
struct Loan {
  // Frames that are out. Whoever had them takes away from it last, when what became of them can be seen; before that he
  // notes those that a full uplink refused, which are the last of the burst, and what has left of the first of them.
  std::atomic<std::uint32_t> out = 0;
  std::atomic<std::uint32_t> refused = 0;
  std::atomic<std::uint64_t> refused_bytes = 0;
  std::atomic<std::uint32_t> refused_cut = 0;
  std::atomic<bool> open = false;  // the lender's, for control to see: the burst is not complete()
  // The lender's own.
  std::size_t bursts = 0;  // that were received
  std::size_t done = 0;    // frames that are done with when all are back, unless refused
  std::uint64_t bytes = 0;
  bool asks_uplink = false;    // behind them: a frame to all, which the uplink gets first,
  bool uplink_has_it = false;  // and has got
};

enum class Events : std::uint8_t {
  none,
  rare,  // that the device is gone, or, after full(), that there is room
  work,  // that frames wait, or can go on
};

class Port {
 public:
  // `fault_event_fd`: an eventfd that tells control of a fault.
  Port(PortId id, int fault_event_fd) noexcept : id_(id), fault_event_fd_(fault_event_fd) {}
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // Frames that wait, at most burst_max, into `burst.frames`: of an uplink those behind the ones received before. Where they
  // lie stays valid until complete(), what is in `burst` until the next call.
  [[nodiscard]] virtual std::size_t receive(Burst& burst) noexcept = 0;
  virtual void complete(std::size_t count) noexcept = 0;
  // Takes frames for the other side, in order, and counts each as sent or dropped. Fewer than all: full(), try later.
  [[nodiscard]] virtual std::size_t send(std::span<const Frame> frames) noexcept = 0;
  // Frames that send() took and that wait here: delivers those that it can; how many. Called while `holds_frames`.
  virtual std::size_t drain() noexcept { return 0; }
  // What frames given to send() may still need: the other side does it.
  [[nodiscard]] virtual Offloads takes() const noexcept { return 0; }
  // What receive() gives may be coalesced (offload/coalescer.h): bare frames of the wire, in memory that is ours to write.
  // Never to be had again after complete().
  [[nodiscard]] virtual bool gives_bare_frames() const noexcept { return false; }
  // The uplink that the last burst came by: of a team, a member.
  [[nodiscard]] virtual const Port& brought_by() const noexcept { return *this; }
  // receive() is about to be called, some ports later: asks the caches for what it will read.
  virtual void prepare() noexcept {}
  // notify() has something to tell though no frame moved. After receive().
  [[nodiscard]] virtual bool greets() const noexcept { return false; }
  // The end of a pass: what was sent may be seen. When that is so at all ports, what was received is given back. When
  // that is so at all, and after a full fence, those who asked for it are told.
  virtual void flush() noexcept {}
  virtual void settle() noexcept {}
  virtual void notify(CallSignal& calls) noexcept { static_cast<void>(calls); }

  // Asks the other side to wake the worker. True: there is work already.
  [[nodiscard]] virtual bool prepare_sleep() noexcept = 0;
  virtual void woke() noexcept {}
  // epoll reported `events` for a descriptor of this port.
  virtual void on_event(std::uint32_t events) noexcept { static_cast<void>(events); }
  // What such an event says that the port does not find out by itself while its worker is awake.
  [[nodiscard]] virtual Events events() const noexcept { return Events::none; }
  // Cannot take a frame now; a descriptor will report when it can.
  [[nodiscard]] virtual bool full() const noexcept { return false; }

  // After a start guests come back one by one. What comes in at a patient port waits there for receivers that are still
  // expected.
  [[nodiscard]] virtual bool is_patient() noexcept { return false; }
  [[nodiscard]] virtual bool is_expected() const noexcept { return false; }

  // Adds this port's descriptors to the worker's epoll, with the port's id as their data; and takes them out.
  virtual void attach(int epoll_fd) noexcept = 0;
  virtual void detach() noexcept = 0;

  [[nodiscard]] PortId id() const noexcept { return id_; }
  [[nodiscard]] PortFault fault() const noexcept { return fault_.load(std::memory_order_acquire); }
  [[nodiscard]] PortCounters counters() const noexcept;

  virtual void count_ingress(std::uint64_t frames, std::uint64_t bytes) noexcept {
    ingress_frames_.add(frames);
    ingress_bytes_.add(bytes);
  }
  void count_egress(std::uint64_t bytes, std::uint64_t frames = 1) noexcept {
    egress_frames_.add(frames);
    egress_bytes_.add(bytes);
  }
  void count_drop(DropReason reason, std::uint64_t frames = 1) noexcept {
    drops_[static_cast<std::size_t>(reason)].add(frames);
  }
  void note_refused_source(std::uint64_t mac) noexcept { refused_source_.store(mac, std::memory_order_relaxed); }
  void count_flood_copies(std::uint64_t copies) noexcept { flood_copies_.add(copies); }
  void count_cut_frames(std::uint64_t frames) noexcept { cut_frames_.add(frames); }
  void count_merged_frames(std::uint64_t frames) noexcept { merged_frames_.add(frames); }

  // ---- For control, which waits until what is in a ring now has been taken: how often the worker looked there, and how
  // often nothing was left then. Of ports to the wire.
  struct Looks {
    std::uint64_t all = 0;
    std::uint64_t emptied = 0;
  };
  [[nodiscard]] Looks looks() const noexcept { return {looks_.get(), emptied_.get()}; }
  void note_look(bool emptied) noexcept {
    looks_.add(1);
    if (emptied) emptied_.add(1);
  }
  // Nothing is received for a moment.
  std::atomic<bool> held = false;

  // The worker's own notes. The port has a part in this pass (`noted_before` is the one noted before it); frames of this
  // port wait because the uplink is full or their receiver is expected, and how many of the frames that the first of them,
  // a large piece, is cut into have left already.
  bool noted = false;
  bool holds_frames = false;  // drain() has something to do
  Port* noted_before = nullptr;
  bool stalled = false;
  std::uint32_t cut_sent = 0;
  Loan loan;
  // Frames of other workers wait for room here. Its worker writes it.
  std::atomic<bool> congested = false;

 protected:
  // Notes a fault and tells control, once until clear_fault().
  void set_fault(PortFault fault) noexcept;
  void clear_fault() noexcept { fault_.store(PortFault::none, std::memory_order_release); }
  // Makes control look at this port's state.
  void tell_control() const noexcept;
  // epoll_ctl with the port's id as data; `operation` as there. Failure means a descriptor that cannot be watched.
  bool watch(int epoll_fd, int operation, int fd, std::uint32_t events) const noexcept;

 private:
  const PortId id_;
  const int fault_event_fd_;
  std::atomic<PortFault> fault_ = PortFault::none;
  Counter ingress_frames_, ingress_bytes_, egress_frames_, egress_bytes_, flood_copies_, cut_frames_, merged_frames_;
  std::array<Counter, drop_reason_count> drops_;
  Counter looks_, emptied_;
  std::atomic<std::uint64_t> refused_source_ = 0;  // 0: none yet
};

// All that was lent of the port's burst is back: counts and completes what was not refused; how many frames were.
// By who receives from it, or by control when nobody does.
std::size_t settle_loan(Port& port) noexcept;

}  // namespace patchbay::dataplane
