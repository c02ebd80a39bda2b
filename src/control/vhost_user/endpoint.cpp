#include "control/vhost_user/endpoint.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "control/vhost_user/connection.h"
#include "control/vhost_user/log_limit.h"
#include "control/vhost_user/protocol.h"
#include "control/vhost_user/socket_path.h"

namespace patchbay::vhost_user {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

const char* to_string(State state) noexcept {
  switch (state) {
    case State::waiting_for_guest:
      return "waiting_for_guest";
    case State::negotiating:
      return "negotiating";
    case State::connected:
      return "connected";
    case State::failed:
      return "failed";
  }
  return "?";
}

namespace {

constexpr milliseconds retry_ms_min{100};
constexpr milliseconds retry_ms_max{1000};
constexpr milliseconds accept_pause_ms{100};  // after an accept that failed or came too early
constexpr double accepts_per_second = 20;
constexpr double accepts_burst = 100;

std::string phrase(dataplane::PortFault fault) {
  switch (fault) {
    case dataplane::PortFault::ring_broken:
      return "the guest's driver wrote values into a ring that no driver writes: restart the guest's network device";
    case dataplane::PortFault::memory_lost:
      return "the guest's memory vanished (its file was truncated): restart the guest";
    default:
      return std::string("the link to the guest broke: ") + dataplane::to_string(fault);
  }
}

// What an Endpoint is inside. Handlers of the event loop hold it weakly, so it may go at any moment.
class Core : public std::enable_shared_from_this<Core> {
 public:
  Core(asio::io_context& loop, dataplane::Dataplane& dataplane, EndpointConfig config, std::function<void()> changed)
      : loop_(loop),
        dataplane_(dataplane),
        config_(std::move(config)),
        changed_(std::move(changed)),
        mtu_(config_.mtu),
        queues_(config_.queues),
        listener_(loop),
        timer_(loop),
        give_up_(loop),
        log_(config_.vnic) {
    status_.reason = waiting_for("");
  }

  [[nodiscard]] Result<void> start() {
    if (config_.role == Role::connect) {
      retry_after(milliseconds{0});
      return {};
    }
    auto socket = ListeningSocket::open(config_.path, config_.socket_group);
    if (!socket) return fail(std::move(socket.error()));
    boost::system::error_code error;
    listener_.assign(socket->fd(), error);
    if (error) return fail(ErrorCode::internal, "the event loop does not take the socket: " + error.message());
    socket_.emplace(std::move(*socket));
    wait_for_front_end();
    return {};
  }

  void stop() {
    end_session();
    timer_.cancel();
    give_up_.cancel();
    dataplane_.give_up_guest(config_.port);
    if (listener_.is_open()) static_cast<void>(listener_.release());
    if (socket_) budget_->closer.close(socket_->take_fd());  // whoever waits to be accepted may have sent descriptors
    socket_.reset();
    changed_ = {};
  }

  [[nodiscard]] EndpointStatus status() const {
    EndpointStatus status = status_;
    if (status.state == State::connected && session_) {
      status.guest_mtu = session_->protocol.guest_mtu().value_or(session_->mtu_when_linked);
      status.queues_offered = session_->protocol.queue_pairs();
      status.queues_used = session_->protocol.queue_pairs_used();
    }
    return status;
  }

  void set_mtu(std::uint16_t mtu) noexcept { mtu_ = mtu; }
  void set_queues(std::uint16_t queues) noexcept { queues_ = queues; }

  void port_failed(dataplane::PortFault fault) {
    if (!session_) return;
    session_ended(make_error(ErrorCode::invalid, phrase(fault)));
  }

 private:
  struct Session {
    Session(dataplane::Dataplane& dataplane, PortId port, std::uint16_t queues, TokenBucket& announcements)
        : protocol(dataplane, port, dataplane::guest_features_supported(), queues, announcements) {}
    Protocol protocol;
    std::shared_ptr<Connection> connection;
    bool was_linked = false;
    std::uint16_t mtu_when_linked = 0;  // the switch's
  };

  // ---- Listening ----------------------------------------------------------------------------------------------------

