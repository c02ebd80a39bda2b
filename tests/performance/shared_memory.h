// Memory of a guest without a guest: a memfd that the back-end maps, too.
//
// Errors  std::system_error.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"

namespace patchbay::bench {

class SharedMemory {
 public:
  // Zeroed and touched, so that no page fault falls into a measurement. `huge_pages`: of 2 MB; the host must have them.
  SharedMemory(std::size_t size_bytes, bool huge_pages);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  [[nodiscard]] std::uint8_t* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }  // rounded up to whole pages
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  std::size_t size_bytes_;
  UniqueFd fd_;
  std::uint8_t* data_ = nullptr;
};

}  // namespace patchbay::bench
