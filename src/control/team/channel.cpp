#include "control/team/channel.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>

#include "base/unique_fd.h"
#include "control/team/lacpdu.h"

namespace patchbay::team {
namespace {

constexpr int priority_of_control = 7;

class PacketChannel final : public Channel, public std::enable_shared_from_this<PacketChannel> {
 public:
  PacketChannel(boost::asio::io_context& loop, UniqueFd fd, OnFrame heard)
      : socket_(loop, fd.release()), heard_(std::move(heard)) {}

  void wait() {
    socket_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [weak = weak_from_this()](const boost::system::error_code& error) {
                         const auto self = weak.lock();
                         if (!self || error == boost::asio::error::operation_aborted) return;
                         self->receive();
                         self->wait();
                       });
  }
  void close() {
    heard_ = nullptr;
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  bool send(std::span<const std::uint8_t> frame) override {
    return ::send(socket_.native_handle(), frame.data(), frame.size(), MSG_DONTWAIT) ==
           static_cast<ssize_t>(frame.size());
  }

 private:
  void receive() {
    std::array<std::uint8_t, 256> frame;
    for (unsigned i = 0; i < receives_max && heard_; ++i) {
      const ssize_t size = recv(socket_.native_handle(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) return;  // nothing waits; an error of the interface is read, and gone, by that
      heard_(std::span(frame).first(std::min(frame.size(), static_cast<std::size_t>(size))));
    }
  }

  boost::asio::posix::stream_descriptor socket_;
  OnFrame heard_;
};

// What the loop holds lives on until the loop is through with it.
class OwnedChannel final : public Channel {
 public:
  explicit OwnedChannel(std::shared_ptr<PacketChannel> channel) : channel_(std::move(channel)) { channel_->wait(); }
  ~OwnedChannel() override { channel_->close(); }
  OwnedChannel(const OwnedChannel&) = delete;
  OwnedChannel& operator=(const OwnedChannel&) = delete;
  bool send(std::span<const std::uint8_t> frame) override { return channel_->send(frame); }

 private:
  std::shared_ptr<PacketChannel> channel_;
};

}  // namespace

Result<std::unique_ptr<Channel>> Channel::open(boost::asio::io_context& loop, const std::string& nic, int index,
                                               OnFrame heard) {
  const auto failed = [&](const char* what) { return fail(system_error("nic " + nic + ": " + what, errno)); };
  // Protocol 0: nothing arrives before bind().
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(privileged_error("nic " + nic + ": opening a packet socket", errno, "CAP_NET_RAW"));
  const int on = 1;
  if (setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_PRIORITY, &priority_of_control, sizeof priority_of_control) != 0) {
    return failed("setting options of the socket for LACP");
  }
  packet_mreq membership = {};
  membership.mr_ifindex = index;
  membership.mr_type = PACKET_MR_MULTICAST;
  membership.mr_alen = 6;
  std::copy_n(slow_address.bytes().begin(), 6, membership.mr_address);
  if (setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) != 0) {
    return failed("asking for the frames of LACP");
  }
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = index;
  address.sll_protocol = htons(slow_protocols);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed("binding the socket for LACP");
  }
  return std::make_unique<OwnedChannel>(std::make_shared<PacketChannel>(loop, std::move(fd), std::move(heard)));
}

}  // namespace patchbay::team
