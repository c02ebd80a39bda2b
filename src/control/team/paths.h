// Which member carries what: a pure function of which members can.
//
// Theory  The hashes of flows and addresses fall into team_buckets buckets, and each bucket has a member. A member gets a share
//         by its speed. When a member goes only its own buckets move; when one comes it gets its share from the others,
//         and no more moves than that.
// Threads pure functions.
#pragma once
#include <cstdint>
#include <vector>

#include "dataplane/dataplane.h"
#include "model/team.h"

namespace patchbay::team {

// Of each member, its weight: its speed in Mbit/s, or 1 where that of some member is not known; 0: it carries nothing.
using Weights = std::vector<std::uint32_t>;

// `before`: what was, by the same numbers of members.
[[nodiscard]] dataplane::TeamPaths make_paths(const Weights& weights, const dataplane::TeamPaths& before);

[[nodiscard]] constexpr dataplane::TeamPaths no_paths() {
  dataplane::TeamPaths paths{};
  paths.senders.fill(dataplane::team_no_member);
  return paths;
}

// `paths` with the members' new numbers: `now_at[old]`, or team_no_member for one that is gone.
[[nodiscard]] dataplane::TeamPaths renumbered(dataplane::TeamPaths paths, const std::vector<std::uint8_t>& now_at);

// The member where frames for `mac` arrive, and from where it sends what says where it is.
[[nodiscard]] std::uint8_t home_of(MacAddr mac, model::TeamBalance balance, const dataplane::TeamPaths& paths);

}  // namespace patchbay::team
