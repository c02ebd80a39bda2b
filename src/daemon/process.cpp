#include "daemon/process.h"

#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

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
