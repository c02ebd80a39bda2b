// Packet sockets: what rings, transmission and sorting do alike with them. packet(7).
#pragma once
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cstdint>

namespace patchbay::dataplane {

template <typename T>
bool set_option(int fd, int level, int option, const T& value) noexcept {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

[[nodiscard]] inline bool bind_to(int fd, int if_index, std::uint16_t protocol) noexcept {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = if_index;
  address.sll_protocol = htons(protocol);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// Reads the socket's error, which clears it.
inline void clear_error(int fd) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
}

}  // namespace patchbay::dataplane
