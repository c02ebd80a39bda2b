#include "control/reconcile/host_service.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <set>

#include "control/reconcile/pci_nics.h"
#include "control/reconcile/phrases.h"
#include "control/vhost_user/socket_path.h"
#include "model/name.h"

namespace patchbay::reconcile {
namespace {

model::MacPool new_mac_pool(const std::optional<std::array<std::uint8_t, 4>>& host_address) {
  if (host_address) return {{(*host_address)[2], (*host_address)[3]}, 0};
  const unsigned value = std::random_device()();
  return {{static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)}, 0};
}

// Whether `path` leads below `directory`, by their spelling.
bool is_inside(const std::string& path, const std::string& directory) {
  const auto normal = [](const std::string& of) { return std::filesystem::absolute(of).lexically_normal(); };
  const auto below = normal(path).lexically_relative(normal(directory));
  return !below.empty() && *below.begin() != "..";
}

// RUN_DIR/vhost: everybody may pass, or only the group if there is one.
Result<void> make_socket_dir(const std::string& path, std::optional<unsigned> group) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail(system_error("directory " + path, errno));
  if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    if (errno == EPERM) {
      return fail(ErrorCode::unavailable,
                  fmt::format("directory {} cannot be given to group {}, for patchbayd's user is not in it; make it a "
                              "member (SupplementaryGroups= of the systemd unit), or give another --socket-group",
                              path, *group));
    }
    return fail(system_error("directory " + path, errno));
  }
  if (::chmod(path.c_str(), group ? 0750 : 0755) != 0) return fail(system_error("directory " + path, errno));
  return {};
}

}  // namespace

HostService::HostService(boost::asio::io_context& loop, dataplane::Dataplane& dataplane, store::Store& store,
                         host::NicWatch& nics, host::Sharing& sharing, EndpointFactory make_endpoint,
                         HostServiceConfig config)
    : dataplane_(dataplane),
      store_(store),
      nics_(nics),
      sharing_(sharing),
      config_(std::move(config)),
      offloads_(store, nics),
      executor_(loop, dataplane, sharing, offloads_, std::move(make_endpoint), config_.socket_group),
      faults_(loop),
      retry_(loop),
      release_(loop) {}

HostService::~HostService() {
  nics_.on_change(nullptr);
  sharing_.on_change(nullptr);
}

Result<std::unique_ptr<HostService>> HostService::create(boost::asio::io_context& loop, dataplane::Dataplane& dataplane,
                                                         store::Store& store, host::NicWatch& nics,
                                                         host::Sharing& sharing, EndpointFactory make_endpoint,
                                                         HostServiceConfig config) {
  if (auto ok = make_socket_dir(config.run_dir + "/vhost", config.socket_group); !ok) return fail(ok.error());
  std::unique_ptr<HostService> service(
      new HostService(loop, dataplane, store, nics, sharing, std::move(make_endpoint), std::move(config)));
  if (auto ok = service->start(); !ok) return fail(ok.error());
  return service;
}

Result<void> HostService::start() {
  auto loaded = store_.load();
  if (!loaded) return fail(loaded.error());
  state_ = std::move(*loaded);
  if (!state_.mac_pool) {
    store::StoredState next = state_;
    next.mac_pool = new_mac_pool(config_.host_address);
    if (auto ok = store_.save(store::difference(state_, next)); !ok) return ok;
    state_ = std::move(next);
  }
  remove_leftovers();
  if (auto ok = offloads_.load(); !ok) return ok;
  UniqueFd event_fd(::dup(dataplane_.event_fd()));  // faults_ closes what it is given
  if (!event_fd) return fail(system_error("event descriptor of the data plane", errno));
  faults_.assign(event_fd.release());
  wait_for_faults();
  nics_.on_change([this] { reconcile(); });
  // Later: whoever sets the NIC up is not done with the first address, and must not be fought at full speed.
  sharing_.on_change([this] { retry_later(); });
  reconcile();
  // What a run that was killed left switched off on NICs that are no uplinks any more.
  offloads_.give_back_unless([this](const std::string& nic) { return executor_.actual().uplinks.contains(nic); });
  return {};
}

