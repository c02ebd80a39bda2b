#include "dataplane/dpdk/eal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <sched.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace patchbay::dataplane::dpdk {
namespace {

constexpr std::size_t cache_line = 64;

bool huge_pages_free() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    std::ifstream file(entry.path() / "free_hugepages");
    unsigned long pages = 0;
    if (file >> pages && pages != 0) return true;
  }
  return false;
}

int first_cpu(const cpu_set_t& cpus) noexcept {
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &cpus)) return cpu;
  }
  return 0;
}

int start(bool huge_pages, bool devices, int cpu) {
  std::vector<std::string> words = {"patchbayd", "--no-telemetry", "--log-level=lib.eal:error",
                                    "--lcores=0@" + std::to_string(cpu)};
  // Without a list DPDK takes every device that is bound to vfio-pci. This list has one address, which no device has.
  // DPDK and the device speak of memory by the same addresses: that needs an IOMMU, and neither root nor huge pages.
  if (devices) {
    words.insert(words.end(), {"-a", "ffff:ff:1f.7", "--iova-mode=va"});
  } else {
    words.emplace_back("--no-pci");
  }
  // Without huge pages DPDK takes one piece of ordinary memory, which it does not call "in memory"; either way it keeps
  // no file and shares nothing.
  if (huge_pages) {
    words.emplace_back("--in-memory");
  } else {
    words.insert(words.end(), {"--no-huge", "--no-shconf", "-m", "64"});
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return rte_eal_init(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

Result<std::unique_ptr<Eal>> Eal::create() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof cpus, &cpus);
  const bool huge_pages = huge_pages_free();
  bool devices = true;
  int started = start(huge_pages, devices, first_cpu(cpus));
  if (started < 0 && huge_pages) started = start(false, devices, first_cpu(cpus));
  if (started < 0) {  // its drivers for PCI may be missing
    devices = false;
    started = start(huge_pages, devices, first_cpu(cpus));
    if (started < 0 && huge_pages) started = start(false, devices, first_cpu(cpus));
  }
  sched_setaffinity(0, sizeof cpus, &cpus);
  if (started < 0) {
    return fail(ErrorCode::internal,
                std::string("the data plane's memory cannot be set up: ") + rte_strerror(rte_errno));
  }
  return std::unique_ptr<Eal>(new Eal(devices));
}

Eal::~Eal() {
  rte_eal_cleanup();
}

Memory Memory::create(const Eal* eal, std::size_t size_bytes) noexcept {
  Memory memory;
  memory.from_dpdk_ = eal != nullptr;
  if (memory.from_dpdk_) {
    memory.data_ = rte_zmalloc("patchbay", size_bytes, cache_line);
  } else {
    memory.data_ = std::aligned_alloc(cache_line, (size_bytes + cache_line - 1) / cache_line * cache_line);
    if (memory.data_ != nullptr) std::memset(memory.data_, 0, size_bytes);
  }
  return memory;
}

Memory::Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), from_dpdk_(other.from_dpdk_) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(from_dpdk_, other.from_dpdk_);
  return *this;
}

Memory::~Memory() {
  if (from_dpdk_) {
    rte_free(data_);
  } else {
    std::free(data_);
  }
}

}  // namespace patchbay::dataplane::dpdk
