#include "base/ethtool.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

namespace patchbay {

bool ask_ethtool(const UniqueFd& socket, const std::string& name, void* command) {
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) {
    errno = ENODEV;
    return false;
  }
  std::copy(name.begin(), name.end(), request.ifr_name);
  request.ifr_data = static_cast<char*>(command);
  return ::ioctl(socket.get(), SIOCETHTOOL, &request) == 0;
}

}  // namespace patchbay