// What a daemon that was killed left in the middle of a change: interfaces, sockets, ring positions and marks of vnics that
// are not stored any more. Not being able to is no reason not to start.
void HostService::remove_leftovers() {
  std::set<std::string> wanted;
  std::set<std::string> guests;
  for (const auto& [name, vnic] : state_.host.vnics)
    (vnic.kind == model::VnicKind::host ? wanted : guests).insert(name);
  const auto removed = dataplane_.remove_left_host_interfaces(wanted);
  if (!removed) {
    spdlog::warn("{}", removed.error().message);
  } else if (!removed->empty()) {
    spdlog::warn("removed interfaces of deleted host vnics that an earlier run left: {}", fmt::join(*removed, ", "));
  }
  vhost_user::remove_dead_sockets(config_.run_dir + "/vhost");
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(config_.run_dir + "/rings", ignored), end; at != end;
       at.increment(ignored)) {
    const std::string file = at->path().filename().string();
    if (file.starts_with("ntuple+")) continue;  // the data plane's, of what it could not put back yet
    if (!guests.contains(file.substr(file.starts_with('+') ? 1 : 0))) std::filesystem::remove(at->path(), ignored);
  }
}

// ---- Changes --------------------------------------------------------------------------------------------------------

Result<void> HostService::create_switch(const SwitchSpec& spec) {
  model::Switch added = switch_of(spec);
  added.share_with_host.clear();  // share_nic() sets it, when there is the vnic
  auto host = model::add_switch(state_.host, added);
  if (!host) return fail(host.error());
  if (auto ok = check_uplink(*host, added, true); !ok) return ok;
  std::vector<Object> created;
  for (const std::string& nic : nics_of(*host, added)) created.push_back({ObjectKind::uplink, nic});
  if (!spec.share_with_host.empty()) {
    host = share_nic(std::move(*host), added.name, spec.share_with_host);
    if (!host) return fail(host.error());
    created.push_back({ObjectKind::host_port, spec.share_with_host});
    created.push_back({ObjectKind::share, spec.share_with_host});
  } else if (auto ok = check_unused_by_host(*host, added); !ok) {
    return ok;
  }
  return commit({std::move(*host), state_.mac_pool}, created);
}

Result<void> HostService::set_switch(const std::string& name, const SwitchChange& change) {
  const auto found = model::find_switch(state_.host, name);
  if (!found) return fail(found.error());
  model::Switch changed = **found;
  if (change.force_vlan) changed.force_vlan = *change.force_vlan;
  if (change.mtu) changed.mtu = *change.mtu;
  if (change.driver) changed.driver = *change.driver;
  if (change.gro) changed.gro = *change.gro;
  changed.buffer = reconcile::changed(changed.buffer, change.buffer);
  auto host = model::set_switch(state_.host, changed);
  if (!host) return fail(host.error());
  if (change.mtu || change.driver || change.gro) {
    if (auto ok = check_uplink(*host, changed, false); !ok) return ok;
  }
  std::vector<Object> created;
  if (changed.driver != (*found)->driver) {  // taken back if it fails
    for (const std::string& nic : nics_of(*host, changed)) created.push_back({ObjectKind::uplink, nic});
  }
  if (change.share_with_host && *change.share_with_host != changed.share_with_host) {
    const std::string& vnic = *change.share_with_host;
    host = vnic.empty() ? model::unshare_nic(std::move(*host), name) : share_nic(std::move(*host), name, vnic);
    if (!host) return fail(host.error());
    if (!vnic.empty()) created.insert(created.end(), {{ObjectKind::host_port, vnic}, {ObjectKind::share, vnic}});
  }
  return commit({std::move(*host), state_.mac_pool}, created);
}

