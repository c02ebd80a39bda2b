// Frames for tests, as byte strings.
#pragma once
#include <cstdint>
#include <string>

#include "base/byte_order.h"
#include "base/mac_addr.h"

namespace patchbay::test {

inline std::string be16(std::uint16_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xFF)};
}

inline std::string mac_bytes(const char* text) {
  const auto mac = MacAddr::parse(text);
  return {reinterpret_cast<const char*>(mac->bytes().data()), 6};
}

// An 802.1Q tag, or one with another TPID.
inline std::string tag(std::uint16_t vid, std::uint16_t tpid = 0x8100, unsigned pcp = 0) {
  return be16(tpid) + be16(static_cast<std::uint16_t>(pcp << 13 | vid));
}

// Destination, source, tags, an EtherType for experiments (IEEE 802) and `payload` bytes that differ from each other.
inline std::string ethernet(const char* destination, const char* source, const std::string& tags = "",
                            std::size_t payload = 50) {
  std::string frame = mac_bytes(destination) + mac_bytes(source) + tags + be16(0x88B5);
  for (std::size_t i = 0; i < payload; ++i) frame.push_back(static_cast<char>(i * 7 + 1));
  return frame;
}

}  // namespace patchbay::test
