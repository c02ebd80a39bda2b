#include "control/api/listen_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace patchbay::api {
namespace {

constexpr mode_t socket_mode = 0660;
constexpr int backlog = 128;
constexpr const char* suffix = ".new";

sockaddr_un address_of(const std::string& path) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd unix_socket() noexcept {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// Succeeds if `path` is free, or holds a socket that nobody listens on.
Result<void> check_replaceable(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail(system_error("cannot look at API socket " + path, errno));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail(ErrorCode::exists, "API socket " + path + " exists and is not a socket; move it away");
  }
  const UniqueFd probe = unix_socket();
  if (!probe) return fail(system_error("cannot make a socket", errno));
  const auto address = address_of(path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN) {
    return fail(ErrorCode::in_use,
                "another patchbayd listens on API socket " + path + "; stop it, or give this one another --run-dir");
  }
  if (errno == ECONNREFUSED || errno == ENOENT) return {};
  return fail(system_error("cannot tell whether anybody listens on API socket " + path, errno));
}

}  // namespace

Result<ListenSocket> ListenSocket::create(const std::string& path, std::optional<gid_t> group) {
  const std::string temporary = path + suffix;
  if (path.empty() || temporary.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(ErrorCode::invalid, "API socket path \"" + path + "\" is " + std::to_string(path.size()) +
                                        " bytes long, and the kernel takes 1 to 103; give a shorter --run-dir");
  }
  if (const auto free = check_replaceable(path); !free) return fail(free.error());

  ListenSocket made;
  made.fd_ = unix_socket();
  if (!made.fd_) return fail(system_error("cannot make the API socket", errno));
  const auto failed = [&](const char* what) {
    const int why = errno;
    ::unlink(temporary.c_str());
    return fail(system_error(std::string("cannot ") + what + " API socket " + temporary, why));
  };
  ::unlink(temporary.c_str());  // left by a daemon that died between bind and rename
  const auto address = address_of(temporary);
  if (::bind(made.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return failed("bind");
  // Nobody can connect before listen(), so the rights that bind() gave do not matter.
  if (::lchown(temporary.c_str(), static_cast<uid_t>(-1), group.value_or(static_cast<gid_t>(-1))) != 0) {
    return failed("set the group of");
  }
  if (::chmod(temporary.c_str(), socket_mode) != 0) return failed("set the mode of");
  if (::listen(made.fd_.get(), backlog) != 0) return failed("listen on");
  struct stat status {};
  if (::lstat(temporary.c_str(), &status) != 0) return failed("look at");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("rename");
  made.path_ = path;
  made.inode_ = status.st_ino;
  made.device_ = status.st_dev;
  return made;
}

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : path_(std::exchange(other.path_, {})), inode_(other.inode_), device_(other.device_), fd_(std::move(other.fd_)) {}

ListenSocket::~ListenSocket() {
  if (path_.empty()) return;
  struct stat status {};
  const bool ours = ::lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_ && status.st_dev == device_;
  if (ours) ::unlink(path_.c_str());
}

}  // namespace patchbay::api
