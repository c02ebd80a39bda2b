// What one front-end has told us so far, and the guest link that follows from it: the vhost-user state machine, without
// sockets.
//
// Theory  Each message changes the picture of memory and rings. The picture makes a link once it is complete: features
//         and memory known, and at least one ring with size, addresses, kick descriptor and leave to run. A message that
//         changes what the data plane is using gives it a new link in place of the old one, between two passes of its
//         worker, so that no frame is lost; what the message replaced (memory, descriptors) goes only afterwards.
//         A vnic with one queue pair does not offer VIRTIO_NET_F_MQ. Front-ends with more pairs may start on it: their
//         further rings are known by number, take every message and move nothing, for no guest's driver uses them. With
//         MQ a driver would, so a vnic with several pairs takes front-ends with at most that many. The guest switches
//         pairs on and off by a control queue that its front-end keeps to itself; we hear of it as SET_VRING_ENABLE.
//         Where a packed ring goes on is known to three: the front-end (base), this object, once the ring has run for it
//         (position), and the data plane's record, which outlives a crash. Whoever comes later in this row knows better,
//         but a base that was not learned from GET_VRING_BASE of this session may be one from before a crash.
//         Not here yet: writes to guest memory are not logged for migration. VHOST_F_LOG_ALL would be offered in
//         `offered_`, SET_LOG_BASE and the flag of SET_VRING_ADDR would change the picture as SET_MEM_TABLE does.
// States  no link -> link (connect) -> link (relink) -> no link (suspend) -> …; after a failure the object may only be
//         destroyed.
// Limits  The vnic's queue pairs, or front_end_pairs_max of which the first moves frames; eight memory regions (QEMU itself
//         refuses more, for memory slots of their own are not offered); announcements at a rate. Anything beyond, and
//         what is not offered, fails the connection; an unknown request whose sender waits for an acknowledgement gets a
//         negative one instead.
// Threads control's only.
// Source  QEMU, docs/interop/vhost-user.rst. What front-ends really send: QEMU, hw/virtio/vhost-user.c; DPDK,
//         drivers/net/virtio/virtio_user/vhost_user.c.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "control/vhost_user/message.h"
#include "control/vhost_user/token_bucket.h"
#include "dataplane/dataplane.h"

namespace patchbay::vhost_user {

// Feature bits of the device that only the protocol's two ends care about.
inline constexpr std::uint64_t feature_protocol_features = std::uint64_t{1} << 30;  // VHOST_USER_F_PROTOCOL_FEATURES
inline constexpr std::uint64_t feature_net_mtu = std::uint64_t{1} << 3;             // VIRTIO_NET_F_MTU

inline constexpr std::uint64_t feature_net_mq = std::uint64_t{1} << 22;       // VIRTIO_NET_F_MQ
inline constexpr std::uint64_t feature_ring_packed = std::uint64_t{1} << 34;  // VIRTIO_F_RING_PACKED

// Protocol features: VHOST_USER_PROTOCOL_F_*.
inline constexpr std::uint64_t protocol_mq = std::uint64_t{1} << 0;
inline constexpr std::uint64_t protocol_rarp = std::uint64_t{1} << 2;
inline constexpr std::uint64_t protocol_reply_ack = std::uint64_t{1} << 3;
inline constexpr std::uint64_t protocol_net_mtu = std::uint64_t{1} << 4;
inline constexpr std::uint64_t protocol_features_offered =
    protocol_mq | protocol_rarp | protocol_reply_ack | protocol_net_mtu;

// Queue pairs that a front-end of a vnic with one may have. SET_VRING_KICK has room for 256 ring numbers.
inline constexpr std::uint64_t front_end_pairs_max = 128;
// SEND_RARP: QEMU sends five in a second. What comes faster is taken and leads to nothing.
inline constexpr double announcements_per_second = 10;
inline constexpr double announcements_burst = 20;

// What a message leads to.
struct Outcome {
  std::vector<std::uint8_t> reply;  // to be sent; empty: nothing
  std::optional<Error> failure;     // the connection ends, once the reply is away
};

class Protocol {
 public:
  // `device_features`: virtio features of the data plane's guest ports. `queue_pairs`: that the guest may use, 1 to
  // dataplane::queue_pairs_max. `announcements`: shared with the connections before and after, so that connecting anew
  // does not reset the limit. Both references must outlive this object.
  Protocol(dataplane::Dataplane& dataplane, PortId port, std::uint64_t device_features, std::uint16_t queue_pairs,
           TokenBucket& announcements);
  // Disconnects the port.
  ~Protocol();
  Protocol(const Protocol&) = delete;
  Protocol& operator=(const Protocol&) = delete;

