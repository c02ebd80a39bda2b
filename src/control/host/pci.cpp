#include "control/host/pci.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "model/pci_address.h"

namespace patchbay::host {
namespace {

constexpr std::string_view ethernet_class = "0x0200";
constexpr unsigned kernel_group = 1;  // the kernel's own messages; those of udev are in group 2

// The first line of a file; empty if it cannot be read.
std::string line_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "0x8086" to "8086"
std::string without_prefix(const std::string& number) {
  return number.starts_with("0x") ? number.substr(2) : number;
}

std::optional<model::PciDevice> read_device(const std::filesystem::path& path) {
  model::PciDevice device;
  device.address = path.filename();
  if (!model::is_pci_address(device.address) || !line_of(path / "class").starts_with(ethernet_class)) {
    return std::nullopt;
  }
  device.id = without_prefix(line_of(path / "vendor")) + ":" + without_prefix(line_of(path / "device"));
  std::error_code error;
  const auto driver = std::filesystem::read_symlink(path / "driver", error);
  if (!error) device.driver = driver.filename();
  const std::string node = line_of(path / "numa_node");
  int number = -1;
  std::from_chars(node.data(), node.data() + node.size(), number);
  if (number >= 0) device.numa_node = static_cast<unsigned>(number);
  return device;
}

bool is_about_pci(std::string_view message) {
  // "ACTION@PATH", then "KEY=VALUE", each with a NUL at its end.
  constexpr std::string_view wanted = "SUBSYSTEM=pci";
  while (!message.empty()) {
    const auto end = message.find('\0');
    if (message.substr(0, end) == wanted) return true;
    if (end == std::string_view::npos) break;
    message.remove_prefix(end + 1);
  }
  return false;
}

}  // namespace

std::map<std::string, model::PciDevice> scan_pci(const std::string& devices) {
  std::map<std::string, model::PciDevice> found;
  std::error_code error;
  std::filesystem::directory_iterator at(devices, error);
  for (std::size_t count = 0; !error && at != std::filesystem::directory_iterator() && count < pci_devices_max;
       ++count) {
    if (auto device = read_device(at->path())) found.emplace(device->address, std::move(*device));
    at.increment(error);
  }
  return found;
}

bool is_left_to_dpdk(const model::PciDevice& device) noexcept {
  return device.driver.empty() || device.driver == model::dpdk_driver || device.driver == "uio_pci_generic" ||
         device.driver == "igb_uio";
}

Result<UniqueFd> open_uevents() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!fd) return fail(system_error("device notifications", errno));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kernel_group;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(system_error("device notifications", errno));
  }
  return fd;
}

bool take_uevents(const UniqueFd& socket) {
  constexpr int messages_max = 4096;  // a turn of the event loop; the rest is for the next
  std::array<char, 8192> buffer;
  bool changed = false;
  for (int i = 0; i < messages_max; ++i) {
    sockaddr_nl sender{};
    socklen_t size = sizeof sender;
    const ssize_t length =
        ::recvfrom(socket.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&sender), &size);
    if (length < 0 && errno == ENOBUFS) {
      changed = true;  // some were lost
    } else if (length < 0 && errno != EINTR) {
      break;
    } else if (length > 0 && sender.nl_pid == 0) {  // from the kernel
      changed = changed || is_about_pci({buffer.data(), static_cast<std::size_t>(length)});
    }
  }
  return changed;
}

}  // namespace patchbay::host
