// An Ethernet address: six bytes in wire order, compared and hashed as one 48-bit number.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace patchbay {

class MacAddr {
 public:
  constexpr MacAddr() = default;
  constexpr explicit MacAddr(std::array<std::uint8_t, 6> bytes) noexcept : bytes_(bytes) {}

  // Six bytes as they stand in a frame.
  [[nodiscard]] static MacAddr from_wire(const std::uint8_t* six_bytes) noexcept {
    MacAddr mac;
    std::memcpy(mac.bytes_.data(), six_bytes, 6);
    return mac;
  }
  // "02:00:00:00:00:01" or "02-00-00-00-00-01", upper or lower case; nothing for any other text.
  [[nodiscard]] static std::optional<MacAddr> parse(std::string_view text) noexcept;
  // From the low 48 bits, the first wire byte highest.
  [[nodiscard]] static constexpr MacAddr from_uint64(std::uint64_t value) noexcept {
    MacAddr mac;
    for (unsigned i = 0; i < 6; ++i) mac.bytes_[i] = static_cast<std::uint8_t>(value >> (8 * (5 - i)));
    return mac;
  }

  [[nodiscard]] constexpr std::uint64_t to_uint64() const noexcept {
    std::uint64_t value = 0;
    for (const auto byte : bytes_) value = value << 8 | byte;
    return value;
  }
  // "02:00:00:00:00:01"
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] constexpr const std::array<std::uint8_t, 6>& bytes() const noexcept { return bytes_; }

  // The group bit: multicast, broadcast included.
  [[nodiscard]] constexpr bool is_group() const noexcept { return (bytes_[0] & 1) != 0; }
  [[nodiscard]] constexpr bool is_zero() const noexcept { return to_uint64() == 0; }
  // May be the address of a station: neither group nor all zeros.
  [[nodiscard]] constexpr bool is_station() const noexcept { return !is_group() && !is_zero(); }
  // 01-80-C2-00-00-00 to -0F: a bridge must not forward these (IEEE 802.1Q-2018, table 8-1).
  [[nodiscard]] constexpr bool is_reserved() const noexcept { return is_reserved(to_uint64()); }
  [[nodiscard]] static constexpr bool is_reserved(std::uint64_t address) noexcept {
    return (address & ~std::uint64_t{0xF}) == 0x0180C2000000;
  }

  friend constexpr auto operator<=>(const MacAddr&, const MacAddr&) = default;

 private:
  std::array<std::uint8_t, 6> bytes_{};
};

}  // namespace patchbay
