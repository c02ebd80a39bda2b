#include "control/vhost_user/message.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace patchbay::vhost_user {
namespace {

constexpr std::uint32_t version = 1;
constexpr std::uint32_t version_mask = 0x3;
constexpr std::uint32_t flag_reply = 1U << 2;
constexpr std::uint32_t flag_need_reply = 1U << 3;
constexpr std::uint64_t vring_index_mask = 0xff;
constexpr std::uint64_t vring_no_descriptor = 1U << 8;

constexpr std::size_t region_bytes = 32;
constexpr std::size_t table_head_bytes = 8;
constexpr std::size_t table_bytes_max = table_head_bytes + dataplane::memory_regions_max * region_bytes;

struct Shape {
  Request request;
  std::size_t payload_bytes_min;
  std::size_t payload_bytes_max;
  std::size_t descriptors_max;
};
constexpr std::array shapes{
    Shape{Request::get_features, 0, 0, 0},
    Shape{Request::set_features, 8, 8, 0},
    Shape{Request::set_owner, 0, 0, 0},
    Shape{Request::reset_owner, 0, 0, 0},
    Shape{Request::set_mem_table, table_head_bytes, table_bytes_max, descriptors_max},
    Shape{Request::set_vring_num, 8, 8, 0},
    Shape{Request::set_vring_addr, 40, 40, 0},
    Shape{Request::set_vring_base, 8, 8, 0},
    Shape{Request::get_vring_base, 8, 8, 0},
    Shape{Request::set_vring_kick, 8, 8, 1},
    Shape{Request::set_vring_call, 8, 8, 1},
    Shape{Request::set_vring_err, 8, 8, 1},
    Shape{Request::get_protocol_features, 0, 0, 0},
    Shape{Request::set_protocol_features, 8, 8, 0},
    Shape{Request::get_queue_num, 0, 0, 0},
    Shape{Request::set_vring_enable, 8, 8, 0},
    Shape{Request::send_rarp, 8, 8, 0},
    Shape{Request::net_set_mtu, 8, 8, 0},
};

// Index is the request number. The specification renamed SLAVE to BACKEND; these are the new names.
constexpr std::array<const char*, 44> names{
    "request 0",
    "GET_FEATURES",
    "SET_FEATURES",
    "SET_OWNER",
    "RESET_OWNER",
    "SET_MEM_TABLE",
    "SET_LOG_BASE",
    "SET_LOG_FD",
    "SET_VRING_NUM",
    "SET_VRING_ADDR",
    "SET_VRING_BASE",
    "GET_VRING_BASE",
    "SET_VRING_KICK",
    "SET_VRING_CALL",
    "SET_VRING_ERR",
    "GET_PROTOCOL_FEATURES",
    "SET_PROTOCOL_FEATURES",
    "GET_QUEUE_NUM",
    "SET_VRING_ENABLE",
    "SEND_RARP",
    "NET_SET_MTU",
    "SET_BACKEND_REQ_FD",
    "IOTLB_MSG",
    "SET_VRING_ENDIAN",
    "GET_CONFIG",
    "SET_CONFIG",
    "CREATE_CRYPTO_SESSION",
    "CLOSE_CRYPTO_SESSION",
    "POSTCOPY_ADVISE",
    "POSTCOPY_LISTEN",
    "POSTCOPY_END",
    "GET_INFLIGHT_FD",
    "SET_INFLIGHT_FD",
    "GPU_SET_SOCKET",
    "RESET_DEVICE",
    "VRING_KICK",
    "GET_MAX_MEM_SLOTS",
    "ADD_MEM_REG",
    "REM_MEM_REG",
    "SET_STATUS",
    "GET_STATUS",
    "GET_SHARED_OBJECT",
    "SET_DEVICE_STATE_FD",
    "CHECK_DEVICE_STATE",
};

const Shape* find_shape(std::uint32_t request) noexcept {
  for (const Shape& shape : shapes) {
    if (static_cast<std::uint32_t>(shape.request) == request) return &shape;
  }
  return nullptr;
}

template <typename T>
T load(std::span<const std::uint8_t> bytes, std::size_t at) noexcept {
  T value{};
  if (at <= bytes.size() && sizeof value <= bytes.size() - at) std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <typename T>
void append(std::vector<std::uint8_t>& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

std::vector<std::uint8_t> reply_header(std::uint32_t request, std::uint32_t size_bytes) {
  std::vector<std::uint8_t> bytes;
  append(bytes, request);
  append(bytes, version | flag_reply);
  append(bytes, size_bytes);
  return bytes;
}

}  // namespace

std::string request_name(std::uint32_t request) {
  return request < names.size() ? std::string(names[request]) : fmt::format("request {}", request);
}

bool is_known(std::uint32_t request) noexcept {
  return find_shape(request) != nullptr;
}

Result<Header> parse_header(std::span<const std::uint8_t, header_bytes> bytes) {
  Header header;
  header.request = load<std::uint32_t>(bytes, 0);
  const auto flags = load<std::uint32_t>(bytes, 4);
  header.size_bytes = load<std::uint32_t>(bytes, 8);
  header.reply_wanted = (flags & flag_need_reply) != 0;
  if ((flags & version_mask) != version) {
    return fail(ErrorCode::invalid,
                fmt::format("{} has version {} in its header, not 1: connect a vhost-user front-end to this socket",
                            request_name(header.request), flags & version_mask));
  }
  if ((flags & flag_reply) != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("{} came as a reply, but nothing was asked", request_name(header.request)));
  }
  if (header.size_bytes > payload_bytes_max) {
    return fail(ErrorCode::invalid, fmt::format("{} announces a payload of {} bytes, at most {} are taken",
                                                request_name(header.request), header.size_bytes, payload_bytes_max));
  }
  return header;
}

Result<void> check_shape(const Message& message) {
  const Shape* shape = find_shape(message.request);
  if (shape == nullptr) return {};
  const std::size_t size = message.payload.size();
  if (size < shape->payload_bytes_min || size > shape->payload_bytes_max) {
    const std::string wanted = shape->payload_bytes_min == shape->payload_bytes_max
                                   ? fmt::format("{}", shape->payload_bytes_min)
                                   : fmt::format("{} to {}", shape->payload_bytes_min, shape->payload_bytes_max);
    return fail(ErrorCode::invalid, fmt::format("{} came with a payload of {} bytes, it has {}",
                                                request_name(message.request), size, wanted));
  }
  if (message.descriptors.size() > shape->descriptors_max) {
    return fail(ErrorCode::invalid,
                fmt::format("{} came with {} descriptors, it has at most {}", request_name(message.request),
                            message.descriptors.size(), shape->descriptors_max));
  }
  return {};
}

MacAddr parse_mac(const Message& message) noexcept {
  const auto value = load<std::uint64_t>(message.payload, 0);
  std::array<std::uint8_t, sizeof value> bytes;
  std::memcpy(bytes.data(), &value, sizeof value);
  return MacAddr::from_wire(bytes.data());
}

std::uint64_t parse_u64(const Message& message) noexcept {
  return load<std::uint64_t>(message.payload, 0);
}

VringState parse_vring_state(const Message& message) noexcept {
  return {load<std::uint32_t>(message.payload, 0), load<std::uint32_t>(message.payload, 4)};
}

VringAddress parse_vring_address(const Message& message) noexcept {
  VringAddress address;
  address.index = load<std::uint32_t>(message.payload, 0);
  address.flags = load<std::uint32_t>(message.payload, 4);
  address.desc = load<std::uint64_t>(message.payload, 8);
  address.used = load<std::uint64_t>(message.payload, 16);
  address.avail = load<std::uint64_t>(message.payload, 24);
  return address;
}

Result<VringDescriptor> parse_vring_descriptor(const Message& message) {
  const std::uint64_t value = parse_u64(message);
  if ((value & ~(vring_index_mask | vring_no_descriptor)) != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("{} has reserved bits set ({:#x})", request_name(message.request), value));
  }
  VringDescriptor vring;
  vring.index = static_cast<std::uint32_t>(value & vring_index_mask);
  vring.present = (value & vring_no_descriptor) == 0;
  if (vring.present == message.descriptors.empty()) {
    return fail(ErrorCode::invalid,
                fmt::format("{} says that it has {} descriptor, but came with {}", request_name(message.request),
                            vring.present ? "a" : "no", message.descriptors.size()));
  }
  return vring;
}

