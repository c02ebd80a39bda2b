// The JSON of everything that the API answers with. Field order is the order that people read in.
#pragma once
#include <nlohmann/json.hpp>

#include "control/reconcile/service.h"

namespace patchbay::api {

using Json = nlohmann::ordered_json;

[[nodiscard]] Json to_json(const reconcile::FdbRow& row);
[[nodiscard]] Json to_json(const reconcile::NicView& view);
[[nodiscard]] Json to_json(const reconcile::SwitchView& view);
[[nodiscard]] Json to_json(const reconcile::TeamView& view);
[[nodiscard]] Json to_json(const reconcile::VnicView& view);
[[nodiscard]] Json to_json(const reconcile::VmqView& view);
[[nodiscard]] Json to_json(const reconcile::PolicyView& view);
[[nodiscard]] Json to_json(const reconcile::SettingsView& view);
[[nodiscard]] Json to_json(const dataplane::WorkerStats& stats);

// A JSON array of `views`, each through to_json().
template <typename Views>
[[nodiscard]] Json to_json_array(const Views& views) {
  Json array = Json::array();
  for (const auto& view : views) array.push_back(to_json(view));
  return array;
}

}  // namespace patchbay::api
