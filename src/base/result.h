// Result<T>: a value, or an Error. Test it, then use *r; never r.value().
#pragma once
#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace patchbay {

template <typename T>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace patchbay
