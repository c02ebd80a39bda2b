// The data plane's whole public face: what control may ask of it.
//
// Theory  Control opens ports, hands guests' memory and rings to them, and publishes the layout: which port is in which
//         switch, with which address and VLAN. Workers forward frames by an immutable snapshot of the last layout.
//         Every call that takes something away from a worker (publish, close_port, disconnect_guest, relink_guest)
//         returns only when no worker can use it any more (a grace period, microseconds while workers run, at once
//         while they sleep).
// Threads All calls come from control's one thread. Workers are the data plane's own.
// Errors  Result: what the world does wrong. Broken promises of the caller (unknown PortId) are assertions.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/mac_addr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/frame/drop_reason.h"
#include "model/team.h"
#include "model/uplink_driver.h"
#include "model/vnic.h"

namespace patchbay::dataplane {

// ---- Guests ---------------------------------------------------------------------------------------------------------

// One range of a guest's memory, as VHOST_USER_SET_MEM_TABLE gives it. Borrowed descriptor: map_guest_memory() does not
// keep it.
struct MemoryRegion {
  std::uint64_t guest_address = 0;      // where the guest sees it
  std::uint64_t size_bytes = 0;         // not zero
  std::uint64_t front_end_address = 0;  // where the front-end maps it; ring addresses are given in these terms
  std::uint64_t mmap_offset = 0;        // where in the descriptor's file it starts
  int fd = -1;
};
inline constexpr std::size_t memory_regions_max = 8;

class GuestMemory;  // mapped regions; opaque to control, which only keeps it alive and passes it on

inline constexpr std::size_t queue_pairs_max = model::queues_max;
// Of each pair two: number 2 * pair is the one that the guest receives from (to_guest), the next one that it sends by
// (from_guest).
inline constexpr std::size_t guest_rings_max = 2 * queue_pairs_max;
inline constexpr std::uint16_t vring_size_max = 32768;

// One virtqueue, as the front-end described it. Descriptors are borrowed until disconnect_guest() returns.
struct Vring {
  std::uint16_t size = 0;  // entries, at most vring_size_max; a power of two if split; 0 while the ring is not set up
  // Front-end addresses of the three parts; of a packed ring: descriptors, the driver's and the device's event area.
  std::uint64_t desc_address = 0;
  std::uint64_t avail_address = 0;
  std::uint64_t used_address = 0;
  // Where the ring goes on; split rings do not ask, for it stands in guest memory. Of a packed ring: index in bits 0-14,
  // wrap counter in bit 15; the same of the used side above, which we neither need nor believe.
  std::uint32_t base = 0;       // what the front-end knows: from SET_VRING_BASE, or as GET_VRING_BASE answered it
  std::uint32_t position = 0;   // `base`, or further if the ring ran since
  bool position_known = false;  // this position and no other. Else one that was kept through a crash is better
  bool enabled = false;         // VHOST_USER_SET_VRING_ENABLE; a ring that is not enabled moves no frames
  int kick_fd = -1;             // the guest tells us; -1: none, the ring does not run
  int call_fd = -1;             // we tell the guest; -1: the guest polls
};

// Pairs that the guest does not use have rings of size 0. Room for more: a bitmap of dirty pages for migration will stand
// here beside `memory`, for whoever writes to guest memory has both at hand then.
struct GuestLink {
  std::uint64_t features = 0;  // acknowledged virtio features
  std::shared_ptr<const GuestMemory> memory;
  std::array<Vring, guest_rings_max> rings;
};

// Positions of the rings of a link, in the terms of Vring::position.
using RingPositions = std::array<std::uint32_t, guest_rings_max>;

inline constexpr std::uint16_t announcements_max = 64;  // of one port, that wait

// virtio features that guest ports implement (bits of VIRTIO 1.2): what a back-end may offer.
[[nodiscard]] std::uint64_t guest_features_supported() noexcept;

// ---- Ports ----------------------------------------------------------------------------------------------------------

struct HostPortConfig {
  std::string name;  // of the network interface that appears on the host: 1-15 characters
  MacAddr mac;
  std::uint16_t mtu = 1500;  // layer 3 bytes
  std::string owner = {};    // filled in by the data plane: DataplaneConfig::owner
};

// What broke at a port by the other side's doing; control shows it and starts the link anew when the peer does.
enum class PortFault : std::uint8_t {
  none,
  ring_broken,  // the guest's ring holds values that no driver writes: an index out of range, too many entries
  memory_lost,  // guest memory vanished under us (its file was truncated)
  device_gone,  // the NIC or host interface was removed
};
[[nodiscard]] const char* to_string(PortFault fault) noexcept;

// A NIC that the data plane drives itself, as the device says now.
struct DeviceState {
  std::string driver;  // DPDK's name of it: "net_e1000_igb"
  MacAddr mac;
  std::uint16_t mtu = 0;  // layer 3 bytes that it takes
  bool carrier = false;
  std::optional<std::uint32_t> speed_mbps;  // nothing if unknown
  bool interrupts = false;                  // on receipt; without them its worker cannot sleep
};

struct Traffic {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;  // layer 2 bytes without FCS and without the tag of the frame's VLAN
};

// What waits for a guest that takes no frames for a moment, and how much may.
struct BufferConfig {
  std::uint64_t limit_bytes = 0;  // of frames; 0: nothing waits
  bool grows = false;  // starts with 1 MiB, or limit_bytes if that is less, and grows to limit_bytes on demand
  std::chrono::nanoseconds max_age{
      0};  // older frames are dropped, at the latest when the guest could take them; 0: none is
};
struct BufferWaits {
  std::uint64_t frames = 0;  // that waited, and do no longer
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t max_ns = 0;
};
// A stall lasts from the first frame that has to wait until none waits.
struct BufferStall {
  std::uint64_t length_ns = 0;
  std::uint64_t frames = 0;        // that came in it
  std::uint64_t demand_bytes = 0;  // a buffer of so many would have held them all
};
struct BufferState {
  std::uint64_t limit_bytes = 0;      // now
  std::uint64_t limit_max_bytes = 0;  // that a growing one may reach; else limit_bytes
  std::uint64_t used_bytes = 0;
  std::uint64_t peak_bytes = 0;
  std::uint64_t frames = 0;  // that wait now
  BufferWaits waits;
  std::uint64_t stalls = 0;  // the one that lasts included
  std::uint64_t longest_stall_ns = 0;
  std::uint64_t stalled_since_ns = 0;  // monotonic clock; 0: no stall now
  BufferStall worst_stall;             // the one with the largest demand, of those that are over
};

// Balance: over all ports, ingress.frames + flood_copies + cut_frames = egress.frames + buffered + sum of drops +
// merged_frames, when nothing is on its way.
// kernel_ring_full is outside of it: those frames were never seen.
struct PortCounters {
  Traffic ingress;                 // into the switch: from the guest, the host or the wire, dropped frames included
  Traffic egress;                  // out of the switch
  std::uint64_t flood_copies = 0;  // deliveries beyond the first, of frames that came in here
  std::uint64_t cut_frames = 0;    // frames beyond the first of each large piece that was cut to leave here
  std::uint64_t buffered = 0;      // frames that wait in the vnic's buffer now
  // Frames beyond the first of each large piece that was made of frames which came in here.
  std::uint64_t merged_frames = 0;
  std::array<std::uint64_t, drop_reason_count> drops{};
  std::optional<MacAddr> refused_source;  // of the last frame that was dropped as source_mac
};

// Addresses that were learned behind a vnic with MAC spoofing, or on an uplink whose switch has such a vnic.
struct PortLearning {
  std::uint32_t count = 0;    // now; those that were not heard of for ageing_s are forgotten when the room is needed
  std::uint32_t limit = 0;    // 0: this port does not learn
  std::uint64_t refused = 0;  // sightings of new addresses for which there was no room
};
struct LearnedAddress {
  std::uint16_t vid = 0;  // 0: no VLAN. Of private VLANs, the primary
  MacAddr mac;
  PortId port{};
  std::uint32_t age_s = 0;  // since it was last heard of
};

// Of all vnics' buffers together. Memory is used a page at a time, and counted here in blocks of 64 KiB.
struct BufferUse {
  std::uint64_t limit_bytes = 0;
  std::uint64_t used_bytes = 0;
  bool to_release = false;  // there is memory that no frame needs; event_fd() told
};

// ---- Queues ---------------------------------------------------------------------------------------------------------

// Who sorts what comes in at an uplink by receiver.
enum class QueueSorting : std::uint8_t {
  software,    // the worker of the uplink, out of its one ring
  kernel,      // the kernel, into a packet ring for each queue
  ntuple,      // the NIC, by rules of its kernel driver (ethtool)
  flow_rules,  // the NIC, by rules of DPDK's (rte_flow)
  vmdq,        // the NIC, by its pools
};
[[nodiscard]] const char* to_string(QueueSorting sorting) noexcept;  // "software", "kernel", ...

// Frames to this address in this VLAN: tagged with it, or if it is 0, without a tag or with VLAN id 0.
struct QueueFilter {
  MacAddr mac;
  std::uint16_t vid = 0;
  friend bool operator==(const QueueFilter&, const QueueFilter&) = default;
};

// What an uplink has.
struct QueueAbility {
  QueueSorting sorting = QueueSorting::software;
  std::uint16_t queues = 0;  // that can be open at a time, beside the default one
  bool vlan_only = false;    // it sorts by VLAN alone: of each VLAN one queue, which gets all of it
  bool restarts = false;     // a change of filters stops the device for a moment: frames are lost
  std::string reason;        // why no other sorting
};

// ---- Layout ---------------------------------------------------------------------------------------------------------

struct VnicLayout {
  PortId port{};
  MacAddr mac;  // pinned: unique within the switch
  model::VlanMode vlan;
  bool mac_spoofing = false;
  std::uint32_t mac_limit = model::mac_limit_default;
  bool trust_priority = false;
  std::optional<unsigned> worker = {};  // that is to have it; nothing, or none of that number: any
  // Of its switch's uplink, or of members of the team that is that: what they bring is received by the worker of `port`.
  std::vector<PortId> queues = {};
};

struct SwitchLayout {
  std::string name;              // what a switch has learned stays with its name
  std::optional<PortId> uplink;  // only an External switch has one
  std::uint16_t mtu = 1500;      // layer 3 bytes
  std::vector<VnicLayout> vnics;
  bool gro = true;  // an uplink that gives bare frames of the wire has them coalesced
};

// Every port appears in at most one switch; a port in no switch moves no frames.
struct Layout {
  std::vector<SwitchLayout> switches;
};

// ---- Teams ----------------------------------------------------------------------------------------------------------

inline constexpr std::size_t team_buckets = 256;  // a hash of a flow, or of an address, is one of so many
inline constexpr std::uint8_t team_no_member = 0xFF;
// Of the addresses that frames come from.
[[nodiscard]] constexpr std::size_t team_bucket_of(MacAddr mac) noexcept {
  std::uint64_t mixed = mac.to_uint64();
  mixed = (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9U;  // splitmix64
  mixed = (mixed ^ (mixed >> 32)) * 0x94D049BB133111EBU;
  return static_cast<std::size_t>(mixed >> 56);
}

inline constexpr std::size_t control_frame_max = 128;

// What a team is made of.
struct TeamConfig {
  struct Member {
    PortId port{};  // an open uplink that is in no switch and no other team
    MacAddr mac;
    friend bool operator==(const Member&, const Member&) = default;
  };
  bool switch_independent = true;  // the other end does not know that the members belong together
  model::TeamBalance balance = model::TeamBalance::dynamic;
  std::vector<Member> members;  // at most model::team_nics_max
  friend bool operator==(const TeamConfig&, const TeamConfig&) = default;
};

// Which members carry what now. They are numbered as in TeamConfig.
struct TeamPaths {
  std::array<std::uint8_t, team_buckets> senders;  // the member of each bucket; team_no_member: none (not_connected)
  std::uint32_t receives = 0;                      // a bit a member: what comes in there is taken
  std::uint8_t primary = team_no_member;  // switch-independent: what is for a group of stations is taken only there
  friend bool operator==(const TeamPaths&, const TeamPaths&) = default;
};

// ---- Workers --------------------------------------------------------------------------------------------------------

struct WorkerStats {
  unsigned id = 0;
  std::optional<unsigned> cpu;    // pinned to; nothing: the scheduler's choice
  std::uint64_t busy_cycles = 0;  // TSC cycles of loop passes that moved a frame
  std::uint64_t idle_cycles = 0;  // TSC cycles of passes that did not; sleep is not counted
  std::uint64_t frames = 0;       // taken in
  std::uint64_t sleeps = 0;
  std::uint32_t ports = 0;  // that it owns: vnics and uplinks of switches
};

struct DataplaneConfig {
  std::vector<unsigned> worker_cpus;  // one worker per entry, pinned to it; empty: one worker, not pinned
  bool always_poll = false;           // workers never sleep
  // Whose the host interfaces are, unique on the host: the state directory. Empty: nobody's, none is ever removed.
  std::string owner = {};
  // For frames that wait in the buffers of all vnics. Memory that no frame needs goes back to the kernel.
  std::uint64_t buffer_limit_bytes = std::uint64_t{256} << 20;
  // An existing directory that lasts as long as the guests' memory does, where positions of packed rings are kept: one
  // file a guest port that had such rings, named like its vnic. Beside it, with a `+` in front, an empty one while a guest
  // is connected: whoever starts after a crash expects it. Empty: nothing is kept, such a ring stands still after a crash,
  // and frames for guests that are not back yet are dropped. Notes of changes at NICs are there, too (ntuple+INDEX).
  std::string positions_dir = {};
};

class Dataplane {
 public:
  // Starts the workers. Errors: invalid (no such CPU, a CPU named twice, more workers than supported), no_resource.
  [[nodiscard]] static Result<std::unique_ptr<Dataplane>> create(const DataplaneConfig& config);

  virtual ~Dataplane() = default;

  // A port for a guest, not connected yet.
  [[nodiscard]] virtual Result<PortId> open_guest_port(const std::string& vnic) = 0;
  // Creates, or takes over from an earlier run, the host interface `config.name` and sets MAC, MTU and up.
  // Errors: exists (an interface of that name that is not ours), no_resource, internal.
  [[nodiscard]] virtual Result<PortId> open_host_port(const HostPortConfig& config) = 0;
  // Removes host interfaces that an earlier run with the same owner left, apart from those called as in `wanted`; gives
  // the names of the removed. Errors: unavailable, internal.
  [[nodiscard]] virtual Result<std::vector<std::string>> remove_left_host_interfaces(
      const std::set<std::string>& wanted) = 0;
  // Opens sockets on the kernel NIC `nic`, promiscuous until closed; sets it up (IFF_UP). With dpdk `nic` is the PCI address
  // of a device that is bound to vfio-pci; with xdp the caller has seen to it that the NIC leaves VLAN tags in the frames
  // and does not merge frames.
  // Errors: not_found, invalid (not an Ethernet device), no_resource, internal; xdp: in_use (an XDP program or socket of
  // somebody else), unavailable (not in this kernel or driver, no permission); dpdk: unavailable (DPDK cannot open it).
  [[nodiscard]] virtual Result<PortId> open_uplink(const std::string& nic, const model::DriverPlan& plan) = 0;
  // A team, of no members yet: a port that can be the uplink of a switch.
  [[nodiscard]] virtual PortId open_team() = 0;
  // Gives the team these members, or takes some away: between two passes, so that nobody's frame is lost.
  virtual void set_team(PortId team, const TeamConfig& config, const TeamPaths& paths) = 0;
  // At once.
  virtual void set_team_paths(PortId team, const TeamPaths& paths) = 0;
  // Beside the data path, and before it: of an uplink that DPDK drives a frame of at most control_frame_max bytes to the wire,
  // and those of the slow protocols (LACP) that came in. event_fd() tells of these.
  virtual bool send_control_frame(PortId uplink, std::span<const std::uint8_t> frame) = 0;
  [[nodiscard]] virtual std::vector<std::vector<std::uint8_t>> take_control_frames(PortId uplink) = 0;
  // What sorts frames at an uplink (not a team: its members do).
  [[nodiscard]] virtual QueueAbility queue_ability(PortId uplink) const = 0;
  // A queue of an uplink, without a filter: nothing arrives there. It is a port: it has counters, a layout has it beside its
  // vnic, and it is closed before its uplink. Errors: no_resource (there is none left), unavailable, internal.
  [[nodiscard]] virtual Result<PortId> open_queue(PortId uplink) = 0;
  // From its return on frames that `filter` names arrive there, and wait until a layout has the queue; those that came
  // before have been delivered. One filter a queue. Errors: no_resource, unavailable, internal: there is no filter then.
  [[nodiscard]] virtual Result<void> set_queue_filter(PortId queue, const QueueFilter& filter) = 0;
  // Its frames arrive in the default queue again, and overtake none of those that were in this one: they have been delivered
  // when it returns, if the queue is in the layout.
  virtual void clear_queue_filter(PortId queue) = 0;
  // The new MTU of a host interface. Errors: unavailable.
  [[nodiscard]] virtual Result<void> set_host_port_mtu(PortId port, std::uint16_t mtu) = 0;
  // Carrier of an uplink, as control learned it from the kernel: without it, frames for it are dropped (not_connected).
  // Devices of DPDK know better: for them this changes nothing.
  virtual void set_carrier(PortId port, bool up) = 0;
  // Publishes a layout without it first. `remove_left`: what would stay for the next run goes away too: a host interface
  // with its addresses, or the ring positions of a guest.
  virtual void close_port(PortId port, bool remove_left) = 0;

  // Maps a guest's memory. Errors: invalid (no region, too many, zero size, wraps, smaller file), no_resource.
  [[nodiscard]] virtual Result<std::shared_ptr<const GuestMemory>> map_guest_memory(
      const std::vector<MemoryRegion>& regions) = 0;
  // Rings of `link` that are complete (size, addresses, kick_fd, enabled) start to move frames. The port must not be
  // connected. Errors: invalid (a ring outside the memory, misaligned, of a wrong size), no_resource, internal (the file
  // for positions of packed rings): nothing is connected.
  [[nodiscard]] virtual Result<void> connect_guest(PortId port, const GuestLink& link) = 0;
  // Gives a connected guest another link, between two passes of its worker: nobody's frame finds the guest gone. Rings
  // that ran go on where they are, whatever `link` says. Descriptors of both links are borrowed until it returns; from
  // then on nothing of the old one is touched. Gives the position of each ring of the old link.
  // Errors: as connect_guest(); the old link then stays, or none is left, and disconnect_guest() is due.
  [[nodiscard]] virtual Result<RingPositions> relink_guest(PortId port, const GuestLink& link) = 0;
  // Lets one RARP broadcast come in at the port as if its guest had sent it, with `source` as its address: whoever
  // learns addresses then looks for the guest here. It is judged as every frame of that guest. At most
  // announcements_max of them wait; more are left out.
  virtual void announce(PortId port, MacAddr source) = 0;
  // Stops all rings; from its return on nothing of the link is touched. Gives each ring's position, and zeros if the
  // port was not connected. Frames that come for the guest from then on wait in its buffer, if it received before. They are
  // its own if it comes back with the same receive rings, where they stood: if it was paused, or only its connection was
  // lost. If anybody else comes they are dropped (buffer_reset) first.
  virtual RingPositions disconnect_guest(PortId port) = 0;
  // Frames do not wait any longer for a guest that is not connected: those that do are dropped (buffer_reset), and those
  // that come, as not_connected.
  virtual void give_up_guest(PortId port) = 0;

  // Of a guest port: how much may wait for it. Whatever waits stays.
  virtual void set_buffer(PortId port, const BufferConfig& config) = 0;
  [[nodiscard]] virtual BufferState buffer_state(PortId port) const = 0;
  // For all buffers together. A limit below what is used takes nothing away. Errors: invalid (too large), no_resource.
  [[nodiscard]] virtual Result<void> set_buffer_limit(std::uint64_t bytes) = 0;
  [[nodiscard]] virtual BufferUse buffer_use() const = 0;
  // After buffer_use().to_release: gives memory that no frame needs any more back to the kernel.
  virtual void release_buffers() = 0;

  // Hands a port of the layout over to worker `worker`, less than worker_stats().size(): no frame is lost or overtaken.
  virtual void move_port(PortId port, unsigned worker) = 0;
  // The worker that has the port; nothing for a port in no switch.
  [[nodiscard]] virtual std::optional<unsigned> worker_of(PortId port) const = 0;
  // Replaces the layout. Each frame is judged wholly by the old or wholly by the new one.
  virtual void publish(const Layout& layout) = 0;

  [[nodiscard]] virtual PortCounters counters(PortId port) const = 0;
  [[nodiscard]] virtual PortFault fault(PortId port) const = 0;
  [[nodiscard]] virtual PortLearning learning(PortId port) const = 0;
  // What the switch `name` of the layout has learned and not forgotten, sorted by VLAN and address.
  [[nodiscard]] virtual std::vector<LearnedAddress> learned_addresses(const std::string& name) const = 0;
  // Nothing for a port that DPDK does not drive.
  [[nodiscard]] virtual std::optional<DeviceState> device_state(PortId port) const = 0;
  [[nodiscard]] virtual std::vector<WorkerStats> worker_stats() const = 0;
  // Becomes readable when some port's fault(), the carrier in its device_state(), or buffer_use().to_release changed. Read
  // eight bytes from it to reset it.
  [[nodiscard]] virtual int event_fd() const = 0;
};

}  // namespace patchbay::dataplane
