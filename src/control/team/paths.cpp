#include "control/team/paths.h"

#include <algorithm>
#include <numeric>

namespace patchbay::team {
namespace {

using dataplane::team_buckets;
using dataplane::team_no_member;

// How many buckets each member is to have: by weight, what is left over to the first ones.
std::vector<std::size_t> shares_of(const Weights& weights) {
  const std::uint64_t total = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  std::vector<std::size_t> shares(weights.size(), 0);
  if (total == 0) return shares;
  std::size_t given = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    shares[i] = static_cast<std::size_t>(team_buckets * std::uint64_t{weights[i]} / total);
    if (weights[i] != 0 && shares[i] == 0) shares[i] = 1;
    given += shares[i];
  }
  for (std::size_t i = 0; given < team_buckets; i = (i + 1) % weights.size()) {
    if (weights[i] == 0) continue;
    ++shares[i];
    ++given;
  }
  for (; given > team_buckets; --given) --*std::max_element(shares.begin(), shares.end());
  return shares;
}

}  // namespace

dataplane::TeamPaths make_paths(const Weights& weights, const dataplane::TeamPaths& before) {
  dataplane::TeamPaths paths = no_paths();
  std::vector<std::size_t> left = shares_of(weights);
  // With an even hand: of a member that has too many, every so-many-th bucket goes.
  std::vector<std::size_t> had(weights.size(), 0);
  for (const std::uint8_t member : before.senders) {
    if (member < weights.size()) ++had[member];
  }
  std::vector<std::size_t> seen(weights.size(), 0);
  const std::vector<std::size_t> shares = left;
  for (std::size_t i = 0; i < team_buckets; ++i) {
    const std::uint8_t member = before.senders[i];
    if (member >= weights.size()) continue;
    const std::size_t at = seen[member]++;
    const std::size_t kept = std::min(shares[member], had[member]);
    const bool stays = (at + 1) * kept / had[member] != at * kept / had[member];
    if (!stays) continue;
    paths.senders[i] = member;
    --left[member];
  }
  std::size_t next = 0;
  for (std::uint8_t& sender : paths.senders) {
    if (sender != team_no_member) continue;
    for (std::size_t tried = 0; tried < left.size() && left[next] == 0; ++tried) next = (next + 1) % left.size();
    if (left.empty() || left[next] == 0) break;
    sender = static_cast<std::uint8_t>(next);
    --left[next];
    next = (next + 1) % left.size();
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    paths.receives |= std::uint32_t{1} << i;
    if (paths.primary == team_no_member) paths.primary = static_cast<std::uint8_t>(i);
  }
  if (before.primary < weights.size() && weights[before.primary] != 0) paths.primary = before.primary;
  return paths;
}

dataplane::TeamPaths renumbered(dataplane::TeamPaths paths, const std::vector<std::uint8_t>& now_at) {
  const auto number = [&](std::uint8_t old) { return old < now_at.size() ? now_at[old] : team_no_member; };
  for (std::uint8_t& sender : paths.senders) sender = number(sender);
  paths.primary = number(paths.primary);
  std::uint32_t receives = 0;
  for (std::size_t i = 0; i < now_at.size(); ++i) {
    if ((paths.receives >> i & 1) != 0 && now_at[i] != team_no_member) receives |= std::uint32_t{1} << now_at[i];
  }
  paths.receives = receives;
  return paths;
}

std::uint8_t home_of(MacAddr mac, model::TeamBalance balance, const dataplane::TeamPaths& paths) {
  if (balance == model::TeamBalance::address_hash) return paths.primary;
  return paths.senders[dataplane::team_bucket_of(mac)];
}

}  // namespace patchbay::team
