# Writes OUTPUT, a C++ source that holds the file INPUT: cmake -DINPUT=openapi.yaml -DOUTPUT=openapi_yaml.cpp -P this
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Generated from openapi.yaml; edit that.
#include \"control/api/openapi.h\"

namespace patchbay::api {

std::string_view openapi_yaml() noexcept {
  return R\"openapi(${text})openapi\";
}

}  // namespace patchbay::api
")
