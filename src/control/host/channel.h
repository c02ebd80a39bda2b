// Netlink messages byte by byte, for what has to be copied exactly as the kernel gave it.
//
// Theory  libnl turns a route into an object and back, and what it does not know of gets lost on the way. Whoever moves
//         addresses and routes from one interface to another copies the kernel's own attributes instead: a Message is
//         built of them, a Channel sends it and waits for the kernel's answer.
// Limits  One answer at a time; a dump that the kernel interrupted is read again, a few times.
// Threads control's only. The calls block as long as the kernel works on them.
// Source  netlink(7), rtnetlink(7); strict checking of dump requests since Linux 4.20.
#pragma once
#include <linux/netlink.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::host {

using Bytes = std::span<const std::uint8_t>;

class Message {
 public:
  // `header`: the struct that follows the netlink header, such as ifaddrmsg.
  template <typename Header>
  Message(std::uint16_t type, unsigned flags, const Header& header) {
    nlmsghdr head{};
    head.nlmsg_type = type;
    head.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    append(&head, sizeof head);
    append(&header, sizeof header);
  }

  void put(std::uint16_t type, Bytes value);
  // Host byte order, as rtnetlink has it. nf_tables wants put_be32().
  void put_u32(std::uint16_t type, std::uint32_t value);
  void put_be32(std::uint16_t type, std::uint32_t value);
  void put_text(std::uint16_t type, const std::string& value);
  // Attributes until end() belong to this one. `type` without NLA_F_NESTED.
  [[nodiscard]] std::size_t begin(std::uint16_t type);
  void end(std::size_t at);

  // The whole, with its length filled in and `sequence`.
  [[nodiscard]] std::vector<std::uint8_t> finish(std::uint32_t sequence, unsigned more_flags = 0) const;

 private:
  void append(const void* bytes, std::size_t size);

  std::vector<std::uint8_t> bytes_;
};

// The attributes behind the first `skip` bytes of a message's payload, by type; the last of a type counts.
[[nodiscard]] std::map<std::uint16_t, Bytes> attributes_of(Bytes payload, std::size_t skip);

// The value at the start of `bytes`; zeros where they are too short.
template <typename T>
[[nodiscard]] T value_of(Bytes bytes) noexcept {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

class Channel {
 public:
  // `protocol`: NETLINK_ROUTE, …. Errors: no_resource, internal.
  [[nodiscard]] static Result<Channel> open(int protocol);

  // 0, or the errno that the kernel answers.
  [[nodiscard]] int request(const Message& message) const;
  // All messages in one datagram, as nf_tables wants a transaction. 0, or the first errno. `messages` have their own
  // NLM_F_ACK; the first and the last, which frame them, have none.
  [[nodiscard]] int transaction(std::span<const Message> messages) const;
  // Calls `each` with the type and payload of every answer. 0 or an errno.
  [[nodiscard]] int dump(const Message& message,
                         const std::function<void(std::uint16_t type, Bytes payload)>& each) const;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] int send(Bytes bytes) const;
  // The next datagram; 0 or an errno.
  [[nodiscard]] int receive(std::vector<std::uint8_t>& datagram) const;
  void drain() const;

  UniqueFd fd_;
  mutable std::uint32_t sequence_ = 0;
};

}  // namespace patchbay::host
