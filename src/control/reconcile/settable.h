// A switch, a vnic, a team, a policy or the host's settings as a document: the fields that an administrator sets, as JSON, under
// the names of the API.
//
// Theory  One writer for all that is written of an object: `export`, and before and after in the audit. api/specs.h is
//         the one reader, for POST and for `apply`. What is written is read back to the same object, and has exactly
//         the fields that openapi.yaml has in SwitchCreate, VnicCreate, TeamCreate, PolicyCreate (but the name) and
//         HostSettings: tests hold the three together.
#pragma once
#include <nlohmann/json.hpp>

#include "model/host.h"

namespace patchbay::reconcile {

// Fields that are not set are not there.
[[nodiscard]] nlohmann::ordered_json settable(const model::VlanMode& mode);
[[nodiscard]] nlohmann::ordered_json settable(const model::Switch& on);
[[nodiscard]] nlohmann::ordered_json settable(const model::Vnic& vnic);
[[nodiscard]] nlohmann::ordered_json settable(const model::Team& team);
[[nodiscard]] nlohmann::ordered_json settable(const model::Policy& policy);
[[nodiscard]] nlohmann::ordered_json settable(const model::HostSettings& settings);

}  // namespace patchbay::reconcile
