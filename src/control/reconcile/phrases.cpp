#include "control/reconcile/phrases.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/vmq/queues.h"

namespace patchbay::reconcile {

std::string some_of(const std::vector<std::string>& all) {
  constexpr std::size_t shown_max = 6;
  const std::size_t shown = std::min(all.size(), shown_max);
  std::string text = fmt::format("{}", fmt::join(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (all.size() > shown) text += fmt::format(" and {} more", all.size() - shown);
  return text;
}

std::string nic_mtu_phrase(const model::Switch& on, const model::Nic& nic) {
  if (nic.mtu >= on.mtu) return "";
  return fmt::format(
      "nic {0} has mtu {1}, switch {2} has {3}: frames with more than {1} bytes of layer 3 are lost, those "
      "to the wire as uplink_refused; `ip link set {0} mtu {3}`, or `patchbay switch set {2} --mtu {1}`",
      nic.name, nic.mtu, on.name, on.mtu);
}

const char* queue_model_of(const model::Team& team) noexcept {
  return vmq::is_sum_of_queues(team) ? "sum-of-queues" : "min-queues";
}

}  // namespace patchbay::reconcile
