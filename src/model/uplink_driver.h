// How the frames of a NIC are moved: by packet sockets, by AF_XDP sockets, or by DPDK. What the administrator asks for, and what is
// chosen for a NIC, and why.
//
// Theory  choose_driver() is a pure function from what is known about the NIC to a list of attempts, for some things show
//         only when they are tried: whether the driver takes a program with this MTU, whether somebody else has one there.
//         AF_XDP has no place for a VLAN tag beside the frame, so a NIC qualifies only if stripping can be off, and virtual
//         devices never do: their peers keep tags beside frames whatever ethtool says. `auto` takes AF_XDP only where the
//         driver runs the program itself: the kernel's generic mode first makes a packet of each frame, so that packet
//         sockets, which then need no further copy of tags and checksums, are no slower. A NIC without an interface is a PCI
//         device: nothing but DPDK can move its frames.
// Threads pure functions.
// Source  Linux Documentation/networking/af_xdp.rst; drivers/net/ethernet of Linux 6.1 for the list of drivers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/nic.h"

namespace patchbay::model {

enum class UplinkDriver : std::uint8_t { auto_, packet, xdp, dpdk };  // dpdk is never asked for: the NIC's name says it
[[nodiscard]] const char* to_string(UplinkDriver driver) noexcept;    // "auto", "packet", "xdp", "dpdk"

inline constexpr unsigned xdp_queues_max = 64;
// A chunk of 4096 bytes, less 256 that the kernel keeps before a frame, 320 that drivers keep behind it, the Ethernet
// header and a tag.
inline constexpr std::uint32_t xdp_mtu_max = 4096 - 256 - 320 - 14 - 4;

struct DriverPlan {
  UplinkDriver driver = UplinkDriver::packet;  // packet, xdp or dpdk
  bool native = false;                         // xdp: in the NIC's driver, else in the kernel's generic code
  bool multi_buffer = false;                   // xdp: frames over several chunks
  unsigned queues = 0;                         // xdp: sockets, one a queue
  friend bool operator==(const DriverPlan&, const DriverPlan&) = default;
};
struct DriverAttempt {
  DriverPlan plan;
  std::string reason;  // why this one: a phrase for people
  friend bool operator==(const DriverAttempt&, const DriverAttempt&) = default;
};
struct DriverChoice {
  std::vector<DriverAttempt> attempts;  // the first that can be opened counts
  std::string refusal;                  // if there are none: a sentence that names the NIC and the way out
  friend bool operator==(const DriverChoice&, const DriverChoice&) = default;
};

[[nodiscard]] DriverChoice choose_driver(UplinkDriver asked, const Nic& nic);

// Whether both lead to the same attempts, whatever their reasons.
[[nodiscard]] bool same_plans(const DriverChoice& one, const DriverChoice& other);

}  // namespace patchbay::model
