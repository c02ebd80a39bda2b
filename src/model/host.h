// The whole host as the administrator wants it: every switch and every vnic, and the rules that hold among them.
//
// Theory  A plain value. Each change is a function from a host to a host: it takes a copy, checks every rule, and gives
//         the changed copy or the reason why not. So a refused change cannot leave anything half-done, and whoever
//         loads a host from outside replays it through the same functions. Rules   An External switch has exactly one
//         uplink, a NIC carries one External switch, other types have none. A Private switch has no host vnic. A MAC is
//         a station address and unique on the host. A switch with a forced VLAN has no vnic with a different one. A
//         switch with vnics, or that a policy applies to, cannot be removed. A NIC is in one team or the uplink of a switch, a
//         team carries one External switch, and one that does cannot be removed. A vnic that the host shares the NIC by goes
//         with its switch or with the sharing, and keeps the NIC's MAC. No two policies disagree about a vnic (policy.h);
//         one that applies to something cannot be removed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/policy.h"
#include "model/switch.h"
#include "model/team.h"
#include "model/vnic.h"

namespace patchbay::model {

inline constexpr std::size_t socket_path_size_max = 107;  // sockaddr_un::sun_path without its NUL

// What is set for the host as a whole; what is not there is built in.
struct HostSettings {
  std::optional<std::uint64_t> buffer_limit_bytes = {};  // memory of all buffers together: see buffer.h

  friend bool operator==(const HostSettings&, const HostSettings&) = default;
};

struct Host {
  std::map<std::string, Switch> switches = {};  // by name
  std::map<std::string, Vnic> vnics = {};       // by name
  std::map<std::string, Team> teams = {};       // by name
  std::map<std::string, Policy> policies = {};  // by name
  HostSettings settings = {};

  friend bool operator==(const Host&, const Host&) = default;
};

// The object that does not go with the others, and why.
struct Misfit {
  const char* noun;  // "switch", "vnic", "team", "policy", "host"
  std::string name;  // of the host: empty
  Error error;       // as of add_switch(), add_vnic(), add_team(), add_policy(), set_settings()
};
// All of a host at once, by the same rules as one by one, whose order does not matter then: in n log n, not n².
[[nodiscard]] tl::expected<Host, Misfit> make_host(const std::vector<Switch>& switches, const std::vector<Vnic>& vnics,
                                                   const std::vector<Team>& teams = {},
                                                   const std::vector<Policy>& policies = {},
                                                   const HostSettings& settings = {});

// Errors: invalid (a value is out of range or does not fit the type), exists (the name or the NIC is taken).
[[nodiscard]] Result<Host> add_switch(Host host, const Switch& added);
// Gives the switch called `changed.name` a new forced VLAN, MTU, driver and gro; type and uplink stay as they are.
// Errors: not_found, invalid, in_use (vnics with a different VLAN of their own).
[[nodiscard]] Result<Host> set_switch(Host host, const Switch& changed);
// Takes the host vnic that it shares its NIC by along. Errors: not_found, in_use (it has other vnics, or a policy).
[[nodiscard]] Result<Host> remove_switch(Host host, const std::string& name);
// Adds the host vnic `added`, by which the host shares the NIC of the External switch `added.switch_name`.
// Errors: as add_vnic(), and invalid (not External, not a host vnic), exists (the NIC is shared already).
[[nodiscard]] Result<Host> share_nic(Host host, const Vnic& added);
// Removes that vnic again; nothing happens if there is none. Errors: not_found.
[[nodiscard]] Result<Host> unshare_nic(Host host, const std::string& switch_name);
// For a host that was put together piece by piece. Errors: invalid (a switch shares its NIC by a vnic that is not there).
[[nodiscard]] Result<void> check_shares(const Host& host);

// Errors: invalid, not_found (the switch), exists (the name, MAC or path is taken), in_use (policies disagree about it).
[[nodiscard]] Result<Host> add_vnic(Host host, const Vnic& added);
// Gives the vnic called `changed.name` everything of `changed` but switch, kind and path, which stay as they are.
// Errors: not_found, invalid, exists (the MAC is taken), in_use (a MAC of a vnic that the host shares a NIC by; policies
// disagree about it).
[[nodiscard]] Result<Host> set_vnic(Host host, const Vnic& changed);
// Errors: not_found, in_use (the host shares a NIC by it).
[[nodiscard]] Result<Host> remove_vnic(Host host, const std::string& name);

// Errors: invalid (a value is out of range, or does not go with the mode), exists (the name, or a NIC, is taken).
[[nodiscard]] Result<Host> add_team(Host host, const Team& added);
// In place of the one of this name. Errors: not_found, and as add_team().
[[nodiscard]] Result<Host> set_team(Host host, const Team& changed);
// Errors: not_found, in_use (it carries a switch).
[[nodiscard]] Result<Host> remove_team(Host host, const std::string& name);
// The team that the NIC `nic` is in, by this name; nullptr: none.
[[nodiscard]] const Team* team_of(const Host& host, const std::string& nic) noexcept;
// The External switch on a NIC, or on a team; nullptr: none.
[[nodiscard]] const Switch* switch_on(const Host& host, const std::string& uplink) noexcept;
// The External switch on a NIC, or on the team that the NIC is in; nullptr: none.
[[nodiscard]] const Switch* switch_above(const Host& host, const std::string& nic) noexcept;
// The NICs of its uplink: one, those of a team, or none.
[[nodiscard]] std::vector<std::string> nics_of(const Host& host, const Switch& on);

// Errors: not_found.
[[nodiscard]] Result<const Team*> find_team(const Host& host, const std::string& name);

// Errors: invalid, not_found (a switch that it applies to), exists (the name), in_use (another one disagrees).
[[nodiscard]] Result<Host> add_policy(Host host, const Policy& added);
// In place of the one of this name. Errors: not_found, and as add_policy().
[[nodiscard]] Result<Host> set_policy(Host host, const Policy& changed);
// Errors: not_found, in_use (it applies to something).
[[nodiscard]] Result<Host> remove_policy(Host host, const std::string& name);
// Of one by itself, on this host. Errors: invalid, not_found (a switch that it applies to).
[[nodiscard]] Result<void> check_policy(const Host& host, const Policy& checked);

// By policy, the names of the vnics that take a value from it, sorted.
[[nodiscard]] std::map<std::string, std::vector<std::string>> vnics_by_policy(const Host& host);

// Errors: invalid (out of range).
[[nodiscard]] Result<Host> set_settings(Host host, const HostSettings& settings);

// Errors: not_found.
[[nodiscard]] Result<const Policy*> find_policy(const Host& host, const std::string& name);
[[nodiscard]] Result<const Switch*> find_switch(const Host& host, const std::string& name);
[[nodiscard]] Result<const Vnic*> find_vnic(const Host& host, const std::string& name);

// The mode that is in force for `vnic` on `on`: access to the switch's forced VLAN, else its own.
[[nodiscard]] VlanMode effective_vlan(const Switch& on, const Vnic& vnic);

}  // namespace patchbay::model
