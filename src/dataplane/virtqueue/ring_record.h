// Where a packed ring goes on: what of it outlives the daemon.
//
// Theory  A split ring's used index stands in guest memory; a packed ring has no index there. So its position lives in a
//         record that is mapped from a file of the run directory and survives `kill -9`: plain stores, no system call.
//         Chains that are given back are noted in `used` first. Then `progress` says that they are about to be shown, the
//         guest's ring is written, and `progress` moves on. Whoever finds a record in the middle of that finishes it:
//         whether the guest has seen the chains stands in the first of them, which is shown last.
//         The record belongs to one ring of one memory file, and to the position that the front-end gave when the ring
//         was started. PackedRing::start() judges whether it still does.
// Limits  record_used_max chains between two looks of the guest.
// Threads The one that drives the ring. Control, while nobody drives it.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

inline constexpr std::size_t record_used_max = 128;

// Lives in a file: nothing in it may be believed unchecked.
struct RingRecord {
  struct Used {
    std::uint32_t written;
    std::uint16_t id;
    std::uint16_t slots;
  };
  // The ring's first byte, in the file that the guest's memory is; its entries. size 0: no ring.
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
  std::uint32_t base = 0;       // VHOST_USER_SET_VRING_BASE
  std::uint64_t progress = 0;   // low half: position, index and wrap counter as there; high half: entries of `used`
  std::uint64_t last_word = 0;  // of the last chain shown: what was written to the second word of its descriptor,
  std::uint32_t last_slot = 0;  // and where that is
  std::uint32_t unused = 0;
  std::array<Used, record_used_max> used{};
};

using RingRecords = std::array<RingRecord, guest_rings_max>;

// The records of one vnic, in a file.
class RingFile {
 public:
  // Takes over the file `path` or creates it; what is not a file of ours, whole and of this layout starts anew, empty.
  // Errors: no_resource (no room), internal.
  [[nodiscard]] static Result<std::unique_ptr<RingFile>> open(const std::string& path);
  ~RingFile();
  RingFile(const RingFile&) = delete;
  RingFile& operator=(const RingFile&) = delete;

  [[nodiscard]] RingRecords& records() noexcept;
  // The vnic of the file `path` is gone: its name goes now, if there is one, the memory with the object that opened it.
  static void remove(const std::string& path) noexcept;

 private:
  struct Layout;
  explicit RingFile(Layout* layout) : layout_(layout) {}

  Layout* layout_;
};

}  // namespace patchbay::dataplane
