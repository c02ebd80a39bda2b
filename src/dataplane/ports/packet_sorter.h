// The kernel sorts what comes in at a NIC into several packet rings, by address and VLAN.
//
// Theory  The rings' sockets are one fanout group, and a BPF program says for each frame which of them gets it. It compares
//         address and VLAN with each filter in turn, one instruction a filter that does not match; what none names is for
//         ring 0, the default one. A change of filters is a new program, which replaces the old one as a whole: a frame is
//         sorted by the filters before or by those after, and into one ring only. It is classic BPF, as socket filters are,
//         which asks for no right beyond packet sockets.
//         A group numbers its sockets in the order in which they came, and closes the gap when one goes. So rings stay
//         until the NIC is let go, and are given out again.
// Limits  queues_max rings beside ring 0.
// Threads control's.
// Source  packet(7), PACKET_FANOUT; Linux Documentation/networking/filter.rst.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

class PacketSorter {
 public:
  static constexpr std::uint32_t queues_max = 64;

  explicit PacketSorter(std::string nic) : nic_(std::move(nic)) {}

  // The socket, which is bound to the NIC, gets the frames of the next number from now on: 0 for the first one, which
  // lasts as long as this. Errors: unavailable.
  [[nodiscard]] Result<std::uint32_t> add(int socket);
  // Frames that `filter` names go to `ring`. From its return on, as from that of clear(), none is on its way to the ring
  // before. Errors: no_resource, unavailable: then all is as it was.
  [[nodiscard]] Result<void> set(const QueueFilter& filter, std::uint32_t ring);
  void clear(const QueueFilter& filter) noexcept;

 private:
  struct Entry {
    QueueFilter filter;
    std::uint32_t ring = 0;
  };
  [[nodiscard]] bool load(const std::vector<Entry>& entries) const noexcept;

  std::string nic_;
  std::vector<Entry> entries_;
  int first_ = -1;  // the socket of ring 0
  std::uint16_t group_ = 0;
  int flags_ = 0;
  std::uint32_t count_ = 0;  // sockets in the group
};

// Sockets that are bound, and hear nothing until they are in a group.
[[nodiscard]] bool silence_socket(int fd) noexcept;

}  // namespace patchbay::dataplane
