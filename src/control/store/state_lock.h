// Keeps two daemons off one state directory: an flock on STATE_DIR/lock, which ends with the process however it ends.
#pragma once
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::store {

class StateLock {
 public:
  // `state_dir` exists. Errors: in_use (another daemon has it), or as the file system says.
  [[nodiscard]] static Result<StateLock> take(const std::string& state_dir);

 private:
  explicit StateLock(UniqueFd file) noexcept : file_(std::move(file)) {}

  UniqueFd file_;
};

}  // namespace patchbay::store
