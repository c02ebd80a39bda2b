#include "model/mac_pool.h"

#include <fmt/format.h>

namespace patchbay::model {

MacAddr mac_of(const MacPool& pool, std::uint8_t last_octet) noexcept {
  return MacAddr({0x00, 0x15, 0x5d, pool.host_octets[0], pool.host_octets[1], last_octet});
}

Result<MacAddr> draw(MacPool& pool, const std::function<bool(MacAddr)>& in_use) {
  for (unsigned tried = 0; tried < mac_pool_size; ++tried) {
    const auto last_octet = static_cast<std::uint8_t>((pool.next + tried) % mac_pool_size);
    const MacAddr mac = mac_of(pool, last_octet);
    if (in_use(mac)) continue;
    pool.next = static_cast<std::uint8_t>((last_octet + 1U) % mac_pool_size);
    return mac;
  }
  return fail(ErrorCode::no_resource,
              fmt::format("all {} addresses of the dynamic MAC pool {} to {} are in use; delete vnics that are not "
                          "needed, or give an address with --mac",
                          mac_pool_size, mac_of(pool, 0x00).to_string(), mac_of(pool, 0xff).to_string()));
}

}  // namespace patchbay::model
