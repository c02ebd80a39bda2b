// Of HostService, policies and the settings of the host as a whole.
#include <fmt/format.h>

#include "control/reconcile/host_service.h"

namespace patchbay::reconcile {

// ---- Policies -------------------------------------------------------------------------------------------------------

Result<void> HostService::create_policy(const model::Policy& policy) {
  auto host = model::add_policy(state_.host, policy);
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::set_policy(const std::string& name, const PolicyChange& change) {
  const auto found = model::find_policy(state_.host, name);
  if (!found) return fail(found.error());
  auto host = model::set_policy(state_.host, changed(**found, change));
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<void> HostService::delete_policy(const std::string& name) {
  auto host = model::remove_policy(state_.host, name);
  if (!host) return fail(host.error());
  return commit({std::move(*host), state_.mac_pool});
}

Result<PolicyView> HostService::show_policy(const std::string& name) const {
  const auto found = model::find_policy(state_.host, name);
  if (!found) return fail(found.error());
  return PolicyView{**found, model::vnics_by_policy(state_.host)[name]};
}

std::vector<PolicyView> HostService::list_policies() const {
  auto vnics = model::vnics_by_policy(state_.host);
  std::vector<PolicyView> views;
  for (const auto& [name, policy] : state_.host.policies) views.push_back({policy, std::move(vnics[name])});
  return views;
}

// ---- The host as a whole --------------------------------------------------------------------------------------------

Result<void> HostService::set_settings(const HostChange& change) {
  auto host = model::set_settings(state_.host, changed(state_.host.settings, change));
  if (!host) return fail(host.error());
  if (auto ok = check_buffer_limit(host->settings); !ok) return ok;
  return commit({std::move(*host), state_.mac_pool}, {Object{ObjectKind::buffer_limit, ""}});
}

Result<void> HostService::check_buffer_limit(const model::HostSettings& next) const {
  if (next == state_.host.settings) return {};
  const std::uint64_t limit = next.buffer_limit_bytes.value_or(model::buffer_limit_default);
  const std::uint64_t used = dataplane_.buffer_use().used_bytes;
  if (limit >= used) return {};
  return fail(
      ErrorCode::in_use,
      fmt::format("host: buffer limit {} is less than the {} that buffers use now; give {} or more, or wait "
                  "until they have drained (`patchbay host show`)",
                  model::buffer_limit_text(limit), model::buffer_limit_text(used), model::buffer_limit_text(used)));
}

SettingsView HostService::show_settings() const {
  SettingsView view{state_.host.settings, dataplane_.buffer_use(), {}};
  for (const auto& [name, policy] : state_.host.policies) {
    if (policy.apply_to.contains({model::TargetKind::host, ""})) view.policies.push_back(name);
  }
  return view;
}

}  // namespace patchbay::reconcile
