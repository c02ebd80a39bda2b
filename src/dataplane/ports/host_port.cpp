#include "dataplane/ports/host_port.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "dataplane/frame/leaving.h"
#include "dataplane/offload/needs.h"
#include "dataplane/ports/interface.h"
#include "model/vnic.h"

namespace patchbay::dataplane {
namespace {

constexpr std::size_t owner_size_max = 200;  // the kernel takes an alias of 255 bytes

// USO, which taps have since Linux 6.2; older headers do not name it.
constexpr unsigned long tap_uso4 = 0x20;
constexpr unsigned long tap_uso6 = 0x40;

// Whether an earlier run left an interface of that name. One that is not ours is an error.
Result<bool> is_left_by_us(const std::string& name) {
  const auto interface = Interface::open(name);
  if (!interface) return false;
  const auto alias = interface->alias();
  if (!alias) return fail(alias.error());
  if (alias->starts_with(model::host_vnic_alias)) return true;
  return fail(ErrorCode::exists, "host vnic " + name + ": the host has a network interface of that name already; " +
                                     "choose another name, or remove the interface");
}

Result<UniqueFd> open_tap(const std::string& name) {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail(system_error("host vnic " + name + ": opening /dev/net/tun", errno));
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
  if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    if (errno == EBUSY) {
      return fail(ErrorCode::in_use, "host vnic " + name + ": another process has its interface open, end that first");
    }
    return fail(privileged_error("host vnic " + name + ": making its interface", errno, "CAP_NET_ADMIN"));
  }
  return fd;
}

// Switches on what the kernel's taps know; gives what that is.
Result<Offloads> set_offloads(int fd, const std::string& name) {
  constexpr unsigned long tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (ioctl(fd, TUNSETOFFLOAD, tcp | tap_uso4 | tap_uso6) == 0) return offload_all;
  if (ioctl(fd, TUNSETOFFLOAD, tcp) == 0) {
    return static_cast<Offloads>(offload_all & ~(offload_uso4 | offload_uso6));
  }
  return fail(system_error("host vnic " + name + ": setting up its interface", errno));
}

}  // namespace

std::string HostPort::alias_of(const std::string& owner) {
  if (owner.empty()) return model::host_vnic_alias;
  return std::string(model::host_vnic_alias) + " of " +
         owner.substr(owner.size() - std::min(owner.size(), owner_size_max));
}

Result<std::unique_ptr<HostPort>> HostPort::open(PortId id, int fault_event_fd, const HostPortConfig& config) {
  if (config.name.empty() || config.name.size() >= IF_NAMESIZE) {
    return fail(ErrorCode::invalid, "host vnic " + config.name + ": an interface name has 1 to 15 characters");
  }
  const auto left_by_us = is_left_by_us(config.name);
  if (!left_by_us) return fail(left_by_us.error());
  auto fd = open_tap(config.name);
  if (!fd) return fail(fd.error());
  const auto offloads = set_offloads(fd->get(), config.name);
  if (!offloads) return fail(offloads.error());
  std::unique_ptr<HostPort> port(new HostPort(id, fault_event_fd));
  port->name_ = config.name;
  port->fd_ = std::move(*fd);
  port->offloads_ = *offloads;
  const auto set_up = [&]() -> Result<void> {
    auto interface = Interface::open(config.name);
    if (!interface) return fail(interface.error());
    if (auto done = interface->set_alias(alias_of(config.owner)); !done) return done;
    // Only now does it outlive the process: one that is killed leaves no interface that nobody knows as ours.
    if (ioctl(port->fd_.get(), TUNSETPERSIST, 1UL) != 0) {
      return fail(system_error("host vnic " + config.name + ": making its interface last", errno));
    }
    if (auto done = interface->set_mac(config.mac); !done) return done;
    if (auto done = interface->set_mtu(config.mtu); !done) return done;
    return interface->set_up();
  };
  if (auto done = set_up(); !done) {
    if (!*left_by_us) port->release_interface();  // what was there before stays, with its addresses
    return fail(done.error());
  }
  return port;
}

Result<void> HostPort::set_mtu(std::uint16_t mtu) {
  auto interface = Interface::open(name_);
  if (!interface) return fail(interface.error());
  return interface->set_mtu(mtu);
}

