#include "daemon/process.h"

#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/unique_fd.h"

namespace patchbay::daemon {

Result<void> make_directories(const std::string& path, mode_t mode) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), mode) == 0) {
      ::chmod(part.c_str(), mode);  // whatever the umask is
    } else if (errno != EEXIST) {
      return fail(system_error("cannot make directory " + part, errno));
    }
    if (end == std::string::npos) break;
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return fail(system_error(path, errno));
  if (!S_ISDIR(status.st_mode)) return fail(ErrorCode::invalid, path + " is not a directory");
  return {};
}

Result<gid_t> find_group(const std::string& group) {
  if (const ::group* found = ::getgrnam(group.c_str()); found != nullptr) return found->gr_gid;
  gid_t id = 0;
  const char* const end = group.data() + group.size();
  const auto [stop_at, error] = std::from_chars(group.data(), end, id);
  if (!group.empty() && error == std::errc() && stop_at == end && id != static_cast<gid_t>(-1)) return id;
  return fail(ErrorCode::not_found, fmt::format("group {} does not exist; see `getent group`", group));
}

std::vector<MissingCapability> missing_capabilities() {
  struct Needed {
    unsigned bit;
    MissingCapability missing;
  };
  constexpr Needed needed[] = {
      {CAP_NET_ADMIN, {"CAP_NET_ADMIN", "host vnics cannot be made, changed or removed, nor NICs set up"}},
      {CAP_NET_RAW, {"CAP_NET_RAW", "external switches cannot use their NICs"}},
  };
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  std::vector<MissingCapability> missing;
  if (::syscall(SYS_capget, &header, sets) != 0) return missing;
  for (const Needed& each : needed) {
    if ((sets[each.bit / 32].effective >> (each.bit % 32) & 1U) == 0) missing.push_back(each.missing);
  }
  return missing;
}

void notify_ready() {
  const char* const name = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name == nullptr || *name == '\0' || std::strlen(name) >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, name, std::strlen(name));
  if (*name == '@') address.sun_path[0] = '\0';  // a name without a file
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view ready = "READY=1";
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(name));
  if (!socket || ::sendto(socket.get(), ready.data(), ready.size(), MSG_NOSIGNAL,
                          reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    spdlog::warn("{}", system_error("the service manager cannot be told that patchbayd is ready", errno).message);
  }
}

void raise_descriptor_limit() {
  constexpr rlim_t wished = 65536;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlimit more{std::max(limit.rlim_max, wished), std::max(limit.rlim_max, wished)};
  const rlimit most{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &more) == 0 || ::setrlimit(RLIMIT_NOFILE, &most) == 0) return;
  spdlog::warn("the limit of open files stays at {}: it cannot be raised", limit.rlim_cur);
}

std::uint64_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

std::optional<std::string> descriptor_shortage(std::size_t guest_vnics, std::uint64_t limit) {
  // Of a vnic: its socket and the directory of that, a connection, two kicks, two calls; while a message arrives, up to
  // eight descriptors more. Of the daemon: store, netlink, NICs, and 256 clients of the API.
  constexpr std::uint64_t each = 8;
  constexpr std::uint64_t daemon = 512;
  const std::uint64_t needed = daemon + each * guest_vnics;
  if (needed <= limit) return std::nullopt;
  return fmt::format("{} guest vnics may need {} open files, but the limit is {}: raise it (LimitNOFILE={}, ulimit -n)",
                     guest_vnics, needed, limit, needed);
}

}  // namespace patchbay::daemon
