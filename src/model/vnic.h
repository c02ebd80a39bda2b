// A virtual NIC as the administrator means it: a port with a guest's virtio-net or a host network interface at its end.
#pragma once
#include <cstdint>
#include <string>
#include <variant>

#include "base/mac_addr.h"
#include "base/vlan_id.h"

namespace patchbay::model {

enum class VnicKind : std::uint8_t { guest, host };
[[nodiscard]] const char* to_string(VnicKind kind) noexcept;  // "guest", "host"

// static: the administrator's choice. dynamic: drawn from the host's pool when the vnic was created, and kept.
enum class MacOrigin : std::uint8_t { dynamic, static_ };
[[nodiscard]] const char* to_string(MacOrigin origin) noexcept;  // "dynamic", "static"

// VLAN modes of a vnic exclude each other. Trunk and private VLAN modes will be further alternatives.
struct Untagged {
  friend bool operator==(const Untagged&, const Untagged&) = default;
};
struct Access {
  VlanId vid;
  friend bool operator==(const Access&, const Access&) = default;
};
using VlanMode = std::variant<Untagged, Access>;

struct Vnic {
  std::string name;
  std::string switch_name;
  VnicKind kind = VnicKind::guest;
  MacAddr mac;
  MacOrigin mac_origin = MacOrigin::dynamic;
  VlanMode vlan = Untagged{};
  std::string connect;  // guest: path of a socket that the front-end listens on; empty: Patchbay listens on its own

  friend bool operator==(const Vnic&, const Vnic&) = default;
};

}  // namespace patchbay::model
