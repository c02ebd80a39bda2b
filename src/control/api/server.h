// The REST API: HTTP/1.1 and JSON on a unix socket, as openapi.yaml describes it.
//
// Theory  One Session a connection, asynchronous on control's event loop: a client that sends slowly, or reads slowly,
//         waits alone. A request is answered in one go by router.h, between two reads of its connection.
// Limits  Below. A body that is too large gets 413, a header 431, nonsense 400: each with a sentence; then the
//         connection is closed. A connection too many takes the place of the one that has been idle longest, and gets
//         503 if a request is under way on each. A client that neither sends nor reads for `idle` is closed, and so is
//         one that sends descriptors (stream.h).
// Threads The event loop's one thread, create() and destruction included.
#pragma once
#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/reconcile/service.h"

namespace patchbay::api {

struct Limits {
  std::size_t connections_max = 256;
  std::uint64_t body_bytes_max = 1024 * 1024;
  std::uint32_t header_bytes_max = 16 * 1024;
  std::chrono::milliseconds idle = std::chrono::seconds(30);  // for one request to arrive, or one answer to leave
};

class Server {
 public:
  // Listens on `socket_path` (1-103 bytes), mode 0660, of group `socket_group` if given. `service` outlives the server.
  // Errors: invalid (path too long), in_use (another daemon listens there), exists (not a socket), not_found, internal.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(boost::asio::io_context& loop,
                                                              reconcile::Service& service, std::string socket_path,
                                                              std::optional<gid_t> socket_group, Limits limits = {});

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  // Closes every connection and removes the socket. The loop may run on, or go.
  ~Server();

 private:
  class Listener;
  explicit Server(std::shared_ptr<Listener> listener);
  std::shared_ptr<Listener> listener_;
};

}  // namespace patchbay::api
