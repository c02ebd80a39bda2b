#include "dataplane/virtqueue/ring_record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <type_traits>

#include "base/unique_fd.h"

namespace patchbay::dataplane {

struct RingFile::Layout {
  static constexpr std::uint64_t our_magic = 0x3273676E69726270;  // "pbrings2": the last letter is the layout's version
  std::uint64_t magic = our_magic;
  std::uint64_t size_bytes = sizeof(Layout);
  RingRecords records{};
};

Result<std::unique_ptr<RingFile>> RingFile::open(const std::string& path) {
  static_assert(std::is_trivially_copyable_v<Layout>);
  const std::string what = "the ring positions in " + path;
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail(system_error(what, errno));
  // The room is taken now: a page that is missing later would end the process.
  const auto size = static_cast<off_t>(sizeof(Layout));
  if (const int error = ::posix_fallocate(fd.get(), 0, size); error != 0) return fail(system_error(what, error));
  if (::ftruncate(fd.get(), size) != 0) return fail(system_error(what, errno));
  void* const mapping = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) return fail(system_error(what, errno));
  auto* layout = static_cast<Layout*>(mapping);
  if (layout->magic != Layout::our_magic || layout->size_bytes != sizeof(Layout)) layout = new (mapping) Layout;
  return std::unique_ptr<RingFile>(new RingFile(layout));
}

RingFile::~RingFile() {
  ::munmap(layout_, sizeof(Layout));
}

RingRecords& RingFile::records() noexcept {
  return layout_->records;
}

void RingFile::remove(const std::string& path) noexcept {
  static_cast<void>(::unlink(path.c_str()));
}

}  // namespace patchbay::dataplane
