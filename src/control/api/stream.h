// The bytes of one API connection, for Beast to read and write.
//
// Theory  As the socket itself, with two differences. Reading takes whatever descriptors a client sends along
//         (SCM_RIGHTS), which a plain read would have the kernel close on the reader's thread, and ends the connection;
//         and closing goes through a ForeignCloser, for descriptors may be waiting in the socket.
// States  open -> closed, by close(); operations under way then end with operation_aborted.
// Threads the event loop's.
#pragma once
#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/error.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/foreign_closer.h"

namespace patchbay::api {

class Stream {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;
  using executor_type = Socket::executor_type;

  Stream(Socket socket, ForeignCloser closer) : socket_(std::move(socket)), closer_(std::move(closer)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { close(); }

  [[nodiscard]] executor_type get_executor() { return socket_.get_executor(); }

  // One read into the first of `buffers`. The stream outlives the operation.
  template <typename Buffers, typename Handler>
  auto async_read_some(const Buffers& buffers, Handler&& handler) {
    const boost::asio::mutable_buffer into(*boost::asio::buffer_sequence_begin(buffers));
    return boost::asio::async_compose<Handler, void(boost::beast::error_code, std::size_t)>(
        [this, into, is_waiting = false](auto& self, boost::beast::error_code error = {}) mutable {
          std::size_t got = 0;
          if (std::exchange(is_waiting, true) && !error)
            got = receive(into, error);
          else if (!error)
            error = boost::asio::error::would_block;
          if (error != boost::asio::error::would_block) return self.complete(error, got);
          socket_.async_wait(Socket::wait_read, std::move(self));
        },
        handler, socket_);
  }
  template <typename Buffers, typename Handler>
  auto async_write_some(const Buffers& buffers, Handler&& handler) {
    return socket_.async_write_some(buffers, std::forward<Handler>(handler));
  }
  // One write, as much of it as fits.
  void write_now(boost::asio::const_buffer bytes);
  void shutdown_send();
  // Of the process that connected; nothing if the kernel does not say.
  [[nodiscard]] std::optional<std::uint32_t> peer_uid();
  // Whether bytes have arrived that nobody has read yet.
  [[nodiscard]] bool has_unread();
  void close();

 private:
  [[nodiscard]] std::size_t receive(boost::asio::mutable_buffer into, boost::beast::error_code& error);

  Socket socket_;
  ForeignCloser closer_;
};

}  // namespace patchbay::api
