#include "tests/performance/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace patchbay::bench {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t page = 4096;

[[noreturn]] void fail_with(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

SharedMemory::SharedMemory(std::size_t size_bytes, bool huge_pages) {
  const std::size_t unit = huge_pages ? huge_page : page;
  size_bytes_ = (size_bytes + unit - 1) / unit * unit;
  fd_.reset(::memfd_create("loadgen", MFD_CLOEXEC | (huge_pages ? MFD_HUGETLB : 0U)));
  if (!fd_) fail_with("guest memory");
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes_)) != 0) fail_with("guest memory");
  void* const at = ::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
  if (at == MAP_FAILED) fail_with("guest memory (are there enough huge pages?)");
  data_ = static_cast<std::uint8_t*>(at);
  std::memset(data_, 0, size_bytes_);
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

}  // namespace patchbay::bench
