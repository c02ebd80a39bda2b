#include "model/nic.h"
#include "model/switch.h"
#include "model/team.h"
#include "model/vnic.h"

namespace patchbay::model {

const char* to_string(SwitchType type) noexcept {
  switch (type) {
    case SwitchType::external:
      return "external";
    case SwitchType::internal:
      return "internal";
    case SwitchType::private_:
      return "private";
  }
  return "?";
}

const char* to_string(NicOffload offload) noexcept {
  switch (offload) {
    case NicOffload::rx_vlan:
      return "rx-vlan-offload";
    case NicOffload::rx_vlan_stag:
      return "rx-vlan-stag-hw-parse";
    case NicOffload::gro:
      return "generic-receive-offload";
  }
  return "?";
}

const char* to_string(OffloadState state) noexcept {
  switch (state) {
    case OffloadState::off_fixed:
      return "off_fixed";
    case OffloadState::off:
      return "off";
    case OffloadState::on:
      return "on";
    case OffloadState::on_fixed:
      return "on_fixed";
  }
  return "?";
}

const char* to_string(TeamMode mode) noexcept {
  switch (mode) {
    case TeamMode::switch_independent:
      return "switch-independent";
    case TeamMode::static_:
      return "static";
    case TeamMode::lacp:
      return "lacp";
  }
  return "?";
}

const char* to_string(TeamBalance balance) noexcept {
  switch (balance) {
    case TeamBalance::address_hash:
      return "address-hash";
    case TeamBalance::vnic_port:
      return "vnic-port";
    case TeamBalance::dynamic:
      return "dynamic";
  }
  return "?";
}

const char* to_string(LacpTimer timer) noexcept {
  return timer == LacpTimer::fast ? "fast" : "slow";
}

const char* to_string(VnicKind kind) noexcept {
  return kind == VnicKind::guest ? "guest" : "host";
}

const char* to_string(MacOrigin origin) noexcept {
  return origin == MacOrigin::dynamic ? "dynamic" : "static";
}

}  // namespace patchbay::model
