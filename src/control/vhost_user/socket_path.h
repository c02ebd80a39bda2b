// Unix stream sockets with a path: making one that listens, connecting to one.
//
// Theory  A listening socket is bound under a temporary name in the same directory, given its mode and group, told to
//         listen, and only then renamed into place: whoever finds the path finds a socket that answers, with the right
//         permissions. Names are resolved below an open directory, so the path's length does not limit the temporary
//         name.
// Source  unix(7), rename(2).
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::vhost_user {

inline constexpr std::size_t socket_path_bytes_max = 107;

// A listening socket and the path that leads to it, which goes away with it unless somebody else took it over.
class ListeningSocket {
 public:
  // Mode 0660; a socket at `path` that nobody listens on any more is replaced.
  // Errors: invalid (empty or too long), not_found (no such directory), in_use (somebody listens there, or it is not a
  // socket), internal.
  [[nodiscard]] static Result<ListeningSocket> open(const std::string& path, std::optional<gid_t> group);

  ListeningSocket(ListeningSocket&&) noexcept = default;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // Hands the descriptor over; the path stays this object's.
  [[nodiscard]] UniqueFd take_fd() noexcept { return std::move(socket_); }

 private:
  ListeningSocket(UniqueFd socket, UniqueFd directory, std::string name, dev_t device, ino_t inode);

  UniqueFd socket_;
  UniqueFd directory_;
  std::string name_;  // in directory_
  dev_t device_;
  ino_t inode_;
};

// Removes the sockets in `directory` that nobody listens on: what daemons that were killed left.
void remove_dead_sockets(const std::string& directory);

// A connected, non-blocking socket. Errors: invalid (path), unavailable (nobody answers; the message is the bare
// cause).
[[nodiscard]] Result<UniqueFd> connect_to(const std::string& path);

}  // namespace patchbay::vhost_user
