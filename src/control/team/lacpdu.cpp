#include "control/team/lacpdu.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"

namespace patchbay::team {
namespace {

// Offsets in the frame.
constexpr std::size_t type_at = 12;
constexpr std::size_t subtype_at = 14;
constexpr std::size_t version_at = 15;
constexpr std::size_t actor_at = 16;  // each: type, length, and an end's 18 bytes
constexpr std::size_t partner_at = 36;
constexpr std::size_t collector_at = 56;
constexpr std::size_t marker_type_at = 16;

constexpr std::uint8_t subtype_lacp = 1;
constexpr std::uint8_t subtype_marker = 2;
constexpr std::uint8_t actor_type = 1;
constexpr std::uint8_t partner_type = 2;
constexpr std::uint8_t collector_type = 3;
constexpr std::uint8_t end_length = 20;
constexpr std::uint8_t collector_length = 16;
constexpr std::uint8_t marker_information = 1;
constexpr std::uint8_t marker_response_type = 2;

void write_end(std::uint8_t* at, std::uint8_t type, const LacpEnd& end) noexcept {
  at[0] = type;
  at[1] = end_length;
  store_be16(at + 2, end.system_priority);
  std::copy_n(end.system.bytes().begin(), 6, at + 4);
  store_be16(at + 10, end.key);
  store_be16(at + 12, end.port_priority);
  store_be16(at + 14, end.port);
  at[16] = end.state;
}

LacpEnd read_end(const std::uint8_t* at) noexcept {
  LacpEnd end;
  end.system_priority = load_be16(at + 2);
  end.system = MacAddr::from_wire(at + 4);
  end.key = load_be16(at + 10);
  end.port_priority = load_be16(at + 12);
  end.port = load_be16(at + 14);
  end.state = at[16];
  return end;
}

void write_addresses(SlowFrame& frame, MacAddr source) noexcept {
  std::copy_n(slow_address.bytes().begin(), 6, frame.begin());
  std::copy_n(source.bytes().begin(), 6, frame.begin() + 6);
  store_be16(&frame[type_at], slow_protocols);
}

bool is_slow(std::span<const std::uint8_t> frame, std::uint8_t subtype) noexcept {
  return frame.size() >= slow_frame_size &&
         std::equal(frame.begin(), frame.begin() + 6, slow_address.bytes().begin()) &&
         load_be16(&frame[type_at]) == slow_protocols && frame[subtype_at] == subtype;
}

}  // namespace

SlowFrame encode(const Lacpdu& pdu, MacAddr source) noexcept {
  SlowFrame frame{};
  write_addresses(frame, source);
  frame[subtype_at] = subtype_lacp;
  frame[version_at] = 1;
  write_end(&frame[actor_at], actor_type, pdu.actor);
  write_end(&frame[partner_at], partner_type, pdu.partner);
  frame[collector_at] = collector_type;
  frame[collector_at + 1] = collector_length;  // its delay stays 0: frames are taken in at once
  return frame;
}

std::optional<Lacpdu> decode(std::span<const std::uint8_t> frame) noexcept {
  if (!is_slow(frame, subtype_lacp)) return std::nullopt;
  const bool good = frame[version_at] >= 1 && frame[actor_at] == actor_type && frame[actor_at + 1] == end_length &&
                    frame[partner_at] == partner_type && frame[partner_at + 1] == end_length;
  if (!good) return std::nullopt;
  return Lacpdu{read_end(&frame[actor_at]), read_end(&frame[partner_at])};
}

std::optional<SlowFrame> marker_response(std::span<const std::uint8_t> frame, MacAddr source) noexcept {
  if (!is_slow(frame, subtype_marker) || frame[marker_type_at] != marker_information) return std::nullopt;
  SlowFrame answer;
  std::copy_n(frame.begin(), answer.size(), answer.begin());
  write_addresses(answer, source);
  answer[marker_type_at] = marker_response_type;
  return answer;
}

}  // namespace patchbay::team
