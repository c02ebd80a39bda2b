#include "model/nic.h"
#include "model/switch.h"
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

const char* to_string(VnicKind kind) noexcept {
  return kind == VnicKind::guest ? "guest" : "host";
}

const char* to_string(MacOrigin origin) noexcept {
  return origin == MacOrigin::dynamic ? "dynamic" : "static";
}

}  // namespace patchbay::model
