#include "control/team/status.h"

namespace patchbay::team {

const char* to_string(MemberState state) noexcept {
  switch (state) {
    case MemberState::active:
      return "active";
    case MemberState::standby:
      return "standby";
    case MemberState::holding:
      return "holding";
    case MemberState::inactive:
      return "inactive";
    case MemberState::down:
      return "down";
  }
  return "down";
}

}  // namespace patchbay::team
