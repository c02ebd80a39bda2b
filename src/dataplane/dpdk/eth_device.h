// A DPDK Ethernet device: the owner of one ethdev port, from the probe of its hardware to giving that back.
//
// Theory  A device is probed when a switch asks for it and removed when the switch lets go: DPDK takes nothing by
//         itself (eal.h). It runs with one transmit queue and its largest MTU up to 9000; the switch checks its own,
//         smaller one. Frames larger than an mbuf come and go in several where the driver can do that, else mbufs are
//         large enough. Tags stay in the frames, unless the driver's pools take them out (they are beside the mbuf then).
//         Checksums and the cutting of TCP are left to the device where its driver can, and does not refuse to be set up so.
//         Receive interrupts are used where the driver has them; so are those that tell of the link.
// Queues  Number 0 is the default one and gets all frames that no filter names. The others, if the device can sort, get those
//         of their filter: by flow rules (flow_rules.h), or by pools (vmdq_pools.h). Pools are switched on with the first
//         filter, and off when the switch's MTU is too large for them: that stops and starts the device, and all workers
//         rest meanwhile.
// Limits  receive_descriptors frames between two polls in the default queue, queue_descriptors in the others; beyond them
//         the device drops.
// Threads create(), destruction, link(), statistics, filters: control. Bursts and receive interrupts of a queue: one worker
//         each. The listener is called by DPDK's interrupt thread.
// Source  DPDK programmer's guide 22.11, "Poll Mode Driver", "Hotplug"; rte_ethdev.h.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "base/result.h"
#include "dataplane/dataplane.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/flow_rules.h"
#include "dataplane/dpdk/mbuf_pool.h"

struct rte_device;
struct rte_eth_conf;
struct rte_eth_dev_info;
struct rte_mbuf;

namespace patchbay::dataplane::dpdk {

class EthDevice {
 public:
  static constexpr std::uint16_t receive_descriptors = 1024;
  static constexpr std::uint16_t transmit_descriptors = 1024;
  static constexpr std::uint16_t queue_descriptors = 512;
  static constexpr std::uint16_t default_queue = 0;
  static constexpr std::uint16_t queues_max = FlowRules::queues_max;

  class Listener {
   public:
    virtual void on_link_changed(bool up) noexcept = 0;
    virtual void on_device_gone() noexcept = 0;  // it stops working, now or soon: close it

   protected:
    ~Listener() = default;
  };
  struct Link {
    bool up = false;
    std::optional<std::uint32_t> speed_mbps;  // nothing if down or unknown
  };

  // `address`: what DPDK probes, as "0000:01:00.0" or, of a device that is none of PCI, "net_tap0,iface=t0". The listener
  // outlives the device.
  // Errors: unavailable (DPDK cannot open it: not bound to vfio-pci, in use, no driver), no_resource, invalid.
  [[nodiscard]] static Result<std::unique_ptr<EthDevice>> create(const Eal& eal, const std::string& address,
                                                                 Listener& listener);
  // No worker uses it any more. The device can then be bound to another driver, or opened again.
  ~EthDevice();
  EthDevice(const EthDevice&) = delete;
  EthDevice& operator=(const EthDevice&) = delete;

  // The worker's. Mbufs that are received belong to the caller; those that are sent, to the device.
  [[nodiscard]] std::size_t receive(std::uint16_t queue, std::span<rte_mbuf*> mbufs) noexcept;
  [[nodiscard]] std::size_t send(std::span<rte_mbuf*> mbufs) noexcept;
  // Before send(), of mbufs that leave something to the device: how many of the first ones it can send.
  [[nodiscard]] std::size_t prepare(std::span<rte_mbuf*> mbufs) noexcept;
  // What frames may leave to it, behind Ethernet and IP without extensions: checksums of TCP and UDP; and the cutting of
  // large pieces of TCP.
  [[nodiscard]] bool completes_checksums() const noexcept { return completes_checksums_; }
  [[nodiscard]] bool cuts_tcp() const noexcept { return cuts_tcp_; }
  // Whether `frames` more would fit the transmit queue, as far as the driver tells; nothing if it does not.
  [[nodiscard]] std::optional<bool> has_room(std::uint16_t frames) const noexcept;
  // Becomes readable, edge by edge, when a frame arrives while interrupts are armed. -1: no receive interrupts.
  // A restart gives all queues others.
  [[nodiscard]] int interrupt_fd(std::uint16_t queue) const noexcept { return interrupt_fds_[queue]; }
  void arm_interrupt(std::uint16_t queue) noexcept;
  void disarm_interrupt(std::uint16_t queue) noexcept;

