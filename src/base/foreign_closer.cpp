#include "base/foreign_closer.h"

#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

namespace patchbay {

void ForeignCloser::close(UniqueFd fd) {
  if (!fd) return;
  std::vector<UniqueFd> one;
  one.push_back(std::move(fd));
  close(std::move(one));
}

void ForeignCloser::close(std::vector<UniqueFd> fds) {
  if (fds.empty()) return;
  closing_->fetch_add(1, std::memory_order_relaxed);
  try {
    std::thread([closed = std::move(fds), counter = closing_]() mutable {
      closed.clear();
      counter->fetch_sub(1, std::memory_order_relaxed);
    }).detach();
  } catch (const std::system_error&) {
    // No thread to be had. They were closed here: that may have blocked, but keeping them would leak.
    closing_->fetch_sub(1, std::memory_order_relaxed);
  }
}

ssize_t read_with_rights(int fd, void* into, std::size_t size_bytes, RightsBuffer& control, msghdr& header) noexcept {
  iovec data{into, size_bytes};
  header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  const ssize_t got = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  header.msg_iov = nullptr;
  return got;
}

std::vector<UniqueFd> take_rights(const msghdr& received) {
  std::vector<UniqueFd> taken;
  auto* const header = const_cast<msghdr*>(&received);
  for (cmsghdr* part = CMSG_FIRSTHDR(header); part != nullptr; part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(part) + i * sizeof raw, sizeof raw);
      taken.emplace_back(raw);
    }
  }
  return taken;
}

}  // namespace patchbay
