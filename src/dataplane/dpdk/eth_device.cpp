// Notice of a device's removal is part of DPDK's experimental interface, and nowhere else to be had.
#define ALLOW_EXPERIMENTAL_API
#include "dataplane/dpdk/eth_device.h"

#include <fmt/format.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_vfio.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>

#include "dataplane/dpdk/vmdq_pools.h"

namespace patchbay::dataplane::dpdk {
namespace {

constexpr std::uint16_t transmit_queue = 0;  // the one that is used
constexpr std::uint16_t mtu_wished = 9000;
constexpr std::uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + 2 * RTE_VLAN_HLEN;
constexpr std::uint16_t room_usual = RTE_MBUF_DEFAULT_DATAROOM;
// Both rings full, a burst in the worker's hands each way, and what a burst of large frames is being copied into.
constexpr unsigned mbufs = EthDevice::receive_descriptors + EthDevice::transmit_descriptors + 512;
// The ring full, what a worker takes in one pass, and a burst of large frames.
constexpr unsigned queue_mbufs = EthDevice::queue_descriptors + 512;

constexpr std::uint64_t checksums = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
constexpr std::uint64_t cutting =
    RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
constexpr std::uint16_t piece_mbufs = 65536 / (room_usual - RTE_PKTMBUF_HEADROOM) + 2;

static_assert(vmdq::pools <= EthDevice::queues_max);

// Those of these offloads that the device has; pieces of 64 KB lie in many mbufs.
std::uint64_t transmit_offloads_of(const rte_eth_dev_info& info) noexcept {
  if ((info.tx_offload_capa & checksums) != checksums) return 0;
  const std::uint16_t mbufs_max = info.tx_desc_lim.nb_seg_max;  // 0: the driver does not say
  const bool cuts = (info.tx_offload_capa & cutting) == cutting && (mbufs_max == 0 || mbufs_max >= piece_mbufs);
  return checksums | (cuts ? cutting : 0);
}

int on_link_event(std::uint16_t port, rte_eth_event_type, void* listener, void*) {
  rte_eth_link link = {};
  if (rte_eth_link_get_nowait(port, &link) != 0) return 0;
  static_cast<EthDevice::Listener*>(listener)->on_link_changed(link.link_status == RTE_ETH_LINK_UP);
  return 0;
}

int on_removal_event(std::uint16_t, rte_eth_event_type, void* listener, void*) {
  static_cast<EthDevice::Listener*>(listener)->on_device_gone();
  return 0;
}

void on_device_event(const char*, rte_dev_event_type event, void* listener) {
  if (event == RTE_DEV_EVENT_REMOVE) static_cast<EthDevice::Listener*>(listener)->on_device_gone();
}

// 0, or a negative errno value: DPDK has both ways to say what went wrong.
int error_of(int result) noexcept {
  if (result >= 0) return 0;
  return result == -1 && rte_errno != 0 ? rte_errno : -result;
}

}  // namespace

tl::unexpected<Error> EthDevice::failed(const char* what, int error) const {
  const bool memory = error == ENOMEM;
  return fail(memory ? ErrorCode::no_resource : ErrorCode::unavailable,
              fmt::format("nic {}: {} failed: {}", address_, what, rte_strerror(error)));
}

Result<std::unique_ptr<EthDevice>> EthDevice::create(const Eal& eal, const std::string& address, Listener& listener) {
  if (!eal.has_devices()) {
    return fail(ErrorCode::unavailable,
                fmt::format("nic {}: DPDK's support for PCI devices is not installed: install the DPDK drivers "
                            "(package libdpdk-dev, or librte-meta-all) and start patchbayd again",
                            address));
  }
  std::unique_ptr<EthDevice> device(new EthDevice(address, listener));
  if (auto ok = device->probe(); !ok) return fail(ok.error());
  if (auto ok = device->set_up(); !ok) return fail(ok.error());
  return device;
}

Result<void> EthDevice::probe() {
  // DPDK looks for VFIO once, when it starts; its modules may have been loaded since.
  if (rte_vfio_is_enabled("vfio") == 0) static_cast<void>(rte_vfio_enable("vfio"));
  const int probed = rte_dev_probe(address_.c_str());
  if (probed != 0 || rte_eth_dev_get_port_by_name(name().c_str(), &port_) != 0) {
    return fail(
        ErrorCode::unavailable,
        fmt::format("nic {}: DPDK cannot open it ({}); it must be bound to vfio-pci, be of a kind that DPDK has "
                    "a driver for, and be used by no other program: see the log and docs/operations/dpdk-nic.md",
                    address_, rte_strerror(probed < 0 ? -probed : ENODEV)));
  }
  rte_eth_dev_info info = {};
  if (const int error = rte_eth_dev_info_get(port_, &info); error != 0) {
    return failed("asking for its properties", error_of(error));
  }
  device_ = info.device;
  return {};
}

Result<void> EthDevice::set_up() {
  rte_eth_dev_info info = {};
  if (const int error = rte_eth_dev_info_get(port_, &info); error != 0) {
    return failed("asking for its properties", error_of(error));
  }
  driver_ = info.driver_name;
  rte_ether_addr mac = {};
  if (rte_eth_macaddr_get(port_, &mac) == 0) mac_ = MacAddr::from_wire(mac.addr_bytes);
  mtu_ = std::min({mtu_wished, info.max_mtu});
  if (info.max_rx_pktlen > overhead) {
    mtu_ = static_cast<std::uint16_t>(std::min<std::uint32_t>(mtu_, info.max_rx_pktlen - overhead));
  }
  scatters_ = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) != 0 &&
              (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
  room_ = scatters_ ? room_usual : static_cast<std::uint16_t>(std::max<std::uint32_t>(room_usual, mtu_ + overhead));
  auto pool = MbufPool::create(address_, mbufs, room_);
  if (!pool) return fail(pool.error());
  pool_.emplace(std::move(*pool));
  listen();
  has_pools_ = vmdq::is_known(info);
  if (!has_pools_ && try_flow_rules(info.max_rx_queues)) return {};
  return run(1, false);
}

bool EthDevice::try_flow_rules(std::uint16_t queues_of_device) {
  if (queues_of_device < 2) {
    why_software_ = "it has one receive queue";
    return false;
  }
  if (!FlowRules::are_known(port_)) {
    why_software_ = "it has no flow rules";
    return false;
  }
  if (auto ok = run(FlowRules::queues_for(driver_, queues_of_device), false); !ok) {
    why_software_ = "it does not run with several receive queues: " + ok.error().message;
  } else {
    rules_.emplace(port_, driver_);
    why_software_ = rules_->start();
    if (why_software_.empty()) return true;
    rules_.reset();
  }
  static_cast<void>(rte_eth_dev_stop(port_));
  return false;
}

Result<void> EthDevice::run(std::uint16_t queues, bool pooled) {
  rte_eth_dev_info info = {};
  if (const int error = rte_eth_dev_info_get(port_, &info); error != 0) {
    return failed("asking for its properties", error_of(error));
  }
  while (queue_pools_.size() + 1U < queues) {
    auto pool = MbufPool::create(address_, queue_mbufs, room_);
    if (!pool) return fail(pool.error());
    queue_pools_.push_back(std::move(*pool));
  }
  const std::uint64_t offloads = transmit_offloads_of(info);
  auto ok = run(info, queues, pooled, offloads);
  if (ok || offloads == 0) return ok;
  static_cast<void>(rte_eth_dev_stop(port_));
  return run(info, queues, pooled, 0);
}

Result<void> EthDevice::run(const rte_eth_dev_info& info, std::uint16_t queues, bool pooled, std::uint64_t offloads) {
  if (auto ok = configure(info, queues, pooled, offloads); !ok) return ok;
  queue_pools_.erase(queue_pools_.begin() + (queues - 1), queue_pools_.end());  // of queues that it has no more
  if (auto ok = set_up_queues(info, pooled); !ok) return ok;
  if (auto ok = start(); !ok) return ok;
  if (!pooled) return {};
  if (const int error = vmdq::open_default_pool(port_); error != 0)
    return failed("setting its pools up", error_of(error));
  return {};
}

Result<void> EthDevice::configure(const rte_eth_dev_info& info, std::uint16_t queues, bool pooled,
                                  std::uint64_t offloads) {
  rte_eth_conf config = {};
  config.rxmode.mtu = mtu_;
  if (pooled) vmdq::configure(config);
  // A driver whose frames fit one mbuf may be faster; these may not fit.
  if (scatters_ && mtu_ + overhead > room_usual) {
    config.rxmode.offloads = RTE_ETH_RX_OFFLOAD_SCATTER;
    config.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  }
  config.txmode.offloads |= offloads;
  completes_checksums_ = (offloads & checksums) != 0;
  cuts_tcp_ = (offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO) != 0;
  tells_link_ = info.dev_flags != nullptr && (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
  config.intr_conf.lsc = tells_link_ ? 1 : 0;
  config.intr_conf.rmv = info.dev_flags != nullptr && (*info.dev_flags & RTE_ETH_DEV_INTR_RMV) != 0 ? 1 : 0;
  // Not every driver that has no receive interrupts says so here: the descriptor tells in the end.
  int error = -EINVAL;
  for (const std::uint16_t transmit : {std::uint16_t{1}, queues}) {
    for (const unsigned interrupts : {1U, 0U}) {
      if (error == 0) break;
      config.intr_conf.rxq = interrupts & 1;
      transmit_queues_ = transmit;
      error = rte_eth_dev_configure(port_, queues, transmit, &config);
    }
  }
  if (error != 0) return failed("its configuration", error_of(error));
  queues_ = queues;
  pooled_ = pooled;
  return {};
}

Result<void> EthDevice::set_up_queues(const rte_eth_dev_info& info, bool pooled) {
  const int node = rte_eth_dev_socket_id(port_);
  const auto socket = static_cast<unsigned>(node);  // -1: any
  rte_eth_rxconf receive = info.default_rxconf;
  receive.offloads = 0;
  if (pooled) receive.rx_drop_en = 1;  // a full queue does not hold up the others
  rte_eth_txconf transmit = info.default_txconf;
  transmit.offloads = 0;
  std::uint16_t transmit_size = transmit_descriptors;
  for (std::uint16_t queue = 0; queue < queues_; ++queue) {
    std::uint16_t size = queue == default_queue ? receive_descriptors : queue_descriptors;
    if (const int error = rte_eth_dev_adjust_nb_rx_tx_desc(port_, &size, &transmit_size); error != 0) {
      return failed("choosing the length of its rings", error_of(error));
    }
    rte_mempool* const mbuf_pool = queue == default_queue ? pool() : queue_pools_[queue - 1U].get();
    if (const int error = rte_eth_rx_queue_setup(port_, queue, size, socket, &receive, mbuf_pool); error != 0) {
      return failed("setting a receive queue up", error_of(error));
    }
  }
  for (std::uint16_t queue = 0; queue < transmit_queues_; ++queue) {
    if (const int error = rte_eth_tx_queue_setup(port_, queue, transmit_size, socket, &transmit); error != 0) {
      return failed("setting its transmit queue up", error_of(error));
    }
  }
  return {};
}

void EthDevice::listen() {
  rte_eth_dev_callback_register(port_, RTE_ETH_EVENT_INTR_LSC, on_link_event, &listener_);
  rte_eth_dev_callback_register(port_, RTE_ETH_EVENT_INTR_RMV, on_removal_event, &listener_);
  rte_dev_event_callback_register(name().c_str(), on_device_event, &listener_);
  listens_ = true;
}

void EthDevice::stop_listening() noexcept {
  // They refuse while DPDK's interrupt thread is inside of the callback, which takes a moment.
  while (rte_eth_dev_callback_unregister(port_, RTE_ETH_EVENT_INTR_LSC, on_link_event, &listener_) == -EAGAIN ||
         rte_eth_dev_callback_unregister(port_, RTE_ETH_EVENT_INTR_RMV, on_removal_event, &listener_) == -EAGAIN ||
         rte_dev_event_callback_unregister(name().c_str(), on_device_event, &listener_) == -EAGAIN) {
    sched_yield();
  }
  listens_ = false;
}

Result<void> EthDevice::start() {
  if (const int error = rte_eth_dev_start(port_); error != 0) return failed("starting it", error_of(error));
  // Drivers that receive everything anyway (rings, for one) have no switch for it.
  if (const int error = rte_eth_promiscuous_enable(port_); error != 0 && error != -ENOTSUP) {
    return failed("asking for all frames", error_of(error));
  }
  const int filters = rte_eth_dev_get_vlan_offload(port_);
  if (filters > 0 && (filters & RTE_ETH_VLAN_FILTER_OFFLOAD) != 0) {
    return fail(ErrorCode::unavailable,
                fmt::format("nic {}: its driver {} does not let go of its VLAN filter; use another NIC, or its kernel "
                            "driver",
                            address_, driver_));
  }
  for (std::uint16_t queue = 0; queue < queues_max; ++queue) {
    int& fd = interrupt_fds_[queue];
    fd = queue < queues_ ? rte_eth_dev_rx_intr_ctl_q_get_fd(port_, queue) : -1;
    // A descriptor alone is no proof that the driver can arm it.
    if (fd >= 0 && rte_eth_dev_rx_intr_enable(port_, queue) != 0) fd = -1;
    if (fd >= 0) disarm_interrupt(queue);
  }
  ++starts_;
  return {};
}

QueueAbility EthDevice::queue_ability() const {
  QueueAbility ability;
  if (rules_) {
    ability.sorting = QueueSorting::flow_rules;
    ability.queues = static_cast<std::uint16_t>(queues_ - 1);
    ability.reason = fmt::format("driver {} sorts by flow rules", driver_);
  } else if (has_pools_ && mtu_in_use() <= vmdq::mtu_max) {
    ability.sorting = QueueSorting::vmdq;
    ability.queues = vmdq::pools - 1;
    ability.restarts = true;
    ability.reason = fmt::format("driver {} sorts by address into pools, and has no flow rules for that", driver_);
  } else if (has_pools_) {
    ability.reason =
        fmt::format("driver {} has pools, and they take no frames larger than {} bytes: the switch's MTU is {}",
                    driver_, vmdq::mtu_max, mtu_in_use());
  } else {
    ability.reason = fmt::format("driver {}: {}", driver_, why_software_);
  }
  return ability;
}

Result<void> EthDevice::set_filter(std::uint16_t queue, const std::optional<QueueFilter>& filter) {
  if (filter == filters_[queue]) return {};
  auto done = rules_ ? set_flow_rule(queue, filter) : set_pool(queue, filter);
  filters_[queue] = done ? filter : std::nullopt;
  return done;
}

Result<void> EthDevice::set_flow_rule(std::uint16_t queue, const std::optional<QueueFilter>& filter) {
  rules_->clear(queue);
  if (!filter) return {};
  if (const std::string why = rules_->set(queue, *filter); !why.empty()) {
    return fail(ErrorCode::unavailable,
                fmt::format("nic {}: its driver {} refused the rule for a queue: {}", address_, driver_, why));
  }
  return {};
}

Result<void> EthDevice::set_pool(std::uint16_t queue, const std::optional<QueueFilter>& filter) {
  if (filters_[queue]) static_cast<void>(vmdq::remove(port_, filters_[queue]->mac));
  filters_[queue].reset();
  if (filter && filter->mac == mac_) {
    return fail(ErrorCode::unavailable,
                fmt::format("nic {}: {} is its own address, whose frames stay in its default queue", address_,
                            filter->mac.to_string()));
  }
  if (filter && queue_ability().sorting != QueueSorting::vmdq) {
    return fail(ErrorCode::unavailable, fmt::format("nic {}: {}", address_, queue_ability().reason));
  }
  if (!filter) return {};
  if (!pooled_) {
    if (auto ok = restart(vmdq::pools, true); !ok) return ok;
  }
  const int error = vmdq::add(port_, queue, filter->mac);
  if (error != 0) return failed("giving a queue its address", error_of(error));
  return {};
}

void EthDevice::set_switch_mtu(std::uint16_t mtu) {
  switch_mtu_ = mtu;
  if (!pooled_ || mtu_in_use() <= vmdq::mtu_max) return;
  for (auto& filter : filters_) {
    if (filter) static_cast<void>(vmdq::remove(port_, filter->mac));
    filter.reset();
  }
  static_cast<void>(restart(1, false));  // who listens is told if the device does not work any more
}

Result<void> EthDevice::restart(std::uint16_t queues, bool pooled) {
  static_cast<void>(rte_eth_dev_stop(port_));
  auto ok = run(queues, pooled);
  if (ok) return ok;
  // As it was, if that still works.
  static_cast<void>(rte_eth_dev_stop(port_));
  if (!run(1, false)) listener_.on_device_gone();
  return ok;
}

EthDevice::~EthDevice() {
  if (device_ == nullptr) return;
  if (listens_) stop_listening();
  static_cast<void>(rte_eth_dev_stop(port_));
  static_cast<void>(rte_eth_dev_close(port_));  // gives the mbufs in its rings back to the pool
  static_cast<void>(rte_dev_remove(device_));
}

std::size_t EthDevice::receive(std::uint16_t queue, std::span<rte_mbuf*> received) noexcept {
  if (queue >= queues_) return 0;
  return rte_eth_rx_burst(port_, queue, received.data(), static_cast<std::uint16_t>(received.size()));
}

std::size_t EthDevice::send(std::span<rte_mbuf*> sent) noexcept {
  return rte_eth_tx_burst(port_, transmit_queue, sent.data(), static_cast<std::uint16_t>(sent.size()));
}

std::size_t EthDevice::prepare(std::span<rte_mbuf*> sent) noexcept {
  return rte_eth_tx_prepare(port_, transmit_queue, sent.data(), static_cast<std::uint16_t>(sent.size()));
}

std::optional<bool> EthDevice::has_room(std::uint16_t frames) const noexcept {
  const int status = rte_eth_tx_descriptor_status(port_, transmit_queue, frames);
  if (status < 0) return std::nullopt;
  return status != RTE_ETH_TX_DESC_FULL;
}

void EthDevice::arm_interrupt(std::uint16_t queue) noexcept {
  static_cast<void>(rte_eth_dev_rx_intr_enable(port_, queue));
}

void EthDevice::disarm_interrupt(std::uint16_t queue) noexcept {
  static_cast<void>(rte_eth_dev_rx_intr_disable(port_, queue));
}

EthDevice::Link EthDevice::link() const noexcept {
  rte_eth_link link = {};
  if (rte_eth_link_get_nowait(port_, &link) != 0 || link.link_status != RTE_ETH_LINK_UP) return {};
  const bool known = link.link_speed != RTE_ETH_SPEED_NUM_NONE && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN;
  return {true, known ? std::optional(link.link_speed) : std::nullopt};
}

std::uint64_t EthDevice::missed() const noexcept {
  rte_eth_stats statistics = {};
  return rte_eth_stats_get(port_, &statistics) == 0 ? statistics.imissed + statistics.rx_nombuf : 0;
}

}  // namespace patchbay::dataplane::dpdk
