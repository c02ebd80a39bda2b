// DPDK's environment: started once, in memory, without devices; on huge pages where there are some.
//
// Theory  Nothing is shared with other processes, and nothing is left behind when this one dies. DPDK starts no worker
//         threads of its own and does not keep the calling thread on one CPU. It touches no device by itself: PCI
//         devices are known to it, but each is opened only when it is asked for by its address (eth_device.h).
// Limits  Once in a process.
// Threads create() and destruction: the main thread.
#pragma once
#include <cstddef>
#include <memory>

#include "base/result.h"

namespace patchbay::dataplane::dpdk {

class Eal {
 public:
  // Errors: no_resource (no memory), internal.
  [[nodiscard]] static Result<std::unique_ptr<Eal>> create();
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  // DPDK's drivers for PCI devices are installed.
  [[nodiscard]] bool has_devices() const noexcept { return has_devices_; }

 private:
  explicit Eal(bool has_devices) noexcept : has_devices_(has_devices) {}
  bool has_devices_ = false;
};

// Zeroed memory that starts on a cache line, from DPDK's heap (huge pages where there are some) when `eal` is given,
// else from the ordinary one. Null if there is none.
class Memory {
 public:
  [[nodiscard]] static Memory create(const Eal* eal, std::size_t size_bytes) noexcept;
  Memory() = default;
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  [[nodiscard]] void* get() const noexcept { return data_; }

 private:
  void* data_ = nullptr;
  bool from_dpdk_ = false;
};

}  // namespace patchbay::dataplane::dpdk
