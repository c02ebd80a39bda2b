#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "control/host/addresses.h"
#include "control/host/nic_watch.h"
#include "control/host/offloads.h"
#include "control/host/sharing.h"

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

// ---- Sharing --------------------------------------------------------------------------------------------------------

// v0 with carrier and what a host has on its NIC; w0 is to take it over.
bool make_shared_nic() {
  return run(
      "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 && "
      "ip link set lo up && ip link add v0 type veth peer name v1 && ip link add w0 type veth peer name w1 && "
      "ip link set w0 alias 'patchbay host vnic' && for i in v0 v1 w0 w1; do ip link set $i up; done && "
      "ip addr add 192.0.2.10/24 brd + dev v0 && ip addr add 192.0.2.11/24 dev v0 label v0:b && "
      "ip -6 addr add 2001:db8::10/64 dev v0 nodad && "
      "ip route add default via 192.0.2.1 metric 7 && ip route add 10.9.0.0/16 via 192.0.2.1 table 77 && "
      "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev v0 nud permanent");
}

TEST(Sharing, moves_all_to_the_vnic_and_back_and_a_second_time_nothing) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !sharing) return false;
    Sharing& host = **sharing;
    const auto noted = host.of_note("v0");
    if (!noted || noted->size() != 5 || noted->front() != "192.0.2.10/24") return false;
    if (host.is_taken("v0") || !host.take("v0", "w0") || !host.is_taken("v0") || !host.take("v0", "w0")) return false;
    if (!host.of_note("v0")->empty() || host.of_note("w0")->size() != 5) return false;
    if (!run("ip addr show dev w0 | grep -q 'secondary w0:b' && ip route show table 77 | grep -q w0 && "
             "ip route show default | grep -q 'via 192.0.2.1 dev w0 metric 7' && "
             "ip neigh show nud permanent | grep -q 'dev w0 lladdr 02:00:00:00:00:77'")) {
      return false;
    }
    if (!run("ip addr add 192.0.2.12/24 dev v0") || host.is_taken("v0")) return false;
    if (!host.take("v0", "w0") || !host.is_taken("v0")) return false;
    if (!host.give_back("v0", "w0") || host.is_taken("v0")) return false;
    return host.of_note("w0")->empty() && host.of_note("v0")->size() == 6 &&
           run("ip addr show dev v0 | grep -q 'secondary v0:b'");
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, gives_nothing_back_from_an_interface_of_somebody_else) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !sharing || !run("ip addr add 203.0.113.1/24 dev w1")) return false;
    return (*sharing)->give_back("v0", "w1").has_value() && (*sharing)->of_note("w1")->size() == 1 &&
           (*sharing)->of_note("v0")->size() == 5;
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, completes_a_move_of_which_a_half_was_done) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !sharing) return false;
    // Both have it, and one address is on the vnic alone: as a crash leaves it.
    if (!run("ip addr add 192.0.2.10/24 brd + dev w0 && ip route append default via 192.0.2.1 dev w0 metric 7 && "
             "ip -6 addr add 2001:db8::10/64 dev w0 nodad && ip -6 addr del 2001:db8::10/64 dev v0")) {
      return false;
    }
    return (*sharing)->take("v0", "w0").has_value() && (*sharing)->of_note("w0")->size() == 5 &&
           (*sharing)->is_taken("v0");
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, takes_all_back_when_one_thing_cannot_be_moved) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !run("sysctl -qw net.ipv6.conf.w0.disable_ipv6=1") || !sharing) return false;
    const auto taken = (*sharing)->take("v0", "w0");
    if (taken || taken.error().message.find("2001:db8::10/64") == std::string::npos) return false;
    if (!(*sharing)->of_note("w0")->empty() || (*sharing)->of_note("v0")->size() != 5) return false;
    // A route through a nexthop object names the interface itself.
    if (!run("sysctl -qw net.ipv6.conf.w0.disable_ipv6=0 && ip nexthop add id 5 via 192.0.2.1 dev v0 && "
             "ip route add 10.1.0.0/16 nhid 5")) {
      return false;
    }
    const auto refused = (*sharing)->take("v0", "w0");
    return !refused && refused.error().message.find("nexthop object") != std::string::npos &&
           (*sharing)->of_note("v0")->size() == 6;
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, a_route_over_several_interfaces_goes_on_over_all_of_them) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !sharing) return false;
    if (!run("ip addr add 198.51.100.1/24 dev v1 && ip route add 10.5.0.0/16 nexthop via 192.0.2.1 weight 3 nexthop "
             "via 198.51.100.9 && ip -6 addr add 2001:db8:1::1/64 dev v1 nodad && ip -6 route add 2001:db8:5::/48 "
             "nexthop via 2001:db8::1 nexthop via 2001:db8:1::9")) {
      return false;
    }
    const char* as_it_was =
        "ip route show 10.5.0.0/16 | grep -q '192.0.2.1 dev v0 weight 3' && "
        "ip -6 route show 2001:db8:5::/48 | grep -q '2001:db8::1 dev v0'";
    const char* moved =
        "ip route show 10.5.0.0/16 | grep -q '192.0.2.1 dev w0 weight 3' && "
        "ip route show 10.5.0.0/16 | grep -q '198.51.100.9 dev v1' && "
        "ip -6 route show 2001:db8:5::/48 | grep -q '2001:db8::1 dev w0' && "
        "ip -6 route show 2001:db8:5::/48 | grep -q '2001:db8:1::9 dev v1'";
    return run(as_it_was) && (*sharing)->take("v0", "w0") && (*sharing)->is_taken("v0") && run(moved) &&
           (*sharing)->give_back("v0", "w0") && run(as_it_was) && (*sharing)->of_note("w0")->empty();
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, tells_of_what_is_set_up_on_a_shared_nic_and_of_no_other) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!make_shared_nic() || !sharing || !(*sharing)->take("v0", "w0")) return false;
    int changes = 0;
    loop.run_for(std::chrono::milliseconds(20));
    (*sharing)->on_change([&changes] { ++changes; });
    if (!run("ip addr add 203.0.113.1/24 dev v1 && ip addr add 203.0.114.1/24 dev w0")) return false;
    loop.run_for(std::chrono::milliseconds(20));
    if (changes != 0) return false;
    return run("ip addr add 192.0.2.30/24 dev v0") && wait_until(loop, [&] { return changes != 0; });
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(Sharing, refuses_uplinks_that_belong_to_something_else) {
  const int status = in_namespace([] {
    boost::asio::io_context loop;
    auto sharing = Sharing::create(loop);
    if (!sharing || !run("ip link add v0 type veth peer name v1 && ip link add br0 type bridge && "
                         "ip link set v0 master br0 && ip tuntap add t0 mode tun && ip tuntap add p0 mode tap && "
                         "ip link set p0 alias 'patchbay host vnic'")) {
      return false;
    }
    const auto says = [&sharing](const char* nic, const char* part) {
      const auto checked = (*sharing)->check_uplink(nic);
      return !checked && checked.error().message.find(part) != std::string::npos;
    };
    return says("v0", "port of br0") && says("lo", "no Ethernet device") && says("t0", "no Ethernet device") &&
           says("p0", "host vnic") && (*sharing)->check_uplink("v1") && (*sharing)->check_uplink("nobody");
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

// ---- Offloads -------------------------------------------------------------------------------------------------------

TEST(Offloads, are_asked_switched_and_read_back) {
  using model::NicOffload;
  using model::OffloadState;
  const int status = in_namespace([] {
    if (!run("ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 numrxqueues 2 numtxqueues 2")) {
      return false;
    }
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM, 0));
    model::Nic nic;
    nic.name = "v0";
    ask_offloads(socket, nic);
    if (nic.queues != 2) return false;
    const bool was_on = nic.offload(NicOffload::rx_vlan) == OffloadState::on;
    if (!was_on && nic.offload(NicOffload::rx_vlan) != OffloadState::off) return false;  // veth can change it
    for (const bool on : {!was_on, was_on, was_on}) {
      for (const NicOffload offload : {NicOffload::rx_vlan, NicOffload::gro}) {
        if (!set_offload(socket, "v0", offload, on)) return false;
        ask_offloads(socket, nic);
        if (nic.offload(offload) != (on ? OffloadState::on : OffloadState::off)) return false;
      }
    }
    // A bridge has no stripping to switch on.
    if (!run("ip link add br0 type bridge")) return false;
    nic.name = "br0";
    ask_offloads(socket, nic);
    const auto refused = set_offload(socket, "br0", NicOffload::rx_vlan, true);
    return nic.offload(NicOffload::rx_vlan) == OffloadState::off_fixed && !refused &&
           refused.error().message.find("br0: rx-vlan-offload") != std::string::npos &&
           !set_offload(socket, "nope", NicOffload::gro, false);
  });
  if (status == 77) GTEST_SKIP() << "network namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace patchbay::host
