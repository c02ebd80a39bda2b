// Forwarding database: behind which port each (VLAN, address) of one switch was last heard of. Only what may move is in
// it: addresses behind vnics with MAC spoofing, and on the wire. A vnic's own address is pinned and never learned.
//
// Theory  Buckets of eight entries, a cache line of keys and one of values; an address may lie in either of two buckets, and
//         goes into the one with more room, which lets a table that is half full find room for every address (at four entries a bucket
//         some found none), without chains to walk or to mend. A sighting refreshes an entry's time
//         at most once a second. Entries name their port by the id of its Learner, which is used once: when a port
//         goes, or its mode changes, its entries mean nothing any more and their places are free, without a sweep.
//         Nothing runs on a timer: an entry is too old when somebody looks, and its place is taken when it is needed.
//         Each learner has a limit, so that one guest with many addresses cannot push out the others'.
// Limits  entries_max, and each learner's. Where there is no room an address is not learned (counted), and frames for it
//         go where frames for unknown addresses go. ageing_s seconds without a sighting, and an entry is forgotten.
// Threads Any. One learns at a time: a worker that finds another one at it leaves the sighting out, and learns from the
//         next frame. lookup() and entries() read beside it, and take an entry that is being replaced for none.
// Source  IEEE 802.1Q-2018, 8.7 (learning) and 8.8 (the FDB); two choices: Mitzenmacher, 2001.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/mac_addr.h"

namespace patchbay::forwarding {

class SwitchTable;
using LearnerId = std::uint32_t;  // not zero, never used twice
using Seconds = std::uint32_t;    // of a clock that does not jump; wraps after 136 years

inline constexpr Seconds ageing_s = 300;

// That clock now. Read from the page that the kernel shares with all: no system call.
[[nodiscard]] Seconds seconds_now() noexcept;

// A port's share of an Fdb. Control makes and keeps it; the worker writes the counts.
class Learner {
 public:
  Learner(LearnerId id, std::uint32_t limit) noexcept : id_(id), limit_(limit) {}
  [[nodiscard]] LearnerId id() const noexcept { return id_; }
  [[nodiscard]] std::uint32_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }

 private:
  friend class Fdb;
  const LearnerId id_;
  const std::uint32_t limit_;
  std::atomic<std::uint32_t> count_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
};

enum class Learned : std::uint8_t { fresh, moved, refreshed, full, left_out };

class Fdb {
 public:
  static constexpr std::uint32_t entries_max_max = 1U << 20;

  // Room for `entries_max` (1 to entries_max_max) addresses, allocated here and never again.
  explicit Fdb(std::uint32_t entries_max);

  // Notes that `mac`, an individual address, was heard of behind `by` in VLAN `fid`. `table` knows the other learners.
  Learned learn(std::uint16_t fid, std::uint64_t mac, Learner& by, Seconds now, const SwitchTable& table) noexcept;

  // Hint: learn() or lookup() of it is about to be called.
  void prefetch(std::uint16_t fid, std::uint64_t mac) const noexcept;

  // Behind whom `mac` is; nothing if that is not known, or not any more.
  [[nodiscard]] std::optional<LearnerId> lookup(std::uint16_t fid, std::uint64_t mac, Seconds now) const noexcept;

  struct View {
    std::uint16_t fid = 0;
    MacAddr mac;
    LearnerId learner = 0;
    Seconds age = 0;
  };
  // Everything that lookup() would find.
  [[nodiscard]] std::vector<View> entries(Seconds now) const;

 private:
  static constexpr std::size_t ways = 8;
  using Words = std::array<std::atomic<std::uint64_t>, ways>;
  // A cache line of keys, all that a look into the wrong bucket needs, and one of values.
  struct alignas(64) Bucket {
    Words keys{};    // fid and address; 0: free
    Words values{};  // learner and time of the last sighting
  };
  struct Entry {
    std::atomic<std::uint64_t>& key;
    std::atomic<std::uint64_t>& value;
  };
  struct Place {
    Bucket* bucket = nullptr;  // the address's own, or the one to take a place in; null: no room
    std::size_t way = 0;
    bool found = false;
    [[nodiscard]] Entry entry() const noexcept { return {bucket->keys[way], bucket->values[way]}; }
  };

  [[nodiscard]] static unsigned matches_in(const Words& keys, std::uint64_t key) noexcept;
  // The value of `key`; 0: there is none.
  [[nodiscard]] std::uint64_t find(std::uint64_t key) const noexcept;
  [[nodiscard]] std::array<std::size_t, 2> buckets_of(std::uint64_t key) const noexcept;
  [[nodiscard]] Place find_place(std::uint64_t key, Seconds now, const SwitchTable& table) noexcept;
  // An entry's value says so.
  [[nodiscard]] static bool is_dead(std::uint64_t value, Seconds now, const SwitchTable& table) noexcept;
  // Takes the entry off its learner's count, if that is still there.
  static void release(Entry entry, const SwitchTable& table) noexcept;
  // Frees dead entries of the next few buckets.
  void sweep(Seconds now, const SwitchTable& table) noexcept;
  static Learned refuse(Learner& by) noexcept;

  // learn(), with nobody else at it.
  Learned learn_alone(std::uint64_t key, Learner& by, Seconds now, const SwitchTable& table) noexcept;

  std::unique_ptr<Bucket[]> buckets_;
  std::atomic_flag busy_;  // somebody learns
  std::size_t mask_ = 0;
  std::size_t swept_ = 0;  // the bucket that sweep() goes on with
};

}  // namespace patchbay::forwarding