Result<void> HostService::delete_switch(const std::string& name) {
  auto host = model::remove_switch(state_.host, name);
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::create_vnic(const VnicSpec& spec) {
  model::Vnic added = vnic_of(spec);
  std::optional<model::MacPool> pool = state_.mac_pool;
  if (!spec.mac) {
    const auto drawn = draw_mac(*pool);
    if (!drawn) return fail(drawn.error().code, fmt::format("vnic {}: {}", spec.name, drawn.error().message));
    added.mac = *drawn;
  }
  auto host = model::add_vnic(state_.host, added);
  if (!host) return fail(host.error());
  if (auto ok = check_socket(added); !ok) return ok;
  if (auto ok = check_worker(added); !ok) return ok;
  const auto kind = added.kind == model::VnicKind::guest ? ObjectKind::guest : ObjectKind::host_port;
  return commit({std::move(*host), pool}, {Object{kind, added.name}});
}

Result<void> HostService::set_vnic(const std::string& name, const VnicChange& change) {
  const auto found = model::find_vnic(state_.host, name);
  if (!found) return fail(found.error());
  model::Vnic changed = **found;
  if (change.vlan) changed.vlan = *change.vlan;
  if (change.mac_spoofing) changed.mac_spoofing = *change.mac_spoofing;
  if (change.mac_limit) changed.mac_limit = *change.mac_limit;
  if (change.trust_priority) changed.trust_priority = *change.trust_priority;
  if (change.queues) changed.queues = *change.queues;
  if (change.worker) changed.worker = *change.worker;
  changed.buffer = reconcile::changed(changed.buffer, change.buffer);
  if (change.labels) changed.labels = *change.labels;
  if (change.vmq_weight) changed.vmq_weight = *change.vmq_weight;
  if (change.mac) {
    changed.mac = *change.mac;
    changed.mac_origin = model::MacOrigin::static_;
  }
  auto host = model::set_vnic(state_.host, changed);
  if (!host) return fail(host.error());
  if (auto ok = check_worker(changed); !ok) return ok;
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::delete_vnic(const std::string& name) {
  auto host = model::remove_vnic(state_.host, name);
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::check_uplink(const model::Host& host, const model::Switch& checked, bool must_exist) const {
  if (host.teams.contains(checked.uplink)) {
    for (const std::string& nic : host.teams.at(checked.uplink).nics) {
      if (auto ok = check_nic_suits(checked, nic); !ok) return ok;
    }
    return {};
  }
  if (checked.type != model::SwitchType::external) return {};
  if (auto ok = check_other_name(host, checked.uplink, nics_.nics()); !ok) return ok;
  if (must_exist) {
    if (auto ok = check_nic_there("switch " + checked.name, checked.uplink); !ok) return ok;
  }
  return check_nic_suits(checked, checked.uplink);
}

Result<void> HostService::check_nic_there(const std::string& whose, const std::string& nic) const {
  const auto found = nics_.nics().find(nic);
  if (found != nics_.nics().end() && !found->second.has_interface()) {
    const std::string problem = why_not_for_dpdk(found->second);
    if (!problem.empty()) return fail(ErrorCode::unavailable, fmt::format("nic {}: {}", nic, problem));
    return {};
  }
  if (auto ok = sharing_.check_uplink(nic); !ok) {  // there, but no Ethernet device, or somebody else's
    return fail(ok.error().code, fmt::format("{}: {}", whose, ok.error().message));
  }
  return found == nics_.nics().end() ? check_absent_device(nic) : Result<void>{};
}

Result<void> HostService::check_nic_suits(const model::Switch& checked, const std::string& nic) const {
  const auto found = nics_.nics().find(nic);
  if (found == nics_.nics().end()) return {};
  if (const auto choice = model::choose_driver(checked.driver, found->second); choice.attempts.empty()) {
    return fail(ErrorCode::invalid, choice.refusal);
  }
  if (!found->second.has_interface()) return check_device(checked, nic);
  if (!checked.gro && found->second.offload(model::NicOffload::gro) == model::OffloadState::on_fixed) {
    return fail(ErrorCode::invalid,
                fmt::format("switch {}: driver {} of nic {} cannot switch {} off; use --gro on", checked.name,
                            found->second.driver, nic, to_string(model::NicOffload::gro)));
  }
  const std::uint32_t nic_mtu = found->second.mtu;
  if (checked.mtu <= nic_mtu) return {};
  return fail(ErrorCode::invalid,
              fmt::format("switch {}: its mtu {} is larger than the mtu {} of nic {}; give a smaller --mtu, or first "
                          "`ip link set {} mtu {}`",
                          checked.name, checked.mtu, nic_mtu, nic, nic, checked.mtu));
}

Result<void> HostService::check_unused_by_host(const model::Host& host, const model::Switch& checked) const {
  if (const auto team = host.teams.find(checked.uplink); team != host.teams.end()) {
    for (const std::string& nic : team->second.nics) {
      if (model::switch_above(state_.host, nic) != nullptr) continue;  // it is ours already
      if (auto ok = check_unused_by_host(team->second, nic); !ok) return ok;
    }
    return {};
  }
  if (checked.type != model::SwitchType::external) return {};
  const auto carried = sharing_.of_note(checked.uplink);
  if (!carried) return fail(carried.error());
  if (carried->empty()) return {};
  return fail(
      ErrorCode::in_use,
      fmt::format("switch {}: the host uses nic {} itself ({}); add --share-with-host VNIC with a new name, such "
                  "as host0, to move that to a host vnic of this name without cutting connections, or take it "
                  "from the NIC first, or use another NIC",
                  checked.name, checked.uplink, some_of(*carried)));
}

Result<model::Host> HostService::share_nic(model::Host host, const std::string& switch_name,
                                           const std::string& vnic) const {
  const model::Switch& on = host.switches.at(switch_name);
  model::Vnic added{vnic, switch_name, model::VnicKind::host, {}, model::MacOrigin::static_, model::Untagged{}, ""};
  // Of a team the model says what is wrong.
  if (on.type == model::SwitchType::external && !host.teams.contains(on.uplink)) {
    const auto nic = nics_.nics().find(on.uplink);
    if (nic == nics_.nics().end()) {
      return fail(ErrorCode::not_found,
                  fmt::format("switch {}: its nic {} is not there, so there is nothing to share", on.name, on.uplink));
    }
    if (!nic->second.has_interface()) {
      return fail(nothing_to_share(on.name, on.uplink));
    }
    added.mac = nic->second.mac;
  }
  return model::share_nic(std::move(host), added);
}

// A PCI address whose device the kernel drives, or nothing at all.
Result<void> HostService::check_absent_device(const std::string& name) const {
  const model::Nic* const interface = interface_of(name, nics_.nics());
  if (interface == nullptr) return fail(no_such_nic(name, nics_.nics()));
  const auto carried = sharing_.of_note(interface->name);
  if (!carried) return fail(carried.error());
  if (carried->empty()) return fail(no_such_nic(name, nics_.nics()));
  return fail(
      ErrorCode::in_use,
      fmt::format("nic {} is bound to {} (kernel interface {}), and the host uses it itself ({}): use {} with "
                  "--share-with-host VNIC; or take that from it first, then bind it to {}",
                  name, interface->driver, interface->name, some_of(*carried), interface->name, model::dpdk_driver));
}

Result<void> HostService::check_device(const model::Switch& checked, const std::string& nic) const {
  const auto device = executor_.device_state(nic);
  if (!device || checked.mtu <= device->mtu) return {};
  return fail(ErrorCode::invalid,
              fmt::format("switch {}: its mtu {} is larger than the {} that nic {} takes; give a smaller --mtu, or "
                          "another NIC",
                          checked.name, checked.mtu, device->mtu, nic));
}

Result<void> HostService::check_socket(const model::Vnic& checked) const {
  if (checked.kind != model::VnicKind::guest) return {};
  if (checked.connect.empty()) {
    const std::string path = vhost_socket_path(config_.run_dir, checked.name);
    if (path.size() <= model::socket_path_size_max) return {};
    return fail(ErrorCode::invalid,
                fmt::format("vnic {}: its socket {} would have a path of {} bytes, at most {} are possible; give a "
                            "shorter name, or start patchbayd with a shorter --run-dir than {}",
                            checked.name, path, path.size(), model::socket_path_size_max, config_.run_dir));
  }
  if (!is_inside(checked.connect, config_.run_dir)) return {};
  return fail(ErrorCode::invalid,
              fmt::format("vnic {}: {} lies in {}, where patchbayd's own sockets are; give the path of a socket that "
                          "QEMU listens on elsewhere, or leave --connect out and let QEMU connect",
                          checked.name, checked.connect, config_.run_dir));
}

Result<void> HostService::check_worker(const model::Vnic& checked) const {
  if (!checked.worker) return {};
  const auto before = state_.host.vnics.find(checked.name);
  if (before != state_.host.vnics.end() && before->second.worker == checked.worker) return {};
  std::string ids;
  for (const auto& worker : dataplane_.worker_stats()) {
    if (worker.id == *checked.worker) return {};
    ids += fmt::format("{}{}", ids.empty() ? "" : ", ", worker.id);
  }
  return fail(
      ErrorCode::not_found,
      fmt::format("vnic {}: there is no worker {}, but {}; give one of them or auto, or start patchbayd with more "
                  "--worker-cpus",
                  checked.name, *checked.worker, ids));
}

Result<MacAddr> HostService::draw_mac(model::MacPool& pool) const {
  std::set<MacAddr> used;
  for (const auto& [name, vnic] : state_.host.vnics) used.insert(vnic.mac);
  return model::draw(pool, [&used](MacAddr mac) { return used.contains(mac); });
}

// ---- Reconciling ----------------------------------------------------------------------------------------------------

Result<void> HostService::end_shares_except(const model::Host& next) {
  for (const auto& [name, on] : state_.host.switches) {
    if (on.share_with_host.empty()) continue;
    const auto later = next.switches.find(name);
    if (later != next.switches.end() && later->second.uplink == on.uplink &&
        later->second.share_with_host == on.share_with_host) {
      continue;
    }
    if (auto ok = executor_.end_share(on.share_with_host, on.uplink); !ok) {
      reconcile();  // those that ended already are wanted still
      return fail(ok.error().code, fmt::format("switch {}: {}", name, ok.error().message));
    }
  }
  return {};
}

Result<void> HostService::commit(store::StoredState next, const std::vector<Object>& created, bool apply) {
  not_opened_.reset();
  auto change = store::difference(state_, next);
  change.audit = audit_of(changes_between(state_.host, next.host), actor_, apply);
  if (auto ok = end_shares_except(next.host); !ok) return ok;
  if (auto ok = store_.save(change); !ok) {
    reconcile();
    return ok;
  }
  std::swap(state_, next);  // from here on `next` is the state before
  reconcile();
  std::optional<Error> why;
  for (auto object = created.begin(); object != created.end() && !why; ++object) {
    why = shortcoming_of(*object);
    if (why) not_opened_ = *object;
  }
  if (!why) return {};
  const Error error = *why;
  auto back = store::difference(state_, next);
  back.audit_taken_back = change.audit.size();
  auto taken_back = end_shares_except(next.host);
  if (taken_back) taken_back = store_.save(back);
  if (!taken_back) {
    reconcile();  // shares that ended are wanted still
    return fail(error.code, fmt::format("{}; it is stored all the same, for taking it back failed: {}", error.message,
                                        taken_back.error().message));
  }
  std::swap(state_, next);
  executor_.forget_failures();
  reconcile();
  return fail(error);
}

std::optional<Error> HostService::shortcoming_of(const Object& object) const {
  const auto& failed = executor_.actual().failed;
  if (const auto failure = failed.find(object); failure != failed.end()) return failure->second;
  const auto nic = nics_.nics().find(object.name);
  if (object.kind != ObjectKind::uplink || nic == nics_.nics().end() || nic->second.has_interface()) return {};
  if (const model::Switch* on = model::switch_above(state_.host, object.name); on != nullptr) {
    if (auto ok = check_device(*on, object.name); !ok) return ok.error();
  }
  return {};
}

void HostService::reconcile() {
  // Opening a port changes the kernel's links (up, carrier, a new interface): a second pass takes that in. What still
  // comes after it arrives as a notification.
  for (int pass = 0; pass < 2; ++pass) {
    const Wanted wanted = want(state_.host, nics_.nics(), config_.run_dir);
    executor_.forget_failures_except(wanted);
    executor_.forget_shares_undone();
    const auto steps = compute_steps(wanted, executor_.actual());
    executor_.run(steps);
    executor_.forget_counters_except(wanted);
    if (steps.empty() || !nics_.refresh()) break;
  }
  executor_.keep_offloads();
  const Actual& actual = executor_.actual();
  if (!actual.failed.empty() || !actual.mtu_failed.empty()) retry_later();
}

void HostService::wait_for_faults() {
  using boost::asio::posix::stream_descriptor;
  faults_.async_wait(stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
    if (error) return;  // being destroyed
    std::uint64_t count = 0;
    if (::read(faults_.native_handle(), &count, sizeof count) < 0 && errno != EAGAIN) {
      spdlog::error("event descriptor of the data plane: {}", system_error("read", errno).message);
    }
    if (executor_.take_faults()) reconcile();
    if (dataplane_.buffer_use().to_release) release_buffers_later();
    wait_for_faults();
  });
}

// Not at once: a guest that stalls often would get its memory anew each time.
void HostService::release_buffers_later() {
  if (std::exchange(release_armed_, true)) return;
  release_.expires_after(config_.release_after);
  release_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // being destroyed
    release_armed_ = false;
    dataplane_.release_buffers();
  });
}

void HostService::retry_later() {
  if (retry_armed_) return;
  retry_armed_ = true;
  retry_.expires_after(config_.retry_after);
  retry_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // being destroyed
    retry_armed_ = false;
    executor_.forget_failures();
    reconcile();
  });
}

bool HostService::is_host_vnic(const std::string& interface) const {
  const auto found = state_.host.vnics.find(interface);
  return found != state_.host.vnics.end() && found->second.kind == model::VnicKind::host;
}

}  // namespace patchbay::reconcile
