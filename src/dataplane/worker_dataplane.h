// The data plane: its ports, and the workers that move their frames (dataplane.h is what others see of it).
//
// Theory  dataplane.cpp opens and closes ports and connects guests; layout.cpp makes snapshots of layouts and hands ports from
//         worker to worker; queues.cpp gives uplinks queues for single vnics.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dataplane/buffer/block_pool.h"
#include "dataplane/dataplane.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/rcu.h"
#include "dataplane/learning.h"
#include "dataplane/port_record.h"
#include "dataplane/worker/workers.h"

namespace patchbay::dataplane {

// A promise of the caller that was broken is a defect of ours: the process ends here, not somewhere later.
inline void require(bool kept, const char* promise) {
  if (kept) return;
  std::fprintf(stderr, "the data plane was not given %s\n", promise);
  std::abort();
}

class WorkerDataplane final : public Dataplane {
 public:
  static Result<std::unique_ptr<Dataplane>> create(const DataplaneConfig& config);
  ~WorkerDataplane() override;

  Result<PortId> open_guest_port(const std::string& vnic) override;
  Result<PortId> open_host_port(const HostPortConfig& config) override;
  Result<std::vector<std::string>> remove_left_host_interfaces(const std::set<std::string>& wanted) override;
  Result<PortId> open_uplink(const std::string& nic, const model::DriverPlan& plan) override;
  PortId open_team() override;
  void set_team(PortId team, const TeamConfig& config, const TeamPaths& paths) override;
  void set_team_paths(PortId team, const TeamPaths& paths) override;
  bool send_control_frame(PortId uplink, std::span<const std::uint8_t> frame) override;
  std::vector<std::vector<std::uint8_t>> take_control_frames(PortId uplink) override;
  Result<void> set_host_port_mtu(PortId port, std::uint16_t mtu) override;
  void set_carrier(PortId port, bool up) override;
  void close_port(PortId port, bool remove_left) override;
  Result<std::shared_ptr<const GuestMemory>> map_guest_memory(const std::vector<MemoryRegion>& regions) override;
  Result<void> connect_guest(PortId port, const GuestLink& link) override;
  Result<RingPositions> relink_guest(PortId port, const GuestLink& link) override;
  void announce(PortId port, MacAddr source) override;
  RingPositions disconnect_guest(PortId port) override;
  void give_up_guest(PortId port) override;
  void set_buffer(PortId port, const BufferConfig& config) override;
  BufferState buffer_state(PortId port) const override { return guest(port).buffer().state(); }
  Result<void> set_buffer_limit(std::uint64_t bytes) override { return pool_.set_limit(bytes); }
  BufferUse buffer_use() const override { return {pool_.limit_bytes(), pool_.used_bytes(), pool_.release_asked()}; }
  void release_buffers() override { static_cast<void>(pool_.release_unused()); }
  void publish(const Layout& layout) override;
  QueueAbility queue_ability(PortId uplink) const override;
  Result<PortId> open_queue(PortId uplink) override;
  Result<void> set_queue_filter(PortId queue, const QueueFilter& filter) override;
  void clear_queue_filter(PortId queue) override;
  PortCounters counters(PortId port) const override;
  PortFault fault(PortId port) const override { return find(port).port->fault(); }
  PortLearning learning(PortId port) const override { return learning_.of(port); }
  std::vector<LearnedAddress> learned_addresses(const std::string& name) const override {
    return learning_.addresses(name);
  }
  std::optional<DeviceState> device_state(PortId port) const override;
  void move_port(PortId port, unsigned worker) override;
  std::optional<unsigned> worker_of(PortId port) const override;
  std::vector<WorkerStats> worker_stats() const override;
  int event_fd() const override { return event_fd_.get(); }

 private:
  WorkerDataplane(std::unique_ptr<dpdk::Eal> eal, dpdk::Rcu rcu, UniqueFd event_fd, const DataplaneConfig& config)
      : owner_(config.owner),
        positions_dir_(config.positions_dir),
        eal_(std::move(eal)),
        rcu_(std::move(rcu)),
        event_fd_(std::move(event_fd)) {}

  [[nodiscard]] PortId next_id() noexcept { return PortId{next_id_++}; }
  [[nodiscard]] PortRecord& find(PortId id);
  [[nodiscard]] const PortRecord& find(PortId id) const;
  [[nodiscard]] PortId add(PortRecord record);
  [[nodiscard]] GuestPort& guest(PortId id) const;
  [[nodiscard]] TeamPort& team(PortId id) const;
  [[nodiscard]] std::unique_ptr<Snapshot> make_snapshot(const Layout& layout);
  // The worker that a vnic of the layout asks for, if there is one of that number.
  [[nodiscard]] std::optional<unsigned> asked_worker(const VnicLayout& vnic) const;
  void attach(PortRecord& record, unsigned worker);
  // Uplinks, and members of teams, hear how large the frames of their switches may be.
  void tell_mtus(const Layout& layout);
  // Waits until what is in the port's ring now, at most `ring` frames, has been taken and delivered.
  void wait_until_taken(const Port& port, std::size_t ring);
  [[nodiscard]] Result<void> change_filter(PortRecord& queue, const std::optional<QueueFilter>& filter);
  void close_queue(PortRecord& record);
  [[nodiscard]] Snapshot::Entry entry_of_queue(const PortRecord& queue, const Snapshot::Entry& uplink) const;
  // No worker has a frame of the guest, whose queues were taken away, any more.
  void end_loan(const PortRecord& record);

  const std::string owner_;
  const std::string positions_dir_;
  std::unique_ptr<dpdk::Eal> eal_;
  dpdk::Rcu rcu_;
  UniqueFd event_fd_;
  BlockPool pool_;  // before the ports, whose buffers use it
  std::map<std::uint32_t, PortRecord> ports_;
  std::uint32_t next_id_ = 1;
  Learning learning_;
  Layout layout_;                     // the published one
  std::unique_ptr<Workers> workers_;  // last: they stop before the ports go
};

}  // namespace patchbay::dataplane
