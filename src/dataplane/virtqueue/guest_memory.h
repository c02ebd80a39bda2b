// A guest's memory, mapped: the only way from an address that a guest or front-end names to a pointer.
//
// Theory  Addresses are compared by subtraction, so nothing a guest writes can wrap. A range must lie in one region.
//         Only memory files are taken (memfd, tmpfs, hugetlbfs): a file system that answers page faults slowly, or
//         never, would stop the worker that touches it. When such a file is truncated under us the next touch raises
//         SIGBUS; the handler puts zero pages in place of the whole region and marks the memory lost, the touch
//         succeeds, and control ends that one guest's link.
// Limits  memory_regions_max regions a guest, of at most 4 TiB each and bytes_max() in all; guarded_ranges_max regions and
//         guarded_bytes_max bytes in the process. The files may be empty, so a front-end pays nothing for naming a large
//         one: without a limit of its own a single one could take what the guests of all others need.
// Threads translate*(), lost(): any. map() and destruction: control. The SIGBUS handler runs in whichever thread
//         touched.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

// Which byte of which file.
struct FilePlace {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;
};

class GuestMemory {
 public:
  // What the regions of one guest may have together: twice the memory of this host, and never more than half of what is
  // left for all.
  [[nodiscard]] static std::uint64_t bytes_max() noexcept;

  // Errors: invalid (no region, too many, more than bytes_max(), zero size, a range that wraps, a file smaller than its region or of the wrong
  // kind), no_resource. Does not keep the descriptors.
  [[nodiscard]] static Result<std::shared_ptr<const GuestMemory>> map(std::span<const MemoryRegion> regions);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  // `size_bytes` bytes (not zero) from `guest_address` on; nullptr unless all of them lie in one region.
  [[nodiscard]] std::uint8_t* translate(std::uint64_t guest_address, std::uint64_t size_bytes) const noexcept {
    std::uint8_t* data = translate(regions_[0], guest_address, size_bytes);  // the largest
    for (std::size_t i = 1; data == nullptr && i < count_; ++i)
      data = translate(regions_[i], guest_address, size_bytes);
    return data;
  }
  // The same for an address in the front-end's terms.
  [[nodiscard]] std::uint8_t* translate_front_end(std::uint64_t address, std::uint64_t size_bytes) const noexcept;

  // Where what `data`, from translate*(), points to is kept: the same for whoever maps it, wherever.
  [[nodiscard]] FilePlace place_of(const std::uint8_t* data) const noexcept;

  // A region vanished: what is read from it now are zeros of our own.
  [[nodiscard]] bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  struct Region {
    std::uint64_t guest_address = 0;
    std::uint64_t size_bytes = 0;
    std::uint8_t* data = nullptr;
    std::uint64_t front_end_address = 0;
    void* mapping = nullptr;
    std::size_t mapping_size = 0;
    FilePlace place;
    std::size_t guard = 0;  // entry in the table that the SIGBUS handler reads
  };

  GuestMemory() = default;
  [[nodiscard]] static std::uint8_t* translate(const Region& region, std::uint64_t guest_address,
                                               std::uint64_t size_bytes) noexcept {
    // An address before the region is further behind it than it is long, for regions do not wrap.
    const std::uint64_t offset = guest_address - region.guest_address;
    return offset < region.size_bytes && size_bytes <= region.size_bytes - offset ? region.data + offset : nullptr;
  }
  [[nodiscard]] Result<void> add(const MemoryRegion& region, std::size_t number);

  std::array<Region, memory_regions_max> regions_;
  std::size_t count_ = 0;
  mutable std::atomic<bool> lost_ = false;
};

}  // namespace patchbay::dataplane
