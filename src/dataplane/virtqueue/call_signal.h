// Calls guests: adds one to an eventfd without any chance to block.
//
// Theory  A plain write() to an eventfd blocks when its counter is full, unless O_NONBLOCK is set; but that flag
//         belongs to the open file, which the front-end holds too: it could fill the counter, clear the flag and stop
//         the worker. The kernel itself signals an eventfd without blocking, and does so on our behalf when an
//         asynchronous read that names the eventfd ends: here, a read of nothing from /dev/null, which ends within
//         io_submit(). One system call, like write(), and 270 ns instead of 115 (measured on one 2.6 GHz core).
// Limits  One call in flight; each is over when call() returns.
// Threads The worker that owns it.
// Source  io_submit(2), IOCB_FLAG_RESFD; Linux fs/aio.c for the layout of the completion ring.
#pragma once
#include <linux/aio_abi.h>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::dataplane {

class CallSignal {
 public:
  // Errors: no_resource (the host has no asynchronous I/O left: sysctl fs.aio-max-nr).
  [[nodiscard]] static Result<CallSignal> create();
  CallSignal(CallSignal&& other) noexcept;
  CallSignal& operator=(CallSignal&&) = delete;
  ~CallSignal();

  // Adds one to the eventfd `fd`; nothing if it is -1.
  void call(int fd) noexcept;

 private:
  CallSignal() = default;
  aio_context_t context_ = 0;
  UniqueFd null_;
};

}  // namespace patchbay::dataplane
