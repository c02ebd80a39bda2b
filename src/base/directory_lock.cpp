#include "base/directory_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace patchbay {
namespace {

// " (process 123)", for people only: what the holder wrote, if it is a number.
std::string holder_of(int file) {
  std::array<char, 16> text{};
  const auto size = ::pread(file, text.data(), text.size() - 1, 0);
  const long pid = size > 0 ? std::strtol(text.data(), nullptr, 10) : 0;
  return pid > 0 ? fmt::format(" (process {})", pid) : "";
}

}  // namespace

Result<DirectoryLock> DirectoryLock::take(const std::string& directory, const char* noun, const char* flag) {
  const std::string path = directory + "/lock";
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail(system_error(path, errno));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(system_error(path, errno));
    return fail(ErrorCode::in_use,
                fmt::format("{} {} is in use by another patchbayd{}; stop that one or give another {}", noun, directory,
                            holder_of(file.get()), flag));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), pid.data(), pid.size(), 0) < 0) {
    // The number only helps whoever meets the lock; the lock holds without it, on a full disk too.
  }
  return DirectoryLock(std::move(file));
}

}  // namespace patchbay
