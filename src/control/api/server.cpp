#include "control/api/server.h"

#include <spdlog/spdlog.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/error.hpp>
#include <exception>
#include <optional>
#include <unordered_set>
#include <utility>

#include "control/api/listen_socket.h"
#include "control/api/session.h"

namespace patchbay::api {
namespace {

// How long to wait before accepting again when the process has no descriptor left, or too many to close.
constexpr std::chrono::milliseconds accept_pause{200};

}  // namespace

// Accepts connections and holds the sessions. Outlives the Server only in handlers that find `stopped_` set.
class Server::Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(boost::asio::io_context& loop, reconcile::Service& service, ListenSocket socket, const Limits& limits)
      : acceptor_(loop), pause_(loop), service_(service), socket_(std::move(socket)), limits_(limits) {
    acceptor_.assign(boost::asio::local::stream_protocol(), socket_->release_fd());
  }

  void accept() {
    if (closer_.is_full()) return pause();  // descriptors of earlier clients are still being closed
    acceptor_.async_accept([self = shared_from_this()](boost::beast::error_code error, Stream::Socket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void stop() {
    stopped_ = true;
    boost::beast::error_code ignored;
    const int fd = acceptor_.release(ignored);
    if (!ignored) closer_.close(UniqueFd(fd));
    pause_.cancel();
    for (const auto& session : sessions_) session->close();
    sessions_.clear();
    socket_.reset();
  }

 private:
  void on_accept(boost::beast::error_code error, Stream::Socket socket) {
    if (stopped_) return;
    if (error) {
      spdlog::warn("api: cannot accept a connection: {}; trying again", error.message());
      return pause();
    }
    if (sessions_.size() >= limits_.connections_max && !evict()) {
      Stream refused(std::move(socket), closer_);
      Session::refuse(refused, limits_.connections_max);
    } else {
      open(std::move(socket));
    }
    accept();
  }

  // Makes room: closes the connection that has been idle longest. False if a request is under way on each.
  bool evict() {
    auto oldest = sessions_.end();
    std::optional<Session::Clock::time_point> since;
    for (auto session = sessions_.begin(); session != sessions_.end(); ++session) {
      const auto idle_since = (*session)->idle_since();
      if (!idle_since || (since && *idle_since >= *since)) continue;
      since = idle_since;
      oldest = session;
    }
    if (!since) return false;
    (*oldest)->close();
    sessions_.erase(oldest);
    return true;
  }

  void open(Stream::Socket socket) {
    auto session = std::make_shared<Session>(std::move(socket), closer_, service_, limits_,
                                             [listener = weak_from_this()](Session& ended) {
                                               const auto self = listener.lock();
                                               if (self) self->sessions_.erase(ended.shared_from_this());
                                             });
    sessions_.insert(session);
    session->start();
  }

  void pause() {
    pause_.expires_after(accept_pause);
    pause_.async_wait([self = shared_from_this()](boost::beast::error_code) {
      if (!self->stopped_) self->accept();
    });
  }

  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  reconcile::Service& service_;
  std::optional<ListenSocket> socket_;
  const Limits limits_;
  ForeignCloser closer_;
  std::unordered_set<std::shared_ptr<Session>> sessions_;
  bool stopped_ = false;
};

Result<std::unique_ptr<Server>> Server::create(boost::asio::io_context& loop, reconcile::Service& service,
                                               std::string socket_path, std::optional<gid_t> socket_group,
                                               Limits limits) {
  auto socket = ListenSocket::create(socket_path, socket_group);
  if (!socket) return fail(socket.error());
  try {
    auto listener = std::make_shared<Listener>(loop, service, std::move(*socket), limits);
    listener->accept();
    spdlog::info("api: listening on {}", socket_path);
    return std::unique_ptr<Server>(new Server(std::move(listener)));
  } catch (const std::exception& thrown) {
    return fail(ErrorCode::internal, "cannot serve the API on " + socket_path + ": " + thrown.what());
  }
}

Server::Server(std::shared_ptr<Listener> listener) : listener_(std::move(listener)) {}

Server::~Server() {
  listener_->stop();
}

}  // namespace patchbay::api
