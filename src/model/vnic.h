// A virtual NIC as the administrator means it: a port with a guest's virtio-net or a host network interface at its end.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "base/mac_addr.h"
#include "model/buffer.h"
#include "model/vlan.h"

namespace patchbay::model {

enum class VnicKind : std::uint8_t { guest, host };
[[nodiscard]] const char* to_string(VnicKind kind) noexcept;  // "guest", "host"

// static: the administrator's choice. dynamic: drawn from the host's pool when the vnic was created, and kept.
enum class MacOrigin : std::uint8_t { dynamic, static_ };
[[nodiscard]] const char* to_string(MacOrigin origin) noexcept;  // "dynamic", "static"

inline constexpr std::uint32_t mac_limit_max = 65536;
inline constexpr std::uint32_t mac_limit_default = 1024;
inline constexpr std::uint16_t queues_max = 8;
inline constexpr unsigned worker_id_max = 255;
inline constexpr std::uint32_t vmq_weight_max = 100;
inline constexpr std::uint32_t vmq_weight_default = 100;

// The alias of the network interfaces that host vnics are begins so; by this they are known as ours.
inline constexpr const char* host_vnic_alias = "patchbay host vnic";

struct Vnic {
  std::string name;
  std::string switch_name;
  VnicKind kind = VnicKind::guest;
  MacAddr mac;
  MacOrigin mac_origin = MacOrigin::dynamic;
  VlanMode vlan = Untagged{};
  std::string connect;  // guest: path of a socket that the front-end listens on; empty: Patchbay listens on its own
  // May send from addresses that are not its own, unless they are another vnic's; these are learned, and frames for
  // addresses that nobody knows are delivered here too.
  bool mac_spoofing = false;
  std::uint32_t mac_limit = mac_limit_default;  // addresses learned here at most: 1 to mac_limit_max
  bool trust_priority = false;                  // its 802.1p priorities are kept; else they become 0
  std::uint16_t queues = 1;                     // guest: queue pairs that it may use, 1 to queues_max; host: 1
  std::optional<unsigned> worker = {};          // id of the worker that is to move its frames; nothing: any
  BufferSettings buffer = {};                   // guest; of a host vnic nothing is set
  std::set<std::string> labels = {};            // KEY or KEY=VALUE, by which policies find it: see policy.h

  // Of a switch with an uplink: who gets a free receive queue of it first; 0: never one. At most vmq_weight_max.
  std::uint32_t vmq_weight = vmq_weight_default;

  friend bool operator==(const Vnic&, const Vnic&) = default;
};

}  // namespace patchbay::model
