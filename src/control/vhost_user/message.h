// vhost-user messages as they stand on the socket: header, payloads, and the shape that each request must have.
//
// Theory  Everything here only looks at bytes and counts; what a message means is protocol.h. Numbers are in the host's
//         byte order, as the specification demands.
// Limits  payload_bytes_max and descriptors_max a message; anything larger is an error that ends the connection.
// Source  QEMU, docs/interop/vhost-user.rst, "Message Specification" and "Front-end message types".
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "base/result.h"
#include "control/vhost_user/descriptor.h"
#include "dataplane/dataplane.h"

namespace patchbay::vhost_user {

inline constexpr std::size_t header_bytes = 12;
inline constexpr std::size_t payload_bytes_max = 1024;
inline constexpr std::size_t descriptors_max = 8;

// The requests that this back-end understands; any other number is an unknown request.
enum class Request : std::uint32_t {
  get_features = 1,
  set_features = 2,
  set_owner = 3,
  reset_owner = 4,
  set_mem_table = 5,
  set_vring_num = 8,
  set_vring_addr = 9,
  set_vring_base = 10,
  get_vring_base = 11,
  set_vring_kick = 12,
  set_vring_call = 13,
  set_vring_err = 14,
  get_protocol_features = 15,
  set_protocol_features = 16,
  get_queue_num = 17,
  set_vring_enable = 18,
  send_rarp = 19,
  net_set_mtu = 20,
};

// "SET_MEM_TABLE" for every request that the specification names, "request 77" for others.
[[nodiscard]] std::string request_name(std::uint32_t request);
// Whether check_shape() and the protocol know the request.
[[nodiscard]] bool is_known(std::uint32_t request) noexcept;

struct Header {
  std::uint32_t request = 0;
  bool reply_wanted = false;     // the need_reply flag
  std::uint32_t size_bytes = 0;  // of the payload, at most payload_bytes_max
};

// Errors: invalid (version, reply flag, payload too long).
[[nodiscard]] Result<Header> parse_header(std::span<const std::uint8_t, header_bytes> bytes);

struct Message {
  std::uint32_t request = 0;
  bool reply_wanted = false;
  std::vector<std::uint8_t> payload;
  std::vector<Descriptor> descriptors;  // at most descriptors_max
};

// Whether payload length and number of descriptors are what the (known) request must have. Errors: invalid.
[[nodiscard]] Result<void> check_shape(const Message& message);

// Payloads. Each may be called only after check_shape() found the message good.
struct VringState {
  std::uint32_t index = 0;
  std::uint32_t number = 0;
};
struct VringAddress {
  std::uint32_t index = 0;
  std::uint32_t flags = 0;
  std::uint64_t desc = 0;
  std::uint64_t used = 0;
  std::uint64_t avail = 0;
};
struct VringDescriptor {
  std::uint32_t index = 0;
  bool present = false;  // a descriptor comes with the message
};
// The address of SEND_RARP: the number's bytes in memory are those of the frame.
[[nodiscard]] MacAddr parse_mac(const Message& message) noexcept;
[[nodiscard]] std::uint64_t parse_u64(const Message& message) noexcept;
[[nodiscard]] VringState parse_vring_state(const Message& message) noexcept;
[[nodiscard]] VringAddress parse_vring_address(const Message& message) noexcept;
// Errors: invalid (reserved bits, the flag for "no descriptor" contradicts their number).
[[nodiscard]] Result<VringDescriptor> parse_vring_descriptor(const Message& message);
// The regions borrow the message's descriptors. Errors: invalid (no region, too many, lengths or descriptors disagree).
[[nodiscard]] Result<std::vector<dataplane::MemoryRegion>> parse_memory_table(const Message& message);

// Header and payload of a reply, ready to send.
[[nodiscard]] std::vector<std::uint8_t> make_reply(std::uint32_t request, std::uint64_t value);
[[nodiscard]] std::vector<std::uint8_t> make_reply(std::uint32_t request, const VringState& state);

}  // namespace patchbay::vhost_user
