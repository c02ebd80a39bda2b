#include "client.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>

namespace patchbay::cli {
namespace {

namespace http = boost::beast::http;
using Protocol = boost::asio::local::stream_protocol;

constexpr std::uint64_t answer_bytes_max = 256 * 1024 * 1024;
constexpr std::size_t socket_path_bytes_max = 107;

// Connect, write, read: each step starts the next, and the stream's deadline covers them all.
class Exchange {
 public:
  Exchange(boost::asio::io_context& loop, http::request<http::string_body> request, std::chrono::seconds time)
      : stream_(loop), request_(std::move(request)), time_(time) {
    parser_.body_limit(answer_bytes_max);
  }

  void start(const std::string& socket_path) {
    stream_.expires_after(time_);
    stream_.async_connect(Protocol::endpoint(socket_path), [this](boost::beast::error_code error) {
      error_ = error;
      if (!error) write();
    });
  }
  [[nodiscard]] boost::beast::error_code error() const { return error_; }
  [[nodiscard]] const http::response<http::string_body>& response() const { return parser_.get(); }

 private:
  void write() {
    http::async_write(stream_, request_, [this](boost::beast::error_code error, std::size_t) {
      if (error == boost::beast::error::timeout) {
        error_ = error;
        return;
      }
      read();  // even if not all was taken: a server that refuses says so before it closes
    });
  }
  void read() {
    http::async_read(stream_, buffer_, parser_,
                     [this](boost::beast::error_code error, std::size_t) { error_ = error; });
  }

  boost::beast::basic_stream<Protocol> stream_;
  http::request<http::string_body> request_;
  const std::chrono::seconds time_;
  boost::beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
  boost::beast::error_code error_;
};

std::string no_answer(const std::string& socket_path, const boost::beast::error_code& error,
                      std::chrono::seconds time) {
  if (error == boost::asio::error::access_denied) {
    return fmt::format(
        "not allowed to talk to patchbayd at {}; become root, or a member of the group that the socket belongs to",
        socket_path);
  }
  if (error == boost::beast::error::timeout) {
    return fmt::format("no answer from patchbayd at {} within {} s; is it stuck? its log says more", socket_path,
                       time.count());
  }
  return fmt::format("no answer from patchbayd at {} ({}); is it running? start it, or name its socket with --api",
                     socket_path, error.message());
}

// The server's own sentence, if there is one.
std::optional<std::string> refusal(const Json& body) {
  if (!body.is_object() || !body.contains("error")) return std::nullopt;
  const Json& error = body["error"];
  if (!error.is_object() || !error.contains("message") || !error["message"].is_string()) return std::nullopt;
  return error["message"].get<std::string>();
}

Answer read_answer(const std::string& socket_path, const Question& question,
                   const http::response<http::string_body>& response) {
  const std::string& text = response.body();
  const unsigned status = response.result_int();
  const bool is_good = status >= 200 && status < 300;
  if (is_good && response[http::field::content_type] == "application/yaml") return Json(text);
  Json body = text.empty() ? Json() : Json::parse(text, nullptr, false);
  if (is_good && !body.is_discarded()) return body;
  if (auto message = refusal(body)) {
    return tl::unexpected((message->rfind("line ", 0) == 0 ? question.about_lines : "") + *message);
  }
  return tl::unexpected(
      fmt::format("what listens at {} answers with status {}, and not as patchbayd would; name the "
                  "socket of patchbayd with --api",
                  socket_path, status));
}

}  // namespace

Answer ask(const std::string& socket_path, const Question& question) {
  if (socket_path.empty() || socket_path.size() > socket_path_bytes_max) {
    return tl::unexpected(
        fmt::format("\"{}\" cannot be a socket: its path has {} bytes, and 1 to {} are possible; name "
                    "the socket of patchbayd with --api",
                    socket_path, socket_path.size(), socket_path_bytes_max));
  }
  http::request<http::string_body> request;
  request.method_string(question.method);
  request.target(question.path);
  request.set(http::field::host, "localhost");
  request.keep_alive(false);
  if (!question.body.is_null()) {
    request.set(http::field::content_type, "application/json");
    request.body() = question.body.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  if (!question.yaml.empty()) {
    request.set(http::field::content_type, "application/yaml");
    request.body() = question.yaml;
  }
  request.prepare_payload();

  boost::asio::io_context loop;
  Exchange exchange(loop, std::move(request), question.time);
  try {
    exchange.start(socket_path);
    loop.run();
  } catch (const std::exception& thrown) {
    return tl::unexpected(
        fmt::format("cannot ask patchbayd at {}: {}; name its socket with --api", socket_path, thrown.what()));
  }
  if (exchange.error()) return tl::unexpected(no_answer(socket_path, exchange.error(), question.time));
  return read_answer(socket_path, question, exchange.response());
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  std::string encoded;
  for (const char c : text) {
    if (plain.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace patchbay::cli
