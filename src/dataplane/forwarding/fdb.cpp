#include "dataplane/forwarding/fdb.h"

#include <bit>
#include <ctime>

#include "base/prefetch.h"
#include "dataplane/forwarding/tables.h"

namespace patchbay::forwarding {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::uint64_t mac_mask = 0xFFFFFFFFFFFF;

std::uint64_t key_of(std::uint16_t fid, std::uint64_t mac) noexcept {
  return std::uint64_t{fid} << 48 | mac;
}
std::uint64_t value_of(LearnerId learner, Seconds seen) noexcept {
  return std::uint64_t{learner} << 32 | seen;
}
LearnerId learner_of(std::uint64_t value) noexcept {
  return static_cast<LearnerId>(value >> 32);
}
Seconds seen_of(std::uint64_t value) noexcept {
  return static_cast<Seconds>(value);
}
bool is_old(std::uint64_t value, Seconds now) noexcept {
  return now - seen_of(value) > ageing_s;
}

// The finalizer of MurmurHash3: every bit of the key moves every bit of the result.
std::uint64_t mix(std::uint64_t key) noexcept {
  key ^= key >> 33;
  key *= 0xFF51AFD7ED558CCD;
  key ^= key >> 33;
  key *= 0xC4CEB9FE1A85EC53;
  return key ^ key >> 33;
}

}  // namespace

Seconds seconds_now() noexcept {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<Seconds>(now.tv_sec);
}

Fdb::Fdb(std::uint32_t entries_max) {
  // Twice the room, for the buckets fill unevenly.
  const std::size_t count = std::bit_ceil((std::size_t{entries_max} * 2 + ways - 1) / ways);
  buckets_ = std::make_unique<Bucket[]>(count);
  mask_ = count - 1;
}

std::array<std::size_t, 2> Fdb::buckets_of(std::uint64_t key) const noexcept {
  const std::uint64_t hash = mix(key);
  return {static_cast<std::size_t>(hash) & mask_, static_cast<std::size_t>(hash >> 32) & mask_};
}

bool Fdb::is_dead(std::uint64_t value, Seconds now, const SwitchTable& table) noexcept {
  return is_old(value, now) || table.learning_port(learner_of(value)) == nullptr;
}

void Fdb::release(Entry entry, const SwitchTable& table) noexcept {
  if (entry.key.load(relaxed) == 0) return;
  const auto* const port = table.learning_port(learner_of(entry.value.load(relaxed)));
  if (port != nullptr) port->learner->count_.store(port->learner->count() - 1, relaxed);
  entry.key.store(0, relaxed);  // before the value changes: see find()
}

// Of the two buckets the one with more room, which keeps both from filling up long before the table does.
Fdb::Place Fdb::find_place(std::uint64_t key, Seconds now, const SwitchTable& table) noexcept {
  Place place;
  std::size_t most_room = 0;
  for (const std::size_t number : buckets_of(key)) {
    Bucket& bucket = buckets_[number];
    std::size_t room = 0;
    std::size_t free = 0;
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t there = bucket.keys[way].load(relaxed);
      if (there == key) return {&bucket, way, true};
      if (there != 0 && !is_dead(bucket.values[way].load(relaxed), now, table)) continue;
      ++room;
      free = way;
    }
    if (room <= most_room) continue;
    most_room = room;
    place = {&bucket, free, false};
  }
  return place;
}

Learned Fdb::refuse(Learner& by) noexcept {
  by.refused_.store(by.refused() + 1, relaxed);
  return Learned::full;
}

Learned Fdb::learn(std::uint16_t fid, std::uint64_t mac, Learner& by, Seconds now, const SwitchTable& table) noexcept {
  const std::uint64_t key = key_of(fid, mac);
  // Nearly every sighting: nothing new in this second.
  if (find(key) == value_of(by.id(), now)) return Learned::refreshed;
  if (busy_.test_and_set(std::memory_order_acquire)) return Learned::left_out;
  const Learned learned = learn_alone(key, by, now, table);
  busy_.clear(std::memory_order_release);
  return learned;
}

