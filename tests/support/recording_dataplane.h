// A Dataplane that moves no frames: it writes down what control asks of guest ports, and ends the program when a
// promise of dataplane.h is broken (a port connected twice, a descriptor closed while it was lent).
#pragma once
#include <fcntl.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/dataplane.h"

namespace patchbay::test {

class RecordingDataplane final : public dataplane::Dataplane {
 public:
  // What happened, in order: "map 2" (regions), "connect 01" (complete rings), "relink 01", "announce MAC", "disconnect".
  // Empty if `record` is off.
  std::vector<std::string> calls;
  bool record = true;
  // What the next calls give.
  dataplane::RingPositions positions{};
  std::optional<Error> map_error;
  std::optional<Error> connect_error;
  // What is there now.
  std::map<std::uint32_t, dataplane::GuestLink> links;  // by raw PortId
  std::vector<dataplane::MemoryRegion> last_regions;    // descriptors in it may be closed since

  // Memory objects that somebody still holds.
  [[nodiscard]] long memories_alive() const { return memories_.use_count() - 1; }

  Result<PortId> open_guest_port(const std::string&) override { return PortId{next_port_++}; }
  Result<PortId> open_host_port(const dataplane::HostPortConfig&) override { return PortId{next_port_++}; }
  Result<std::vector<std::string>> remove_left_host_interfaces(const std::set<std::string>&) override {
    return std::vector<std::string>();
  }
  Result<PortId> open_uplink(const std::string&, const model::DriverPlan&) override { return PortId{next_port_++}; }
  PortId open_team() override { return PortId{next_port_++}; }
  void set_team(PortId, const dataplane::TeamConfig&, const dataplane::TeamPaths&) override {}
  void set_team_paths(PortId, const dataplane::TeamPaths&) override {}
  bool send_control_frame(PortId, std::span<const std::uint8_t>) override { return true; }
  std::vector<std::vector<std::uint8_t>> take_control_frames(PortId) override { return {}; }
  [[nodiscard]] dataplane::QueueAbility queue_ability(PortId) const override { return {}; }
  Result<PortId> open_queue(PortId) override { return PortId{next_port_++}; }
  Result<void> set_queue_filter(PortId, const dataplane::QueueFilter&) override { return {}; }
  void clear_queue_filter(PortId) override {}
  Result<void> set_host_port_mtu(PortId, std::uint16_t) override { return {}; }
  void set_carrier(PortId, bool) override {}
  void close_port(PortId port, bool) override { links.erase(raw(port)); }
  void publish(const dataplane::Layout&) override {}
  dataplane::PortCounters counters(PortId) const override { return {}; }
  dataplane::PortLearning learning(PortId) const override { return {}; }
  std::vector<dataplane::LearnedAddress> learned_addresses(const std::string&) const override { return {}; }
  dataplane::PortFault fault(PortId) const override { return dataplane::PortFault::none; }
  std::optional<dataplane::DeviceState> device_state(PortId) const override { return std::nullopt; }
  std::vector<dataplane::WorkerStats> worker_stats() const override { return {}; }
  void move_port(PortId, unsigned) override {}
  std::optional<unsigned> worker_of(PortId) const override { return std::nullopt; }
  int event_fd() const override { return -1; }

  Result<std::shared_ptr<const dataplane::GuestMemory>> map_guest_memory(
      const std::vector<dataplane::MemoryRegion>& regions) override {
    note("map " + std::to_string(regions.size()));
    if (map_error) return fail(*map_error);
    for (const auto& region : regions) demand(is_open(region.fd), "a memory region has no open descriptor");
    last_regions = regions;
    // GuestMemory is opaque: a pointer that only shares ownership of memories_, so that use_count() counts holders.
    const auto* const opaque = reinterpret_cast<const dataplane::GuestMemory*>(memories_.get());
    return std::shared_ptr<const dataplane::GuestMemory>(memories_, opaque);
  }

  Result<void> connect_guest(PortId port, const dataplane::GuestLink& link) override {
    note("connect " + complete_rings(link));
    demand(!links.contains(raw(port)), "a port is connected twice");
    demand(link.memory != nullptr, "a link has no memory");
    if (connect_error) return fail(*connect_error);
    links[raw(port)] = link;
    return {};
  }

  Result<dataplane::RingPositions> relink_guest(PortId port, const dataplane::GuestLink& link) override {
    note("relink " + complete_rings(link));
    const auto found = links.find(raw(port));
    demand(found != links.end(), "a port is linked anew that has no link");
    demand(link.memory != nullptr, "a link has no memory");
    demand_lent(found->second);
    if (connect_error) return fail(*connect_error);
    found->second = link;
    return positions;
  }

  void announce(PortId, MacAddr source) override { note("announce " + source.to_string()); }

  void give_up_guest(PortId) override { note("give up"); }
  void set_buffer(PortId, const dataplane::BufferConfig&) override {}
  [[nodiscard]] dataplane::BufferState buffer_state(PortId) const override { return {}; }
  Result<void> set_buffer_limit(std::uint64_t) override { return {}; }
  [[nodiscard]] dataplane::BufferUse buffer_use() const override { return {}; }
  void release_buffers() override {}
  dataplane::RingPositions disconnect_guest(PortId port) override {
    note("disconnect");
    const auto found = links.find(raw(port));
    if (found == links.end()) return {};
    demand_lent(found->second);
    links.erase(found);
    return positions;
  }

 private:
  static bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
  static void demand(bool kept, const char* what) {
    if (kept) return;
    std::fprintf(stderr, "promise to the data plane broken: %s\n", what);
    std::abort();
  }
  static void demand_lent(const dataplane::GuestLink& link) {
    for (const auto& ring : link.rings) {
      demand(ring.kick_fd < 0 || is_open(ring.kick_fd), "a kick descriptor was closed while it was lent");
      demand(ring.call_fd < 0 || is_open(ring.call_fd), "a call descriptor was closed while it was lent");
    }
  }
  // Their numbers: "01".
  static std::string complete_rings(const dataplane::GuestLink& link) {
    std::string complete;
    for (std::size_t i = 0; i < link.rings.size(); ++i) {
      const auto& ring = link.rings[i];
      if (ring.size == 0 || ring.kick_fd < 0 || !ring.enabled) continue;
      complete += std::to_string(i);
      demand(is_open(ring.kick_fd), "a kick descriptor is closed");
      demand(ring.call_fd < 0 || is_open(ring.call_fd), "a call descriptor is closed");
    }
    return complete;
  }
  void note(std::string call) {
    if (record) calls.push_back(std::move(call));
  }

  std::uint32_t next_port_ = 1;
  std::shared_ptr<int> memories_ = std::make_shared<int>(0);
};

}  // namespace patchbay::test