  void wait_for_front_end() {
    listener_.async_wait(asio::posix::stream_descriptor::wait_read,
                         [weak = weak_from_this()](const boost::system::error_code& error) {
                           const auto self = weak.lock();
                           if (self && !error) self->accept();
                         });
  }

  void accept() {
    if (budget_->closer.is_full() || !accepts_.take(Clock::now())) return accept_later();
    UniqueFd front_end(::accept4(listener_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!front_end) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return wait_for_front_end();
      log_.warn(system_error("cannot accept a front-end", errno).message);
      return accept_later();
    }
    if (session_ && session_->connection->is_peer_gone()) session_ended(std::nullopt);
    if (session_) {
      log_.warn("refused a second front-end: one is connected already");
      budget_->closer.close(std::move(front_end));
    } else {
      begin_session(std::move(front_end));
    }
    wait_for_front_end();
  }

  void accept_later() {
    timer_.expires_after(accept_pause_ms);
    timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      const auto self = weak.lock();
      if (self && !error) self->wait_for_front_end();
    });
  }

  // ---- Connecting ---------------------------------------------------------------------------------------------------

  void retry_after(milliseconds delay) {
    timer_.expires_after(delay);
    timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      const auto self = weak.lock();
      if (self && !error) self->try_to_connect();
    });
  }

  void retry_later() {
    retry_after(retry_);
    retry_ = std::min(retry_ * 2, retry_ms_max);
  }

  void try_to_connect() {
    auto front_end = connect_to(config_.path);
    if (!front_end) {
      if (status_.state != State::failed) set_waiting(front_end.error().message);
      return retry_later();
    }
    begin_session(std::move(*front_end));
  }

  // ---- A session ----------------------------------------------------------------------------------------------------

  void begin_session(UniqueFd front_end) {
    if (budget_->closer.is_full()) {
      log_.warn("refused a front-end: descriptors of earlier ones are still being closed");
      budget_->closer.close(std::move(front_end));
      if (config_.role == Role::connect) retry_later();
      return;
    }
    session_.emplace(dataplane_, config_.port, queues_, announcements_);
    Connection::Owner owner;
    owner.message = [this](Message message) { return handle(std::move(message)); };
    owner.ended = [this](std::optional<Error> why) { session_ended(std::move(why)); };
    auto connection = Connection::open(loop_, std::move(front_end), limits_, budget_, std::move(owner));
    if (!connection) {
      session_.reset();
      set_status(State::failed, connection.error().message);
      if (config_.role == Role::connect) retry_later();
      return;
    }
    session_->connection = std::move(*connection);
    log_.info("front-end connected");
    set_status(State::negotiating, session_->protocol.missing());
  }

  Outcome handle(Message message) {
    Outcome outcome = session_->protocol.handle(std::move(message));
    if (!outcome.failure) show_progress();
    return outcome;
  }

  void show_progress() {
    const bool linked = session_->protocol.is_linked();
    if (linked && status_.state != State::connected) session_->mtu_when_linked = mtu_;
    if (linked && !std::exchange(session_->was_linked, true)) {
      retry_ = retry_ms_min;
      log_.info("guest connected");
    }
    set_status(linked ? State::connected : State::negotiating, session_->protocol.missing());
  }

  // `why`: nothing if the front-end closed.
  void session_ended(std::optional<Error> why) {
    const bool wants_more = !why && session_ && session_->protocol.is_stuck_at_queues();
    end_session();
    if (why) {
      log_.warn("connection closed: " + why->message);
      set_status(State::failed, std::move(why->message));
    } else {
      log_.info("front-end went away");
      set_waiting(wants_more ? phrase_of_queues() : "");
    }
    if (config_.role == Role::connect) retry_later();
  }

  void end_session() {
    if (!session_) return;
    if (session_->connection) session_->connection->close();
    session_.reset();
  }

  // ---- Status -------------------------------------------------------------------------------------------------------

  [[nodiscard]] std::string waiting_for(const std::string& cause) const {
    const char* const what = config_.role == Role::listen ? "a guest on " : "a front-end to listen on ";
    return "waiting for " + (what + config_.path) + (cause.empty() ? "" : " (" + cause + ")");
  }
  // QEMU says it in its own log only.
  [[nodiscard]] std::string phrase_of_queues() const {
    return "the last one left before it shared memory, as QEMU does if its queues= are more than the " +
           std::to_string(queues_) + " of the vnic: raise them, or start the guest anew with what attach-args prints";
  }

  void set_waiting(const std::string& cause) { set_status(State::waiting_for_guest, waiting_for(cause)); }

  void set_status(State state, std::string reason) {
    if (status_.state == state && status_.reason == reason) return;
    if (status_.state != state) note_presence(status_.state, state);
    status_.state = state;
    status_.reason = std::move(reason);
    // Posted, so that `changed` may do anything, delete the endpoint included; and changes of one turn come as one.
    if (!changed_ || std::exchange(notice_pending_, true)) return;
    asio::post(loop_, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      self->notice_pending_ = false;
      if (const auto changed = self->changed_) changed();
    });
  }

  // Frames wait for a guest that stopped, but not for ever, and not for one that broke the rules.
  void note_presence(State from, State to) {
    if (to == State::connected) {
      give_up_.cancel();
    } else if (to == State::failed) {
      give_up_.cancel();
      dataplane_.give_up_guest(config_.port);
    } else if (from == State::connected) {
      give_up_.expires_after(config_.may_return);
      give_up_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
        const auto self = weak.lock();
        if (self && !error) self->dataplane_.give_up_guest(self->config_.port);
      });
    }
  }

  asio::io_context& loop_;
  dataplane::Dataplane& dataplane_;
  const EndpointConfig config_;
  std::function<void()> changed_;
  std::uint16_t mtu_;  // of the switch
  std::uint16_t queues_;
  const Limits limits_;
  const std::shared_ptr<Connection::Budget> budget_ = std::make_shared<Connection::Budget>(Connection::Budget{
      TokenBucket(limits_.messages_per_second, limits_.messages_burst, Clock::now()), ForeignCloser{}});

  std::optional<ListeningSocket> socket_;    // Role::listen
  asio::posix::stream_descriptor listener_;  // watches socket_, does not own it
  asio::steady_timer timer_;                 // listen: pause before the next accept; connect: before the next try
  TokenBucket accepts_{accepts_per_second, accepts_burst, Clock::now()};
  milliseconds retry_ = retry_ms_min;
  asio::steady_timer give_up_;  // a guest that stopped

  TokenBucket announcements_{announcements_per_second, announcements_burst, Clock::now()};
  std::optional<Session> session_;
  EndpointStatus status_;
  bool notice_pending_ = false;
  LogLimit log_;
};

