// The unix socket that the API listens on.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::api {

// A listening socket and the path that leads to it; removes the path when it goes, if it still leads here.
class ListenSocket {
 public:
  // Makes the socket under a name of its own, gives it mode 0660 and `group`, listens, and only then moves it to `path`
  // (1-103 bytes): nobody ever sees it with other rights. Takes the place of a socket that nobody listens on any more.
  // Errors: invalid (path too long), in_use (somebody listens there), exists (not a socket), not_found, internal.
  [[nodiscard]] static Result<ListenSocket> create(const std::string& path, std::optional<gid_t> group);

  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&&) = delete;
  ~ListenSocket();

  // Hands the descriptor over; the path stays this object's.
  [[nodiscard]] int release_fd() noexcept { return fd_.release(); }

 private:
  ListenSocket() = default;
  std::string path_;  // empty: nothing to remove
  ino_t inode_ = 0;
  dev_t device_ = 0;
  UniqueFd fd_;
};

}  // namespace patchbay::api