Learned Fdb::learn_alone(std::uint64_t key, Learner& by, Seconds now, const SwitchTable& table) noexcept {
  const Place place = find_place(key, now, table);
  if (place.found) {
    const std::uint64_t value = place.entry().value.load(relaxed);
    if (learner_of(value) == by.id()) {
      if (seen_of(value) != now) place.entry().value.store(value_of(by.id(), now), relaxed);
      return Learned::refreshed;
    }
  }
  if (by.count() >= by.limit()) sweep(now, table);
  if (place.bucket == nullptr || by.count() >= by.limit()) return refuse(by);
  release(place.entry(), table);
  place.entry().value.store(value_of(by.id(), now), std::memory_order_release);
  place.entry().key.store(key, std::memory_order_release);
  by.count_.store(by.count() + 1, relaxed);
  return place.found ? Learned::moved : Learned::fresh;
}

void Fdb::sweep(Seconds now, const SwitchTable& table) noexcept {
  constexpr std::size_t buckets_a_sweep = 8;
  for (std::size_t i = 0; i < buckets_a_sweep; ++i) {
    Bucket& bucket = buckets_[swept_];
    for (std::size_t way = 0; way < ways; ++way) {
      if (bucket.keys[way].load(relaxed) == 0 || !is_dead(bucket.values[way].load(relaxed), now, table)) continue;
      release({bucket.keys[way], bucket.values[way]}, table);
    }
    swept_ = (swept_ + 1) & mask_;
  }
}

// A bit for each way whose key it is.
inline unsigned Fdb::matches_in(const Words& keys, std::uint64_t key) noexcept {
  unsigned matches = 0;
#pragma GCC unroll 8
  for (std::size_t way = 0; way < ways; ++way) matches |= (keys[way].load(relaxed) == key ? 1U : 0U) << way;
  return matches;
}

std::uint64_t Fdb::find(std::uint64_t key) const noexcept {
  // In which place it is nobody can foresee, so no branch depends on that.
  const auto [first, second] = buckets_of(key);
  const unsigned matches = matches_in(buckets_[first].keys, key) | matches_in(buckets_[second].keys, key) << ways;
  if (matches == 0) return 0;
  const auto place = static_cast<std::size_t>(std::countr_zero(matches));
  const Bucket& bucket = buckets_[place < ways ? first : second];
  const std::atomic<std::uint64_t>& there = bucket.keys[place % ways];
  if (there.load(std::memory_order_acquire) != key) return 0;
  const std::uint64_t value = bucket.values[place % ways].load(std::memory_order_acquire);
  // Another address's value comes after its key was taken out.
  return there.load(relaxed) == key ? value : 0;
}

void Fdb::prefetch(std::uint16_t fid, std::uint64_t mac) const noexcept {
  for (const std::size_t number : buckets_of(key_of(fid, mac))) {
    prefetch_to_read(&buckets_[number].keys);
    prefetch_to_read(&buckets_[number].values);
  }
}

std::optional<LearnerId> Fdb::lookup(std::uint16_t fid, std::uint64_t mac, Seconds now) const noexcept {
  const std::uint64_t value = find(key_of(fid, mac));
  if (value == 0 || is_old(value, now)) return std::nullopt;
  return learner_of(value);
}

std::vector<Fdb::View> Fdb::entries(Seconds now) const {
  std::vector<View> views;
  for (std::size_t number = 0; number <= mask_; ++number) {
    const Bucket& bucket = buckets_[number];
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t key = bucket.keys[way].load(relaxed);
      const std::uint64_t value = bucket.values[way].load(relaxed);
      if (key == 0 || is_old(value, now) || bucket.keys[way].load(relaxed) != key) continue;
      views.push_back({static_cast<std::uint16_t>(key >> 48), MacAddr::from_uint64(key & mac_mask), learner_of(value),
                       now - seen_of(value)});
    }
  }
  return views;
}

}  // namespace patchbay::forwarding
