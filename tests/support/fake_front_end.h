// A scripted vhost-user front-end: payloads as QEMU lays them out, descriptors of every kind, and a socket to send them
// through.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace patchbay::test {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint32_t flag_version_1 = 0x1;
inline constexpr std::uint32_t flag_reply = 0x4;
inline constexpr std::uint32_t flag_need_reply = 0x8;

// The values one after another, in host byte order.
template <typename... T>
Bytes bytes_of(T... values) {
  Bytes bytes;
  const auto append = [&bytes](auto value) {
    const auto at = bytes.size();
    bytes.resize(at + sizeof value);
    std::memcpy(bytes.data() + at, &value, sizeof value);
  };
  (append(values), ...);
  return bytes;
}
inline Bytes u64(std::uint64_t value) {
  return bytes_of(value);
}
inline Bytes vring_state(std::uint32_t index, std::uint32_t number) {
  return bytes_of(index, number);
}
inline Bytes vring_address(std::uint32_t index, std::uint64_t desc, std::uint64_t used, std::uint64_t avail,
                           std::uint32_t flags = 0) {
  return bytes_of(index, flags, desc, used, avail, std::uint64_t{0});
}
inline Bytes memory_table(std::uint32_t regions, std::uint64_t size_bytes = 4096) {
  Bytes bytes = bytes_of(regions, std::uint32_t{0});
  for (std::uint64_t i = 0; i < regions; ++i) {
    const Bytes region = bytes_of(i * size_bytes, size_bytes, 0x7f0000000000 + i * size_bytes, std::uint64_t{0});
    bytes.insert(bytes.end(), region.begin(), region.end());
  }
  return bytes;
}
inline Bytes message_bytes(std::uint32_t request, const Bytes& payload, std::uint32_t flags = flag_version_1) {
  Bytes bytes = bytes_of(request, flags, static_cast<std::uint32_t>(payload.size()));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

inline UniqueFd new_eventfd() {
  return UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}
inline UniqueFd new_memfd(off_t size_bytes = 4096) {
  UniqueFd fd(::memfd_create("guest", MFD_CLOEXEC));
  if (fd && ::ftruncate(fd.get(), size_bytes) != 0) fd.reset();
  return fd;
}
// Not shared memory whatever /tmp is: a file of the proc file system.
inline UniqueFd new_plain_file() {
  return UniqueFd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
}

// Descriptors that this process has open.
inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// Turns the event loop until `condition` holds; false if it does not within `at_most`.
template <typename Condition>
[[nodiscard]] bool until(boost::asio::io_context& loop, Condition condition,
                         std::chrono::milliseconds at_most = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + at_most;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.restart();
    loop.run_one_for(std::chrono::milliseconds(5));
  }
  return true;
}

class FakeFrontEnd {
 public:
  // A send that the other end leaves no room for fails after five seconds, so that a test fails instead of hanging.
  explicit FakeFrontEnd(UniqueFd socket) : socket_(std::move(socket)) {
    const timeval limit{5, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }

  // Nothing if nobody listens.
  static std::optional<FakeFrontEnd> connect(const std::string& path) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return std::nullopt;
    return FakeFrontEnd(std::move(socket));
  }

  // False if the other end is gone.
  bool send(std::uint32_t request, const Bytes& payload = {}, const std::vector<int>& fds = {},
            std::uint32_t flags = flag_version_1) {
    return send_bytes(message_bytes(request, payload, flags), fds);
  }
  bool send_bytes(const Bytes& bytes, const std::vector<int>& fds = {}) {
    iovec data{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* const part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
    }
    return ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

  // What has arrived by now, up to `bytes_max`.
  Bytes receive_now(std::size_t bytes_max = 4096) {
    Bytes bytes(bytes_max);
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }
  // The other end closed, and everything before that was read.
  bool is_closed() {
    char byte = 0;
    const ssize_t got = ::recv(socket_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  void close() { socket_.reset(); }
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
};

}  // namespace patchbay::test
