#include "control/vhost_user/descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace patchbay::vhost_user {

DescriptorKind kind_of(int fd) noexcept {
  // Seals exist on shmem and hugetlbfs files only, and asking for them never leaves the kernel.
  if (::fcntl(fd, F_GET_SEALS) >= 0) return DescriptorKind::memory;
  std::array<char, 32> path{};
  auto* const end = fmt::format_to_n(path.data(), path.size() - 1, "/proc/self/fd/{}", fd).out;
  *end = '\0';
  // The names of anonymous inodes have no slash in front, so no file that someone names like this looks the same.
  std::array<char, 64> target{};
  const ssize_t length = ::readlink(path.data(), target.data(), target.size());
  if (length < 0) return DescriptorKind::foreign;
  const std::string_view name(target.data(), static_cast<std::size_t>(length));
  return name == "anon_inode:[eventfd]" ? DescriptorKind::event : DescriptorKind::foreign;
}

Result<void> make_non_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    return fail(system_error("cannot make a descriptor of the front-end non-blocking", errno));
  }
  return {};
}

}  // namespace patchbay::vhost_user