Result<std::vector<dataplane::MemoryRegion>> parse_memory_table(const Message& message) {
  const auto count = load<std::uint32_t>(message.payload, 0);
  if (count == 0) {
    return fail(ErrorCode::invalid,
                "the guest has no shared memory: start QEMU with -object memory-backend-memfd,id=mem,size=…,share=on "
                "-machine memory-backend=mem");
  }
  if (count > dataplane::memory_regions_max) {
    return fail(ErrorCode::invalid, fmt::format("SET_MEM_TABLE has {} memory regions, at most {} are supported: give "
                                                "the guest fewer memory devices",
                                                count, dataplane::memory_regions_max));
  }
  if (message.payload.size() < table_head_bytes + count * region_bytes) {
    return fail(ErrorCode::invalid, fmt::format("SET_MEM_TABLE names {} regions, but its payload of {} bytes is too "
                                                "short for them",
                                                count, message.payload.size()));
  }
  if (message.descriptors.size() != count) {
    return fail(ErrorCode::invalid, fmt::format("SET_MEM_TABLE names {} regions, but came with {} descriptors", count,
                                                message.descriptors.size()));
  }
  std::vector<dataplane::MemoryRegion> regions;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = table_head_bytes + i * region_bytes;
    dataplane::MemoryRegion region;
    region.guest_address = load<std::uint64_t>(message.payload, at);
    region.size_bytes = load<std::uint64_t>(message.payload, at + 8);
    region.front_end_address = load<std::uint64_t>(message.payload, at + 16);
    region.mmap_offset = load<std::uint64_t>(message.payload, at + 24);
    region.fd = message.descriptors[i].fd.get();
    regions.push_back(region);
  }
  return regions;
}

std::vector<std::uint8_t> make_reply(std::uint32_t request, std::uint64_t value) {
  auto bytes = reply_header(request, sizeof value);
  append(bytes, value);
  return bytes;
}

std::vector<std::uint8_t> make_reply(std::uint32_t request, const VringState& state) {
  auto bytes = reply_header(request, sizeof state.index + sizeof state.number);
  append(bytes, state.index);
  append(bytes, state.number);
  return bytes;
}

}  // namespace patchbay::vhost_user
