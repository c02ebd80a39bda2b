#include "control/vhost_user/connection.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

namespace patchbay::vhost_user {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
namespace {
constexpr std::chrono::milliseconds pause_ms{20};  // 20 tokens at 1000 a second
}  // namespace

Connection::Connection(asio::io_context& loop, const Limits& limits, std::shared_ptr<Budget> budget, Owner owner)
    : loop_(loop),
      socket_(loop),
      pause_(loop),
      deadline_(loop),
      limits_(limits),
      budget_(std::move(budget)),
      owner_(std::move(owner)) {}

Result<std::shared_ptr<Connection>> Connection::open(asio::io_context& loop, UniqueFd socket, const Limits& limits,
                                                     std::shared_ptr<Budget> budget, Owner owner) {
  auto connection = std::make_shared<Connection>(loop, limits, std::move(budget), std::move(owner));
  boost::system::error_code error;
  connection->socket_.assign(socket.get(), error);
  if (error) {
    connection->budget_->closer.close(std::move(socket));
    return fail(ErrorCode::internal, "the event loop does not take the socket: " + error.message());
  }
  static_cast<void>(socket.release());
  connection->wait_readable();
  return connection;
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  owner_ = {};
  if (socket_.is_open()) budget_->closer.close(UniqueFd(socket_.release()));
  pause_.cancel();
  deadline_.cancel();
  message_ = {};
}

bool Connection::is_peer_gone() {
  if (closed_) return true;
  pollfd state{socket_.native_handle(), POLLRDHUP, 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::end(std::optional<Error> why) {
  if (closed_) return;
  auto ended = std::move(owner_.ended);
  close();
  ended(std::move(why));
}

// ---- Reading --------------------------------------------------------------------------------------------------------

void Connection::read_turn() {
  for (unsigned reads = 0; reads < limits_.reads_per_turn_max; ++reads) {
    const Step step = read_step();
    if (step == Step::stop) return;
    if (step == Step::wait) {
      watch_half_message();
      wait_readable();
      return;
    }
  }
  watch_half_message();
  asio::post(loop_, [self = shared_from_this()] {
    if (!self->closed_) self->read_turn();
  });
}

Connection::Step Connection::read_step() {
  if (header_have_ < header_bytes) {
    if (!paid_) {
      if (!budget_->messages.take(Clock::now())) {
        wait_for_token();
        return Step::stop;
      }
      paid_ = true;
    }
    const Step step = receive(header_bytes_.data() + header_have_, header_bytes - header_have_);
    if (step != Step::progress || header_have_ < header_bytes) return step;
    return start_message();
  }
  const Step step = receive(message_.payload.data() + payload_have_, message_.payload.size() - payload_have_);
  if (step != Step::progress || payload_have_ < message_.payload.size()) return step;
  return finish_message();
}

Connection::Step Connection::receive(std::uint8_t* into, std::size_t size_bytes) {
  RightsBuffer control;
  msghdr header{};
  const ssize_t got = read_with_rights(socket_.native_handle(), into, size_bytes, control, header);
  if (got < 0) {
    if (errno == EINTR) return Step::progress;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Step::wait;
    if (errno == ECONNRESET || errno == EPIPE) {
      end(std::nullopt);
    } else {
      end(system_error("cannot read from the front-end", errno));
    }
    return Step::stop;
  }
  if (auto taken = take_descriptors(header); !taken) {
    end(std::move(taken.error()));
    return Step::stop;
  }
  if (got == 0) {
    end(std::nullopt);
    return Step::stop;
  }
  (header_have_ < header_bytes ? header_have_ : payload_have_) += static_cast<std::size_t>(got);
  return Step::progress;
}

Result<void> Connection::take_descriptors(const msghdr& control) {
  std::vector<UniqueFd> foreign;
  for (UniqueFd& fd : take_rights(control)) {
    const DescriptorKind kind = kind_of(fd.get());
    if (kind == DescriptorKind::foreign) {
      foreign.push_back(std::move(fd));
    } else {
      message_.descriptors.push_back({std::move(fd), kind});
    }
  }
  const bool any_foreign = !foreign.empty();
  budget_->closer.close(std::move(foreign));
  if ((control.msg_flags & MSG_CTRUNC) != 0 || message_.descriptors.size() > descriptors_max) {
    return fail(
        ErrorCode::invalid,
        fmt::format("the front-end sent more than {} descriptors with one message, or the daemon's limit of open "
                    "files (ulimit -n) is reached",
                    descriptors_max));
  }
  if (any_foreign) {
    return fail(ErrorCode::invalid,
                "the front-end sent a descriptor that is neither an eventfd nor shared memory (memfd, tmpfs or "
                "hugetlbfs): start QEMU with memory-backend-memfd,share=on");
  }
  return {};
}

Connection::Step Connection::start_message() {
  auto header = parse_header(header_bytes_);
  if (!header) {
    end(std::move(header.error()));
    return Step::stop;
  }
  header_ = *header;
  message_.payload.resize(header_.size_bytes);
  return header_.size_bytes == 0 ? finish_message() : Step::progress;
}

Connection::Step Connection::finish_message() {
  message_.request = header_.request;
  message_.reply_wanted = header_.reply_wanted;
  Message message = std::exchange(message_, {});
  header_have_ = 0;
  payload_have_ = 0;
  paid_ = false;
  if (std::exchange(watched_, false)) deadline_.cancel();

  Outcome outcome = owner_.message(std::move(message));
  if (closed_) return Step::stop;
  if (outcome.failure) {
    // One try: a front-end that does not read its last answer learns as much from the closed connection.
    static_cast<void>(
        ::send(socket_.native_handle(), outcome.reply.data(), outcome.reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    end(std::move(outcome.failure));
    return Step::stop;
  }
  reply_ = std::move(outcome.reply);
  if (send_reply()) return Step::progress;
  if (!closed_) wait_writable();
  return Step::stop;
}

void Connection::watch_half_message() {
  if (header_have_ == 0 || watched_) return;
  watched_ = true;
  deadline_.expires_after(limits_.message_ms_max);
  deadline_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (error || self->closed_ || !self->watched_ || self->deadline_.expiry() > Clock::now()) return;
    self->end(make_error(ErrorCode::invalid, fmt::format("the front-end sent half a message and no more for {} ms",
                                                         self->limits_.message_ms_max.count())));
  });
}

// ---- Writing --------------------------------------------------------------------------------------------------------

bool Connection::send_reply() {
  while (!reply_.empty()) {
    const ssize_t sent = ::send(socket_.native_handle(), reply_.data(), reply_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      if (errno == EPIPE || errno == ECONNRESET) {
        end(std::nullopt);
      } else {
        end(system_error("cannot answer the front-end", errno));
      }
      return false;
    }
    reply_.erase(reply_.begin(), reply_.begin() + sent);
  }
  return true;
}

// ---- Waiting --------------------------------------------------------------------------------------------------------

void Connection::wait_readable() {
  socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && !self->closed_) self->read_turn();
                     });
}

void Connection::wait_writable() {
  socket_.async_wait(asio::posix::stream_descriptor::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error || self->closed_) return;
                       if (self->send_reply()) return self->read_turn();
                       if (!self->closed_) self->wait_writable();
                     });
}

void Connection::wait_for_token() {
  pause_.expires_after(pause_ms);
  pause_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && !self->closed_) self->read_turn();
  });
}

}  // namespace patchbay::vhost_user
