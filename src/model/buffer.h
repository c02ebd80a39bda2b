// How much may wait for a guest that takes no frames for a moment: as administrators write it, and which level says so.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace patchbay::model {

inline constexpr std::uint64_t buffer_min = 256 << 10;
inline constexpr std::uint64_t buffer_max = 16 << 20;
inline constexpr std::uint64_t buffer_grow_from = 1 << 20;
inline constexpr std::uint32_t buffer_max_age_ms_max = 3'600'000;
// Of all vnics' buffers together.
inline constexpr std::uint64_t buffer_limit_min = 1 << 20;
inline constexpr std::uint64_t buffer_limit_max = std::uint64_t{64} << 30;
inline constexpr std::uint64_t buffer_limit_default = 256 << 20;

struct Buffer {
  std::uint64_t limit_bytes = 1 << 20;  // of frames: 0, or buffer_min to buffer_max
  bool grows = false;                   // starts with buffer_grow_from and grows to limit_bytes, which is no less

  friend bool operator==(const Buffer&, const Buffer&) = default;
};

// "0", "1M", "1536K", "1048577", "auto" (up to buffer_max), "auto:4M". K and M are 1024 and 1024 * 1024 bytes.
// Errors: invalid (a sentence without the object's name).
[[nodiscard]] Result<Buffer> parse_buffer(std::string_view text);
// As parse_buffer() reads it, in the shortest way.
[[nodiscard]] std::string to_string(const Buffer& buffer);
// "256M", "1G", bytes; the range is for set_settings() to check. Errors: invalid (without the object's name).
[[nodiscard]] Result<std::uint64_t> parse_buffer_limit(std::string_view text);
[[nodiscard]] std::string buffer_limit_text(std::uint64_t bytes);  // as that reads it
// The smallest size that people would write which holds `bytes`; nothing if none does.
[[nodiscard]] std::optional<std::uint64_t> buffer_for(std::uint64_t bytes) noexcept;

// What a vnic, a switch for its vnics, or a policy says of buffers; what is not there is left to the next level.
struct BufferSettings {
  std::optional<Buffer> size = {};
  std::optional<std::uint32_t> max_age_ms = {};  // 0: no limit; at most buffer_max_age_ms_max

  friend bool operator==(const BufferSettings&, const BufferSettings&) = default;
};

// Where a value comes from, the strongest first.
enum class Level : std::uint8_t { vnic, switch_, policy, built_in };
struct Source {
  Level level = Level::built_in;
  std::string policy = {};  // its name

  friend bool operator==(const Source&, const Source&) = default;
};
[[nodiscard]] std::string to_string(const Source& source);  // "vnic", "switch", "policy storage", "built_in"

// What is in force for a vnic.
struct BufferInForce {
  Buffer size = {};
  Source size_from = {};
  std::uint32_t max_age_ms = 0;
  Source max_age_from = {};
};

// Each setting once, for all that goes through them: visit(what people call it, its place in BufferSettings, and the places
// of its value and of its source in BufferInForce).
template <typename Visit>
void for_each_setting(Visit visit) {
  visit("buffer", &BufferSettings::size, &BufferInForce::size, &BufferInForce::size_from);
  visit("buffer max age", &BufferSettings::max_age_ms, &BufferInForce::max_age_ms, &BufferInForce::max_age_from);
}

struct BufferLevel {
  const BufferSettings* settings = nullptr;
  Source source = {};
};
[[nodiscard]] BufferInForce in_force(std::span<const BufferLevel> strongest_first);

// Errors: invalid (out of range; without the object's name).
[[nodiscard]] Result<void> check(const BufferSettings& settings);

}  // namespace patchbay::model
