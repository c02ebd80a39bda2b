#include "control/reconcile/counter_sums.h"

namespace patchbay::reconcile {
namespace {

// `each(a, b)` for every counter that only grows, of both.
template <typename Each>
void for_both(dataplane::PortCounters& to, const dataplane::PortCounters& other, Each each) {
  each(to.ingress.frames, other.ingress.frames);
  each(to.ingress.bytes, other.ingress.bytes);
  each(to.egress.frames, other.egress.frames);
  each(to.egress.bytes, other.egress.bytes);
  each(to.flood_copies, other.flood_copies);
  each(to.cut_frames, other.cut_frames);
  each(to.merged_frames, other.merged_frames);
  for (std::size_t i = 0; i < to.drops.size(); ++i) each(to.drops[i], other.drops[i]);
}

}  // namespace

void add(dataplane::PortCounters& to, const dataplane::PortCounters& counted) {
  for_both(to, counted, [](std::uint64_t& sum, std::uint64_t more) { sum += more; });
}

dataplane::PortCounters since(dataplane::PortCounters now, const dataplane::PortCounters& before) {
  for_both(now, before, [](std::uint64_t& left, std::uint64_t earlier) { left -= earlier; });
  return now;
}

}  // namespace patchbay::reconcile
