// Everything that can be asked of the host, whichever door it comes through: the API is one face of this class, the
// configuration file another.
//
// Theory  A change is checked against the model, stored in one transaction, and then reconciled: desired minus actual
//         gives steps, and the steps run. A change that is refused leaves store and data plane as they were. A step
//         that fails because of the world (the NIC is gone) leaves the change stored, shows why in the object's
//         state_reason and is tried again when the world changes.
// Threads control's only.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "dataplane/dataplane.h"
#include "model/nic.h"
#include "model/switch.h"
#include "model/vnic.h"

namespace patchbay::reconcile {

struct SwitchSpec {  // what `switch create` gives
  std::string name;
  model::SwitchType type = model::SwitchType::private_;
  std::string uplink;  // External only
  std::optional<VlanId> force_vlan;
  std::uint16_t mtu = model::mtu_default;
  std::string share_with_host = {};  // External only: name of the host vnic to make; empty: none
};
struct SwitchChange {                               // what `switch set` gives: only what is to change
  std::optional<std::optional<VlanId>> force_vlan;  // inner nothing: no forced VLAN any more
  std::optional<std::uint16_t> mtu;
  std::optional<std::string> share_with_host = std::nullopt;  // empty: move everything back to the NIC
};
struct VnicSpec {
  std::string name;
  std::string switch_name;
  model::VnicKind kind = model::VnicKind::guest;
  std::optional<MacAddr> mac;  // nothing: from the pool
  model::VlanMode vlan = model::Untagged{};
  std::string connect;
  bool mac_spoofing = false;
  std::uint32_t mac_limit = model::mac_limit_default;
  bool trust_priority = false;
};
struct VnicChange {
  std::optional<model::VlanMode> vlan = {};
  std::optional<MacAddr> mac = {};
  std::optional<bool> mac_spoofing = {};
  std::optional<std::uint32_t> mac_limit = {};
  std::optional<bool> trust_priority = {};
};

// Desired and actual, together.
struct NicView {
  model::Nic nic;
  std::string switch_name;  // of the External switch on it; empty: none
};
struct UplinkView {
  std::string nic;
  std::string state;         // "up", "down"
  std::string state_reason;  // "no carrier", "no such NIC", …; up: empty, or what is lost (the NIC's MTU is too small)
  dataplane::PortCounters counters;
};
struct SwitchView {
  model::Switch desired;
  std::optional<UplinkView> uplink;
  std::vector<std::string> vnics;  // names, sorted
};
// The last frame that a vnic was refused for its source address.
struct RefusedSource {
  MacAddr mac;
  std::string holder;  // the vnic of the same switch that the address belongs to; empty: nobody's
  std::string advice;  // what it means and the way out, as a sentence
};
struct FdbRow {
  std::optional<VlanId> vid;  // nothing: no VLAN
  MacAddr mac;
  std::string port;  // the vnic, or the NIC of the uplink, behind which it is
  std::uint32_t age_s = 0;
};
struct VnicView {
  model::Vnic desired;
  model::VlanMode effective_vlan;  // access to the forced VLAN of the switch, or the vnic's own
  bool vlan_forced = false;        // effective_vlan comes from the switch
  std::uint16_t mtu = 0;           // layer 3 bytes
  std::string state;               // guest: as vhost_user::to_string; host: "up", "down"; "failed" if not realised
  std::string state_reason;        // a phrase for people; empty when all is well
  std::string vhost_socket;        // guest: path of the socket; host: empty
  dataplane::PortCounters counters;
  dataplane::PortLearning learning;
  std::optional<RefusedSource> refused_source;  // while it would be refused again
};

class Service {
 public:
  virtual ~Service() = default;

  [[nodiscard]] virtual Result<void> create_switch(const SwitchSpec& spec) = 0;
  [[nodiscard]] virtual Result<void> set_switch(const std::string& name, const SwitchChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_switch(const std::string& name) = 0;
  [[nodiscard]] virtual Result<SwitchView> show_switch(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<SwitchView> list_switches() const = 0;
  // What the switch has learned, sorted by VLAN and address. Errors: not_found.
  [[nodiscard]] virtual Result<std::vector<FdbRow>> show_fdb(const std::string& switch_name) const = 0;

  [[nodiscard]] virtual Result<void> create_vnic(const VnicSpec& spec) = 0;
  [[nodiscard]] virtual Result<void> set_vnic(const std::string& name, const VnicChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_vnic(const std::string& name) = 0;
  [[nodiscard]] virtual Result<VnicView> show_vnic(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<VnicView> list_vnics() const = 0;

  [[nodiscard]] virtual Result<NicView> show_nic(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<NicView> list_nics() const = 0;
  [[nodiscard]] virtual std::vector<dataplane::WorkerStats> list_workers() const = 0;
};

}  // namespace patchbay::reconcile
