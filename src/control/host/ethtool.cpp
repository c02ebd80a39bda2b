#include "control/host/ethtool.h"

#include <linux/ethtool.h>

#include <algorithm>
#include <cstring>

#include "base/ethtool.h"

namespace patchbay::host {

EthtoolFacts ask_ethtool(const UniqueFd& socket, const std::string& name) {
  EthtoolFacts facts;
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (ask_ethtool(socket, name, &driver)) {
    facts.driver.assign(driver.driver, ::strnlen(driver.driver, sizeof driver.driver));
    // Drivers without a device give nothing, "N/A" or a word of their own ("tap"); bus addresses have a digit.
    const std::string bus(driver.bus_info, ::strnlen(driver.bus_info, sizeof driver.bus_info));
    facts.on_a_bus = std::any_of(bus.begin(), bus.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (facts.on_a_bus) facts.bus_address = bus;
  }
  ethtool_cmd settings{};
  settings.cmd = ETHTOOL_GSET;
  if (ask_ethtool(socket, name, &settings)) {
    const std::uint32_t speed = ethtool_cmd_speed(&settings);
    if (speed != 0 && speed != static_cast<std::uint32_t>(SPEED_UNKNOWN)) facts.speed_mbps = speed;
  }
  return facts;
}

}  // namespace patchbay::host