void HostPort::release_interface() noexcept {
  static_cast<void>(ioctl(fd_.get(), TUNSETPERSIST, 0UL));
}

bool HostPort::read_one(std::size_t place) noexcept {
  std::uint8_t header[vnet_header_size_legacy];
  iovec parts[2] = {{header, sizeof header}, {&buffer_[place * frame_size_max], frame_size_max}};
  const ssize_t size = readv(fd_.get(), parts, 2);
  if (size < static_cast<ssize_t>(sizeof header)) {
    readable_ = false;
    if (size < 0 && errno == EBADFD) set_fault(PortFault::device_gone);
    return false;
  }
  std::memcpy(static_cast<void*>(&headers_[place]), header, sizeof header);
  sizes_[place] = static_cast<std::uint32_t>(size) - static_cast<std::uint32_t>(sizeof header);
  // What is done here is not asked for again each time the frame comes again.
  Frame frame;
  frame.head = &buffer_[place * frame_size_max];
  frame.head_size = frame.size = sizes_[place];
  take_needs_of_kernel(frame, headers_[place]);
  if (frame.action != Action::drop && frame.needs.offloads == 0) headers_[place] = {};
  return true;
}

std::size_t HostPort::receive(Burst& burst) noexcept {
  if (count_ == 0) {
    first_ = 0;
    while (readable_ && count_ < burst_max && read_one(count_)) ++count_;
  }
  for (std::size_t i = 0; i < count_; ++i) {
    Frame& frame = burst.frames[i];
    frame = Frame{};
    // Decisions may move the head: each time a frame comes again it starts from what was read. A tag that was taken out
    // moved the addresses by four bytes, so the frame is judged from a copy of its first bytes.
    std::uint8_t* const data = &buffer_[(first_ + i) * frame_size_max];
    frame.size = sizes_[first_ + i];
    frame.head_size = std::min<std::uint32_t>(frame.size, head_size_max);
    std::memcpy(burst.heads[i].data(), data, frame.head_size);
    frame.head = burst.heads[i].data();
    if (frame.size > frame.head_size) {
      burst.segments_of(i)[0] = {data + frame.head_size, frame.size - frame.head_size};
      frame.rest = burst.segments_of(i).data();
      frame.rest_count = 1;
    }
    take_needs(frame, headers_[first_ + i], offload_all);
  }
  return count_;
}

void HostPort::complete(std::size_t count) noexcept {
  first_ += count;
  count_ -= count;
}

std::size_t HostPort::send(std::span<const Frame> frames) noexcept {
  std::array<iovec, 1 + stretches_max> parts;
  for (const Frame& frame : frames) {
    std::size_t n = 0;
    VnetHeader header = leaving_header(frame);
    parts[n++] = {&header, vnet_header_size_legacy};
    TagBytes tag;
    for_each_stretch(frame, tag, [&](const std::uint8_t* data, std::uint32_t size) {
      parts[n++] = {const_cast<std::uint8_t*>(data), size};
    });
    if (writev(fd_.get(), parts.data(), static_cast<int>(n)) >= 0) {
      count_egress(frame.size);
    } else {
      if (errno == EBADFD) set_fault(PortFault::device_gone);
      count_drop(errno == EAGAIN || errno == ENOBUFS ? DropReason::buffer_full : DropReason::not_connected);
    }
  }
  return frames.size();
}

bool HostPort::prepare_sleep() noexcept {
  return count_ != 0 || readable_;
}

void HostPort::on_event(std::uint32_t) noexcept {
  readable_ = fault() == PortFault::none;
}

void HostPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  // Edge-triggered: frames that wait for a full uplink leave the tap readable.
  watch(epoll_fd_, EPOLL_CTL_ADD, fd_.get(), static_cast<std::uint32_t>(EPOLLIN) | static_cast<std::uint32_t>(EPOLLET));
}

void HostPort::detach() noexcept {
  watch(epoll_fd_, EPOLL_CTL_DEL, fd_.get(), 0);
  epoll_fd_ = -1;
}

}  // namespace patchbay::dataplane
