// Flow rules: who sorts frames into receive queues where the driver takes rules (rte_flow) for that.
//
// Theory  A rule names an address, and the VLAN if it is not 0; what no rule names has to arrive in the default queue, and in
//         no other. A driver that has the words for it is given a last rule that says so; of one that spreads frames by a hash
//         (RSS) the table of that hash is filled with the default queue.
// Limits  One rule a queue.
// Threads control's.
// Source  DPDK programmer's guide 22.11, "Generic flow API (rte_flow)".
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "dataplane/dataplane.h"

struct rte_flow;

namespace patchbay::dataplane::dpdk {

class FlowRules {
 public:
  static constexpr std::uint16_t queues_max = 8;  // the default one included

  // Whether the driver has rules at all; what they can is found out by start().
  [[nodiscard]] static bool are_known(std::uint16_t port) noexcept;
  // How many receive queues a device runs with that could have `most` of them.
  [[nodiscard]] static std::uint16_t queues_for(const std::string& driver, std::uint16_t most) noexcept;

  // Of a device that runs with several receive queues and without a hash of their own.
  FlowRules(std::uint16_t port, const std::string& driver) noexcept;
  // Sees to it that all frames arrive in the default queue, and tries what set() will ask for. Empty, or why rules cannot
  // sort here.
  [[nodiscard]] std::string start();
  // The queue has no rule. Empty, or what the driver said.
  [[nodiscard]] std::string set(std::uint16_t queue, const QueueFilter& filter);
  void clear(std::uint16_t queue) noexcept;

 private:
  [[nodiscard]] std::string send_rest_to_default_queue();  // empty, or what the driver said

  std::uint16_t port_;
  bool is_tap_;
  std::array<rte_flow*, queues_max> rules_{};
};

}  // namespace patchbay::dataplane::dpdk
