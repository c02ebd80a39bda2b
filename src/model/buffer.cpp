#include "model/buffer.h"

#include <fmt/format.h>

#include <charconv>

namespace patchbay::model {
namespace {

constexpr std::uint64_t kib = 1 << 10;
constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;

// Nothing if `text` is no size, or too large to be one.
std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t unit = 1;
  if (text.ends_with('K')) unit = kib;
  if (text.ends_with('M')) unit = mib;
  if (unit != 1) text.remove_suffix(1);
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number * unit;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes != 0 && bytes % mib == 0) return fmt::format("{}M", bytes / mib);
  if (bytes != 0 && bytes % kib == 0) return fmt::format("{}K", bytes / kib);
  return fmt::format("{}", bytes);
}

Result<void> check_size(const Buffer& size) {
  const bool fits = size.limit_bytes >= buffer_min && size.limit_bytes <= buffer_max;
  if (size.grows && (!fits || size.limit_bytes < buffer_grow_from)) {
    return fail(
        ErrorCode::invalid,
        fmt::format("buffer {}: auto grows from {} to a limit of {} to {}; give auto:{} or more, or a fixed size",
                    to_string(size), size_text(buffer_grow_from), size_text(buffer_grow_from), size_text(buffer_max),
                    size_text(buffer_grow_from)));
  }
  if (fits || (size.limit_bytes == 0 && !size.grows)) return {};
  return fail(ErrorCode::invalid, fmt::format("buffer {} is out of range; give {} to {}, auto, or 0 for none",
                                              to_string(size), size_text(buffer_min), size_text(buffer_max)));
}

}  // namespace

Result<Buffer> parse_buffer(std::string_view text) {
  constexpr std::string_view grows = "auto";
  Buffer parsed;
  std::string_view size = text;
  if (text.starts_with(grows)) {
    parsed = {buffer_max, true};
    size.remove_prefix(grows.size());
    if (size.empty()) return parsed;
    if (!size.starts_with(':')) size = "";
    if (!size.empty()) size.remove_prefix(1);
  }
  const auto bytes = parse_size(size);
  if (!bytes) {
    return fail(ErrorCode::invalid,
                fmt::format("buffer \"{}\" is not a size; give bytes, or a whole number with K or M (1M is 1048576), "
                            "auto, auto:LIMIT, or 0 for none",
                            text));
  }
  parsed.limit_bytes = *bytes;
  if (auto ok = check_size(parsed); !ok) return fail(ok.error());
  return parsed;
}

std::string to_string(const Buffer& buffer) {
  if (!buffer.grows) return size_text(buffer.limit_bytes);
  return buffer.limit_bytes == buffer_max ? "auto" : "auto:" + size_text(buffer.limit_bytes);
}

std::optional<std::uint64_t> buffer_for(std::uint64_t bytes) noexcept {
  for (std::uint64_t size = buffer_min; size <= buffer_max; size *= 2) {
    if (bytes <= size) return size;
  }
  return std::nullopt;
}

Result<std::uint64_t> parse_buffer_limit(std::string_view text) {
  const bool has_g = text.ends_with('G');
  const auto parsed = parse_size(has_g ? text.substr(0, text.size() - 1) : text);
  if (!parsed || (has_g && *parsed > buffer_limit_max / gib)) {
    return fail(ErrorCode::invalid,
                fmt::format("buffer limit \"{}\" is not a size; give bytes, or a whole number with K, M or G (1M is "
                            "1048576), from {} to {}",
                            text, buffer_limit_text(buffer_limit_min), buffer_limit_text(buffer_limit_max)));
  }
  return has_g ? *parsed * gib : *parsed;
}

std::string buffer_limit_text(std::uint64_t bytes) {
  return bytes != 0 && bytes % gib == 0 ? fmt::format("{}G", bytes / gib) : size_text(bytes);
}

std::string to_string(const Source& source) {
  switch (source.level) {
    case Level::vnic:
      return "vnic";
    case Level::switch_:
      return "switch";
    case Level::policy:
      return "policy " + source.policy;
    case Level::built_in:
      return "built_in";
  }
  return "?";
}

BufferInForce in_force(std::span<const BufferLevel> strongest_first) {
  BufferInForce result;
  for_each_setting([&](const char*, auto setting, auto value, auto source) {
    for (const BufferLevel& level : strongest_first) {
      if (!(level.settings->*setting)) continue;
      result.*value = *(level.settings->*setting);
      result.*source = level.source;
      return;
    }
  });
  return result;
}

Result<void> check(const BufferSettings& settings) {
  if (settings.size) {
    if (auto ok = check_size(*settings.size); !ok) return ok;
  }
  if (settings.max_age_ms && *settings.max_age_ms > buffer_max_age_ms_max) {
    return fail(ErrorCode::invalid, fmt::format("buffer max age {} ms is out of range; give up to {} ms, or 0 for none",
                                                *settings.max_age_ms, buffer_max_age_ms_max));
  }
  return {};
}

}  // namespace patchbay::model
