#include "tests/performance/wake.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>
#include <thread>

#include "base/unique_fd.h"

namespace patchbay::bench {
namespace {

constexpr std::uint64_t last_round = UINT64_MAX;

struct Shared {
  UniqueFd event;
  UniqueFd epoll;
  alignas(64) std::atomic<std::uint64_t> asked = 0;     // written by the caller
  alignas(64) std::atomic<std::uint64_t> answered = 0;  // written by the sleeper
};

void sleeper(Shared& shared) {
  while (shared.asked.load(std::memory_order_acquire) != last_round) {
    epoll_event event{};
    if (::epoll_wait(shared.epoll.get(), &event, 1, -1) < 0 && errno != EINTR) return;
    shared.answered.store(shared.asked.load(std::memory_order_acquire), std::memory_order_release);
  }
}

void ask(Shared& shared, std::uint64_t round) {
  shared.asked.store(round, std::memory_order_release);
  const std::uint64_t one = 1;
  static_cast<void>(!::write(shared.event.get(), &one, sizeof one));
}

[[noreturn]] void fail_with(const std::string& what, int error) {
  throw std::system_error(error, std::generic_category(), what);
}

void set_cpu(pthread_t thread, unsigned cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  if (const int error = ::pthread_setaffinity_np(thread, sizeof cpus, &cpus); error != 0) {
    fail_with("CPU " + std::to_string(cpu), error);
  }
}

}  // namespace

void stay_on(unsigned cpu) {
  set_cpu(::pthread_self(), cpu);
}

Histogram bare_ping(std::size_t count, unsigned cpu, double cycles_per_ns) {
  Shared shared;
  shared.event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  shared.epoll.reset(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET);
  if (!shared.event || !shared.epoll ||
      ::epoll_ctl(shared.epoll.get(), EPOLL_CTL_ADD, shared.event.get(), &event) != 0) {
    fail_with("eventfd and epoll", errno);
  }
  std::thread other([&shared] { sleeper(shared); });
  Histogram latency;
  try {
    set_cpu(other.native_handle(), cpu);
    for (std::uint64_t round = 1; round <= count; ++round) {
      spin(wake_gap_us, cycles_per_ns);
      const std::uint64_t begin = tsc();
      ask(shared, round);
      while (shared.answered.load(std::memory_order_acquire) != round) _mm_pause();
      latency.add(tsc() - begin);
    }
  } catch (...) {
    ask(shared, last_round);
    other.join();
    throw;
  }
  ask(shared, last_round);
  other.join();
  return latency;
}

}  // namespace patchbay::bench
