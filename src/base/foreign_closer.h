// Closes descriptors that somebody else opened, away from the thread that must not wait.
//
// Theory  close() itself can block: on a file of a FUSE mount whose server never answers, on a socket that lingers, or
//         on a unix socket in whose queue such descriptors still travel (SCM_RIGHTS). Whoever took one from a stranger,
//         or a connection with one, hands it over here; each hand-over is closed by one short-lived thread.
// Limits  closings_max hand-overs at a time: is_full() from there on, and the owner takes no further connection until
//         some of them are done. Without a thread to be had, the caller closes after all.
// Threads one caller's, copies included; the threads that close share only the counter.
#pragma once
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/unique_fd.h"

namespace patchbay {

class ForeignCloser {
 public:
  static constexpr unsigned closings_max = 64;

  void close(UniqueFd fd);
  void close(std::vector<UniqueFd> fds);
  [[nodiscard]] unsigned closing() const noexcept { return closing_->load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_full() const noexcept { return closing() >= closings_max; }

 private:
  std::shared_ptr<std::atomic<unsigned>> closing_ = std::make_shared<std::atomic<unsigned>>(0);
};

// Room for all descriptors that one message can carry: what does not fit, the kernel would close inside recvmsg().
struct RightsBuffer {
  static constexpr std::size_t descriptors_max = 253;  // SCM_MAX_FD of the kernel
  alignas(cmsghdr) std::array<char, CMSG_SPACE(descriptors_max * sizeof(int))> bytes;
};

// Reads up to `size_bytes` bytes from the socket `fd` without waiting, as recvmsg(); `header` says which descriptors came
// along, which lie in `control`.
[[nodiscard]] ssize_t read_with_rights(int fd, void* into, std::size_t size_bytes, RightsBuffer& control,
                                       msghdr& header) noexcept;

// The descriptors that recvmsg() put into `received`, now the caller's.
[[nodiscard]] std::vector<UniqueFd> take_rights(const msghdr& received);

}  // namespace patchbay
