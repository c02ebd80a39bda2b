// Steps of reconciling, taken as done.
#pragma once
#include <utility>
#include <variant>
#include <vector>

#include "control/reconcile/plan.h"

namespace patchbay::test {

// What the data plane has after all of `steps` succeeded.
inline reconcile::Actual after(reconcile::Actual actual, const std::vector<reconcile::Step>& steps) {
  using namespace reconcile;
  struct Apply {
    Actual& to;
    void operator()(const Publish& s) { to.published = s.layout; }
    void operator()(const OpenUplink& s) { to.uplinks[s.nic] = {s.index, std::nullopt, s.choice, {}}; }
    void operator()(const SetCarrier& s) { to.uplinks.at(s.nic).carrier = s.up; }
    void operator()(const CloseUplink& s) { to.uplinks.erase(s.nic); }
    void operator()(const OpenGuestPort& s) { to.guests[s.vnic] = std::nullopt; }
    void operator()(const CloseGuestPort& s) { to.guests.erase(s.vnic); }
    void operator()(const OpenEndpoint& s) { to.guests.at(s.vnic) = s.plan; }
    void operator()(const CloseEndpoint& s) { to.guests.at(s.vnic) = std::nullopt; }
    void operator()(const OpenHostPort& s) { to.hosts[s.vnic] = s.plan; }
    void operator()(const SetHostPortMtu& s) { to.hosts.at(s.vnic).mtu = s.mtu; }
    void operator()(const CloseHostPort& s) {
      to.hosts.erase(s.vnic);
      to.shares.erase(s.vnic);
    }
    void operator()(const SetBufferLimit& s) { to.buffer_limit_bytes = s.bytes; }
    void operator()(const ShareNic& s) { to.shares[s.vnic] = s.plan; }
    void operator()(const OpenTeam& s) { to.teams[s.team] = {}; }
    void operator()(const SetTeamLink& s) { to.teams.at(s.team).links[s.nic] = s.link; }
    void operator()(const SetTeam& s) { to.teams.at(s.team).set(s.settings, s.members); }
    void operator()(const CloseTeam& s) { to.teams.erase(s.team); }
  };
  for (const reconcile::Step& step : steps) std::visit(Apply{actual}, step);
  return actual;
}

}  // namespace patchbay::test
