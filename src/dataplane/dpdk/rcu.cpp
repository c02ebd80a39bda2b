#include "dataplane/dpdk/rcu.h"

#include <rte_rcu_qsbr.h>

#if defined(__SANITIZE_THREAD__)
#define PATCHBAY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PATCHBAY_TSAN 1
#endif
#endif

#ifdef PATCHBAY_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace patchbay::dataplane::dpdk {
namespace {

// rte_rcu_qsbr_thread_online() stores its counter relaxed, after a fence that the thread sanitizer does not model: it
// would miss that what a reader did before it went offline happened before synchronize() returned. These say so.
void readers_past(void* state) noexcept {
#ifdef PATCHBAY_TSAN
  __tsan_release(state);
#else
  static_cast<void>(state);
#endif
}
void wait_for_readers_past(void* state) noexcept {
#ifdef PATCHBAY_TSAN
  __tsan_acquire(state);
#else
  static_cast<void>(state);
#endif
}

}  // namespace

Result<Rcu> Rcu::create(const Eal* eal) {
  Memory memory = Memory::create(eal, rte_rcu_qsbr_get_memsize(readers_max));
  if (memory.get() == nullptr) return fail(ErrorCode::no_resource, "no memory for the data plane's grace periods");
  if (rte_rcu_qsbr_init(static_cast<rte_rcu_qsbr*>(memory.get()), readers_max) != 0) {
    return fail(ErrorCode::internal, "the data plane's grace periods cannot be set up");
  }
  return Rcu(std::move(memory));
}

void Rcu::register_reader(unsigned reader) noexcept {
  rte_rcu_qsbr_thread_register(state(), reader);
  rte_rcu_qsbr_thread_online(state(), reader);
}

void Rcu::unregister_reader(unsigned reader) noexcept {
  rte_rcu_qsbr_thread_offline(state(), reader);
  rte_rcu_qsbr_thread_unregister(state(), reader);
}

void Rcu::online(unsigned reader) noexcept {
  rte_rcu_qsbr_thread_online(state(), reader);
}
void Rcu::offline(unsigned reader) noexcept {
  readers_past(state());
  rte_rcu_qsbr_thread_offline(state(), reader);
}
void Rcu::quiescent(unsigned reader) noexcept {
  readers_past(state());
  rte_rcu_qsbr_quiescent(state(), reader);
}
void Rcu::synchronize() noexcept {
  rte_rcu_qsbr_synchronize(state(), RTE_QSBR_THRID_INVALID);
  wait_for_readers_past(state());
}

}  // namespace patchbay::dataplane::dpdk
