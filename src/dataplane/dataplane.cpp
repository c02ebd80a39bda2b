#include "dataplane/dataplane.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <rte_cycles.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <set>

#include "dataplane/ports/ethdev_port.h"
#include "dataplane/ports/interface.h"
#include "dataplane/ports/packet_port.h"
#include "dataplane/ports/xdp_port.h"
#include "dataplane/virtqueue/guest_memory.h"
#include "dataplane/worker_dataplane.h"

namespace patchbay::dataplane {
namespace {

// How long a guest that came back waits with what it has for guests that are not back yet, at most. Front-ends that try
// again at once are back in milliseconds; those that try once a second all do it at the same time, for they lost us at the
// same time, but a thousand of them take a while.
constexpr std::chrono::milliseconds patience{2000};

}  // namespace

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
  XdpPort::put_back_left(config.positions_dir);
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
      return added(XdpPort::open(next_id(), event_fd_.get(), nic, plan, positions_dir_));
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
  tell_mtus(layout_);
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
  for (const auto& [id, other] : ports_) require(other.queue_of != port, "an uplink whose queues are closed");
  if (record.queue_of) close_queue(record);
  if (remove_left && !record.ring_path.empty()) RingFile::remove(record.ring_path);
  if (record.host != nullptr && remove_left) record.host->release_interface();
  ports_.erase(raw(port));
}

Result<std::shared_ptr<const GuestMemory>> WorkerDataplane::map_guest_memory(const std::vector<MemoryRegion>& regions) {
  return GuestMemory::map(regions);
}

static Error no_more_watches() {
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

std::vector<WorkerStats> WorkerDataplane::worker_stats() const {
  std::vector<WorkerStats> all;
  for (unsigned i = 0; i < workers_->count(); ++i) all.push_back(workers_->at(i).stats());
  for (const auto& [id, record] : ports_) {
    if (record.attached) ++all[record.worker].ports;
  }
  return all;
}

std::optional<DeviceState> WorkerDataplane::device_state(PortId port) const {
  const UplinkPort* const uplink = find(port).uplink;
  return uplink == nullptr ? std::nullopt : uplink->device_state();
}

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

const char* to_string(QueueSorting sorting) noexcept {
  switch (sorting) {
    case QueueSorting::software:
      return "software";
    case QueueSorting::kernel:
      return "kernel";
    case QueueSorting::ntuple:
      return "ntuple";
    case QueueSorting::flow_rules:
      return "flow_rules";
    case QueueSorting::vmdq:
      return "vmdq";
  }
  return "software";
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
