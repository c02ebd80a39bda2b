// The vhost-user side of one guest vnic: a socket, the protocol with one front-end, and the link into the data plane.
//
// Theory  Patchbay listens on a socket of its own (Role::listen) or connects to one that QEMU listens on
//         (Role::connect) and tries again for as long as nobody answers. One front-end at a time. All reads are
//         non-blocking, with a bounded message size, rate and number of descriptors: one that sends half a message,
//         nonsense or too much loses its connection or waits, and nobody else notices. A message that changes memory,
//         rings or descriptors first disconnects the port from its worker, then applies, then connects it again.
// States  waiting_for_guest -> negotiating -> connected -> (front-end goes away) -> waiting_for_guest
//         any -> failed: the guest or front-end broke a rule; a new connection starts afresh
// Threads control's only.
// Source  QEMU, docs/interop/vhost-user.rst; VIRTIO 1.2, section 5.1.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "dataplane/dataplane.h"

namespace patchbay::vhost_user {

enum class Role : std::uint8_t { listen, connect };

enum class State : std::uint8_t { waiting_for_guest, negotiating, connected, failed };
[[nodiscard]] const char* to_string(State state) noexcept;

struct EndpointConfig {
  std::string vnic;  // for log lines and errors
  PortId port{};     // a guest port of the data plane
  Role role = Role::listen;
  std::string path;                      // of the socket, 1-107 bytes
  std::optional<unsigned> socket_group;  // Role::listen: group id that may connect besides us; nothing: our own group
  std::uint16_t mtu = 1500;              // of the switch, layer 3 bytes; see set_mtu()
  std::uint16_t queues = 1;              // queue pairs that a guest may use, 1 to dataplane::queue_pairs_max
  // So long after a guest that was connected stopped, or its front-end went, it may come back and find the frames that waited
  // for it meanwhile.
  std::chrono::milliseconds may_return = std::chrono::seconds(30);
};

struct EndpointStatus {
  State state = State::waiting_for_guest;
  std::string
      reason;  // a phrase for people: "waiting for a guest on /run/…", "no memory shared yet", …; empty if connected
  // Connected: the MTU that the guest goes by: what its front-end said, else the switch's when the guest connected.
  std::optional<std::uint16_t> guest_mtu = {};
  // Connected: queue pairs that the guest was offered when its front-end connected, and how many it uses.
  std::uint16_t queues_offered = 0;
  std::uint16_t queues_used = 0;
};

class Endpoint {
 public:
  // Opens the socket. `changed` is called, from the event loop, after each change of status().
  // Errors: invalid (path too long), in_use (the path is another process's socket, or not a socket), internal.
  [[nodiscard]] static Result<std::unique_ptr<Endpoint>> create(boost::asio::io_context& loop,
                                                                dataplane::Dataplane& dataplane, EndpointConfig config,
                                                                std::function<void()> changed);
  // Disconnects the port and the front-end; removes the socket's path if it is ours.
  virtual ~Endpoint() = default;

  [[nodiscard]] virtual EndpointStatus status() const = 0;
  // The switch has another MTU from now on. A guest that is connected goes on with the one it has.
  virtual void set_mtu(std::uint16_t mtu) = 0;
  // So many queue pairs are offered from the next connection on; the one that is there keeps what it was offered.
  virtual void set_queues(std::uint16_t queues) = 0;
  // The data plane reported a fault of this port: ends the connection, so that the front-end starts afresh.
  virtual void port_failed(dataplane::PortFault fault) = 0;
};

}  // namespace patchbay::vhost_user
