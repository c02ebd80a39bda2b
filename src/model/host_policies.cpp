// Of model/host.h, what is about policies and the settings of the host as a whole.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/host.h"
#include "model/name.h"

namespace patchbay::model {
namespace {

// `host` with `put` among its policies, if it goes with everything else.
Result<Host> with_policy(Host host, const Policy& put) {
  if (auto ok = check_policy(host, put); !ok) return fail(ok.error());
  host.policies.insert_or_assign(put.name, put);
  const PolicyIndex index(host.policies);
  auto found = disagreement(index);
  for (auto vnic = host.vnics.begin(); vnic != host.vnics.end() && !found; ++vnic) {
    found = disagreement(index, vnic->second);
  }
  if (found) return fail(ErrorCode::in_use, fmt::format("policy {}: {}", put.name, describe(*found)));
  return host;
}

}  // namespace

Result<void> check_policy(const Host& host, const Policy& checked) {
  if (auto ok = check(checked); !ok) return ok;
  for (const PolicyTarget& target : checked.apply_to) {
    if (target.kind != TargetKind::switch_) continue;
    if (auto ok = find_switch(host, target.name); !ok) {
      return fail(ok.error().code, fmt::format("policy {}: {}", checked.name, ok.error().message));
    }
  }
  return {};
}

Result<const Policy*> find_policy(const Host& host, const std::string& name) {
  const auto found = host.policies.find(name);
  if (found != host.policies.end()) return &found->second;
  if (auto ok = check_name("policy", name); !ok) return fail(ok.error());
  return fail(ErrorCode::not_found,
              fmt::format("policy {} does not exist; `patchbay policy list` shows what there is", name));
}

Result<Host> add_policy(Host host, const Policy& added) {
  if (host.policies.contains(added.name)) {
    return fail(ErrorCode::exists,
                fmt::format("policy {} exists already; choose another name, or change it with `patchbay policy set {}`",
                            added.name, added.name));
  }
  return with_policy(std::move(host), added);
}

Result<Host> set_policy(Host host, const Policy& changed) {
  if (auto found = find_policy(host, changed.name); !found) return fail(found.error());
  return with_policy(std::move(host), changed);
}

Result<Host> remove_policy(Host host, const std::string& name) {
  const auto found = find_policy(host, name);
  if (!found) return fail(found.error());
  std::vector<std::string> targets;
  for (const PolicyTarget& target : (*found)->apply_to) targets.push_back(describe(target));
  if (!targets.empty()) {
    constexpr std::ptrdiff_t shown_max = 10;
    const auto count = static_cast<std::ptrdiff_t>(targets.size());
    const auto shown = std::min(count, shown_max);
    return fail(ErrorCode::in_use,
                fmt::format("policy {} applies to {}{}; `patchbay policy set {} --apply-to none` first", name,
                            fmt::join(targets.begin(), targets.begin() + shown, ", "),
                            count > shown ? fmt::format(" and {} more", count - shown) : "", name));
  }
  host.policies.erase(name);
  return host;
}

std::map<std::string, std::vector<std::string>> vnics_by_policy(const Host& host) {
  std::map<std::string, std::vector<std::string>> names;
  const PolicyIndex index(host.policies);
  for (const auto& [name, vnic] : host.vnics) {
    if (vnic.kind == VnicKind::host) continue;
    const BufferInForce buffer = buffer_in_force(index, host.switches.at(vnic.switch_name), vnic);
    std::set<std::string> users;
    for_each_setting([&](const char*, auto, auto, auto source) {
      if ((buffer.*source).level == Level::policy) users.insert((buffer.*source).policy);
    });
    for (const std::string& policy : users) names[policy].push_back(name);
  }
  return names;
}

Result<Host> set_settings(Host host, const HostSettings& settings) {
  const auto& limit = settings.buffer_limit_bytes;
  if (limit && (*limit < buffer_limit_min || *limit > buffer_limit_max)) {
    return fail(ErrorCode::invalid,
                fmt::format("host: buffer limit {} is out of range; give {} to {}", buffer_limit_text(*limit),
                            buffer_limit_text(buffer_limit_min), buffer_limit_text(buffer_limit_max)));
  }
  host.settings = settings;
  return host;
}

}  // namespace patchbay::model
