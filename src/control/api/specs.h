// Reads a whole switch, vnic, team or policy, and the host's settings, as POST and `apply` give them. reconcile/settable.h
// writes the same fields.
//
// How a new field of a vnic comes in: model/vnic.h with its rule in model/host.cpp; VnicSpec and VnicChange in
// reconcile/service.h; one line in settable.cpp and one in specs.cpp; the column in store/; openapi.yaml. Then POST,
// `apply`, `export` and the audit have it; PATCH, the view and the CLI's option are a line each in their own files.
// One that switches and policies may give to vnics goes into the functions that the three share: model/buffer.h
// (BufferSettings, for_each_setting), reconcile::changed(), read_buffer(), put_buffer() of settable.cpp and of the CLI,
// store/rows.h.
#pragma once
#include <optional>
#include <string>

#include "control/api/fields.h"
#include "control/reconcile/service.h"

namespace patchbay::api {

// What is wrong comes out of fields.finish().
[[nodiscard]] reconcile::SwitchSpec read_switch(Fields& fields, const std::string& name);
[[nodiscard]] reconcile::VnicSpec read_vnic(Fields& fields, const std::string& name);
[[nodiscard]] model::Team read_team(Fields& fields, const std::string& name);
// All of a team that may be given, as what is to change.
[[nodiscard]] reconcile::TeamChange read_team_change(Fields& fields);
[[nodiscard]] model::Policy read_policy(Fields& fields, const std::string& name);
[[nodiscard]] model::HostSettings read_settings(Fields& fields);
[[nodiscard]] std::optional<std::uint16_t> read_mtu(Fields& fields);
[[nodiscard]] std::optional<model::UplinkDriver> read_driver(Fields& fields);
[[nodiscard]] std::optional<std::uint32_t> read_mac_limit(Fields& fields);
[[nodiscard]] std::optional<std::uint16_t> read_queues(Fields& fields);
[[nodiscard]] std::optional<std::uint32_t> read_vmq_weight(Fields& fields);
// Inner nothing: any.
[[nodiscard]] std::optional<std::optional<unsigned>> read_worker(Fields& fields);
[[nodiscard]] reconcile::BufferChange read_buffer(Fields& fields);
[[nodiscard]] std::optional<std::set<std::string>> read_labels(Fields& fields);
[[nodiscard]] std::optional<std::set<model::PolicyTarget>> read_targets(Fields& fields);

}  // namespace patchbay::api
