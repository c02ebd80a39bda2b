#include "control/api/stream.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <boost/asio/error.hpp>
#include <cerrno>

namespace patchbay::api {

std::size_t Stream::receive(boost::asio::mutable_buffer into, boost::beast::error_code& error) {
  RightsBuffer control;
  msghdr header{};
  const ssize_t got = read_with_rights(socket_.native_handle(), into.data(), into.size(), control, header);
  if (got < 0) {
    const bool again = errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK;
    error = again ? boost::asio::error::would_block : boost::beast::error_code(errno, boost::system::system_category());
    return 0;
  }
  auto foreign = take_rights(header);
  if (!foreign.empty()) {
    closer_.close(std::move(foreign));
    error = boost::asio::error::no_permission;  // nothing in the API takes descriptors
    return 0;
  }
  if (got == 0) error = boost::asio::error::eof;
  return static_cast<std::size_t>(got);
}

void Stream::write_now(boost::asio::const_buffer bytes) {
  static_cast<void>(::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

void Stream::shutdown_send() {
  boost::beast::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

std::optional<std::uint32_t> Stream::peer_uid() {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool is_known = ::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  return is_known ? std::optional<std::uint32_t>(peer.uid) : std::nullopt;
}

bool Stream::has_unread() {
  boost::beast::error_code ignored;
  return socket_.available(ignored) > 0;
}

void Stream::close() {
  if (!socket_.is_open()) return;
  boost::beast::error_code ignored;
  const int fd = socket_.release(ignored);
  if (!ignored) closer_.close(UniqueFd(fd));
}

}  // namespace patchbay::api
