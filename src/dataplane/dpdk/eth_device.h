// A DPDK Ethernet device: the owner of one ethdev port, from the probe of its hardware to giving that back.
//
// Theory  A device is probed when a switch asks for it and removed when the switch lets go: DPDK takes nothing by
//         itself (eal.h). It runs with one receive and one transmit queue and its largest MTU up to 9000; the switch
//         checks its own, smaller one. Frames larger than an mbuf come and go in several where the driver can do that,
//         else mbufs are large enough. Tags stay in the frames. Checksums and segments are left to nobody.
//         Receive interrupts are used where the driver has them; so are those that tell of the link.
// Limits  receive_descriptors frames between two polls; beyond them the device drops.
// Threads create(), destruction, link(), statistics: control. Bursts and receive interrupts: one worker. The listener is
//         called by DPDK's interrupt thread.
// Source  DPDK programmer's guide 22.11, "Poll Mode Driver", "Hotplug"; rte_ethdev.h.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/mac_addr.h"
#include "base/result.h"
#include "dataplane/dpdk/eal.h"
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

  // `address`: what DPDK probes, as "0000:01:00.0". The listener outlives the device.
  // Errors: unavailable (DPDK cannot open it: not bound to vfio-pci, in use, no driver), no_resource, invalid.
  [[nodiscard]] static Result<std::unique_ptr<EthDevice>> create(const Eal& eal, const std::string& address,
                                                                 Listener& listener);
  // No worker uses it any more. The device can then be bound to another driver, or opened again.
  ~EthDevice();
  EthDevice(const EthDevice&) = delete;
  EthDevice& operator=(const EthDevice&) = delete;

  // The worker's. Mbufs that are received belong to the caller; those that are sent, to the device.
  [[nodiscard]] std::size_t receive(std::span<rte_mbuf*> mbufs) noexcept;
  [[nodiscard]] std::size_t send(std::span<rte_mbuf*> mbufs) noexcept;
  // Whether `frames` more would fit the transmit queue, as far as the driver tells; nothing if it does not.
  [[nodiscard]] std::optional<bool> has_room(std::uint16_t frames) const noexcept;
  // Becomes readable, edge by edge, when a frame arrives while interrupts are armed. -1: no receive interrupts.
  [[nodiscard]] int interrupt_fd() const noexcept { return interrupt_fd_; }
  void arm_interrupt() noexcept;
  void disarm_interrupt() noexcept;

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
  [[nodiscard]] Result<void> configure(const rte_eth_dev_info& info);
  [[nodiscard]] Result<void> set_up_queues(const rte_eth_dev_info& info);
  [[nodiscard]] Result<void> start();
  void listen();
  void stop_listening() noexcept;
  [[nodiscard]] tl::unexpected<Error> failed(const char* what, int error) const;

  const std::string address_;
  Listener& listener_;
  std::optional<MbufPool> pool_;
  rte_device* device_ = nullptr;  // probed
  std::uint16_t port_ = 0;
  std::string driver_;
  MacAddr mac_;
  std::uint16_t mtu_ = 0;
  bool scatters_ = false;  // frames may lie in several mbufs, both ways
  bool tells_link_ = false;
  bool listens_ = false;
  int interrupt_fd_ = -1;
};

}  // namespace patchbay::dataplane::dpdk
