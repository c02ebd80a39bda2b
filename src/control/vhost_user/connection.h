// The byte stream with one front-end: cuts it into messages, hands each to its owner, sends the replies.
//
// Theory  Nothing here waits. What has arrived is read in small steps; half a message stays in the buffer and the event
//         loop turns to others. While a reply does not fit into the socket, no further message is read, so at most one
//         reply is ever kept.
// Limits  Payload and descriptors a message: message.h. A message that was begun has Limits::message_ms_max to arrive
//         in full; after Limits::reads_per_turn_max reads others get their turn; every message costs a token of
//         `budget`, and while there is none, reading pauses. Foreign descriptors (descriptor.h) end the connection.
// States  open -> closed, by either side; nothing is called back after close() or after `ended`.
// Threads control's only.
#pragma once
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/foreign_closer.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "control/vhost_user/message.h"
#include "control/vhost_user/protocol.h"
#include "control/vhost_user/token_bucket.h"

namespace patchbay::vhost_user {

using patchbay::ForeignCloser;

struct Limits {
  std::chrono::milliseconds message_ms_max{5000};
  unsigned reads_per_turn_max = 64;
  double messages_per_second = 1000;
  double messages_burst = 4096;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Owner {
    std::function<Outcome(Message)> message;
    std::function<void(std::optional<Error>)> ended;  // nothing: the front-end closed; else why we did
  };
  // What outlives a connection, so that connecting anew does not reset a limit.
  struct Budget {
    TokenBucket messages;
    ForeignCloser closer;
  };

  // Takes over `socket`, a connected non-blocking stream socket. Errors: internal (the event loop refuses it).
  [[nodiscard]] static Result<std::shared_ptr<Connection>> open(boost::asio::io_context& loop, UniqueFd socket,
                                                                const Limits& limits, std::shared_ptr<Budget> budget,
                                                                Owner owner);
  // Hands the socket to the closer, for descriptors may be waiting in it; the owner hears nothing more.
  void close();
  // Whether the other end has closed already, though we may not have read up to there.
  [[nodiscard]] bool is_peer_gone();

  Connection(boost::asio::io_context& loop, const Limits& limits, std::shared_ptr<Budget> budget, Owner owner);

 private:
  enum class Step : std::uint8_t { progress, wait, stop };

  void read_turn();
  [[nodiscard]] Step read_step();
  [[nodiscard]] Step receive(std::uint8_t* into, std::size_t size_bytes);
  [[nodiscard]] Result<void> take_descriptors(const struct msghdr& control);
  [[nodiscard]] Step finish_message();
  [[nodiscard]] Step start_message();
  [[nodiscard]] bool send_reply();
  void wait_readable();
  void wait_writable();
  void wait_for_token();
  void watch_half_message();
  void end(std::optional<Error> why);

  boost::asio::io_context& loop_;
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::steady_timer pause_;
  boost::asio::steady_timer deadline_;
  const Limits limits_;
  const std::shared_ptr<Budget> budget_;
  Owner owner_;
  bool closed_ = false;

  // The message that is arriving.
  bool paid_ = false;  // a token was taken for it
  std::array<std::uint8_t, header_bytes> header_bytes_{};
  std::size_t header_have_ = 0;
  Header header_;
  Message message_;
  std::size_t payload_have_ = 0;
  bool watched_ = false;  // deadline_ runs

  std::vector<std::uint8_t> reply_;  // what the socket did not take yet
};

}  // namespace patchbay::vhost_user
