// patchbay_wire_stream: numbered frames from one interface to another, and which of them arrived.
//
// Theory  patchbay_wire_stream send INTERFACE MAC FRAMES_PER_SECOND FLOWS: IPv4 UDP frames to that address, the number in each,
//         in so many flows by turns, at an even pace; what could not be sent in time is not made up for, and what the interface
//         refused is not sent. It ends with its standard input, and then says {"sent": …, "seconds": …}.
//         patchbay_wire_stream hear INTERFACE MAC FLOWS: what comes from that address. It says {"ready": true} first, and for
//         each line of its standard input, and at its end, {"heard", "doubled", "reordered", "lost_by_socket", "gap_ms",
//         "flow_gap_ms"}: the longest times without any frame and without one of a flow, by the kernel's clock, since it said so
//         last; a flow that does not come back has one until now. Reordered: behind a later one of its flow.
// Source  packet(7), socket(7).
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/performance/frames.h"

namespace {

using namespace patchbay;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t run_number = 0x57495245;
constexpr std::size_t batch = 64;
constexpr std::size_t frame_room = 128;
constexpr std::size_t numbers_max = std::size_t{1} << 28;  // hours

UniqueFd packet_socket(const std::string& interface, std::uint16_t protocol) {
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  constexpr int bytes = 64 << 20;
  constexpr int on = 1;
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  const auto set = [&fd](int level, int option, int value) {
    return ::setsockopt(fd.get(), level, option, &value, sizeof value) == 0;
  };
  if (!fd || address.sll_ifindex == 0 || !set(SOL_SOCKET, SO_RCVBUFFORCE, bytes) ||
      !set(SOL_SOCKET, SO_TIMESTAMPNS, on) || !set(SOL_PACKET, PACKET_IGNORE_OUTGOING, on) ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("no packet socket on " + interface);
  }
  return fd;
}

MacAddr address_of(const std::string& interface, int fd) {
  ifreq request = {};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (::ioctl(fd, SIOCGIFHWADDR, &request) != 0) throw std::runtime_error(interface + " has no address");
  return MacAddr::from_wire(reinterpret_cast<const std::uint8_t*>(request.ifr_hwaddr.sa_data));
}

bool input_ended() {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return ::poll(&input, 1, 0) != 0;
}

void send(const std::string& interface, MacAddr to, double rate, std::uint32_t flows) {
  const UniqueFd fd = packet_socket(interface, 0);
  auto frame = bench::make_frame(address_of(interface, fd.get()), to, bench::frame_bytes_min);
  std::uint32_t sent = 0;
  double left = 0;
  const auto start = Clock::now();
  auto due = start;
  while (!input_ended()) {
    // A few at a time: no clock wakes that often.
    std::this_thread::sleep_until(due);
    due = std::max(due + std::chrono::milliseconds(1), Clock::now() - std::chrono::milliseconds(2));
    for (left += rate / 1000; left >= 1; --left) {
      bench::stamp(frame.data(), bench::udp_stamp_offset, {.run = run_number, .sequence = sent},
                   {.number = sent % flows});
      if (::send(fd.get(), frame.data(), frame.size(), 0) > 0) ++sent;
    }
  }
  fmt::print("{{\"sent\": {}, \"seconds\": {:.3f}}}\n", sent,
             std::chrono::duration<double>(Clock::now() - start).count());
}

class Hearer {
 public:
  Hearer(const std::string& interface, MacAddr from, std::uint32_t flows)
      : fd_(packet_socket(interface, ETH_P_IP)), from_(from), last_(flows), last_at_(flows) {
    for (std::size_t i = 0; i < batch; ++i) {
      parts_[i] = {bytes_[i].data(), bytes_[i].size()};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
      messages_[i].msg_hdr.msg_control = control_[i].data();
    }
  }

  void run() {
    fmt::print("{{\"ready\": true}}\n");
    std::fflush(stdout);
    std::array<pollfd, 2> waits{{{fd_.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}}};
    for (bool ends = false; !ends;) {
      ::poll(waits.data(), waits.size(), -1);
      hear();
      if (waits[1].revents == 0) continue;
      std::array<char, 64> line;
      ends = ::read(STDIN_FILENO, line.data(), line.size()) <= 0;
      hear();
      say();
    }
  }

