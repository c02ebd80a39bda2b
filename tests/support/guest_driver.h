// A guest's driver without a guest: memory in a memfd and the driver's side of two rings in it, or of more pairs, packed
// ones if that is among its features, else split ones. Tests use it as a well-behaved peer, and reach into its memory to misbehave.
#pragma once
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "dataplane/dataplane.h"
#include "dataplane/frame/frame.h"

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

  static constexpr std::uint64_t feature_packed = std::uint64_t{1} << 34;

  // A place in a packed ring.
  struct Place {
    std::uint16_t index = 0;
    bool wrap = true;
    void advance(std::uint16_t slots, std::uint16_t size) {
      if (index + slots >= size) wrap = !wrap;
      index = static_cast<std::uint16_t>((index + slots) % size);
    }
    [[nodiscard]] std::uint16_t raw() const { return static_cast<std::uint16_t>(index | (wrap ? 0x8000 : 0)); }
  };
  struct Ring {
    std::size_t desc, avail, used;  // offsets in the memory; packed: descriptors, driver's and device's event area
    std::uint16_t next_avail = 0;   // split
    std::uint16_t last_used = 0;
    Place offers, returns;                     // packed
    std::array<std::uint16_t, 65536> slots{};  // of each chain, by id
  };
  struct Piece {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t flags = 0;
  };

  // `size`: entries of each ring, at most ring_size. `pairs`: at most two fit into the memory.
  explicit GuestDriver(std::uint64_t features, std::uint16_t size = ring_size, std::size_t pairs = 1)
      : rings(2 * pairs), features_(features), size_(size), kick_(2 * pairs), call_(2 * pairs) {
    fd_.reset(memfd_create("guest", MFD_CLOEXEC));
    if (ftruncate(fd_.get(), memory_size) != 0) std::abort();
    memory_ = static_cast<std::uint8_t*>(mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    for (std::size_t i = 0; i < rings.size(); ++i) {
      rings[i].desc = 0x10000 * i;
      rings[i].avail = 0x10000 * i + 0x4000;
      rings[i].used = 0x10000 * i + 0x8000;
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
      link.rings[i] = {.size = size_,
                       .desc_address = front_end_base + rings[i].desc,
                       .avail_address = front_end_base + rings[i].avail,
                       .used_address = front_end_base + rings[i].used,
                       .base = packed() ? 0x80008000U : 0U,
                       .position = packed() ? 0x80008000U : 0U,
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
  // A descriptor of either kind; `more`: the next one in a split ring, the chain's id in a packed one.
  void set_descriptor(std::size_t table, std::size_t index, std::uint64_t address, std::uint32_t size,
                      std::uint16_t flags, std::uint16_t more = 0) {
    set(table + 16 * index, address);
    set(table + 16 * index + 8, size);
    set(table + 16 * index + 12, packed() ? more : flags);
    set(table + 16 * index + 14, packed() ? flags : more);
  }
  // Offers a chain, with the flags of each piece, and `next` added to all but the last. Split: in the descriptors from
  // `id` on.
  void offer_chain(std::size_t ring, std::uint16_t id, std::span<const Piece> pieces) {
    Ring& r = rings[ring];
    if (packed()) return offer_packed(r, id, pieces);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto at = static_cast<std::uint16_t>((id + i) % size_);
      const bool last = i + 1 == pieces.size();
      set_descriptor(r.desc, at, pieces[i].address, pieces[i].size,
                     static_cast<std::uint16_t>(pieces[i].flags | (last ? 0 : 1)),
                     static_cast<std::uint16_t>((at + 1) % size_));
    }
    offer(ring, id);
  }
  // Split: makes the chain that starts at descriptor `head` available.
  void offer(std::size_t ring, std::uint16_t head) {
    Ring& r = rings[ring];
    set(r.avail + 4 + 2 * (r.next_avail % size_), head);
    ++r.next_avail;
    __atomic_store_n(reinterpret_cast<std::uint16_t*>(memory_ + r.avail + 2), r.next_avail, __ATOMIC_RELEASE);
  }
  // Offers buffer `number` (less than ring_size) of buffer_size bytes, or less, to receive into.
  void offer_buffer(std::uint16_t number, std::uint32_t size = buffer_size) {
    const Piece piece = {guest_base + buffer(2 * pair, number), size, 2};
    offer_chain(2 * pair, number, {&piece, 1});
  }
  void offer_all_buffers() {
    for (std::uint16_t i = 0; i < size_; ++i) offer_buffer(i);
  }
  // Sends `frame` out of buffer `number`, and those that follow if it is larger, in pieces of `piece` bytes.
  void send(std::uint16_t number, const std::string& frame, std::size_t piece = buffer_size,
            const dataplane::VnetHeader& header = {}) {
    const std::string bytes = std::string(reinterpret_cast<const char*>(&header), header_size) + frame;
    const std::size_t at = buffer(2 * pair + 1, number);
    std::memcpy(memory_ + at, bytes.data(), bytes.size());
    std::vector<Piece> pieces;
    for (std::size_t done = 0; done < bytes.size(); done += piece) {
      pieces.push_back({guest_base + at + done, static_cast<std::uint32_t>(std::min(piece, bytes.size() - done))});
    }
    offer_chain(2 * pair + 1, number, pieces);
  }
  // The next used entry of a ring: id and written bytes.
  struct Used {
    std::uint32_t id, written;
  };
  std::optional<Used> reap(std::size_t ring) {
    Ring& r = rings[ring];
    if (packed()) return reap_packed(r);
    const auto used = __atomic_load_n(reinterpret_cast<std::uint16_t*>(memory_ + r.used + 2), __ATOMIC_ACQUIRE);
    if (used == r.last_used) return std::nullopt;
    const std::size_t at = r.used + 4 + 8 * (r.last_used++ % size_);
    return Used{get<std::uint32_t>(at), get<std::uint32_t>(at + 4)};
  }
  // The next received frame, put together from as many buffers as its header says.
  std::optional<std::string> receive() {
    const std::size_t ring = 2 * pair;
    const auto first = reap(ring);
    if (!first) return std::nullopt;
    std::string bytes = text(buffer(ring, first->id), first->written);
    for (auto left = get<std::uint16_t>(buffer(ring, first->id) + 10); left > 1; --left) {
      const auto more = reap(ring);
      if (!more) return std::nullopt;
      bytes += text(buffer(ring, more->id), more->written);
    }
    std::memcpy(static_cast<void*>(&received_header), bytes.data(), header_size);
    return bytes.substr(header_size);
  }
  [[nodiscard]] std::uint64_t calls(std::size_t ring) const {
    std::uint64_t count = 0;
    return read(call_[ring].get(), &count, sizeof count) == sizeof count ? count : 0;
  }
  // Event index: to be called when the chain `ahead` places behind the next one that comes back has come back; packed: if
  // chains have one descriptor.
  void ask_for_call(std::size_t ring, std::uint16_t ahead) {
    Ring& r = rings[ring];
    if (packed()) {
      Place place = r.returns;
      place.advance(ahead, size_);
      set(r.avail, place.raw() | std::uint32_t{2} << 16);
    } else {
      set(r.avail + 4 + 2 * std::size_t{size_}, static_cast<std::uint16_t>(r.last_used + ahead));
    }
  }
  // The guest's driver starts anew, as after a reboot.
  void reset() {
    for (Ring& ring : rings) {
      std::memset(memory_ + ring.desc, 0, 0xC000);
      ring.next_avail = ring.last_used = 0;
      ring.offers = ring.returns = {};
    }
  }
  void truncate() {
    if (ftruncate(fd_.get(), 0) != 0) std::abort();
  }
  [[nodiscard]] std::size_t buffer(std::size_t ring, std::size_t number) const {
    return 0x40000 + (ring * ring_size + number) * buffer_stride;
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool packed() const { return (features_ & feature_packed) != 0; }
  [[nodiscard]] std::uint16_t size() const { return size_; }
  [[nodiscard]] std::uint8_t* at(std::size_t offset) const { return memory_ + offset; }

  std::vector<Ring> rings;
  std::size_t pair = 0;                   // that offer_buffer(), send() and receive() go by
  dataplane::VnetHeader received_header;  // of the last frame that receive() gave

 private:
  static constexpr std::uint16_t flag_avail = 1 << 7;
  static constexpr std::uint16_t flag_used = 1 << 15;

  void offer_packed(Ring& r, std::uint16_t id, std::span<const Piece> pieces) {
    const Place first = r.offers;
    std::uint16_t first_flags = 0;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const bool last = i + 1 == pieces.size();
      const auto flags =
          static_cast<std::uint16_t>(pieces[i].flags | (last ? 0 : 1) | (r.offers.wrap ? flag_avail : flag_used));
      if (i == 0) first_flags = flags;
      // The first one's flags come last: until then the chain is not there.
      const auto old_flags = get<std::uint16_t>(r.desc + 16 * std::size_t{first.index} + 14);
      set_descriptor(r.desc, r.offers.index, pieces[i].address, pieces[i].size, i == 0 ? old_flags : flags, id);
      r.offers.advance(1, size_);
    }
    r.slots[id] = static_cast<std::uint16_t>(pieces.size());
    auto* const at = reinterpret_cast<std::uint16_t*>(memory_ + r.desc + 16 * std::size_t{first.index} + 14);
    __atomic_store_n(at, first_flags, __ATOMIC_RELEASE);
  }
  std::optional<Used> reap_packed(Ring& r) {
    const std::size_t at = r.desc + 16 * std::size_t{r.returns.index};
    const auto flags = __atomic_load_n(reinterpret_cast<std::uint16_t*>(memory_ + at + 14), __ATOMIC_ACQUIRE);
    if (((flags & flag_avail) != 0) != r.returns.wrap || ((flags & flag_used) != 0) != r.returns.wrap) {
      return std::nullopt;
    }
    const Used used{get<std::uint16_t>(at + 12), get<std::uint32_t>(at + 8)};
    r.returns.advance(r.slots[used.id], size_);
    return used;
  }
  [[nodiscard]] std::string text(std::size_t at, std::size_t size) const {
    return {reinterpret_cast<const char*>(memory_ + at), size};
  }
  std::uint64_t features_;
  std::uint16_t size_;
  UniqueFd fd_;
  std::uint8_t* memory_ = nullptr;
  std::vector<UniqueFd> kick_, call_;
};

}  // namespace patchbay::test