class LocalEndpoint final : public Endpoint {
 public:
  explicit LocalEndpoint(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~LocalEndpoint() override { core_->stop(); }
  LocalEndpoint(const LocalEndpoint&) = delete;
  LocalEndpoint& operator=(const LocalEndpoint&) = delete;

  [[nodiscard]] EndpointStatus status() const override { return core_->status(); }
  void set_mtu(std::uint16_t mtu) override { core_->set_mtu(mtu); }
  void set_queues(std::uint16_t queues) override { core_->set_queues(queues); }
  void port_failed(dataplane::PortFault fault) override { core_->port_failed(fault); }

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace

Result<std::unique_ptr<Endpoint>> Endpoint::create(asio::io_context& loop, dataplane::Dataplane& dataplane,
                                                   EndpointConfig config, std::function<void()> changed) {
  if (config.path.empty() || config.path.size() > socket_path_bytes_max) {
    return fail(ErrorCode::invalid, "the socket path '" + config.path + "' of vnic " + config.vnic +
                                        " must have 1 to " + std::to_string(socket_path_bytes_max) + " bytes");
  }
  auto core = std::make_shared<Core>(loop, dataplane, std::move(config), std::move(changed));
  if (auto started = core->start(); !started) {
    core->stop();
    return fail(std::move(started.error()));
  }
  return std::make_unique<LocalEndpoint>(std::move(core));
}

}  // namespace patchbay::vhost_user
