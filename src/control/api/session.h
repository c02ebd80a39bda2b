// One connection of the API: reads a request, answers it, and goes on until either side has had enough.
//
// States  reading -> answering -> reading; answering -> draining (we close, but the client may still be sending: what
//         it sends is thrown away for a moment, so that it reads our answer instead of a reset) -> closed; any ->
//         closed
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "control/api/message.h"
#include "control/api/server.h"
#include "control/api/stream.h"

namespace patchbay::api {

class Session : public std::enable_shared_from_this<Session> {
 public:
  using Clock = std::chrono::steady_clock;

  // `closed` is called once, from the event loop, when the connection has ended by itself; not after close().
  Session(Stream::Socket socket, ForeignCloser closer, reconcile::Service& service, const Limits& limits,
          std::function<void(Session&)> closed);

  void start();
  // Ends the connection at once; the service is not touched any more.
  void close();

  // Since when nothing has come in and nothing is to be answered; nothing while a request is under way.
  [[nodiscard]] std::optional<Clock::time_point> idle_since();

  // What a connection too many gets to read: one write, as much of it as fits, then the end.
  static void refuse(Stream& stream, std::size_t connections_max);

 private:
  void read();
  void on_read(boost::beast::error_code error);
  // `keep_alive` false: the connection ends after this answer.
  void answer(Response response, unsigned version, bool keep_alive);
  void on_written(bool keep_alive);
  void drain();
  void end();
  void end_after(Clock::duration time);

  Stream stream_;
  boost::asio::steady_timer deadline_;  // of the read or write under way
  reconcile::Service& service_;
  const Limits limits_;
  std::function<void(Session&)> closed_;
  bool open_ = true;
  bool reading_ = false;  // waits for a request, or for the rest of one
  Clock::time_point reading_since_;
  std::size_t drained_bytes_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  boost::beast::http::response<boost::beast::http::string_body> response_;
};

}  // namespace patchbay::api
