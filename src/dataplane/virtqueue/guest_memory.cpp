#include "dataplane/virtqueue/guest_memory.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "dataplane/virtqueue/bus_guard.h"

namespace patchbay::dataplane {
namespace {

struct Extent {
  std::uint64_t offset = 0;  // in the file, at the start of a page
  std::size_t size = 0;      // whole pages
  FilePlace place;
};

// What to map of the file so that `size` bytes from `offset` on are there.
Result<Extent> extent_of(int fd, std::uint64_t offset, std::uint64_t size, const std::string& what) {
  struct stat file = {};
  struct statfs file_system = {};
  if (fstat(fd, &file) != 0 || fstatfs(fd, &file_system) != 0) return fail(system_error(what, errno));
  if (file_system.f_type != TMPFS_MAGIC && file_system.f_type != HUGETLBFS_MAGIC) {
    return fail(ErrorCode::invalid, what + ": not shared memory (memfd, tmpfs or hugetlbfs)");
  }
  if (file.st_size < 0 || static_cast<std::uint64_t>(file.st_size) < offset + size) {
    return fail(ErrorCode::invalid,
                fmt::format("{}: the file has {} bytes, {} are claimed", what, file.st_size, offset + size));
  }
  const auto page = static_cast<std::uint64_t>(file_system.f_type == HUGETLBFS_MAGIC ? file_system.f_bsize : 4096);
  const std::uint64_t start = offset / page * page;
  return Extent{start,
                static_cast<std::size_t>((offset + size - start + page - 1) / page * page),
                {.device = file.st_dev, .inode = file.st_ino, .offset = offset}};
}

bool wraps(std::uint64_t start, std::uint64_t size) {
  return size > std::numeric_limits<std::uint64_t>::max() - start;
}

std::uint64_t host_memory_bytes() noexcept {
  return static_cast<std::uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L)) *
         static_cast<std::uint64_t>(std::max(sysconf(_SC_PAGESIZE), 0L));
}

Result<void> check_sum(std::span<const MemoryRegion> regions) {
  const std::uint64_t limit = GuestMemory::bytes_max();
  std::uint64_t left = limit;
  for (const MemoryRegion& region : regions) {
    if (region.size_bytes > left) {
      return fail(ErrorCode::invalid,
                  fmt::format("the guest shares more memory than the {} MB that one may have here: that is more than "
                              "twice the memory of this host, or than half of what is left for all its guests",
                              limit >> 20));
    }
    left -= region.size_bytes;
  }
  return {};
}

}  // namespace

std::uint64_t GuestMemory::bytes_max() noexcept {
  return std::min<std::uint64_t>(2 * host_memory_bytes(), guardable_bytes() / 2);
}

Result<std::shared_ptr<const GuestMemory>> GuestMemory::map(std::span<const MemoryRegion> regions) {
  if (regions.empty() || regions.size() > memory_regions_max) {
    return fail(ErrorCode::invalid,
                fmt::format("{} memory regions: 1 to {} can be mapped", regions.size(), memory_regions_max));
  }
  if (auto fits = check_sum(regions); !fits) return fail(std::move(fits.error()));
  std::shared_ptr<GuestMemory> memory(new GuestMemory);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    if (auto added = memory->add(regions[i], i); !added) return fail(added.error());
  }
  const auto end = memory->regions_.begin() + static_cast<std::ptrdiff_t>(memory->count_);
  std::iter_swap(memory->regions_.begin(),
                 std::max_element(memory->regions_.begin(), end,
                                  [](const Region& a, const Region& b) { return a.size_bytes < b.size_bytes; }));
  return std::shared_ptr<const GuestMemory>(std::move(memory));
}

Result<void> GuestMemory::add(const MemoryRegion& region, std::size_t number) {
  const std::string what = fmt::format("memory region {}", number);
  constexpr std::uint64_t size_limit = std::uint64_t{4} << 40;  // more memory than any guest has
  if (region.size_bytes == 0 || region.size_bytes > size_limit || region.mmap_offset > size_limit ||
      wraps(region.guest_address, region.size_bytes) || wraps(region.front_end_address, region.size_bytes)) {
    return fail(ErrorCode::invalid, what + ": its size is zero, too large, or wraps around");
  }
  const auto extent = extent_of(region.fd, region.mmap_offset, region.size_bytes, what);
  if (!extent) return fail(extent.error());
  void* const mapping = mmap(nullptr, extent->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region.fd,
                             static_cast<off_t>(extent->offset));
  if (mapping == MAP_FAILED) return fail(system_error(what + ": mapping it", errno));
  static_cast<void>(madvise(mapping, extent->size, MADV_DONTDUMP));
  const auto entry = guard(mapping, extent->size, &lost_);
  if (!entry) {
    munmap(mapping, extent->size);
    return fail(ErrorCode::no_resource, what + ": the guests of this host share as much memory as can be mapped");
  }
  regions_[count_++] = {.guest_address = region.guest_address,
                        .size_bytes = region.size_bytes,
                        .data = static_cast<std::uint8_t*>(mapping) + (region.mmap_offset - extent->offset),
                        .front_end_address = region.front_end_address,
                        .mapping = mapping,
                        .mapping_size = extent->size,
                        .place = extent->place,
                        .guard = *entry};
  return {};
}

GuestMemory::~GuestMemory() {
  for (std::size_t i = 0; i < count_; ++i) {
    unguard(regions_[i].guard);
    munmap(regions_[i].mapping, regions_[i].mapping_size);
  }
}

std::uint8_t* GuestMemory::translate_front_end(std::uint64_t address, std::uint64_t size_bytes) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    const Region& region = regions_[i];
    const std::uint64_t offset = address - region.front_end_address;
    if (address >= region.front_end_address && offset < region.size_bytes && size_bytes <= region.size_bytes - offset) {
      return region.data + offset;
    }
  }
  return nullptr;
}

FilePlace GuestMemory::place_of(const std::uint8_t* data) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    const Region& region = regions_[i];
    if (data < region.data || data >= region.data + region.size_bytes) continue;
    FilePlace place = region.place;
    place.offset += static_cast<std::uint64_t>(data - region.data);
    return place;
  }
  return {};
}

}  // namespace patchbay::dataplane
