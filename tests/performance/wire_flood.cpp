// patchbay_wire_flood: frames from the wire for one address, as fast as they go, or at a rate.
//
// Theory  patchbay_wire_flood INTERFACE MAC BYTES FRAMES_PER_SECOND (0: no limit). A packet socket, a sendmmsg() of 64 equal
//         IPv4 UDP frames at a time. It ends with its standard input, and then says {"sent": …, "seconds": …}.
// Source  packet(7).
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/performance/frames.h"

namespace {

using namespace patchbay;
using Clock = std::chrono::steady_clock;

constexpr std::size_t batch = 64;

bool input_ended() {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return ::poll(&input, 1, 0) != 0;
}

void flood(const std::string& interface, MacAddr to, std::size_t bytes, double rate) {
  const UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (!fd || address.sll_ifindex == 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("no packet socket on " + interface);
  }
  auto frame = bench::make_frame(*MacAddr::parse("02:cc:00:00:00:01"), to, bytes);
  iovec part{frame.data(), frame.size()};
  std::array<mmsghdr, batch> messages{};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_iov = &part;
    message.msg_hdr.msg_iovlen = 1;
  }
  std::uint64_t sent = 0;
  const auto start = Clock::now();
  const auto seconds = [start] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  while (!input_ended()) {
    if (rate > 0 && static_cast<double>(sent) > rate * seconds()) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      continue;
    }
    const int count = ::sendmmsg(fd.get(), messages.data(), batch, 0);
    if (count > 0) sent += static_cast<std::uint64_t>(count);
  }
  fmt::print("{{\"sent\": {}, \"seconds\": {:.3f}}}\n", sent, seconds());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto to = argc == 5 ? MacAddr::parse(argv[2]) : std::nullopt;
    if (!to) throw std::runtime_error("give INTERFACE MAC BYTES FRAMES_PER_SECOND");
    flood(argv[1], *to, std::stoul(argv[3]), std::stod(argv[4]));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "patchbay_wire_flood: {}\n", error.what());
    return 1;
  }
}