  [[nodiscard]] Outcome handle(Message message);

  [[nodiscard]] bool is_linked() const noexcept { return linked_; }
  // The MTU that the guest goes by, as its front-end said with NET_SET_MTU; nothing: it did not say, or the guest's driver
  // does not take an MTU from its device.
  [[nodiscard]] std::optional<std::uint16_t> guest_mtu() const noexcept;
  [[nodiscard]] std::uint16_t queue_pairs() const noexcept { return queue_pairs_; }
  // Those whose rings both run.
  [[nodiscard]] std::uint16_t queue_pairs_used() const noexcept;
  // The front-end got to know how many queue pairs there are, and did not go on: QEMU leaves so if it wants more.
  [[nodiscard]] bool is_stuck_at_queues() const noexcept { return queue_pairs_told_ && !memory_; }
  // What is still missing for a link, as a phrase for people; empty if linked.
  [[nodiscard]] std::string missing() const;

 private:
  struct Ring {
    std::uint16_t size = 0;
    std::optional<VringAddress> address;
    std::uint32_t base = 0;  // as Vring in dataplane.h
    std::uint32_t position = 0;
    bool position_known = false;
    std::optional<bool> enabled;  // as SET_VRING_ENABLE said; nothing: the default
    UniqueFd kick;
    UniqueFd call;
  };

  [[nodiscard]] Result<std::vector<std::uint8_t>> dispatch(Message& message);
  [[nodiscard]] Result<void> apply(Message& message);
  [[nodiscard]] Result<void> set_features(std::uint64_t features);
  [[nodiscard]] Result<void> set_protocol_features(std::uint64_t features);
  [[nodiscard]] Result<void> set_memory(const Message& message);
  [[nodiscard]] Result<void> set_size(const Message& message);
  [[nodiscard]] Result<void> set_address(const Message& message);
  [[nodiscard]] Result<void> set_base(const Message& message);
  [[nodiscard]] Result<void> set_enabled(const Message& message);
  [[nodiscard]] Result<void> set_descriptor(Message& message);
  [[nodiscard]] Result<void> set_mtu(std::uint64_t mtu);
  [[nodiscard]] Result<std::vector<std::uint8_t>> stop_ring(const Message& message);
  [[nodiscard]] Result<void> stop_all();
  void announce(MacAddr source);
  // Number of the front-end's rings at most.
  [[nodiscard]] std::uint64_t rings_max() const noexcept;
  // Null for a ring beyond the vnic's own: nothing to change.
  [[nodiscard]] Result<Ring*> ring_of(std::uint32_t request, std::uint32_t index);
  [[nodiscard]] std::uint32_t position_of(std::uint32_t index) const noexcept;
  [[nodiscard]] bool packed() const noexcept;

  // `what` changes the picture; the link follows. Descriptors that `what` replaces must stay open until this returns.
  [[nodiscard]] Result<void> change(const std::function<void()>& what);
  // The same, if all that changes is `ring`: a link in which it does not run, neither before nor after, stays as it is.
  [[nodiscard]] Result<void> change(const Ring& ring, const std::function<void()>& what);
  [[nodiscard]] Result<void> follow();
  void suspend();
  // The link that the picture makes; nothing if it makes none.
  [[nodiscard]] std::optional<dataplane::GuestLink> make_link() const;
  void note_positions(const dataplane::RingPositions& positions);
  [[nodiscard]] bool is_enabled(const Ring& ring) const noexcept;
  [[nodiscard]] bool is_complete(const Ring& ring) const noexcept;

  dataplane::Dataplane& dataplane_;
  const PortId port_;
  const std::uint64_t device_features_;
  const std::uint16_t queue_pairs_;
  const std::uint64_t offered_;
  TokenBucket& announcements_;

  std::optional<std::uint64_t> features_;  // acknowledged; nothing: not yet
  std::uint64_t protocol_features_ = 0;
  std::optional<std::uint16_t> told_mtu_;
  std::shared_ptr<const dataplane::GuestMemory> memory_;
  std::array<Ring, dataplane::guest_rings_max> rings_;
  std::array<std::uint32_t, 2 * front_end_pairs_max> spare_positions_{};  // of the rings beyond the vnic's own
  bool queue_pairs_told_ = false;
  bool linked_ = false;
  std::array<bool, dataplane::guest_rings_max> running_{};  // rings that the link was made with
};

}  // namespace patchbay::vhost_user
