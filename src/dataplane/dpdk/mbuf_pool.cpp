#include "dataplane/dpdk/mbuf_pool.h"

#include <fmt/format.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#include <atomic>

namespace patchbay::dataplane::dpdk {

void MbufPool::Deleter::operator()(rte_mempool* pool) const noexcept {
  rte_mempool_free(pool);
}

Result<MbufPool> MbufPool::create(const std::string& owner, unsigned count, std::uint16_t room_bytes) {
  static std::atomic<unsigned> made = 0;  // names of pools are unique in a process, and shorter than those of NICs
  // No cache: the worker is no thread of DPDK's, which are the only ones that caches are for.
  rte_mempool* const pool =
      rte_pktmbuf_pool_create(fmt::format("mbufs_{}", made.fetch_add(1)).c_str(), count, 0, 0,
                              static_cast<std::uint16_t>(room_bytes + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
  if (pool == nullptr) {
    return fail(ErrorCode::no_resource,
                fmt::format("nic {}: no memory for {} buffers of {} bytes ({}): give the host huge pages (sysctl "
                            "vm.nr_hugepages) and start patchbayd again",
                            owner, count, room_bytes, rte_strerror(rte_errno)));
  }
  return MbufPool(pool);
}

}  // namespace patchbay::dataplane::dpdk
