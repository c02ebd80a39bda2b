#include "model/uplink_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace patchbay::model {
namespace {

// Drivers of Linux 6.1 that run XDP programs and redirect what they say, by ethtool's name. Only igb was tried. Drivers that
// take a program but do not redirect (ixgbevf) must not be here: they would drop every frame.
constexpr std::array<std::string_view, 17> native_drivers = {
    "atlantic", "bnxt_en",   "ena",    "fsl_dpaa2_eth", "fsl_enetc", "i40e", "ice",     "igb",  "igc",
    "ixgbe",    "mlx5_core", "mvneta", "mvpp2",         "qede",      "sfc",  "st_gmac", "tsnep"};

bool runs_programs(const Nic& nic) {
  return std::find(native_drivers.begin(), native_drivers.end(), nic.driver) != native_drivers.end();
}

// Why AF_XDP must not be used on the NIC; empty if it may. `way_out` is added where there is one besides packet sockets.
std::string obstacle(const Nic& nic, std::string& way_out) {
  if (!nic.physical || nic.driver == "virtio_net") {
    return fmt::format("{} is a virtual device and loses VLAN tags over AF_XDP",
                       nic.driver.empty() ? nic.name : nic.driver);
  }
  for (const NicOffload offload : {NicOffload::rx_vlan, NicOffload::rx_vlan_stag}) {
    if (nic.offload(offload) != OffloadState::on_fixed) continue;
    return fmt::format("driver {} cannot switch {} off, and AF_XDP loses the VLAN tags that it takes out of the frames",
                       nic.driver, to_string(offload));
  }
  if (nic.offload(NicOffload::gro) == OffloadState::on_fixed) {
    return fmt::format("driver {} cannot switch {} off, and AF_XDP does not carry merged frames", nic.driver,
                       to_string(NicOffload::gro));
  }
  if (nic.queues == 0) return "the number of its receive queues is not known";
  if (nic.queues > xdp_queues_max) {
    way_out = fmt::format("`ethtool -L {} combined {}` gives it fewer, or ", nic.name, xdp_queues_max);
    return fmt::format("it has {} receive queues, and AF_XDP is used with at most {}", nic.queues, xdp_queues_max);
  }
  if (nic.mtu > xdp_mtu_max && !nic.xdp_multi_buffer) {
    way_out = fmt::format("`ip link set {} mtu {}` makes it smaller, or ", nic.name, xdp_mtu_max);
    return fmt::format("its mtu {} is larger than {}, the most that fits an AF_XDP buffer before Linux 6.6", nic.mtu,
                       xdp_mtu_max);
  }
  return "";
}

DriverAttempt xdp(const Nic& nic, bool native) {
  const bool multi_buffer = nic.mtu > xdp_mtu_max;
  const std::string where =
      native ? fmt::format("in driver {}", nic.driver)
             : fmt::format("in generic mode, for driver {} is not known to run XDP programs itself", nic.driver);
  return {{UplinkDriver::xdp, native, multi_buffer, nic.queues},
          fmt::format("AF_XDP {}, {} queue{}{}", where, nic.queues, nic.queues == 1 ? "" : "s",
                      multi_buffer ? fmt::format(", mtu {} over several buffers", nic.mtu) : "")};
}

DriverAttempt packet(std::string reason) {
  return {{UplinkDriver::packet}, std::move(reason)};
}

DriverChoice choose_for_device(UplinkDriver asked, const Nic& nic) {
  if (asked == UplinkDriver::auto_) {
    return {{{{UplinkDriver::dpdk}, "a PCI device that the kernel does not drive"}}, ""};
  }
  return {{},
          fmt::format("nic {}: driver {} is not possible: DPDK drives PCI devices, and the kernel has no interface for "
                      "this one; use --driver auto, or bind it to its network driver and give that interface's name",
                      nic.name, to_string(asked))};
}

}  // namespace

const char* to_string(UplinkDriver driver) noexcept {
  switch (driver) {
    case UplinkDriver::auto_:
      return "auto";
    case UplinkDriver::packet:
      return "packet";
    case UplinkDriver::xdp:
      return "xdp";
    case UplinkDriver::dpdk:
      return "dpdk";
  }
  return "?";
}

DriverChoice choose_driver(UplinkDriver asked, const Nic& nic) {
  if (!nic.has_interface()) return choose_for_device(asked, nic);
  if (asked == UplinkDriver::packet) return {{packet("asked for with --driver packet")}, ""};
  std::string way_out;
  const std::string why_not = obstacle(nic, way_out);
  const bool native = runs_programs(nic);
  if (asked == UplinkDriver::xdp) {
    if (!why_not.empty()) {
      return {{},
              fmt::format("nic {}: driver xdp is not possible: {}; {}use --driver packet or auto", nic.name, why_not,
                          way_out)};
    }
    if (!native) return {{xdp(nic, false)}, ""};
    DriverAttempt generic = xdp(nic, false);
    generic.reason = "AF_XDP in generic mode";
    return {{xdp(nic, true), std::move(generic)}, ""};
  }
  if (!why_not.empty()) return {{packet(why_not)}, ""};
  if (!native) {
    return {{packet(fmt::format("driver {} is not known to run XDP programs itself, and AF_XDP in generic mode is no "
                                "faster",
                                nic.driver))},
            ""};
  }
  return {{xdp(nic, true), packet("AF_XDP could not be opened")}, ""};
}

bool same_plans(const DriverChoice& one, const DriverChoice& other) {
  return std::equal(one.attempts.begin(), one.attempts.end(), other.attempts.begin(), other.attempts.end(),
                    [](const DriverAttempt& a, const DriverAttempt& b) { return a.plan == b.plan; });
}

}  // namespace patchbay::model
