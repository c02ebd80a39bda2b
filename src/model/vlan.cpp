#include "model/vlan.h"

#include <fmt/format.h>

#include <array>

namespace patchbay::model {
namespace {

struct PrivateVlans {
  VlanId primary;
  VlanSet secondaries;
};

std::optional<PrivateVlans> private_vlans(const VlanMode& mode) {
  VlanSet one;
  if (const auto* isolated = std::get_if<Isolated>(&mode)) {
    one.insert(isolated->secondary);
    return PrivateVlans{isolated->primary, one};
  }
  if (const auto* community = std::get_if<Community>(&mode)) {
    one.insert(community->secondary);
    return PrivateVlans{community->primary, one};
  }
  if (const auto* promiscuous = std::get_if<Promiscuous>(&mode)) {
    return PrivateVlans{promiscuous->primary, promiscuous->secondaries};
  }
  return std::nullopt;
}

Result<void> check_trunk(const Trunk& trunk) {
  if (trunk.allowed.empty()) return fail(ErrorCode::invalid, "a trunk needs VLANs that it carries, like 10,20-29");
  if (trunk.native && *trunk.native && trunk.pruned.contains((*trunk.native)->raw())) {
    return fail(ErrorCode::invalid,
                fmt::format("VLAN {} is pruned, so it cannot be the native VLAN; take it off one of the two",
                            (*trunk.native)->raw()));
  }
  if (trunk.carried().empty() && !trunk.native) {
    return fail(ErrorCode::invalid, fmt::format("all of the trunk's VLANs are pruned ({}); leave some to carry",
                                                trunk.allowed.to_string()));
  }
  return {};
}

Result<void> check_private(const PrivateVlans& vlans) {
  if (vlans.secondaries.empty()) {
    return fail(ErrorCode::invalid,
                fmt::format("a promiscuous vnic of primary VLAN {} needs the secondaries it hears, like {}-{}",
                            vlans.primary.raw(), 101, 109));
  }
  if (vlans.secondaries.contains(vlans.primary.raw())) {
    return fail(ErrorCode::invalid,
                fmt::format("VLAN {} cannot be primary and secondary at once; give another one", vlans.primary.raw()));
  }
  return {};
}

}  // namespace

VlanSet Trunk::carried() const {
  VlanSet set = allowed.without(pruned);
  if (native && *native) set.insert(**native);
  return set;
}

const char* to_string(const VlanMode& mode) noexcept {
  constexpr std::array names = {"untagged", "access", "trunk", "isolated", "community", "promiscuous"};
  static_assert(names.size() == std::variant_size_v<VlanMode>);
  return names[mode.index()];
}

std::string describe(const VlanMode& mode) {
  if (const auto* access = std::get_if<Access>(&mode)) return fmt::format("VLAN {}", access->vid.raw());
  if (const auto* trunk = std::get_if<Trunk>(&mode)) return "trunk " + trunk->carried().to_string();
  if (const auto vlans = private_vlans(mode)) {
    return fmt::format("{} {}:{}", to_string(mode), vlans->primary.raw(), vlans->secondaries.to_string());
  }
  return to_string(mode);
}

Result<void> check(const VlanMode& mode) {
  if (const auto* trunk = std::get_if<Trunk>(&mode)) return check_trunk(*trunk);
  if (const auto vlans = private_vlans(mode)) return check_private(*vlans);
  return {};
}

Result<void> check_together(const VlanMode& one, const VlanMode& other) {
  const auto mine = private_vlans(one);
  const auto theirs = private_vlans(other);
  if (!mine || !theirs) return {};
  const auto both = [](std::uint16_t vid) {
    return fail(ErrorCode::invalid,
                fmt::format("VLAN {} would be primary for one and secondary for the other; give another VLAN", vid));
  };
  if (mine->secondaries.contains(theirs->primary.raw())) return both(theirs->primary.raw());
  if (theirs->secondaries.contains(mine->primary.raw())) return both(mine->primary.raw());
  const VlanSet common = mine->secondaries.common_with(theirs->secondaries);
  if (mine->primary == theirs->primary || common.empty()) return {};
  return fail(ErrorCode::invalid,
              fmt::format("secondary VLAN {} would belong to two primaries, {} and {}; a secondary belongs to one",
                          common.to_string(), mine->primary.raw(), theirs->primary.raw()));
}

}  // namespace patchbay::model
