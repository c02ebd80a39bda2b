// A pool of mbufs: the owner of one rte_mempool.
//
// Theory  All memory is taken when the pool is made, from DPDK's heap: huge pages where there are some, else from the
//         64 MB of ordinary memory that DPDK was started with.
// Limits  As many mbufs as it was made with; each holds `room_bytes` of a frame.
// Threads create() and destruction: control. What is in it: one worker.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

struct rte_mempool;

namespace patchbay::dataplane::dpdk {

class MbufPool {
 public:
  // `owner` names the object in messages. Errors: no_resource.
  [[nodiscard]] static Result<MbufPool> create(const std::string& owner, unsigned count, std::uint16_t room_bytes);
  [[nodiscard]] rte_mempool* get() const noexcept { return pool_.get(); }

 private:
  struct Deleter {
    void operator()(rte_mempool* pool) const noexcept;
  };
  explicit MbufPool(rte_mempool* pool) noexcept : pool_(pool) {}
  std::unique_ptr<rte_mempool, Deleter> pool_;
};

}  // namespace patchbay::dataplane::dpdk
