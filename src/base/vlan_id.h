// A VLAN id that may be configured: 1 to 4094 (IEEE 802.1Q). 0 means priority tag only, 4095 is reserved; neither gets
// in.
#pragma once
#include <compare>
#include <cstdint>
#include <optional>

namespace patchbay {

class VlanId {
 public:
  static constexpr std::uint16_t min = 1;
  static constexpr std::uint16_t max = 4094;

  // The only way in: nothing unless `raw` is 1 to 4094.
  [[nodiscard]] static constexpr std::optional<VlanId> from(std::int64_t raw) noexcept {
    if (raw < min || raw > max) return std::nullopt;
    return VlanId(static_cast<std::uint16_t>(raw));
  }
  [[nodiscard]] constexpr std::uint16_t raw() const noexcept { return raw_; }

  friend constexpr auto operator<=>(const VlanId&, const VlanId&) = default;

 private:
  constexpr explicit VlanId(std::uint16_t raw) noexcept : raw_(raw) {}
  std::uint16_t raw_;
};

}  // namespace patchbay
