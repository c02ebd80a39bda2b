// A data plane that only writes down what it is asked for, so that tests of control can read it back.
//
// Theory  Each call becomes one line of `calls`, with the names that ports were opened under. A call whose line is in
//         `refusals` fails with that error. No frame moves: what the real one does is tested with real frames.
#pragma once
#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "dataplane/dataplane.h"
#include "model/buffer.h"

namespace patchbay::test {

class FakeDataplane final : public dataplane::Dataplane {
 public:
  std::vector<std::string> calls;
  std::map<std::string, Error> refusals;                    // by call
  std::map<std::string, dataplane::PortFault> port_faults;  // by name
  std::map<std::string, dataplane::DeviceState> devices;    // by name of the uplink
  dataplane::Layout layout;
  std::vector<dataplane::WorkerStats> workers{{0, {}, 0, 0, 0, 0, 0}, {1, {}, 0, 0, 0, 0, 0}};

  [[nodiscard]] std::vector<std::string> take_calls() { return std::exchange(calls, {}); }
  [[nodiscard]] const std::string& name_of(PortId port) const { return names_.at(port); }
  [[nodiscard]] std::size_t ports_open() const { return names_.size(); }
  void raise_fault(const std::string& name, dataplane::PortFault fault) {
    port_faults[name] = fault;
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_fd_.get(), &one, sizeof one));
  }

  Result<PortId> open_guest_port(const std::string& vnic) override { return open("open_guest " + vnic, vnic); }
  Result<PortId> open_host_port(const dataplane::HostPortConfig& config) override {
    return open(fmt::format("open_host {} {} {}", config.name, config.mac.to_string(), config.mtu), config.name);
  }
  std::vector<std::string> left_interfaces;
  Result<std::vector<std::string>> remove_left_host_interfaces(const std::set<std::string>& wanted) override {
    std::vector<std::string> removed;
    std::erase_if(left_interfaces, [&](const std::string& name) {
      if (wanted.contains(name)) return false;
      removed.push_back(name);
      return true;
    });
    return removed;
  }
  // "open_uplink eth1", "open_uplink eth1 xdp 4 native", "open_uplink 0000:01:00.0 dpdk"
  Result<PortId> open_uplink(const std::string& nic, const model::DriverPlan& plan) override {
    std::string line = "open_uplink " + nic;
    if (plan.driver == model::UplinkDriver::dpdk) line += " dpdk";
    if (plan.driver == model::UplinkDriver::xdp) {
      line += fmt::format(" xdp {} {}{}", plan.queues, plan.native ? "native" : "generic",
                          plan.multi_buffer ? " multi-buffer" : "");
    }
    return open(line, nic);
  }
  // Teams have no names here: "team#1", "team#2". What members they have now stands in `teams`.
  std::map<std::string, dataplane::TeamConfig> teams;
  std::map<std::string, dataplane::TeamPaths> team_paths;
  PortId open_team() override {
    const std::string name = fmt::format("team#{}", ++teams_opened_);
    const auto port = open("open_team " + name, name);
    teams[name] = {};
    return *port;
  }
  // "set_team team#1: eth1 eth2"
  void set_team(PortId team, const dataplane::TeamConfig& config, const dataplane::TeamPaths& paths) override {
    std::string line = "set_team " + names_.at(team) + ":";
    for (const auto& member : config.members) {
      line += " " + names_.at(member.port);
      if (is_in_layout(member.port)) calls.push_back("DEFECT: a switch has " + names_.at(member.port) + " too");
    }
    calls.push_back(line);
    teams[names_.at(team)] = config;
    team_paths[names_.at(team)] = paths;
  }
  void set_team_paths(PortId team, const dataplane::TeamPaths& paths) override { team_paths[names_.at(team)] = paths; }
  bool send_control_frame(PortId, std::span<const std::uint8_t>) override { return true; }
  std::vector<std::vector<std::uint8_t>> take_control_frames(PortId) override { return {}; }
  [[nodiscard]] std::vector<std::string> members_of(const std::string& team) const {
    std::vector<std::string> nics;
    for (const auto& member : teams.at(team).members) nics.push_back(names_.at(member.port));
    return nics;
  }
  // What uplinks sort by; `abilities`, by name, comes first. None has a queue unless a test says so.
  dataplane::QueueAbility ability{dataplane::QueueSorting::kernel, 0, false, false, "the fake has none"};
  std::map<std::string, dataplane::QueueAbility> abilities;
  [[nodiscard]] dataplane::QueueAbility queue_ability(PortId uplink) const override {
    const auto found = abilities.find(names_.at(uplink));
    return found == abilities.end() ? ability : found->second;
  }
  // "open_queue eth1#1", "filter eth1#1 02:00:00:00:00:01/101", "no_filter eth1#1"
  Result<PortId> open_queue(PortId uplink) override {
    const std::string name = fmt::format("{}#{}", names_.at(uplink), ++queues_opened_[names_.at(uplink)]);
    auto port = open("open_queue " + name, name);
    if (port) queues_[*port].uplink = uplink;
    return port;
  }
  Result<void> set_queue_filter(PortId queue, const dataplane::QueueFilter& filter) override {
    auto ok = record(fmt::format("filter {} {}/{}", names_.at(queue), filter.mac.to_string(), filter.vid));
    if (ok) queues_.at(queue).filter = filter;
    return ok;
  }
  void clear_queue_filter(PortId queue) override {
    calls.push_back("no_filter " + names_.at(queue));
    queues_.at(queue).filter.reset();
  }
  Result<void> set_host_port_mtu(PortId port, std::uint16_t mtu) override {
    return record(fmt::format("set_mtu {} {}", names_.at(port), mtu));
  }
  void set_carrier(PortId port, bool up) override {
    calls.push_back(fmt::format("carrier {} {}", names_.at(port), up ? "up" : "down"));
  }
  void close_port(PortId port, bool remove_interface) override {
    calls.push_back(fmt::format("close {}{}", names_.at(port), remove_interface ? " remove" : ""));
    for (const auto& [id, queue] : queues_) {
      if (queue.uplink == port) calls.push_back("DEFECT: it has the queue " + names_.at(id));
    }
    if (const auto queue = queues_.find(port); queue != queues_.end()) {
      if (queue->second.filter) calls.push_back("DEFECT: it has a filter");
      queues_.erase(queue);
    }
    if (is_in_layout(port)) calls.push_back("DEFECT: the layout still has " + names_.at(port));
    if (const auto team = team_with(port); !team.empty()) {
      calls.push_back("DEFECT: " + team + " still has " + names_.at(port));
    }
    teams.erase(names_.at(port));
    port_faults.erase(names_.at(port));
    names_.erase(port);
  }

  Result<std::shared_ptr<const dataplane::GuestMemory>> map_guest_memory(
      const std::vector<dataplane::MemoryRegion>&) override {
    return fail(ErrorCode::no_resource, "a fake maps no memory");
  }
  Result<void> connect_guest(PortId, const dataplane::GuestLink&) override {
    return fail(ErrorCode::invalid, "a fake has no rings");
  }
  Result<dataplane::RingPositions> relink_guest(PortId, const dataplane::GuestLink&) override {
    return fail(ErrorCode::invalid, "a fake has no rings");
  }
  void announce(PortId, MacAddr) override {}
  dataplane::RingPositions disconnect_guest(PortId) override { return {}; }
  void give_up_guest(PortId) override {}
  std::map<std::string, dataplane::BufferConfig> buffers;  // by name
  dataplane::BufferUse use{model::buffer_limit_default, 0, false};
  void set_buffer(PortId port, const dataplane::BufferConfig& config) override { buffers[names_.at(port)] = config; }
  [[nodiscard]] dataplane::BufferState buffer_state(PortId port) const override {
    const auto found = buffers.find(names_.at(port));
    dataplane::BufferState state;
    if (found != buffers.end()) state.limit_bytes = state.limit_max_bytes = found->second.limit_bytes;
    return state;
  }
  Result<void> set_buffer_limit(std::uint64_t bytes) override {
    auto ok = record(fmt::format("buffer_limit {}", bytes));
    if (ok) use.limit_bytes = bytes;
    return ok;
  }
  [[nodiscard]] dataplane::BufferUse buffer_use() const override { return use; }
  void release_buffers() override { use.to_release = false; }

  std::map<std::string, std::uint64_t> more_frames;  // by name: that came in beyond the number of the port
  // "publish [eth1 1500: vm1/101+eth1#1 vm2/-]"
  void publish(const dataplane::Layout& published) override {
    layout = published;
    std::string line = "publish";
    for (const auto& on : published.switches) {
      if (on.uplink && !team_with(*on.uplink).empty()) {
        calls.push_back("DEFECT: " + team_with(*on.uplink) + " has " + names_.at(*on.uplink) + " too");
      }
      line += fmt::format(" [{} {}:", on.uplink ? names_.at(*on.uplink) : "-", on.mtu);
      for (const auto& vnic : on.vnics) {
        line += fmt::format(" {}/{}", names_.at(vnic.port), vlan_text(vnic.vlan));
        for (const PortId queue : vnic.queues) {
          line += "+" + names_.at(queue);
          if (!queues_.at(queue).filter) calls.push_back("DEFECT: no filter for " + names_.at(queue));
        }
      }
      if (!on.gro) line += " gro off";
      line += "]";
    }
    calls.push_back(line);
  }

  [[nodiscard]] dataplane::PortCounters counters(PortId port) const override {
    dataplane::PortCounters made;
    made.ingress.frames = raw(port);
    if (const auto found = more_frames.find(names_.at(port)); found != more_frames.end()) {
      made.ingress.frames += found->second;
    }
    return made;
  }
  [[nodiscard]] dataplane::PortFault fault(PortId port) const override {
    const auto found = port_faults.find(names_.at(port));
    return found == port_faults.end() ? dataplane::PortFault::none : found->second;
  }
  [[nodiscard]] dataplane::PortLearning learning(PortId) const override { return {}; }
  // Where the layout wants it, else on worker 0.
  [[nodiscard]] std::optional<unsigned> worker_of(PortId port) const override {
    for (const auto& on : layout.switches) {
      for (const auto& vnic : on.vnics) {
        if (vnic.port == port) return vnic.worker.value_or(0);
        if (std::find(vnic.queues.begin(), vnic.queues.end(), port) != vnic.queues.end())
          return vnic.worker.value_or(0);
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] std::vector<dataplane::LearnedAddress> learned_addresses(const std::string&) const override {
    return {};
  }
  [[nodiscard]] std::optional<dataplane::DeviceState> device_state(PortId port) const override {
    const auto found = devices.find(names_.at(port));
    return found == devices.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] std::vector<dataplane::WorkerStats> worker_stats() const override { return workers; }
  void move_port(PortId, unsigned) override {}
  [[nodiscard]] int event_fd() const override { return event_fd_.get(); }

 private:
  static std::string vlan_text(const model::VlanMode& mode) {
    if (std::holds_alternative<model::Untagged>(mode)) return "-";
    const auto* access = std::get_if<model::Access>(&mode);
    return access != nullptr ? std::to_string(access->vid.raw()) : model::describe(mode);
  }
  Result<void> record(std::string call) {
    calls.push_back(call);
    const auto refusal = refusals.find(call);
    if (refusal != refusals.end()) return fail(refusal->second);
    return {};
  }
  Result<PortId> open(const std::string& call, const std::string& name) {
    if (auto ok = record(call); !ok) return fail(ok.error());
    const PortId port{++last_port_};
    names_[port] = name;
    return port;
  }

  UniqueFd event_fd_{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  [[nodiscard]] bool is_in_layout(PortId port) const {
    for (const auto& on : layout.switches) {
      if (on.uplink == port) return true;
      for (const auto& vnic : on.vnics) {
        if (vnic.port == port) return true;
        if (std::find(vnic.queues.begin(), vnic.queues.end(), port) != vnic.queues.end()) return true;
      }
    }
    return false;
  }
  // Empty: none.
  [[nodiscard]] std::string team_with(PortId port) const {
    for (const auto& [name, config] : teams) {
      for (const auto& member : config.members) {
        if (member.port == port) return name;
      }
    }
    return "";
  }

  std::map<PortId, std::string> names_;  // of open ports
  std::uint32_t last_port_ = 0;
  unsigned teams_opened_ = 0;
  struct Queue {
    PortId uplink{};
    std::optional<dataplane::QueueFilter> filter = {};
  };
  std::map<PortId, Queue> queues_;
  std::map<std::string, unsigned> queues_opened_;  // by uplink
};

}  // namespace patchbay::test
