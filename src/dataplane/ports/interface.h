// A network interface of the host's kernel, by name: what ports set and ask before they use it.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::dataplane {

class Interface {
 public:
  // Errors: not_found, naming the interface.
  [[nodiscard]] static Result<Interface> open(const std::string& name);

  [[nodiscard]] int index() const noexcept { return index_; }
  [[nodiscard]] std::uint16_t hardware_type() const noexcept { return hardware_type_; }  // ARPHRD_…
  [[nodiscard]] Result<std::uint32_t> mtu() const;
  // What kind of virtual device it is, as the kernel calls it: "veth", "bridge"; empty for hardware.
  [[nodiscard]] Result<std::string> kind() const;
  // The alias, a free text that stays with the interface: patchbay marks its own with it.
  [[nodiscard]] Result<std::string> alias() const;

  [[nodiscard]] Result<void> set_alias(const std::string& alias);
  [[nodiscard]] Result<void> set_mac(const MacAddr& mac);
  [[nodiscard]] Result<void> set_mtu(std::uint32_t mtu);
  [[nodiscard]] Result<void> set_up();

 private:
  Interface() = default;
  std::string name_;
  int index_ = 0;
  std::uint16_t hardware_type_ = 0;
  UniqueFd socket_;  // for interface requests; any datagram socket does
};

// Deletes the network interfaces that carry `alias`, apart from those called as in `except`; the names of the deleted.
// Errors: unavailable (not permitted), internal.
[[nodiscard]] Result<std::vector<std::string>> remove_interfaces(const std::string& alias,
                                                                 const std::set<std::string>& except);

}  // namespace patchbay::dataplane
