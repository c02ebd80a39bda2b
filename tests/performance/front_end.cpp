#include "tests/performance/front_end.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "control/vhost_user/message.h"

namespace patchbay::bench {
namespace {

using vhost_user::Request;

constexpr std::uint64_t f_protocol_features = std::uint64_t{1} << 30;
constexpr std::uint64_t protocol_mq = 1 << 0;
constexpr std::uint64_t protocol_reply_ack = 1 << 3;
constexpr int reply_limit_s = 20;

constexpr std::uint32_t number(Request request) {
  return static_cast<std::uint32_t>(request);
}

UniqueFd new_socket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) throw std::system_error(errno, std::generic_category(), "socket");
  return socket;
}

// Of virtio features, for messages.
std::string names_of(std::uint64_t features) {
  struct Name {
    unsigned bit;
    const char* text;
  };
  constexpr std::array<Name, 9> names = {{{0, "CSUM"},
                                          {1, "GUEST_CSUM"},
                                          {7, "GUEST_TSO4"},
                                          {11, "HOST_TSO4"},
                                          {15, "MRG_RXBUF"},
                                          {22, "MQ"},
                                          {28, "INDIRECT_DESC"},
                                          {32, "VERSION_1"},
                                          {34, "RING_PACKED"}}};
  std::vector<const char*> found;
  for (const Name& name : names) {
    if ((features >> name.bit & 1) != 0) found.push_back(name.text);
  }
  return fmt::format("{}", fmt::join(found, ", "));
}

void limit_waiting(int socket) {
  const timeval limit{reply_limit_s, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

}  // namespace

UniqueFd listen_on(const std::string& path) {
  UniqueFd listener = new_socket();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(fmt::format("{}: the path is too long", path));
  path.copy(address.sun_path, path.size());
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode)) ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 4) != 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  return listener;
}

FrontEnd::FrontEnd(UniqueFd socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {
  limit_waiting(socket_.fd());
}

FrontEnd FrontEnd::connect(const std::string& path) {
  UniqueFd socket = new_socket();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  return FrontEnd(std::move(socket), path);
}

FrontEnd FrontEnd::accept(int listener, const std::string& path, int limit_s) {
  pollfd waiting{.fd = listener, .events = POLLIN, .revents = 0};
  if (::poll(&waiting, 1, limit_s * 1000) != 1) {
    throw std::runtime_error(fmt::format("{}: no back-end connected within {} s", path, limit_s));
  }
  UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) throw std::system_error(errno, std::generic_category(), path);
  return FrontEnd(std::move(socket), path);
}

void FrontEnd::tell(std::uint32_t request, const test::Bytes& payload, const std::vector<int>& fds,
                    std::uint32_t flags) {
  if (!socket_.send(request, payload, fds, flags)) {
    throw std::runtime_error(fmt::format("{}: the back-end does not take request {}", path_, request));
  }
}

std::uint64_t FrontEnd::read_reply(std::uint32_t request) {
  constexpr std::size_t size = vhost_user::header_bytes + sizeof(std::uint64_t);
  std::array<std::uint8_t, size> bytes{};
  std::uint32_t answered = 0;
  if (::recv(socket_.fd(), bytes.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) {
    throw std::runtime_error(fmt::format("{}: the back-end does not answer request {}", path_, request));
  }
  std::memcpy(&answered, bytes.data(), sizeof answered);
  if (answered != request) {
    throw std::runtime_error(fmt::format("{}: the back-end answers request {} with {}", path_, request, answered));
  }
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + vhost_user::header_bytes, sizeof value);
  return value;
}

std::uint64_t FrontEnd::ask(std::uint32_t request) {
  tell(request, {});
  return read_reply(request);
}

void FrontEnd::tell_and_wait(std::uint32_t request, const test::Bytes& payload, const std::vector<int>& fds) {
  if ((protocol_features_ & protocol_reply_ack) == 0) return tell(request, payload, fds);
  tell(request, payload, fds, test::flag_version_1 | test::flag_need_reply);
  if (read_reply(request) != 0) {
    throw std::runtime_error(fmt::format("{}: the back-end refuses request {}", path_, request));
  }
}

void FrontEnd::set_up(const SharedMemory& memory, const Rings& rings, std::uint64_t features) {
  const std::uint64_t offered = ask(number(Request::get_features));
  if (const std::uint64_t missing = features & ~offered; missing != 0) {
    throw std::runtime_error(fmt::format("{}: the back-end does not offer {}", path_, names_of(missing)));
  }
  features_ = features;
  const bool has_protocol_features = (offered & f_protocol_features) != 0;
  if (has_protocol_features) {
    protocol_features_ = ask(number(Request::get_protocol_features)) & (protocol_mq | protocol_reply_ack);
    tell(number(Request::set_protocol_features), test::u64(protocol_features_));
  }
  tell(number(Request::set_owner), {});
  tell(number(Request::set_features), test::u64(features_ | (has_protocol_features ? f_protocol_features : 0)));
  test::Bytes table = test::bytes_of(std::uint32_t{1}, std::uint32_t{0}, guest_base, std::uint64_t{memory.size_bytes()},
                                     front_end_base, std::uint64_t{0});
  tell_and_wait(number(Request::set_mem_table), table, {memory.fd()});
  for (std::uint32_t ring = 0; ring < rings.queues.size(); ++ring) {
    const std::uint64_t at = front_end_base + rings.queues[ring];
    kick_.push_back(test::new_eventfd());
    call_.push_back(test::new_eventfd());
    tell(number(Request::set_vring_num), test::vring_state(ring, rings.entries));
    // The position of a packed ring carries both wrap counters, which start as 1.
    const bool packed = (features_ & PackedQueue::feature) != 0;
    tell(number(Request::set_vring_base), test::vring_state(ring, packed ? 0x80008000 : 0));
    tell(number(Request::set_vring_addr),
         test::vring_address(ring, at + rings.parts.descriptors, at + rings.parts.device, at + rings.parts.driver));
    tell(number(Request::set_vring_kick), test::u64(ring), {kick_[ring].get()});
    tell(number(Request::set_vring_call), test::u64(ring), {call_[ring].get()});
  }
  for (std::uint32_t ring = 0; ring < rings.queues.size() && has_protocol_features; ++ring) {
    tell_and_wait(number(Request::set_vring_enable), test::vring_state(ring, 1));
  }
}

void FrontEnd::kick(std::size_t ring) noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(kick_[ring].get(), &one, sizeof one));
}

}  // namespace patchbay::bench
