// A TCP socket that lingers over data which its receiver never reads: whoever closes it last waits for 20 seconds.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "base/unique_fd.h"

namespace patchbay::test {

class LingeringSocket {
 public:
  LingeringSocket() {
    const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(server.get(), any, length) != 0 || ::listen(server.get(), 1) != 0 ||
        ::getsockname(server.get(), any, &length) != 0) {
      return;
    }
    socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket_.get(), any, length) != 0) {
      socket_.reset();
      return;
    }
    receiver_.reset(::accept(server.get(), nullptr, nullptr));
    const linger long_time{1, 20};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time);
    static constexpr std::array<char, 65536> data{};
    while (::send(socket_.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
  }
  LingeringSocket(const LingeringSocket&) = delete;
  LingeringSocket& operator=(const LingeringSocket&) = delete;
  ~LingeringSocket() { end(); }

  // -1: it could not be made.
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // From now on it lasts only while messages hold it. On a thread of its own: whoever got the message may have closed what
  // came with it already, and then this is the close that waits.
  void leave_to_messages() {
    std::thread([fd = socket_.release()] { ::close(fd); }).detach();
  }
  // Lets whoever is closing it go.
  void end() {
    const linger at_once{1, 0};
    if (receiver_) ::setsockopt(receiver_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    receiver_.reset();
    socket_.reset();
  }

 private:
  UniqueFd socket_;
  UniqueFd receiver_;
};

}  // namespace patchbay::test
