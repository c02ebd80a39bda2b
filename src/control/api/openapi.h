// The text of openapi.yaml, put into the program when it is built (see embed_openapi.cmake).
#pragma once
#include <string_view>

namespace patchbay::api {

[[nodiscard]] std::string_view openapi_yaml() noexcept;

}  // namespace patchbay::api
