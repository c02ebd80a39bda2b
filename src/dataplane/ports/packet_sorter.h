// The kernel sorts what comes in at a NIC into several packet rings, by address and VLAN.
//
// Theory  The rings' sockets are one fanout group, and a BPF program says for each frame which of them gets it: it looks
//         address and VLAN up in a map. What is not in the map is for ring 0, the default one. An entry of the map is
//         changed as a whole, so a frame is sorted by the filter before or by the one after, and into one ring only.
//         A group numbers its sockets in the order in which they came, and closes the gap when one goes. So rings stay
//         until the NIC is let go, and are given out again.
//         The program is 20 instructions, loaded as they stand: it needs no compiler and no object files at run time.
// Limits  queues_max rings beside ring 0.
// Threads control's.
// Source  packet(7), PACKET_FANOUT; bpf(2).
#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

class PacketSorter {
 public:
  static constexpr std::uint32_t queues_max = 64;

  // Errors: unavailable (no such thing in this kernel, no permission).
  [[nodiscard]] static Result<PacketSorter> create(const std::string& nic);

  // The socket, which is bound to the NIC, gets the frames of the next number from now on: 0 for the first one.
  // Errors: unavailable.
  [[nodiscard]] Result<std::uint32_t> add(int socket);
  // Frames that `filter` names go to `ring`. Errors: no_resource, unavailable.
  [[nodiscard]] Result<void> set(const QueueFilter& filter, std::uint32_t ring);
  // And to ring 0 again. From its return on, as from that of set(), none is on its way to the ring before.
  void clear(const QueueFilter& filter) noexcept;

 private:
  explicit PacketSorter(std::string nic) : nic_(std::move(nic)) {}

  std::string nic_;
  UniqueFd rings_;  // map: address and VLAN to ring
  UniqueFd program_;
  std::uint16_t group_ = 0;
  int flags_ = 0;
  std::uint32_t count_ = 0;  // sockets in the group
};

// Sockets that are bound, and hear nothing until they are in a group.
[[nodiscard]] bool silence_socket(int fd) noexcept;

}  // namespace patchbay::dataplane
