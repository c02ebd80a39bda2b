#include "model/buffer.h"

#include <fmt/format.h>

#include <charconv>

namespace patchbay::model {
namespace {

constexpr std::uint64_t kib = 1 << 10;
constexpr std::uint64_t mib = 1 << 20;

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

const char* to_string(Level level) noexcept {
  switch (level) {
    case Level::vnic:
      return "vnic";
    case Level::switch_:
      return "switch";
    case Level::built_in:
      return "built_in";
  }
  return "?";
}

BufferInForce in_force(const BufferSettings& vnic, const BufferSettings& on_switch) {
  BufferInForce result;
  const auto take = [](const auto& of_vnic, const auto& of_switch, auto& value, Level& from) {
    if (of_vnic) {
      value = *of_vnic;
      from = Level::vnic;
    } else if (of_switch) {
      value = *of_switch;
      from = Level::switch_;
    }
  };
  take(vnic.size, on_switch.size, result.size, result.size_from);
  take(vnic.max_age_ms, on_switch.max_age_ms, result.max_age_ms, result.max_age_from);
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
