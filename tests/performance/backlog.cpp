#include "tests/performance/backlog.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace patchbay::bench {

SharedProgress::SharedProgress(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), sizeof(ReceiverProgress)) != 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  void* const at = ::mmap(nullptr, sizeof(ReceiverProgress), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category(), path);
  progress_ = static_cast<ReceiverProgress*>(at);  // lock-free atomics of zero: nothing to construct
}

SharedProgress::~SharedProgress() {
  ::munmap(progress_, sizeof(ReceiverProgress));
}

}  // namespace patchbay::bench
