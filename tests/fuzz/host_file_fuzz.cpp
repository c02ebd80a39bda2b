// A file for `apply`, of any content: reading it must end, stay within memory, and what is taken must be read back the
// same when it is written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "control/api/document.h"

using namespace patchbay::api;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = parse_yaml(std::string(data, data + size));
  if (!document) {
    if (document.error().message.empty()) std::abort();
    return 0;
  }
  if (!document->value.is_object() || document->value.empty()) return 0;
  const auto again = parse_yaml(to_yaml(nlohmann::ordered_json::parse(document->value.dump())));
  if (!again || again->value != document->value) std::abort();
  return 0;
}
