// Keeps two daemons off one directory: an flock on DIR/lock, which ends with the process however it ends.
#pragma once
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay {

class DirectoryLock {
 public:
  // `directory` exists; `noun` ("state directory") and `flag` ("--state-dir") are for the sentence.
  // Errors: in_use (another daemon has it; names its process), or as the file system says.
  [[nodiscard]] static Result<DirectoryLock> take(const std::string& directory, const char* noun, const char* flag);

 private:
  explicit DirectoryLock(UniqueFd file) noexcept : file_(std::move(file)) {}

  UniqueFd file_;
};

}  // namespace patchbay
