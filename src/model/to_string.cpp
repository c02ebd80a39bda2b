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

const char* to_string(VnicKind kind) noexcept {
  return kind == VnicKind::guest ? "guest" : "host";
}

const char* to_string(MacOrigin origin) noexcept {
  return origin == MacOrigin::dynamic ? "dynamic" : "static";
}

}  // namespace patchbay::model
