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
};
struct SwitchChange {                               // what `switch set` gives: only what is to change
  std::optional<std::optional<VlanId>> force_vlan;  // inner nothing: no forced VLAN any more
  std::optional<std::uint16_t> mtu;
};
struct VnicSpec {
  std::string name;
  std::string switch_name;
  model::VnicKind kind = model::VnicKind::guest;
  std::optional<MacAddr> mac;  // nothing: from the pool
  model::VlanMode vlan = model::Untagged{};
  std::string connect;
};
struct VnicChange {
  std::optional<model::VlanMode> vlan;
  std::optional<MacAddr> mac;
};

// Desired and actual, together.
struct NicView {
  model::Nic nic;
  std::string switch_name;  // of the External switch on it; empty: none
};
struct UplinkView {
  std::string nic;
  std::string state;         // "up", "down"
  std::string state_reason;  // "no carrier", "no such NIC", …; empty if up
  dataplane::PortCounters counters;
};
struct SwitchView {
  model::Switch desired;
  std::optional<UplinkView> uplink;
  std::vector<std::string> vnics;  // names, sorted
};
struct VnicView {
  model::Vnic desired;
  std::optional<VlanId> effective_vlan;  // the forced VLAN of the switch, or the vnic's own; nothing: untagged
  bool vlan_forced = false;              // effective_vlan comes from the switch
  std::uint16_t mtu = 0;                 // layer 3 bytes
  std::string state;         // guest: as vhost_user::to_string; host: "up", "down"; "failed" if not realised
  std::string state_reason;  // a phrase for people; empty when all is well
  std::string vhost_socket;  // guest: path of the socket; host: empty
  dataplane::PortCounters counters;
};

class Service {
 public:
  virtual ~Service() = default;

  [[nodiscard]] virtual Result<void> create_switch(const SwitchSpec& spec) = 0;
  [[nodiscard]] virtual Result<void> set_switch(const std::string& name, const SwitchChange& change) = 0;
  [[nodiscard]] virtual Result<void> delete_switch(const std::string& name) = 0;
  [[nodiscard]] virtual Result<SwitchView> show_switch(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<SwitchView> list_switches() const = 0;

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
