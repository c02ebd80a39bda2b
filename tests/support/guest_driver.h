// A guest's driver without a guest: memory in a memfd and the driver's side of two split rings in it. Tests use it as a
// well-behaved peer, and reach into its memory to misbehave.
#pragma once
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "dataplane/dataplane.h"

namespace patchbay::test {

class GuestDriver {
 public:
  static constexpr std::uint64_t guest_base = 0x10000;          // guest addresses start here,
  static constexpr std::uint64_t front_end_base = 0x7F0000000;  // front-end addresses here
  static constexpr std::size_t memory_size = 4 << 20;
  static constexpr std::uint16_t ring_size = 64;
  static constexpr std::size_t buffer_size = 2048;      // as offered and sent, where a test says nothing else
  static constexpr std::size_t buffer_stride = 0x3000;  // from one buffer to the next: the most that one may have
  static constexpr std::size_t header_size = 12;

  struct Ring {
    std::size_t desc, avail, used;  // offsets in the memory
    std::uint16_t next_avail = 0;
    std::uint16_t last_used = 0;
  };

  explicit GuestDriver(std::uint64_t features) : features_(features) {
    fd_.reset(memfd_create("guest", MFD_CLOEXEC));
    if (ftruncate(fd_.get(), memory_size) != 0) std::abort();
    memory_ = static_cast<std::uint8_t*>(mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    for (std::size_t i = 0; i < rings.size(); ++i) {
      rings[i] = {.desc = 0x10000 * i, .avail = 0x10000 * i + 0x4000, .used = 0x10000 * i + 0x8000};
      kick_[i].reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
      call_[i].reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    }
  }
  ~GuestDriver() { munmap(memory_, memory_size); }
  GuestDriver(const GuestDriver&) = delete;
  GuestDriver& operator=(const GuestDriver&) = delete;

  [[nodiscard]] dataplane::MemoryRegion region() const {
    return {.guest_address = guest_base,
            .size_bytes = memory_size,
            .front_end_address = front_end_base,
            .mmap_offset = 0,
            .fd = fd_.get()};
  }
  [[nodiscard]] dataplane::GuestLink link(std::shared_ptr<const dataplane::GuestMemory> memory) const {
    dataplane::GuestLink link{.features = features_, .memory = std::move(memory), .rings = {}};
    for (std::size_t i = 0; i < rings.size(); ++i) {
      link.rings[i] = {.size = ring_size,
                       .desc_address = front_end_base + rings[i].desc,
                       .avail_address = front_end_base + rings[i].avail,
                       .used_address = front_end_base + rings[i].used,
                       .next_avail = 0,
                       .enabled = true,
                       .kick_fd = kick_[i].get(),
                       .call_fd = call_[i].get()};
    }
    return link;
  }

  // Any place in the guest's memory.
  template <typename T>
  [[nodiscard]] T get(std::size_t offset) const {
    T value;
    std::memcpy(&value, memory_ + offset, sizeof value);
    return value;
  }
  template <typename T>
  void set(std::size_t offset, T value) {
    std::memcpy(memory_ + offset, &value, sizeof value);
  }
  void set_descriptor(std::size_t table, std::size_t index, std::uint64_t address, std::uint32_t size,
                      std::uint16_t flags, std::uint16_t next = 0) {
    set(table + 16 * index, address);
    set(table + 16 * index + 8, size);
    set(table + 16 * index + 12, flags);
    set(table + 16 * index + 14, next);
  }
  // Makes the chain that starts at descriptor `head` available.
  void offer(std::size_t ring, std::uint16_t head) {
    Ring& r = rings[ring];
    set(r.avail + 4 + 2 * (r.next_avail % ring_size), head);
    ++r.next_avail;
    __atomic_store_n(reinterpret_cast<std::uint16_t*>(memory_ + r.avail + 2), r.next_avail, __ATOMIC_RELEASE);
  }
  // Offers buffer `number` (less than ring_size) of buffer_size bytes, or less, to receive into.
  void offer_buffer(std::uint16_t number, std::uint32_t size = buffer_size) {
    set_descriptor(rings[0].desc, number, guest_base + buffer(0, number), size, 2);
    offer(0, number);
  }
  void offer_all_buffers() {
    for (std::uint16_t i = 0; i < ring_size; ++i) offer_buffer(i);
  }
  // Sends `frame` out of buffer `number`, in pieces of `piece` bytes.
  void send(std::uint16_t number, const std::string& frame, std::size_t piece = buffer_size) {
    const std::string bytes = std::string(header_size, '\0') + frame;
    const std::size_t at = buffer(1, number);
    std::memcpy(memory_ + at, bytes.data(), bytes.size());
    std::uint16_t descriptor = number;
    for (std::size_t done = 0; done < bytes.size(); done += piece) {
      const std::size_t part = std::min(piece, bytes.size() - done);
      const bool last = done + part == bytes.size();
      const auto next = static_cast<std::uint16_t>((descriptor + 1) % ring_size);
      set_descriptor(rings[1].desc, descriptor, guest_base + at + done, static_cast<std::uint32_t>(part), last ? 0 : 1,
                     next);
      descriptor = next;
    }
    offer(1, number);
  }
  // The next used entry of a ring: id and written bytes.
  struct Used {
    std::uint32_t id, written;
  };
  std::optional<Used> reap(std::size_t ring) {
    Ring& r = rings[ring];
    const auto used = __atomic_load_n(reinterpret_cast<std::uint16_t*>(memory_ + r.used + 2), __ATOMIC_ACQUIRE);
    if (used == r.last_used) return std::nullopt;
    const std::size_t at = r.used + 4 + 8 * (r.last_used++ % ring_size);
    return Used{get<std::uint32_t>(at), get<std::uint32_t>(at + 4)};
  }
  // The next received frame, put together from as many buffers as its header says.
  std::optional<std::string> receive() {
    const auto first = reap(0);
    if (!first) return std::nullopt;
    std::string bytes = text(buffer(0, first->id), first->written);
    for (auto left = get<std::uint16_t>(buffer(0, first->id) + 10); left > 1; --left) {
      const auto more = reap(0);
      if (!more) return std::nullopt;
      bytes += text(buffer(0, more->id), more->written);
    }
    return bytes.substr(header_size);
  }
  [[nodiscard]] std::uint64_t calls(std::size_t ring) const {
    std::uint64_t count = 0;
    return read(call_[ring].get(), &count, sizeof count) == sizeof count ? count : 0;
  }
  void truncate() {
    if (ftruncate(fd_.get(), 0) != 0) std::abort();
  }
  [[nodiscard]] std::size_t buffer(std::size_t ring, std::size_t number) const {
    return 0x40000 + (ring * ring_size + number) * buffer_stride;
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

  std::array<Ring, 2> rings;

 private:
  [[nodiscard]] std::string text(std::size_t at, std::size_t size) const {
    return {reinterpret_cast<const char*>(memory_ + at), size};
  }
  std::uint64_t features_;
  UniqueFd fd_;
  std::uint8_t* memory_ = nullptr;
  std::array<UniqueFd, 2> kick_, call_;
};

}  // namespace patchbay::test
