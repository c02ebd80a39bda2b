#include "control/host/channel.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <utility>

namespace patchbay::host {
namespace {

constexpr std::size_t datagram_bytes = 64 << 10;

constexpr std::size_t aligned(std::size_t size) noexcept {
  return (size + 3) & ~std::size_t{3};
}

// Calls `each` with the header and payload of every message of a datagram until it says false.
template <typename Each>
void for_each_message(Bytes datagram, Each each) {
  while (datagram.size() >= sizeof(nlmsghdr)) {
    const auto head = value_of<nlmsghdr>(datagram);
    if (head.nlmsg_len < sizeof head || head.nlmsg_len > datagram.size()) return;
    if (!each(head, datagram.subspan(sizeof head, head.nlmsg_len - sizeof head))) return;
    datagram = datagram.subspan(std::min(aligned(head.nlmsg_len), datagram.size()));
  }
}

}  // namespace

void Message::append(const void* bytes, std::size_t size) {
  const auto* from = static_cast<const std::uint8_t*>(bytes);
  bytes_.insert(bytes_.end(), from, from + size);
  bytes_.resize(aligned(bytes_.size()));
}

void Message::put(std::uint16_t type, Bytes value) {
  const nlattr head{static_cast<std::uint16_t>(sizeof(nlattr) + value.size()), type};
  append(&head, sizeof head);
  append(value.data(), value.size());
}

void Message::put_u32(std::uint16_t type, std::uint32_t value) {
  put(type, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
}

void Message::put_be32(std::uint16_t type, std::uint32_t value) {
  put_u32(type, htonl(value));
}

void Message::put_text(std::uint16_t type, const std::string& value) {
  put(type, {reinterpret_cast<const std::uint8_t*>(value.c_str()), value.size() + 1});
}

std::size_t Message::begin(std::uint16_t type) {
  const std::size_t at = bytes_.size();
  put(static_cast<std::uint16_t>(type | NLA_F_NESTED), {});
  return at;
}

void Message::end(std::size_t at) {
  const auto size = static_cast<std::uint16_t>(bytes_.size() - at);
  std::memcpy(bytes_.data() + at, &size, sizeof size);
}

std::vector<std::uint8_t> Message::finish(std::uint32_t sequence, unsigned more_flags) const {
  std::vector<std::uint8_t> whole = bytes_;
  auto head = value_of<nlmsghdr>(whole);
  head.nlmsg_len = static_cast<std::uint32_t>(whole.size());
  head.nlmsg_seq = sequence;
  head.nlmsg_flags = static_cast<std::uint16_t>(head.nlmsg_flags | more_flags);
  std::memcpy(whole.data(), &head, sizeof head);
  return whole;
}

std::map<std::uint16_t, Bytes> attributes_of(Bytes payload, std::size_t skip) {
  std::map<std::uint16_t, Bytes> found;
  Bytes left = payload.subspan(std::min(aligned(skip), payload.size()));
  while (left.size() >= sizeof(nlattr)) {
    const auto head = value_of<nlattr>(left);
    if (head.nla_len < sizeof head || head.nla_len > left.size()) break;
    found[head.nla_type & NLA_TYPE_MASK] = left.subspan(sizeof head, head.nla_len - sizeof head);
    left = left.subspan(std::min(aligned(head.nla_len), left.size()));
  }
  return found;
}

Result<Channel> Channel::open(int protocol) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) return fail(system_error("netlink socket", errno));
  const int on = 1;
  // Dumps can be narrowed to one interface; a kernel without it gives more, which is sorted out here.
  static_cast<void>(::setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on));
  static_cast<void>(::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on));
  const timeval limit{10, 0};  // an answer that never comes must not hold up control for ever
  static_cast<void>(::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(system_error("netlink socket", errno));
  }
  return Channel(std::move(fd));
}

int Channel::send(Bytes bytes) const {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent = 0;
  do {
    sent =
        ::sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

int Channel::receive(std::vector<std::uint8_t>& datagram) const {
  datagram.resize(datagram_bytes);
  ssize_t size = 0;
  do {
    size = ::recv(fd_.get(), datagram.data(), datagram.size(), 0);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
  datagram.resize(static_cast<std::size_t>(size));
  return 0;
}

void Channel::drain() const {
  std::uint8_t rest[16];
  while (::recv(fd_.get(), rest, sizeof rest, MSG_DONTWAIT | MSG_TRUNC) >= 0) {
  }
}

int Channel::request(const Message& message) const {
  drain();
  const std::uint32_t sequence = ++sequence_;
  if (const int error = send(message.finish(sequence, NLM_F_ACK)); error != 0) return error;
  std::vector<std::uint8_t> datagram;
  for (;;) {
    if (const int error = receive(datagram); error != 0) return error;
    int result = -1;
    for_each_message(datagram, [&](const nlmsghdr& head, Bytes payload) {
      if (head.nlmsg_seq != sequence || head.nlmsg_type != NLMSG_ERROR) return true;
      result = -value_of<nlmsgerr>(payload).error;
      return false;
    });
    if (result >= 0) return result;
  }
}

int Channel::transaction(std::span<const Message> messages) const {
  drain();
  std::vector<std::uint8_t> all;
  for (const Message& message : messages) {
    const auto bytes = message.finish(++sequence_);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  if (const int error = send(all); error != 0) return error;
  // The last but one is the last that is acknowledged. After an error the kernel may leave the rest unanswered.
  const std::uint32_t last = sequence_ - 1;
  std::vector<std::uint8_t> datagram;
  for (;;) {
    if (const int error = receive(datagram); error != 0) return error;
    int result = -1;
    for_each_message(datagram, [&](const nlmsghdr& head, Bytes payload) {
      if (head.nlmsg_type != NLMSG_ERROR) return true;
      const int error = -value_of<nlmsgerr>(payload).error;
      if (error != 0 || head.nlmsg_seq == last) result = error;
      return result < 0;
    });
    if (result >= 0) return result;
  }
}

int Channel::dump(const Message& message, const std::function<void(std::uint16_t type, Bytes payload)>& each) const {
  drain();
  const std::uint32_t sequence = ++sequence_;
  if (const int error = send(message.finish(sequence, NLM_F_DUMP)); error != 0) return error;
  std::vector<std::uint8_t> datagram;
  bool interrupted = false;
  for (;;) {
    if (const int error = receive(datagram); error != 0) return error;
    int result = -1;
    for_each_message(datagram, [&](const nlmsghdr& head, Bytes payload) {
      if (head.nlmsg_seq != sequence) return true;
      interrupted = interrupted || (head.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (head.nlmsg_type == NLMSG_DONE) result = std::max(0, -value_of<int>(payload));
      if (head.nlmsg_type == NLMSG_ERROR) result = -value_of<nlmsgerr>(payload).error;
      if (result < 0) each(head.nlmsg_type, payload);
      return result < 0;
    });
    if (result >= 0) return result == 0 && interrupted ? EAGAIN : result;
  }
}

}  // namespace patchbay::host
