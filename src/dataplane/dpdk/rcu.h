// Grace periods: control waits until no worker can hold what it has just taken out of sight.
//
// Theory  DPDK's quiescent-state based reclamation. A worker says quiescent() once a pass, when it holds nothing; while
//         it sleeps it is offline and nobody waits for it.
// Limits  readers_max workers.
// Threads Reader: its worker. synchronize(): control, which must not hold a lock that a worker takes.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "dataplane/dpdk/eal.h"

struct rte_rcu_qsbr;

namespace patchbay::dataplane::dpdk {

class Rcu {
 public:
  static constexpr unsigned readers_max = 64;

  // Errors: no_resource.
  [[nodiscard]] static Result<Rcu> create(const Eal* eal);

  // Called by reader number `reader` (less than readers_max), each on its own thread.
  void register_reader(unsigned reader) noexcept;    // and online
  void unregister_reader(unsigned reader) noexcept;  // and offline
  void online(unsigned reader) noexcept;
  void offline(unsigned reader) noexcept;
  void quiescent(unsigned reader) noexcept;

  // Returns when every reader that is online has been quiescent since the call.
  void synchronize() noexcept;

 private:
  explicit Rcu(Memory memory) noexcept : memory_(std::move(memory)) {}
  [[nodiscard]] rte_rcu_qsbr* state() const noexcept { return static_cast<rte_rcu_qsbr*>(memory_.get()); }
  Memory memory_;
};

}  // namespace patchbay::dataplane::dpdk
