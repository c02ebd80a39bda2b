// Descriptors that a front-end sends, judged before anything is done with them.
//
// Theory  A front-end for a network device needs to send two kinds only: eventfds (kick, call, err) and shared memory
//         (memfd, tmpfs, hugetlbfs). Everything else is refused at the door, for it can block whoever uses it: a pipe
//         that is full, a file on a FUSE mount whose server never answers a page fault, or even close() itself, when
//         the descriptor is such a file or a socket that lingers. So foreign descriptors, and sockets that may still
//         carry some, are closed by a ForeignCloser, never by control's thread. Hazard  O_NONBLOCK belongs to the open
//         file, which the front-end shares: it sees the flag, and can clear it again. The eventfds of QEMU, irqfd and
//         DPDK are non-blocking or never read by their owners, so they do not mind.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::vhost_user {

enum class DescriptorKind : std::uint8_t { event, memory, foreign };

struct Descriptor {
  UniqueFd fd;
  DescriptorKind kind = DescriptorKind::foreign;
};

// What `fd` is, without touching what lies behind it.
[[nodiscard]] DescriptorKind kind_of(int fd) noexcept;

// Sets O_NONBLOCK. Errors: internal.
[[nodiscard]] Result<void> make_non_blocking(int fd);

}  // namespace patchbay::vhost_user
