#include "control/reconcile/offload_keeper.h"

#include <spdlog/spdlog.h>

#include <set>
#include <vector>

namespace patchbay::reconcile {

using model::NicOffload;
using model::OffloadState;

namespace {

bool bears(OffloadNeed need, NicOffload offload) noexcept {
  return need == OffloadNeed::none || (need == OffloadNeed::gro_off && offload != NicOffload::gro);
}

}  // namespace

Result<void> OffloadKeeper::load() {
  auto loaded = store_.load_switched_off();
  if (!loaded) return fail(loaded.error());
  switched_off_ = std::move(*loaded);
  return {};
}

Result<void> OffloadKeeper::keep(const std::string& nic, OffloadNeed need) {
  give_back(nic, need);
  if (need == OffloadNeed::none) return {};
  const auto found = nics_.nics().find(nic);
  if (found == nics_.nics().end()) return fail(ErrorCode::not_found, "nic " + nic + " does not exist");
  std::set<NicOffload> on;
  for (const NicOffload offload : model::nic_offloads) {
    const OffloadState state = found->second.offload(offload);
    const bool is_on = state == OffloadState::on || state == OffloadState::on_fixed;
    if (is_on && !bears(need, offload)) on.insert(offload);
  }
  if (on.empty()) return {};
  std::set<NicOffload> all = on;
  if (const auto before = switched_off_.find(nic); before != switched_off_.end()) {
    all.insert(before->second.begin(), before->second.end());
  }
  if (auto saved = store_.save_switched_off(nic, all); !saved) return saved;
  switched_off_[nic] = std::move(all);
  for (const NicOffload offload : on) {
    if (auto off = nics_.set_offload(nic, offload, false); !off) return off;
    spdlog::info("nic {}: {} is off while {}", nic, to_string(offload),
                 need == OffloadNeed::all_off ? "AF_XDP uses it" : "its switch has gro off");
  }
  return {};
}

void OffloadKeeper::give_back(const std::string& nic, OffloadNeed need) {
  const auto found = switched_off_.find(nic);
  if (found == switched_off_.end()) return;
  std::set<NicOffload> left;
  const auto here = nics_.nics().find(nic);
  for (const NicOffload offload : found->second) {
    if (!bears(need, offload)) {
      left.insert(offload);
      continue;
    }
    if (here == nics_.nics().end() || here->second.offload(offload) == OffloadState::on) continue;
    const auto on = nics_.set_offload(nic, offload, true);
    if (on) {
      spdlog::info("nic {}: {} is on again", nic, to_string(offload));
    } else {
      spdlog::warn("{}; `ethtool -K {} …` puts it right", on.error().message, nic);
      left.insert(offload);
    }
  }
  if (left == found->second) return;
  if (auto saved = store_.save_switched_off(nic, left); !saved) {
    spdlog::warn("nic {}: {}; its offloads are switched on once more at the next start", nic, saved.error().message);
  }
  if (left.empty()) {
    switched_off_.erase(nic);
  } else {
    switched_off_[nic] = std::move(left);
  }
}

void OffloadKeeper::give_back_unless(const std::function<bool(const std::string& nic)>& in_use) {
  std::vector<std::string> unused;
  for (const auto& [nic, offloads] : switched_off_) {
    if (!in_use(nic)) unused.push_back(nic);
  }
  for (const std::string& nic : unused) give_back(nic, OffloadNeed::none);
}

}  // namespace patchbay::reconcile
