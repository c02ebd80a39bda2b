#include "dataplane/virtqueue/flow.h"

#include <bit>

#include <cstring>
#include <span>

#include "dataplane/offload/headers.h"

namespace patchbay::dataplane {
namespace {

constexpr std::size_t ipv4_addresses = 12;  // of the source, from the start of the IP header; the destination follows
constexpr std::size_t ipv6_addresses = 8;
constexpr std::size_t ports_size = 4;

class Mixer {
 public:
  void add(std::uint64_t word) noexcept {
    state_ = (state_ ^ word) * 0x9E3779B97F4A7C15U;  // odd, without a pattern: 2^64 divided by the golden ratio
    state_ ^= state_ >> 32;
  }
  template <typename Word>
  void add_from(const std::uint8_t* at) noexcept {
    Word word;
    std::memcpy(&word, at, sizeof word);
    add(word);
  }
  // The high half is mixed best.
  [[nodiscard]] std::uint32_t get() const noexcept {
    return static_cast<std::uint32_t>((state_ * 0xD6E8FEB86659FD93U) >> 32);
  }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace

std::uint32_t flow_of(const Frame& frame) noexcept {
  const std::uint8_t* const head = frame.head;
  Mixer mixer;
  const auto headers = parse_headers(std::span(head, frame.head_size));
  if (!headers) {
    if (frame.head_size < addresses_size) return 0;
    mixer.add_from<std::uint64_t>(head);
    mixer.add_from<std::uint32_t>(head + sizeof(std::uint64_t));
    mixer.add(frame.vid);
    return mixer.get();
  }
  const std::uint8_t* const network = head + headers->network;
  if (headers->ipv6) {
    for (std::size_t at = 0; at < 4; ++at) mixer.add_from<std::uint64_t>(network + ipv6_addresses + 8 * at);
  } else {
    mixer.add_from<std::uint64_t>(network + ipv4_addresses);
  }
  const bool has_ports = headers->protocol == protocol_tcp || headers->protocol == protocol_udp;
  if (has_ports && !headers->fragment && frame.head_size - headers->transport >= ports_size) {
    mixer.add_from<std::uint32_t>(head + headers->transport);
  }
  return mixer.get();
}

std::size_t pair_of(const Frame& frame, std::uint8_t pairs) noexcept {
  const auto count = static_cast<std::size_t>(std::popcount(pairs));
  unsigned left = pairs;
  for (std::size_t share = count < 2 ? 0 : share_of(flow_of(frame), count); share != 0; --share) left &= left - 1;
  return static_cast<std::size_t>(std::countr_zero(left));
}

}  // namespace patchbay::dataplane
