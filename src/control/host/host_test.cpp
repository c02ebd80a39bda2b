#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "control/host/addresses.h"
#include "control/host/nic_watch.h"

namespace patchbay::host {
namespace {

// Runs `body` in a child with a network namespace of its own. 77: not permitted here.
template <typename Body>
int in_namespace(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ::_exit(77);
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool run(const char* command) {
  return std::system(command) == 0;
}

// Turns the loop until `done` or five seconds are over.
template <typename Done>
bool wait_until(boost::asio::io_context& loop, Done done) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!done()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    loop.run_one_for(std::chrono::milliseconds(100));
  }
  return true;
}

TEST(NicWatch, lists_ethernet_devices_and_not_the_loopback) {
  boost::asio::io_context loop;
  auto watch = NicWatch::create(loop);
  ASSERT_TRUE(watch) << watch.error().message;
  EXPECT_FALSE((*watch)->nics().contains("lo"));
  for (const auto& [name, nic] : (*watch)->nics()) {
    EXPECT_EQ(name, nic.name);
    EXPECT_EQ(nic.index, static_cast<int>(::if_nametoindex(name.c_str())));
    EXPECT_GT(nic.mtu, 0U);
  }
}

TEST(NicWatch, follows_links_that_come_change_and_go) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto watch = NicWatch::create(loop);
    if (!watch || !(*watch)->nics().empty()) return false;
    int changes = 0;
    (*watch)->on_change([&changes] { ++changes; });
    const auto& nics = (*watch)->nics();
    if (!run("ip link add v0 type veth peer name v1 && ip link set v0 mtu 1400 address 02:00:00:00:00:07"))
      return false;
    if (!wait_until(loop, [&] { return nics.size() == 2 && nics.at("v0").mtu == 1400; })) return false;
    const auto& v0 = nics.at("v0");
    if (v0.driver != "veth" || v0.physical || v0.carrier || v0.up) return false;
    if (v0.mac.to_string() != "02:00:00:00:00:07") return false;
    if (!run("ip link set v0 up && ip link set v1 up")) return false;
    if (!wait_until(loop, [&] { return nics.at("v0").carrier && nics.at("v0").up; })) return false;
    if (!run("ip link set v1 down")) return false;
    if (!wait_until(loop, [&] { return !nics.at("v0").carrier && nics.at("v0").up; })) return false;
    if (!run("ip link set v1 name v9")) return false;
    if (!wait_until(loop, [&] { return nics.contains("v9") && !nics.contains("v1"); })) return false;
    if (!run("ip link add br0 type bridge && ip link set v9 master br0 && ip link set v9 nomaster")) return false;
    if (!run("ip link del br0 && ip link set v0 mtu 1401")) return false;
    if (!wait_until(loop, [&] { return nics.at("v0").mtu == 1401; }) || !nics.contains("v9")) return false;
    if (!run("ip link del v0")) return false;
    if (!wait_until(loop, [&] { return nics.empty(); })) return false;
    return changes >= 5;
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(NicWatch, catches_up_after_the_kernel_dropped_notifications) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto watch = NicWatch::create(loop);
    if (!watch) return false;
    // Far more than the socket's buffer holds, with nobody reading.
    if (!run("ip link add v0 type veth peer name v1 && "
             "for i in $(seq 1500); do echo link set v0 mtu $((1000 + i)); done | ip -batch - && ip link del v0 && "
             "ip link add w0 type veth peer name w1")) {
      return false;
    }
    const auto& nics = (*watch)->nics();
    return wait_until(loop, [&] { return nics.size() == 2 && nics.contains("w0") && nics.contains("w1"); });
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Addresses, the_first_that_is_not_a_loopback_counts) {
  const int status = in_namespace([] {
    if (!run("ip link set lo up && ip link add v0 type veth peer name v1")) return false;
    const auto none = first_ipv4_address();
    if (!none || *none) return false;
    if (!run("ip addr add 10.1.2.4/24 dev v1 && ip addr add 192.0.2.9/24 dev v0")) return false;
    const auto first = first_ipv4_address();
    const bool v1_is_first = ::if_nametoindex("v1") < ::if_nametoindex("v0");
    const std::array<std::uint8_t, 4> expected =
        v1_is_first ? std::array<std::uint8_t, 4>{10, 1, 2, 4} : std::array<std::uint8_t, 4>{192, 0, 2, 9};
    return first && *first && **first == expected;
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace patchbay::host