  // What it can with a switch of this MTU on it; until it is told of one, with the largest.
  [[nodiscard]] QueueAbility queue_ability() const;
  // One that is too large for the pools takes all filters away.
  void set_switch_mtu(std::uint16_t mtu);
  // Of a queue that is not the default one. Errors: unavailable, no_resource: it has no filter then.
  [[nodiscard]] Result<void> set_filter(std::uint16_t queue, const std::optional<QueueFilter>& filter);
  // How often it was started.
  [[nodiscard]] unsigned starts() const noexcept { return starts_; }
  // Frames for groups of stations lie in every queue, and count in the default one only.
  [[nodiscard]] bool replicates() const noexcept { return pooled_; }

  [[nodiscard]] const std::string& address() const noexcept { return address_; }
  // For frames that leave, and those of the default queue; the others have pools of their own.
  [[nodiscard]] rte_mempool* pool() const noexcept { return pool_->get(); }
  [[nodiscard]] const std::string& driver() const noexcept { return driver_; }  // "net_e1000_igb"
  [[nodiscard]] const MacAddr& mac() const noexcept { return mac_; }
  [[nodiscard]] std::uint16_t mtu() const noexcept { return mtu_; }  // layer 3 bytes
  // Without interrupts of the link nobody tells when it changes: it is asked for each time.
  [[nodiscard]] bool tells_link() const noexcept { return tells_link_; }
  [[nodiscard]] Link link() const noexcept;
  // Frames that the device had no descriptor for.
  [[nodiscard]] std::uint64_t missed() const noexcept;

 private:
  EthDevice(std::string address, Listener& listener) : address_(std::move(address)), listener_(listener) {}
  [[nodiscard]] Result<void> probe();
  [[nodiscard]] Result<void> set_up();
  // With so many receive queues, and transmit offloads if the device runs with them. It is stopped, or was never started.
  [[nodiscard]] Result<void> run(std::uint16_t queues, bool pooled);
  [[nodiscard]] Result<void> run(const rte_eth_dev_info& info, std::uint16_t queues, bool pooled,
                                 std::uint64_t offloads);
  [[nodiscard]] Result<void> configure(const rte_eth_dev_info& info, std::uint16_t queues, bool pooled,
                                       std::uint64_t offloads);
  [[nodiscard]] Result<void> set_up_queues(const rte_eth_dev_info& info, bool pooled);
  [[nodiscard]] Result<void> start();
  // Whether flow rules can sort; else it says why not in `why_software_`.
  [[nodiscard]] bool try_flow_rules(std::uint16_t queues_of_device);
  [[nodiscard]] Result<void> restart(std::uint16_t queues, bool pooled);
  [[nodiscard]] std::uint16_t mtu_in_use() const noexcept { return std::min(switch_mtu_, mtu_); }
  [[nodiscard]] Result<void> set_flow_rule(std::uint16_t queue, const std::optional<QueueFilter>& filter);
  [[nodiscard]] Result<void> set_pool(std::uint16_t queue, const std::optional<QueueFilter>& filter);
  void listen();
  void stop_listening() noexcept;
  [[nodiscard]] tl::unexpected<Error> failed(const char* what, int error) const;
  [[nodiscard]] std::string name() const { return address_.substr(0, address_.find(',')); }

  const std::string address_;
  Listener& listener_;
  std::optional<MbufPool> pool_;
  std::vector<MbufPool> queue_pools_;  // of the queues that are not the default one
  rte_device* device_ = nullptr;       // probed
  std::uint16_t port_ = 0;
  std::string driver_;
  MacAddr mac_;
  std::uint16_t mtu_ = 0;
  bool scatters_ = false;  // frames may lie in several mbufs, both ways
  bool completes_checksums_ = false;
  bool cuts_tcp_ = false;
  bool tells_link_ = false;
  bool listens_ = false;
  std::uint16_t room_ = 0;  // of an mbuf
  std::array<int, queues_max> interrupt_fds_{-1, -1, -1, -1, -1, -1, -1, -1};

  std::optional<FlowRules> rules_;  // nothing: no flow rules
  bool has_pools_ = false;
  std::string why_software_;
  std::uint16_t switch_mtu_ = 0xFFFF;
  std::uint16_t queues_ = 1;           // that it runs with
  std::uint16_t transmit_queues_ = 1;  // the first is used: some drivers want as many as receive queues
  bool pooled_ = false;                // it runs with pools
  unsigned starts_ = 0;
  std::array<std::optional<QueueFilter>, queues_max> filters_;
};

}  // namespace patchbay::dataplane::dpdk
