#include "dataplane/virtqueue/bus_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace patchbay::dataplane {
namespace {

struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};  // 0: free. Written last when taken, first when freed.
  std::atomic<std::size_t> size{0};
  std::atomic<std::atomic<bool>*> lost{nullptr};
};

std::array<GuardedRange, guarded_ranges_max> ranges;
std::atomic<std::size_t> ranges_end{0};  // no entry at or beyond this index was ever used
std::size_t guarded_bytes = 0;           // control's

void on_sigbus(int, siginfo_t* info, void*) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const std::size_t end = ranges_end.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < end; ++i) {
    const std::uintptr_t begin = ranges[i].begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin) continue;
    const std::size_t size = ranges[i].size.load(std::memory_order_relaxed);
    if (address - begin >= size) continue;
    void* const zeros = mmap(reinterpret_cast<void*>(begin), size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED) break;
    ranges[i].lost.load(std::memory_order_relaxed)->store(true, std::memory_order_relaxed);
    errno = saved_errno;
    return;
  }
  signal(SIGBUS, SIG_DFL);  // not ours: the access faults again and the process ends
  errno = saved_errno;
}

void install_handler() noexcept {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  static_cast<void>(installed);
}

}  // namespace

std::optional<std::size_t> guard(void* begin, std::size_t size, std::atomic<bool>* lost) noexcept {
  install_handler();
  if (size > guarded_bytes_max - guarded_bytes) return std::nullopt;
  for (std::size_t i = 0; i < guarded_ranges_max; ++i) {
    if (ranges[i].begin.load(std::memory_order_relaxed) != 0) continue;
    ranges[i].size.store(size, std::memory_order_relaxed);
    ranges[i].lost.store(lost, std::memory_order_relaxed);
    ranges[i].begin.store(reinterpret_cast<std::uintptr_t>(begin), std::memory_order_release);
    guarded_bytes += size;
    if (i >= ranges_end.load(std::memory_order_relaxed)) ranges_end.store(i + 1, std::memory_order_release);
    return i;
  }
  return std::nullopt;
}

void unguard(std::size_t entry) noexcept {
  guarded_bytes -= ranges[entry].size.load(std::memory_order_relaxed);
  ranges[entry].begin.store(0, std::memory_order_release);
}

std::size_t guardable_bytes() noexcept {
  return guarded_bytes_max - guarded_bytes;
}

}  // namespace patchbay::dataplane
