#include "control/api/session.h"

#include <boost/asio/buffer.hpp>
#include <utility>

#include "control/api/router.h"

namespace patchbay::api {
namespace {

namespace http = boost::beast::http;

constexpr std::size_t read_buffer_bytes = 64 * 1024;
constexpr std::size_t drain_bytes_max = 64 * 1024 * 1024;
constexpr std::chrono::seconds drain_time{2};

http::response<http::string_body> to_http(Response&& response, unsigned version, bool keep_alive) {
  http::response<http::string_body> message;
  message.result(response.status);
  message.version(version);
  message.set(http::field::server, "patchbayd");
  if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
  if (!response.allow.empty()) message.set(http::field::allow, response.allow);
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  return message;
}

// What to say about a request that could not be read; nothing if there is nobody to say it to.
std::optional<Response> refusal(const boost::beast::error_code& error, const Limits& limits) {
  if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
  if (error == http::error::body_limit) {
    return error_response(
        413, make_error(ErrorCode::invalid, "the body is larger than " + std::to_string(limits.body_bytes_max) +
                                                " bytes; send one object a request, or a smaller file"));
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return error_response(431, make_error(ErrorCode::invalid, "path and header are larger than " +
                                                                  std::to_string(limits.header_bytes_max) +
                                                                  " bytes; send a shorter path, fewer fields"));
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category()) {
    return error_response(make_error(ErrorCode::invalid, "this is not an HTTP/1.1 request (" + error.message() +
                                                             "); GET /v1/openapi.yaml says what is"));
  }
  return std::nullopt;
}

}  // namespace

Session::Session(Stream::Socket socket, ForeignCloser closer, reconcile::Service& service, const Limits& limits,
                 std::function<void(Session&)> closed)
    : stream_(std::move(socket), std::move(closer)),
      deadline_(stream_.get_executor()),
      service_(service),
      limits_(limits),
      closed_(std::move(closed)),
      buffer_(read_buffer_bytes) {}

void Session::start() {
  read();
}

void Session::close() {
  open_ = false;
  closed_ = nullptr;
  deadline_.cancel();
  stream_.close();
}

void Session::end() {
  if (!open_) return;
  open_ = false;
  deadline_.cancel();
  stream_.close();
  const auto closed = std::exchange(closed_, nullptr);
  if (closed) closed(*this);
}

void Session::end_after(Clock::duration time) {
  deadline_.expires_after(time);
  deadline_.async_wait([self = shared_from_this()](const boost::beast::error_code& error) {
    if (!error && self->deadline_.expiry() <= Clock::now()) self->end();
  });
}

std::optional<Session::Clock::time_point> Session::idle_since() {
  const bool is_idle = open_ && reading_ && buffer_.size() == 0 && !parser_->got_some() && !stream_.has_unread();
  return is_idle ? std::optional(reading_since_) : std::nullopt;
}

void Session::read() {
  parser_.emplace();
  parser_->body_limit(limits_.body_bytes_max);
  parser_->header_limit(limits_.header_bytes_max);
  reading_ = true;
  reading_since_ = Clock::now();
  end_after(limits_.idle);
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](boost::beast::error_code error, std::size_t) { self->on_read(error); });
}

void Session::on_read(boost::beast::error_code error) {
  reading_ = false;
  if (!open_) return;
  if (error) {
    auto response = refusal(error, limits_);
    return response ? answer(std::move(*response), 11, false) : end();
  }
  auto& message = parser_->get();
  const unsigned version = message.version();
  const bool keep_alive = message.keep_alive();
  const auto method = message.method_string();
  const auto target = message.target();
  auto request = parse_target({method.data(), method.size()}, {target.data(), target.size()});
  if (!request) return answer(error_response(request.error()), version, keep_alive);
  request->body = std::move(message.body());
  request->uid = stream_.peer_uid();
  answer(route(service_, *request), version, keep_alive);
}

void Session::answer(Response response, unsigned version, bool keep_alive) {
  response_ = to_http(std::move(response), version, keep_alive);
  end_after(limits_.idle);
  http::async_write(stream_, response_,
                    [self = shared_from_this(), keep_alive](boost::beast::error_code error, std::size_t) {
                      if (!self->open_) return;
                      if (error) return self->end();
                      self->on_written(keep_alive);
                    });
}

void Session::on_written(bool keep_alive) {
  if (keep_alive) return read();
  stream_.shutdown_send();
  end_after(drain_time);
  drain();
}

void Session::drain() {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(read_buffer_bytes),
                          [self = shared_from_this()](boost::beast::error_code error, std::size_t bytes) {
                            if (!self->open_) return;
                            self->drained_bytes_ += bytes;
                            if (error || self->drained_bytes_ > drain_bytes_max) return self->end();
                            self->drain();
                          });
}

void Session::refuse(Stream& stream, std::size_t connections_max) {
  auto response = error_response(
      make_error(ErrorCode::no_resource, "patchbayd has " + std::to_string(connections_max) +
                                             " API connections open, as many as it takes, and a request under way on "
                                             "each; close one and try again"));
  const std::string body = std::move(response.body);
  const std::string text =
      "HTTP/1.1 503 Service Unavailable\r\nServer: patchbayd\r\nContent-Type: application/json\r\nConnection: close\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  stream.write_now(boost::asio::buffer(text));
}

}  // namespace patchbay::api
