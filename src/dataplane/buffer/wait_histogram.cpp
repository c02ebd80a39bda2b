#include "dataplane/buffer/wait_histogram.h"

#include <algorithm>

namespace patchbay::dataplane {

std::uint64_t WaitHistogram::quantile(std::uint64_t total, unsigned percent) const noexcept {
  const std::uint64_t wanted = (total * percent + 99) / 100;
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < buckets; ++bucket) {
    seen += counts_[bucket].get();
    if (seen >= wanted) return std::min(end_of(bucket), max_.get());
  }
  return max_.get();
}

BufferWaits WaitHistogram::summary() const noexcept {
  BufferWaits waits;
  for (const Counter& count : counts_) waits.frames += count.get();
  if (waits.frames == 0) return waits;
  waits.p50_ns = quantile(waits.frames, 50);
  waits.p99_ns = quantile(waits.frames, 99);
  waits.max_ns = max_.get();
  return waits;
}

}  // namespace patchbay::dataplane
