#include "dataplane/dataplane.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <rte_cycles.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/rcu.h"
#include "dataplane/learning.h"
#include "dataplane/port_record.h"
#include "dataplane/ports/ethdev_port.h"
#include "dataplane/ports/interface.h"
#include "dataplane/ports/packet_port.h"
#include "dataplane/ports/xdp_port.h"
#include "dataplane/virtqueue/guest_memory.h"
#include "dataplane/worker/workers.h"

namespace patchbay::dataplane {
namespace {

// How long a guest that came back waits with what it has for guests that are not back yet, at most. Front-ends that try
// again at once are back in milliseconds; those that try once a second all do it at the same time, for they lost us at the
// same time, but a thousand of them take a while.
constexpr std::chrono::milliseconds patience{2000};

// A promise of the caller that was broken is a defect of ours: the process ends here, not somewhere later.
void require(bool kept, const char* promise) {
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

Result<std::unique_ptr<Dataplane>> WorkerDataplane::create(const DataplaneConfig& config) {
  if (config.worker_cpus.size() > dpdk::Rcu::readers_max) {
    return fail(ErrorCode::invalid, fmt::format("{} worker CPUs: at most {} workers can run", config.worker_cpus.size(),
                                                dpdk::Rcu::readers_max));
  }
  const std::set<unsigned> cpus(config.worker_cpus.begin(), config.worker_cpus.end());
  if (cpus.size() != config.worker_cpus.size()) {
    return fail(ErrorCode::invalid,
                fmt::format("worker CPUs {}: name each CPU once", fmt::join(config.worker_cpus, ",")));
  }
  auto eal = dpdk::Eal::create();
  if (!eal) return fail(eal.error());
  auto rcu = dpdk::Rcu::create(eal->get());
  if (!rcu) return fail(rcu.error());
  UniqueFd event_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd) return fail(system_error("the data plane's event descriptor", errno));
  std::unique_ptr<WorkerDataplane> dataplane(
      new WorkerDataplane(std::move(*eal), std::move(*rcu), std::move(event_fd), config));
  if (auto limited = dataplane->set_buffer_limit(config.buffer_limit_bytes); !limited) return fail(limited.error());
  auto workers = Workers::create(config.worker_cpus, config.always_poll, dataplane->rcu_);
  if (!workers) return fail(workers.error());
  dataplane->workers_ = std::move(*workers);
  if (auto started = dataplane->workers_->start(); !started) return fail(started.error());
  return dataplane;
}

WorkerDataplane::~WorkerDataplane() {
  workers_.reset();
}

PortRecord& WorkerDataplane::find(PortId id) {
  const auto found = ports_.find(raw(id));
  require(found != ports_.end(), "a port that is open");
  return found->second;
}

const PortRecord& WorkerDataplane::find(PortId id) const {
  const auto found = ports_.find(raw(id));
  require(found != ports_.end(), "a port that is open");
  return found->second;
}

GuestPort& WorkerDataplane::guest(PortId id) const {
  GuestPort* const guest = find(id).guest;
  require(guest != nullptr, "a guest port");
  return *guest;
}

TeamPort& WorkerDataplane::team(PortId id) const {
  TeamPort* const team = find(id).team;
  require(team != nullptr, "a team");
  return *team;
}

PortId WorkerDataplane::add(PortRecord record) {
  const PortId id = record.port->id();
  ports_.emplace(raw(id), std::move(record));
  return id;
}

Result<PortId> WorkerDataplane::open_guest_port(const std::string& vnic) {
  auto port = std::make_unique<GuestPort>(next_id(), event_fd_.get(), &pool_);
  GuestPort* const guest = port.get();
  PortRecord record;
  record.port = std::move(port);
  record.guest = guest;
  if (!positions_dir_.empty()) {
    record.ring_path = positions_dir_ + "/" + vnic;
    record.mark_path = positions_dir_ + "/+" + vnic;  // no vnic has such a name
    if (::unlink(record.mark_path.c_str()) == 0) guest->expect(patience);
  }
  return add(std::move(record));
}

Result<PortId> WorkerDataplane::open_host_port(const HostPortConfig& config) {
  HostPortConfig owned = config;
  owned.owner = owner_;
  auto port = HostPort::open(next_id(), event_fd_.get(), owned);
  if (!port) return fail(port.error());
  HostPort* const host = port->get();
  PortRecord record;
  record.port = std::move(*port);
  record.host = host;
  return add(std::move(record));
}

Result<std::vector<std::string>> WorkerDataplane::remove_left_host_interfaces(const std::set<std::string>& wanted) {
  if (owner_.empty()) return std::vector<std::string>();
  return remove_interfaces(HostPort::alias_of(owner_), wanted);
}

Result<PortId> WorkerDataplane::open_uplink(const std::string& nic, const model::DriverPlan& plan) {
  const auto added = [this](auto port) -> Result<PortId> {
    if (!port) return fail(port.error());
    PortRecord record;
    record.uplink = port->get();
    record.port = std::move(*port);
    return add(std::move(record));
  };
  switch (plan.driver) {
    case model::UplinkDriver::auto_:  // was chosen from before
      break;
    case model::UplinkDriver::packet:
      return added(PacketPort::open(next_id(), event_fd_.get(), nic));
    case model::UplinkDriver::xdp:
      return added(XdpPort::open(next_id(), event_fd_.get(), nic, plan));
    case model::UplinkDriver::dpdk:
      return added(EthdevPort::open(next_id(), event_fd_.get(), *eal_, nic));
  }
  return fail(ErrorCode::internal, "nic " + nic + ": no such driver");
}

PortId WorkerDataplane::open_team() {
  auto port = std::make_unique<TeamPort>(next_id(), event_fd_.get(), rte_get_tsc_hz());
  PortRecord record;
  record.team = port.get();
  record.port = std::move(port);
  return add(std::move(record));
}

void WorkerDataplane::set_team(PortId port, const TeamConfig& config, const TeamPaths& paths) {
  std::vector<TeamPort::Member> members;
  for (const TeamConfig::Member& member : config.members) {
    PortRecord& record = find(member.port);
    require(record.uplink != nullptr && !record.attached && (!record.in_team || *record.in_team == port),
            "an uplink that is in no switch and no other team");
    members.push_back({record.uplink, member.mac.to_uint64()});
  }
  TeamPort& changed = team(port);
  workers_->at_rest([&] {
    for (const TeamConfig::Member& member : changed.config().members) find(member.port).in_team.reset();
    for (const TeamConfig::Member& member : config.members) find(member.port).in_team = port;
    changed.set_members(config, std::move(members));
    changed.set_paths(paths);
    workers_->publish(make_snapshot(layout_));
  });
  workers_->wake();
}

void WorkerDataplane::set_team_paths(PortId port, const TeamPaths& paths) {
  team(port).set_paths(paths);
  workers_->wake();
}

bool WorkerDataplane::send_control_frame(PortId uplink, std::span<const std::uint8_t> frame) {
  static_assert(control_frame_max == Mailbox::letter_size);
  Mailbox* const box = find(uplink).uplink->from_control();
  require(box != nullptr && frame.size() <= control_frame_max, "an uplink of DPDK's, and a short frame");
  const bool taken = box->put(frame);
  workers_->wake();
  return taken;
}

std::vector<std::vector<std::uint8_t>> WorkerDataplane::take_control_frames(PortId uplink) {
  std::vector<std::vector<std::uint8_t>> frames;
  Mailbox* const box = find(uplink).uplink->to_control();
  if (box == nullptr) return frames;
  const auto keep = [&frames](std::span<const std::uint8_t> frame) {
    frames.emplace_back(frame.begin(), frame.end());
    return true;
  };
  while (frames.size() < Mailbox::letters_max && box->take(keep)) {
  }
  return frames;
}

Result<void> WorkerDataplane::set_host_port_mtu(PortId port, std::uint16_t mtu) {
  require(find(port).host != nullptr, "a host port");
  return find(port).host->set_mtu(mtu);
}

void WorkerDataplane::set_carrier(PortId port, bool up) {
  require(find(port).uplink != nullptr, "an uplink");
  find(port).uplink->set_carrier(up);
  workers_->wake();
}

void WorkerDataplane::close_port(PortId port, bool remove_left) {
  PortRecord& record = find(port);
  require(!record.attached && !record.in_team, "a port that is in no switch of the layout and in no team");
  if (record.guest != nullptr) static_cast<void>(disconnect_guest(port));
  if (remove_left && !record.ring_path.empty()) RingFile::remove(record.ring_path);
  if (record.host != nullptr && remove_left) record.host->release_interface();
  ports_.erase(raw(port));
}

Result<std::shared_ptr<const GuestMemory>> WorkerDataplane::map_guest_memory(const std::vector<MemoryRegion>& regions) {
  return GuestMemory::map(regions);
}

Error no_more_watches() {
  return make_error(ErrorCode::no_resource,
                    "the guest's kicks cannot be watched: raise the sysctl fs.epoll.max_user_watches");
}

Result<void> WorkerDataplane::connect_guest(PortId port, const GuestLink& link) {
  PortRecord& record = find(port);
  require(record.guest != nullptr && record.queues == nullptr && link.memory != nullptr,
          "a guest port that is not connected, and its memory");
  const auto records = record.records_for(link);
  if (!records) return fail(records.error());
  auto queues = GuestQueues::create(link, *records);
  if (!queues) return fail(queues.error());
  record.queues = std::move(*queues);
  record.queues->catch_up();
  if (!record.receivers.go_on(link)) record.guest->forget_waiting();
  if (!record.guest->connect(record.queues.get(), Kicks::of(link))) {
    record.queues.reset();
    return fail(no_more_watches());
  }
  // That it cannot be made costs frames after a crash, and nothing now.
  record.receivers.note(link, {});
  if (!record.mark_path.empty()) UniqueFd(::open(record.mark_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  workers_->wake();
  return {};
}

Result<RingPositions> WorkerDataplane::relink_guest(PortId port, const GuestLink& link) {
  PortRecord& record = find(port);
  require(record.guest != nullptr && record.queues != nullptr && link.memory != nullptr,
          "a guest port that is connected, and its memory");
  if (record.guest->fault() != PortFault::none) {  // it moves nothing: a new beginning costs no frame
    const auto positions = disconnect_guest(port);
    if (auto connected = connect_guest(port, link); !connected) return fail(connected.error());
    return positions;
  }
  const auto records = record.records_for(link);
  if (!records) return fail(records.error());
  auto queues = GuestQueues::create(link, *records);
  if (!queues) return fail(queues.error());
  if (!record.receivers.go_on(link)) record.guest->forget_waiting();
  if (!record.guest->offer(queues->get(), Kicks::of(link))) return fail(no_more_watches());
  workers_->wake();
  record.guest->wait_until_taken();
  std::swap(record.queues, *queues);
  const RingPositions positions = (*queues)->positions();
  record.receivers.note(link, positions);
  return positions;
}

void WorkerDataplane::announce(PortId port, MacAddr source) {
  require(find(port).guest != nullptr, "a guest port");
  find(port).guest->announce(source);
  workers_->wake();
}

RingPositions WorkerDataplane::disconnect_guest(PortId port) {
  PortRecord& record = find(port);
  require(record.guest != nullptr, "a guest port");
  if (record.queues == nullptr) return {};
  static_cast<void>(record.guest->disconnect());
  if (!record.mark_path.empty()) ::unlink(record.mark_path.c_str());
  rcu_.synchronize();
  end_loan(record);
  record.guest->forget_fault();
  const auto positions = record.queues->positions();
  record.receivers.stop(positions);
  record.queues.reset();
  return positions;
}

void WorkerDataplane::give_up_guest(PortId port) {
  guest(port).give_up();
  workers_->wake();
}

void WorkerDataplane::set_buffer(PortId port, const BufferConfig& config) {
  guest(port).buffer().configure(config);
}

void WorkerDataplane::end_loan(const PortRecord& record) {
  const auto& open = record.port->loan.open;
  if (!open.load(std::memory_order_acquire)) return;
  if (!record.attached) return record.guest->abandon();  // the lanes were drained when the port left the layout
  while (open.load(std::memory_order_acquire)) {
    workers_->wake();
    rcu_.synchronize();
  }
  rcu_.synchronize();  // the pass that took it back has ended
}

std::unique_ptr<Snapshot> WorkerDataplane::make_snapshot(const Layout& layout) {
  auto snapshot = std::make_unique<Snapshot>();
  std::map<std::uint32_t, Snapshot::Entry> entries;  // by id
  for (std::uint32_t number = 0; number < layout.switches.size(); ++number) {
    const SwitchLayout& one = layout.switches[number];
    if (one.uplink) {
      const PortRecord& uplink = find(*one.uplink);
      const bool reflects = uplink.team != nullptr && uplink.team->switch_independent();
      entries[raw(*one.uplink)] = {uplink.port.get(),
                                   number,
                                   {.uplink = true, .reflects = reflects, .learner = learning_.learner(*one.uplink)},
                                   uplink.worker,
                                   one.gro && uplink.port->gives_bare_frames()};
      if (uplink.team != nullptr) {
        for (const auto& member : uplink.team->members())
          snapshot->team_members.push_back({member.port, uplink.worker});
      }
    }
    for (const VnicLayout& vnic : one.vnics) {
      entries[raw(vnic.port)] = {find(vnic.port).port.get(),
                                 number,
                                 {.uplink = false,
                                  .mac = vnic.mac.to_uint64(),
                                  .mac_spoofing = vnic.mac_spoofing,
                                  .trust_priority = vnic.trust_priority,
                                  .vlans = forwarding::PortVlans::of(vnic.vlan),
                                  .learner = learning_.learner(vnic.port)},
                                 find(vnic.port).worker};
    }
  }
  std::map<std::uint32_t, forwarding::PortIndex> index_of;
  for (const auto& [id, entry] : entries) {
    index_of[id] = static_cast<forwarding::PortIndex>(snapshot->entries.size());
    snapshot->entries.push_back(entry);
  }
  for (const SwitchLayout& one : layout.switches) {
    std::vector<forwarding::SwitchTable::Member> members;
    for (const VnicLayout& vnic : one.vnics) {
      members.push_back(
          {index_of[raw(vnic.port)], vnic.mac, vnic.vlan, vnic.mac_spoofing, learning_.learner(vnic.port)});
    }
    std::optional<forwarding::SwitchTable::Uplink> uplink;
    if (one.uplink) uplink = {index_of[raw(*one.uplink)], learning_.learner(*one.uplink)};
    snapshot->switches.emplace_back(members, uplink, one.mtu, learning_.fdb(one.name));
  }
  return snapshot;
}

void WorkerDataplane::attach(PortRecord& record, unsigned worker) {
  record.attached = true;
  record.worker = worker;
  record.port->attach(workers_->at(worker).epoll_fd());
}

void WorkerDataplane::publish(const Layout& layout) {
  learning_.prepare(layout);
  std::map<PortId, std::optional<unsigned>> wanted;  // and the worker that is asked for
  for (const SwitchLayout& one : layout.switches) {
    if (one.uplink) wanted[*one.uplink] = std::nullopt;
    for (const VnicLayout& vnic : one.vnics) wanted[vnic.port] = asked_worker(vnic);
  }
  // A port is watched before its worker sees it, and until no worker sees it any more.
  std::vector<std::size_t> added(workers_->count());
  for (auto& [id, record] : ports_) {
    const auto found = wanted.find(PortId{id});
    if (record.attached || found == wanted.end()) continue;
    attach(record, found->second.value_or(workers_->least_used(added)));
    ++added[record.worker];
  }
  workers_->publish(make_snapshot(layout));
  layout_ = layout;
  learning_.forget_old();
  for (auto& [id, record] : ports_) {
    if (!record.attached || wanted.contains(PortId{id})) continue;
    record.attached = false;
    record.port->detach();
  }
  for (const auto& [port, worker] : wanted) {
    if (worker) move_port(port, *worker);
  }
}

std::optional<unsigned> WorkerDataplane::asked_worker(const VnicLayout& vnic) const {
  return vnic.worker && *vnic.worker < workers_->count() ? vnic.worker : std::nullopt;
}

void WorkerDataplane::move_port(PortId port, unsigned worker) {
  PortRecord& record = find(port);
  require(record.attached && worker < workers_->count(), "a port of the layout, and a worker");
  if (record.worker == worker) return;
  workers_->at_rest([&] {
    record.port->detach();
    attach(record, worker);
    workers_->publish(make_snapshot(layout_));
  });
  workers_->wake();
}

std::optional<unsigned> WorkerDataplane::worker_of(PortId port) const {
  const PortRecord& record = find(port);
  return record.attached ? std::optional(record.worker) : std::nullopt;
}

std::vector<WorkerStats> WorkerDataplane::worker_stats() const {
  std::vector<WorkerStats> all;
  for (unsigned i = 0; i < workers_->count(); ++i) all.push_back(workers_->at(i).stats());
  for (const auto& [id, record] : ports_) {
    if (record.attached) ++all[record.worker].ports;
  }
  return all;
}

PortCounters WorkerDataplane::counters(PortId port) const {
  const PortRecord& record = find(port);
  PortCounters result = record.port->counters();
  if (record.guest != nullptr) result.buffered = record.guest->buffer().frames();
  if (record.uplink != nullptr) {
    result.drops[static_cast<std::size_t>(DropReason::kernel_ring_full)] = record.uplink->kernel_drops();
  }
  return result;
}

std::optional<DeviceState> WorkerDataplane::device_state(PortId port) const {
  const UplinkPort* const uplink = find(port).uplink;
  return uplink == nullptr ? std::nullopt : uplink->device_state();
}

}  // namespace

Result<std::unique_ptr<Dataplane>> Dataplane::create(const DataplaneConfig& config) {
  return WorkerDataplane::create(config);
}

std::uint64_t guest_features_supported() noexcept {
  constexpr std::uint64_t from_guest = virtio_net_f_csum | virtio_net_f_host_tso4 | virtio_net_f_host_tso6 |
                                       virtio_net_f_host_ecn | virtio_net_f_host_uso;
  // Not GUEST_ECN: a Linux driver without mergeable buffers takes it, even alone, for a reason to fill its ring with 64 KB
  // buffers. Pieces that say CWR are rare, and are cut.
  constexpr std::uint64_t to_guest = virtio_net_f_guest_csum | virtio_net_f_guest_tso4 | virtio_net_f_guest_tso6 |
                                     virtio_net_f_guest_uso4 | virtio_net_f_guest_uso6;
  return from_guest | to_guest | virtio_net_f_mtu | virtio_net_f_mrg_rxbuf | virtio_ring_f_indirect_desc |
         virtio_ring_f_event_idx | virtio_f_version_1 | virtio_f_ring_packed | virtio_f_in_order;
}

const char* to_string(PortFault fault) noexcept {
  switch (fault) {
    case PortFault::none:
      return "none";
    case PortFault::ring_broken:
      return "ring_broken";
    case PortFault::memory_lost:
      return "memory_lost";
    case PortFault::device_gone:
      return "device_gone";
  }
  return "none";
}

}  // namespace patchbay::dataplane
