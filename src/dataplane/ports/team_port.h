// A team of NICs as one uplink: each frame leaves through one member, and of what several members bring each frame is taken
// once.
//
// Theory  Which member a frame leaves by follows from its flow, or from the address that it comes from; control says which
//         member carries what (TeamPaths), and changes that at any time. The members are ports with rings, carrier and
//         counters of their own; this one has none of that.
//         Where the other end does not know of the team (switch-independent), an address must not show up at two members,
//         or switches there would move it to and fro: every source address has a home, the member by its own hash (with
//         address-hash: the primary). What leaves elsewhere, which only IP to a single station does, has the member's
//         own address for its source. What arrives is for the home of its destination; what is for groups is taken at
//         the primary alone, for every member gets a copy. A group frame of ours that comes back by another member
//         (reflected) is known by its source, if that is pinned to a vnic (forwarding/classify.h), and else by its first
//         bytes, which are remembered for a second.
//         With `dynamic` a flow may change its member when it paused for longer than paths differ (a flowlet): it then
//         goes where least was sent lately.
//         When a home moves to another member, what is on its way to the old one is still taken for a moment; a switch that
//         does not know the address sends a copy to each member, of which the later one is dropped: frames are known by
//         their first bytes and by the member that brought them.
// Limits  model::team_nics_max members; flowlets_max flows told apart, others share; frames of one flow stay in order, also when a
//         member is full: then frames of the same sender for others wait too.
// Threads set_members(): control, while no worker has a frame. set_paths(), counters(): control. judge(): any worker, frames of
//         its own. The rest: the worker.
// Source  Windows Server 2012 R2 NIC teaming (LBFO): where frames leave and arrive; Kandula, Katabi et al., 2007 (flowlets).
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/dataplane.h"
#include "dataplane/ports/uplink_port.h"

namespace patchbay::dataplane {

class TeamPort final : public Port {
 public:
  TeamPort(PortId id, int fault_event_fd, std::uint64_t tsc_hz);

  struct Member {
    UplinkPort* port = nullptr;
    std::uint64_t mac = 0;
  };
  void set_members(const TeamConfig& config, std::vector<Member> members);
  void set_paths(const TeamPaths& paths) noexcept;
  [[nodiscard]] const TeamConfig& config() const noexcept { return config_; }
  [[nodiscard]] bool switch_independent() const noexcept { return config_.switch_independent; }
  [[nodiscard]] const std::vector<Member>& members() const noexcept { return members_; }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] const Port& brought_by() const noexcept override {
    return brought_by_ == nullptr ? *this : static_cast<const Port&>(*brought_by_);
  }
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] Offloads takes() const noexcept override;
  [[nodiscard]] bool gives_bare_frames() const noexcept override;
  void flush() noexcept override;
  void settle() noexcept override;
  void notify(CallSignal& calls) noexcept override;
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void woke() noexcept override;
  [[nodiscard]] bool full() const noexcept override;
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;
  // Drops those of a burst of a member's queue that are not to be taken there. By any worker.
  void judge(std::span<Frame> frames, const UplinkPort& member) const noexcept;
  // Members count what comes in.
  void count_ingress(std::uint64_t, std::uint64_t) noexcept override {}

 private:
  struct Flowlet {
    std::uint64_t last = 0;  // TSC
    std::uint8_t member = team_no_member;
  };
  struct Sent {
    std::atomic<std::uint64_t> print = 0;
    std::atomic<std::uint64_t> when = 0;  // TSC
  };
  static constexpr std::size_t flowlets_max = 1024;
  static constexpr std::size_t sent_max = 1024;
  static constexpr std::size_t taken_max = 1024;

  [[nodiscard]] std::uint8_t sender_of(std::size_t bucket) const noexcept {
    return senders_[bucket].load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint8_t home_of(std::uint64_t mac) const noexcept;
  [[nodiscard]] std::uint8_t way_of(const Frame& frame) noexcept;
  [[nodiscard]] std::uint8_t member_of_flow(const Frame& frame) noexcept;
  [[nodiscard]] std::size_t send_run(std::size_t member, std::span<const Frame> frames) noexcept;
  void judge(Frame& frame, std::size_t member, std::uint64_t now) const noexcept;
  // Until lately; the same, if it did not move.
  [[nodiscard]] std::uint8_t home_before(std::uint64_t mac) const noexcept;
  // Whether a copy of the frame was taken at another member, a moment ago; else it is taken here now.
  [[nodiscard]] bool came_elsewhere(const Frame& frame, std::size_t member, std::uint64_t now) const noexcept;
  void remember(const Frame& frame) noexcept;
  [[nodiscard]] bool remembers(const Frame& frame, std::uint64_t now) const noexcept;
  void let_loads_fade() noexcept;

  TeamConfig config_;
  std::vector<Member> members_;
  int epoll_fd_ = -1;
  std::size_t next_ = 0;  // the member that is received from next

  // Control's word.
  std::array<std::atomic<std::uint8_t>, team_buckets> senders_;
  std::array<std::atomic<std::uint8_t>, team_buckets> senders_before_;  // and what it was
  std::atomic<std::uint64_t> before_until_ = 0;                         // TSC: the ones before count too,
  std::atomic<std::uint64_t> copies_until_ = 0;                         // and copies may have come by them
  std::atomic<std::uint32_t> receives_ = 0;
  std::atomic<std::uint32_t> sends_ = 0;  // a bit for each member that is in senders_
  std::atomic<std::uint8_t> primary_ = team_no_member;
  std::atomic<std::uint8_t> primary_before_ = team_no_member;

  // In TSC cycles.
  const std::uint64_t second_;
  const std::uint64_t flowlet_gap_;
  const std::uint64_t tick_;

  // What was taken lately: some bits of the frame's print, when (ticks_per_second), and the member. Of all workers.
  mutable std::array<std::atomic<std::uint64_t>, taken_max> taken_{};

  // The worker's.
  std::uint64_t now_ = 0;  // TSC, of this burst
  std::uint64_t faded_ = 0;
  const UplinkPort* brought_by_ = nullptr;
  std::array<std::uint8_t, burst_max> ways_{};
  std::array<std::uint64_t, model::team_nics_max> loads_{};  // bytes sent lately
  std::vector<Flowlet> flowlets_;
  std::vector<Sent> sent_;
};

}  // namespace patchbay::dataplane
