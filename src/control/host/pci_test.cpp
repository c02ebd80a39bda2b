#include "control/host/pci.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace patchbay::host {
namespace {

// A directory like /sys/bus/pci/devices.
class Sysfs {
 public:
  void put(const std::string& address, const std::string& pci_class, const std::string& driver = "",
           const std::string& node = "-1") {
    const std::filesystem::path device = path() / address;
    std::filesystem::create_directories(device);
    write(device / "class", pci_class);
    write(device / "vendor", "0x8086");
    write(device / "device", "0x10c9");
    write(device / "numa_node", node);
    if (!driver.empty()) std::filesystem::create_symlink("../../drivers/" + driver, device / "driver");
  }
  [[nodiscard]] std::filesystem::path path() const { return dir_.path(); }

 private:
  static void write(const std::filesystem::path& file, const std::string& text) { std::ofstream(file) << text << '\n'; }
  test::TempDir dir_;
};

TEST(Pci, lists_ethernet_devices_whoever_has_them) {
  Sysfs sysfs;
  sysfs.put("0000:01:00.0", "0x020000", "vfio-pci", "1");
  sysfs.put("0000:01:00.1", "0x020000", "igb", "0");
  sysfs.put("0000:02:00.0", "0x020000");
  sysfs.put("0000:03:00.0", "0x010802", "nvme");     // a disk
  sysfs.put("0000:04:00.0", "0x028000", "iwlwifi");  // a network device of another kind
  sysfs.put("not-an-address", "0x020000");
  std::filesystem::create_directories(sysfs.path() / "0000:05:00.0");  // gone while it is read
  const auto found = scan_pci(sysfs.path());
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found.at("0000:01:00.0"), (model::PciDevice{"0000:01:00.0", "8086:10c9", "vfio-pci", 1}));
  EXPECT_EQ(found.at("0000:01:00.1"), (model::PciDevice{"0000:01:00.1", "8086:10c9", "igb", 0}));
  EXPECT_EQ(found.at("0000:02:00.0"), (model::PciDevice{"0000:02:00.0", "8086:10c9", "", std::nullopt}));
  EXPECT_TRUE(is_left_to_dpdk(found.at("0000:01:00.0")));
  EXPECT_FALSE(is_left_to_dpdk(found.at("0000:01:00.1")));
  EXPECT_TRUE(is_left_to_dpdk(found.at("0000:02:00.0")));
}

TEST(Pci, finds_nothing_on_a_host_without_it) {
  EXPECT_TRUE(scan_pci("/nonexistent").empty());
}

TEST(Pci, hears_of_devices_only_from_the_kernel) {
  const auto socket = open_uevents();
  ASSERT_TRUE(socket) << socket.error().message;
  EXPECT_FALSE(take_uevents(*socket)) << "nothing happened";
}

}  // namespace
}  // namespace patchbay::host
