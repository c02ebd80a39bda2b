#include "control/vhost_user/socket_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

namespace patchbay::vhost_user {
namespace {

constexpr int backlog = 8;
constexpr mode_t socket_mode = 0660;

Result<void> check_path(const std::string& path) {
  if (path.empty() || path.size() > socket_path_bytes_max || path.find('\0') != std::string::npos) {
    return fail(ErrorCode::invalid, fmt::format("the socket path '{}' has {} bytes: it must have 1 to {}", path.c_str(),
                                                path.size(), socket_path_bytes_max));
  }
  return {};
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

UniqueFd new_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// 0 or an errno value.
int try_connect(const UniqueFd& socket, const std::string& path) {
  const sockaddr_un address = address_of(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

std::string in_directory(const UniqueFd& directory, const std::string& name) {
  return fmt::format("/proc/self/fd/{}/{}", directory.get(), name);
}

// Good if nothing is at the path, or a socket that nobody listens on.
Result<void> check_free(const UniqueFd& directory, const std::string& name, const std::string& path) {
  struct stat found {};
  if (::fstatat(directory.get(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return fail(system_error("cannot look at " + path, errno));
  }
  if (!S_ISSOCK(found.st_mode)) {
    return fail(ErrorCode::in_use, path + " exists and is not a socket: remove it or choose another path");
  }
  const UniqueFd probe = new_socket();
  if (!probe) return fail(system_error("cannot make a socket", errno));
  if (try_connect(probe, in_directory(directory, name)) == ECONNREFUSED) return {};
  return fail(ErrorCode::in_use, path + " is in use by a running process: stop it or choose another path");
}

}  // namespace

ListeningSocket::ListeningSocket(UniqueFd socket, UniqueFd directory, std::string name, dev_t device, ino_t inode)
    : socket_(std::move(socket)),
      directory_(std::move(directory)),
      name_(std::move(name)),
      device_(device),
      inode_(inode) {}

ListeningSocket::~ListeningSocket() {
  if (!directory_) return;
  struct stat found {};
  if (::fstatat(directory_.get(), name_.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (found.st_dev == device_ && found.st_ino == inode_) ::unlinkat(directory_.get(), name_.c_str(), 0);
}

Result<ListeningSocket> ListeningSocket::open(const std::string& path, std::optional<gid_t> group) {
  if (auto good = check_path(path); !good) return fail(std::move(good.error()));
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty()) return fail(ErrorCode::invalid, fmt::format("the socket path '{}' names a directory", path));
  UniqueFd directory(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail(system_error("cannot open the directory of " + path, errno));
  if (auto is_free = check_free(directory, name, path); !is_free) return fail(std::move(is_free.error()));

  UniqueFd socket = new_socket();
  if (!socket) return fail(system_error("cannot make a socket", errno));
  // Nobody else uses this name: the number of our own descriptor is in it.
  const std::string temporary = fmt::format(".patchbay.{}.{}", ::getpid(), socket.get());
  ::unlinkat(directory.get(), temporary.c_str(), 0);
  const sockaddr_un address = address_of(in_directory(directory, temporary));
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(system_error("cannot make the socket " + path, errno));
  }
  struct stat made {};
  const bool ready =
      ::fstatat(directory.get(), temporary.c_str(), &made, AT_SYMLINK_NOFOLLOW) == 0 &&
      (!group ||
       ::fchownat(directory.get(), temporary.c_str(), static_cast<uid_t>(-1), *group, AT_SYMLINK_NOFOLLOW) == 0) &&
      ::fchmodat(directory.get(), temporary.c_str(), socket_mode, 0) == 0 && ::listen(socket.get(), backlog) == 0 &&
      ::renameat(directory.get(), temporary.c_str(), directory.get(), name.c_str()) == 0;
  if (!ready) {
    const int cause = errno;
    ::unlinkat(directory.get(), temporary.c_str(), 0);
    return fail(system_error("cannot put the socket into place at " + path, cause));
  }
  return ListeningSocket(std::move(socket), std::move(directory), std::move(name), made.st_dev, made.st_ino);
}

void remove_dead_sockets(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.symlink_status(error).type() != std::filesystem::file_type::socket) continue;
    const std::string path = entry.path().string();
    const UniqueFd probe = new_socket();
    if (!check_path(path) || !probe || try_connect(probe, path) != ECONNREFUSED) continue;
    std::filesystem::remove(entry.path(), error);
  }
}

Result<UniqueFd> connect_to(const std::string& path) {
  if (auto good = check_path(path); !good) return fail(std::move(good.error()));
  UniqueFd socket = new_socket();
  if (!socket) return fail(ErrorCode::unavailable, std::strerror(errno));
  if (const int cause = try_connect(socket, path); cause != 0) {
    return fail(ErrorCode::unavailable, std::strerror(cause));
  }
  return socket;
}

}  // namespace patchbay::vhost_user