 private:
  void hear() {
    for (;;) {
      for (mmsghdr& message : messages_) message.msg_hdr.msg_controllen = control_[0].size();
      const int count = ::recvmmsg(fd_.get(), messages_.data(), batch, MSG_DONTWAIT, nullptr);
      if (count <= 0) return;
      for (int i = 0; i < count; ++i) note(static_cast<std::size_t>(i));
    }
  }

  void note(std::size_t i) {
    const std::uint8_t* const frame = bytes_[i].data();
    if (messages_[i].msg_len < bench::frame_bytes_min || MacAddr::from_wire(frame + 6) != from_) return;
    const bench::Stamp stamp = bench::stamp_of(frame, bench::udp_stamp_offset);
    if (stamp.run != run_number) return;
    const double now = arrival(messages_[i].msg_hdr);
    if (stamp.sequence >= numbers_max) return;
    if (stamp.sequence >= seen_.size()) seen_.resize(std::min(numbers_max, 2 * (stamp.sequence + std::size_t{1})));
    if (seen_[stamp.sequence]) {
      ++doubled_;
      return;
    }
    seen_[stamp.sequence] = true;
    ++heard_;
    const std::size_t flow = stamp.sequence % last_.size();
    if (any_at_ != 0) gap_ = std::max(gap_, now - any_at_);
    if (last_at_[flow] != 0) {
      flow_gap_ = std::max(flow_gap_, now - last_at_[flow]);
      if (stamp.sequence < last_[flow]) ++reordered_;
    }
    any_at_ = last_at_[flow] = now;
    last_[flow] = std::max(last_[flow], stamp.sequence);
  }

  static double since_epoch(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

  static double arrival(msghdr& header) {
    for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
      if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_TIMESTAMPNS) continue;
      timespec time;
      std::memcpy(&time, CMSG_DATA(at), sizeof time);
      return since_epoch(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
    }
    throw std::runtime_error("a frame without a time");
  }

  void say() {
    tpacket_stats statistics = {};
    socklen_t size = sizeof statistics;
    ::getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &size);
    lost_by_socket_ += statistics.tp_drops;
    const double now = since_epoch(std::chrono::system_clock::now().time_since_epoch());
    const double oldest = *std::min_element(last_at_.begin(), last_at_.end());
    if (any_at_ != 0) gap_ = std::max(gap_, now - any_at_);
    if (oldest != 0) flow_gap_ = std::max(flow_gap_, now - oldest);
    fmt::print(
        "{{\"heard\": {}, \"doubled\": {}, \"reordered\": {}, \"lost_by_socket\": {}, \"gap_ms\": {:.3f}, "
        "\"flow_gap_ms\": {:.3f}}}\n",
        heard_, doubled_, reordered_, lost_by_socket_, gap_ * 1000, flow_gap_ * 1000);
    std::fflush(stdout);
    gap_ = flow_gap_ = 0;
  }

  UniqueFd fd_;
  MacAddr from_;
  std::vector<std::uint32_t> last_;  // number of each flow,
  std::vector<double> last_at_;      // and when; 0: none yet
  std::vector<bool> seen_;           // by number
  double any_at_ = 0;
  double gap_ = 0;
  double flow_gap_ = 0;
  std::uint64_t heard_ = 0;
  std::uint64_t doubled_ = 0;
  std::uint64_t reordered_ = 0;
  std::uint64_t lost_by_socket_ = 0;
  std::array<std::array<std::uint8_t, frame_room>, batch> bytes_{};
  alignas(cmsghdr) std::array<std::array<char, CMSG_SPACE(sizeof(timespec))>, batch> control_{};
  std::array<iovec, batch> parts_{};
  std::array<mmsghdr, batch> messages_{};
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string mode = argc > 1 ? argv[1] : "";
    const auto address = argc > 3 ? MacAddr::parse(argv[3]) : std::nullopt;
    const auto flows = argc > 4 ? static_cast<std::uint32_t>(std::stoul(argv[argc - 1])) : 0U;
    if (mode == "send" && argc == 6 && address && flows != 0) {
      send(argv[2], *address, std::stod(argv[4]), flows);
    } else if (mode == "hear" && argc == 5 && address && flows != 0) {
      Hearer(argv[2], *address, flows).run();
    } else {
      throw std::runtime_error("give send INTERFACE MAC FRAMES_PER_SECOND FLOWS, or hear INTERFACE MAC FLOWS");
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "patchbay_wire_stream: {}\n", error.what());
    return 1;
  }
}
