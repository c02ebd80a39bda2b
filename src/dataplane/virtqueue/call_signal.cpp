#include "dataplane/virtqueue/call_signal.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace patchbay::dataplane {
namespace {

// The completion ring that the kernel maps at the context's address. Completions are taken by moving `head`.
struct CompletionRing {
  std::uint32_t id;
  std::uint32_t entries;
  std::uint32_t head;
  std::uint32_t tail;
};

}  // namespace

Result<CallSignal> CallSignal::create() {
  CallSignal signal;
  if (syscall(SYS_io_setup, 1, &signal.context_) != 0) {
    return fail(ErrorCode::no_resource,
                system_error("asynchronous I/O, which workers call guests with, cannot be set up "
                             "(raise the sysctl fs.aio-max-nr)",
                             errno)
                    .message);
  }
  signal.null_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!signal.null_) return fail(system_error("/dev/null", errno));
  return signal;
}

CallSignal::CallSignal(CallSignal&& other) noexcept
    : context_(std::exchange(other.context_, 0)), null_(std::move(other.null_)) {}

CallSignal::~CallSignal() {
  if (context_ != 0) syscall(SYS_io_destroy, context_);
}

void CallSignal::call(int fd) noexcept {
  if (fd < 0) return;
  iocb request = {};
  request.aio_lio_opcode = IOCB_CMD_PREAD;
  request.aio_fildes = static_cast<std::uint32_t>(null_.get());
  request.aio_flags = IOCB_FLAG_RESFD;
  request.aio_resfd = static_cast<std::uint32_t>(fd);
  iocb* requests[] = {&request};
  syscall(SYS_io_submit, context_, 1L, requests);
  auto* const ring = reinterpret_cast<CompletionRing*>(context_);
  const std::uint32_t done = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  __atomic_store_n(&ring->head, done, __ATOMIC_RELEASE);
}

}  // namespace patchbay::dataplane
