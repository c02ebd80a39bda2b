#include "dataplane/worker/lane.h"

#include <algorithm>
#include <cstring>

namespace patchbay::dataplane {

std::uint32_t Lane::room(std::size_t wanted) noexcept {
  if (size - (packed_ - seen_released_) < wanted) seen_released_ = released_.load(std::memory_order_acquire);
  return size - (packed_ - seen_released_);
}

Parcel& Lane::pack(const Frame& frame, Port& from) noexcept {
  Parcel& parcel = parcels_[packed_++ % size];
  parcel.from = &from;
  parcel.to = nullptr;
  parcel.snapshot = nullptr;
  parcel.cut_sent = 0;
  parcel.frame = frame;
  Frame& packed = parcel.frame;
  packed.head = parcel.head.data();
  packed.head_size = std::min(frame.head_size, static_cast<std::uint32_t>(head_size_max));
  packed.rest = parcel.segments.data();
  packed.rest_count = 0;
  std::memcpy(parcel.head.data(), frame.head, packed.head_size);
  if (packed.head_size != frame.head_size) {
    parcel.segments[packed.rest_count++] = {frame.head + packed.head_size, frame.head_size - packed.head_size};
  }
  for (std::size_t i = 0; i < frame.rest_count; ++i) {
    parcel.segments[packed.rest_count++] = frame.rest[i];
  }
  return parcel;
}

}  // namespace patchbay::dataplane
