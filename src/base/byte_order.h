// Wire integers: Be16 and Be32 hold bytes in network order and convert when read or set. No alignment, no padding.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

namespace patchbay {

static_assert(std::endian::native == std::endian::little,
              "virtio 1.0 rings are read in place: little endian hosts only");

class Be16 {
 public:
  constexpr Be16() = default;
  constexpr explicit Be16(std::uint16_t host) noexcept : raw_(__builtin_bswap16(host)) {}
  [[nodiscard]] constexpr std::uint16_t host() const noexcept { return __builtin_bswap16(raw_); }

 private:
  std::uint16_t raw_ = 0;
};

class Be32 {
 public:
  constexpr Be32() = default;
  constexpr explicit Be32(std::uint32_t host) noexcept : raw_(__builtin_bswap32(host)) {}
  [[nodiscard]] constexpr std::uint32_t host() const noexcept { return __builtin_bswap32(raw_); }

 private:
  std::uint32_t raw_ = 0;
};

// Reads or writes a wire integer at any address.
[[nodiscard]] inline std::uint16_t load_be16(const void* at) noexcept {
  Be16 wire;
  std::memcpy(&wire, at, sizeof wire);
  return wire.host();
}
[[nodiscard]] inline std::uint32_t load_be32(const void* at) noexcept {
  Be32 wire;
  std::memcpy(&wire, at, sizeof wire);
  return wire.host();
}
// Six bytes, as an Ethernet address has.
[[nodiscard]] inline std::uint64_t load_be48(const std::uint8_t* at) noexcept {
  return std::uint64_t{load_be16(at)} << 32 | load_be32(at + 2);
}
inline void store_be16(void* at, std::uint16_t host) noexcept {
  const Be16 wire(host);
  std::memcpy(at, &wire, sizeof wire);
}
inline void store_be32(void* at, std::uint32_t host) noexcept {
  const Be32 wire(host);
  std::memcpy(at, &wire, sizeof wire);
}
inline void store_be48(std::uint8_t* at, std::uint64_t host) noexcept {
  store_be16(at, static_cast<std::uint16_t>(host >> 32));
  store_be32(at + 2, static_cast<std::uint32_t>(host));
}

}  // namespace patchbay
