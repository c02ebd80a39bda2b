#include "control/vhost_user/protocol.h"

#include <fmt/format.h>

#include <bit>
#include <limits>
#include <utility>

namespace patchbay::vhost_user {
namespace {

constexpr std::uint64_t ack_good = 0;
constexpr std::uint64_t ack_bad = 1;
constexpr std::uint64_t mtu_min = 68;  // RFC 791
constexpr std::uint64_t mtu_max = 65535;

using Reply = std::vector<std::uint8_t>;

Result<Reply> no_reply(Result<void> result) {
  if (!result) return fail(std::move(result.error()));
  return Reply{};
}

}  // namespace

Protocol::Protocol(dataplane::Dataplane& dataplane, PortId port, std::uint64_t device_features,
                   std::uint16_t queue_pairs, TokenBucket& announcements)
    : dataplane_(dataplane),
      port_(port),
      device_features_(device_features),
      queue_pairs_(queue_pairs),
      offered_(device_features | feature_protocol_features | feature_net_mtu | (queue_pairs > 1 ? feature_net_mq : 0)),
      announcements_(announcements) {}

Protocol::~Protocol() {
  suspend();
}

std::string Protocol::missing() const {
  if (linked_) return "";
  if (!memory_) return "no memory shared yet";
  return "guest driver not ready yet";
}

Outcome Protocol::handle(Message message) {
  Outcome outcome;
  if (!is_known(message.request)) {
    // A sender that waits for an acknowledgement can live with "no"; one that does not would go on as if we had obeyed.
    if (message.reply_wanted) {
      outcome.reply = make_reply(message.request, ack_bad);
    } else {
      outcome.failure = make_error(ErrorCode::invalid,
                                   fmt::format("the front-end sent {}, which was not offered: switch that feature of "
                                               "the front-end off",
                                               request_name(message.request)));
    }
    return outcome;
  }
  Result<Reply> reply = dispatch(message);
  if (!reply) {
    outcome.failure = std::move(reply.error());
    if (message.reply_wanted) outcome.reply = make_reply(message.request, ack_bad);
  } else if (!reply->empty()) {
    outcome.reply = std::move(*reply);
  } else if (message.reply_wanted) {
    outcome.reply = make_reply(message.request, ack_good);
  }
  return outcome;
}

Result<Reply> Protocol::dispatch(Message& message) {
  if (auto shape = check_shape(message); !shape) return fail(std::move(shape.error()));
  switch (static_cast<Request>(message.request)) {
    case Request::get_features:
      return make_reply(message.request, offered_);
    case Request::get_protocol_features:
      return make_reply(message.request, protocol_features_offered);
    case Request::get_queue_num:
      queue_pairs_told_ = true;
      return make_reply(message.request, rings_max() / 2);
    case Request::get_vring_base:
      return stop_ring(message);
    case Request::net_set_mtu:
      // The one request whose refusal is a normal answer.
      if (auto mtu = set_mtu(parse_u64(message)); !mtu) {
        if (message.reply_wanted) return make_reply(message.request, ack_bad);
        return fail(std::move(mtu.error()));
      }
      return Reply{};
    default:
      return no_reply(apply(message));
  }
}

Result<void> Protocol::apply(Message& message) {
  switch (static_cast<Request>(message.request)) {
    case Request::set_features:
      return set_features(parse_u64(message));
    case Request::set_protocol_features:
      return set_protocol_features(parse_u64(message));
    case Request::set_owner:
      return {};
    case Request::reset_owner:
      return stop_all();
    case Request::set_mem_table:
      return set_memory(message);
    case Request::send_rarp:
      announce(parse_mac(message));
      return {};
    case Request::set_vring_num:
      return set_size(message);
    case Request::set_vring_addr:
      return set_address(message);
    case Request::set_vring_base:
      return set_base(message);
    case Request::set_vring_enable:
      return set_enabled(message);
    case Request::set_vring_kick:
    case Request::set_vring_call:
    case Request::set_vring_err:
      return set_descriptor(message);
    default:
      return fail(ErrorCode::internal, fmt::format("{} has a shape but no meaning", request_name(message.request)));
  }
}

Result<void> Protocol::set_features(std::uint64_t features) {
  if ((features & ~offered_) == feature_net_mq) {
    return fail(ErrorCode::invalid,
                "the guest's driver uses several queue pairs, and the vnic has one now: give it more again with "
                "`patchbay vnic set`, or start the guest anew with queues=1");
  }
  if (const std::uint64_t more = features & ~offered_; more != 0) {
    return fail(ErrorCode::invalid, fmt::format("SET_FEATURES acknowledges virtio feature {} that was not offered: "
                                                "connect the front-end anew, it kept features of another back-end",
                                                std::countr_zero(more)));
  }
  if (features_ == features) return {};
  return change([&] { features_ = features; });
}

Result<void> Protocol::set_protocol_features(std::uint64_t features) {
  if (const std::uint64_t more = features & ~protocol_features_offered; more != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("SET_PROTOCOL_FEATURES acknowledges vhost-user feature {} that was not offered",
                            std::countr_zero(more)));
  }
  protocol_features_ = features;
  return {};
}

Result<void> Protocol::set_memory(const Message& message) {
  auto regions = parse_memory_table(message);
  if (!regions) return fail(std::move(regions.error()));
  for (std::size_t i = 0; i < message.descriptors.size(); ++i) {
    if (message.descriptors[i].kind != DescriptorKind::memory) {
      return fail(ErrorCode::invalid, fmt::format("memory region {} is not shared memory: start QEMU with "
                                                  "memory-backend-memfd,share=on",
                                                  i));
    }
  }
  // The new table is mapped while the old one still works, so that a bad table changes nothing in the data plane.
  auto memory = dataplane_.map_guest_memory(*regions);
  if (!memory) return fail(std::move(memory.error()));
  return change([&] { memory_.swap(*memory); });
}

Result<void> Protocol::set_size(const Message& message) {
  const VringState state = parse_vring_state(message);
  auto ring = ring_of(message.request, state.index);
  if (!ring) return fail(std::move(ring.error()));
  if (state.number == 0 || state.number > dataplane::vring_size_max ||
      (!packed() && !std::has_single_bit(state.number))) {
    return fail(ErrorCode::invalid,
                fmt::format("SET_VRING_NUM gives ring {} {} entries: {} up to {} is needed (rx_queue_size and "
                            "tx_queue_size of the device)",
                            state.index, state.number, packed() ? "1" : "a power of two", dataplane::vring_size_max));
  }
  if (*ring == nullptr) return {};
  return change(**ring, [&] { (*ring)->size = static_cast<std::uint16_t>(state.number); });
}

Result<void> Protocol::set_address(const Message& message) {
  const VringAddress address = parse_vring_address(message);
  auto ring = ring_of(message.request, address.index);
  if (!ring) return fail(std::move(ring.error()));
  if (address.flags != 0) {
    return fail(ErrorCode::invalid,
                fmt::format("SET_VRING_ADDR asks for flags {:#x} on ring {}: logging of writes (live migration) was "
                            "not offered",
                            address.flags, address.index));
  }
  if (*ring == nullptr) return {};
  return change(**ring, [&] { (*ring)->address = address; });
}

Result<void> Protocol::set_base(const Message& message) {
  const VringState state = parse_vring_state(message);
  auto ring = ring_of(message.request, state.index);
  if (!ring) return fail(std::move(ring.error()));
  if (!packed() && state.number > std::numeric_limits<std::uint16_t>::max()) {
    return fail(ErrorCode::invalid, fmt::format("SET_VRING_BASE sets ring {} to position {}: positions have 16 bits",
                                                state.index, state.number));
  }
  if (*ring == nullptr) {
    spare_positions_[state.index] = state.number;
  } else if (!linked_ || !running_[state.index]) {  // a ring that runs takes its position over from nobody
    (*ring)->base = (*ring)->position = state.number;
  }
  return {};
}

Result<void> Protocol::set_enabled(const Message& message) {
  const VringState state = parse_vring_state(message);
  auto ring = ring_of(message.request, state.index);
  if (!ring) return fail(std::move(ring.error()));
  if (state.number > 1) {
    return fail(ErrorCode::invalid,
                fmt::format("SET_VRING_ENABLE says {} for ring {}: 0 or 1 is needed", state.number, state.index));
  }
  const bool enabled = state.number == 1;
  if (*ring == nullptr || (*ring)->enabled == enabled) return {};  // front-ends repeat it freely: not worth a new link
  return change(**ring, [&] { (*ring)->enabled = enabled; });
}

Result<void> Protocol::set_descriptor(Message& message) {
  auto vring = parse_vring_descriptor(message);
  if (!vring) return fail(std::move(vring.error()));
  auto ring = ring_of(message.request, vring->index);
  if (!ring) return fail(std::move(ring.error()));
  UniqueFd fd;
  if (vring->present) {
    if (message.descriptors[0].kind != DescriptorKind::event) {
      return fail(ErrorCode::invalid, fmt::format("{} for ring {} came with a descriptor that is not an eventfd",
                                                  request_name(message.request), vring->index));
    }
    fd = std::move(message.descriptors[0].fd);
    if (auto made = make_non_blocking(fd.get()); !made) return made;
  }
  const auto request = static_cast<Request>(message.request);
  if (*ring == nullptr) return {};
  if (request == Request::set_vring_err) return {};  // a broken ring ends the connection, which says more
  if (request == Request::set_vring_call) return change(**ring, [&] { std::swap((*ring)->call, fd); });
  if (!fd) {
    return fail(ErrorCode::invalid, fmt::format("SET_VRING_KICK for ring {} came without a descriptor: a ring that has "
                                                "to be polled is not supported, switch the front-end's ioeventfd on",
                                                vring->index));
  }
  return change(**ring, [&] { std::swap((*ring)->kick, fd); });
}

Result<void> Protocol::set_mtu(std::uint64_t mtu) {
  if (mtu < mtu_min || mtu > mtu_max) {
    return fail(ErrorCode::invalid,
                fmt::format("NET_SET_MTU says {}: host_mtu of the device must be {} to {}", mtu, mtu_min, mtu_max));
  }
  // The guest's business: the switch judges frames by its own MTU. Kept to be shown.
  told_mtu_ = static_cast<std::uint16_t>(mtu);
  return {};
}

std::optional<std::uint16_t> Protocol::guest_mtu() const noexcept {
  const bool takes_mtu = (features_.value_or(0) & feature_net_mtu) != 0;
  return takes_mtu ? told_mtu_ : std::nullopt;
}

Result<Reply> Protocol::stop_ring(const Message& message) {
  const VringState asked = parse_vring_state(message);
  auto ring = ring_of(message.request, asked.index);
  if (!ring) return fail(std::move(ring.error()));
  // Only a new SET_VRING_KICK starts the ring again. The call descriptor stays: QEMU does not always send it anew.
  if (*ring != nullptr) {
    UniqueFd old;
    auto changed = change(**ring, [&] { std::swap((*ring)->kick, old); });
    if (!changed) return fail(std::move(changed.error()));
  }
  if (*ring != nullptr) (*ring)->base = (*ring)->position;
  return make_reply(message.request, VringState{asked.index, position_of(asked.index)});
}

Result<void> Protocol::stop_all() {
  std::array<UniqueFd, dataplane::guest_rings_max> old;
  return change([&] {
    for (std::size_t i = 0; i < rings_.size(); ++i) std::swap(rings_[i].kick, old[i]);
  });
}

void Protocol::announce(MacAddr source) {
  // Whether the guest may use that address is for the data plane to say, as with every frame of the guest.
  if (announcements_.take(TokenBucket::Clock::now())) dataplane_.announce(port_, source);
}

Result<Protocol::Ring*> Protocol::ring_of(std::uint32_t request, std::uint32_t index) {
  if (index >= rings_max()) {
    return fail(ErrorCode::invalid,
                fmt::format("{} names ring {}: a front-end of this vnic may have {} queue pairs, start QEMU with "
                            "queues={} or less",
                            request_name(request), index, rings_max() / 2, rings_max() / 2));
  }
  return index < 2U * queue_pairs_ ? &rings_[index] : nullptr;
}

std::uint64_t Protocol::rings_max() const noexcept {
  return 2 * (queue_pairs_ > 1 ? queue_pairs_ : front_end_pairs_max);
}

std::uint32_t Protocol::position_of(std::uint32_t index) const noexcept {
  return index < 2U * queue_pairs_ ? rings_[index].position : spare_positions_[index];
}

std::uint16_t Protocol::queue_pairs_used() const noexcept {
  std::uint16_t used = 0;
  for (std::size_t i = 0; i < rings_.size() && linked_; i += 2) {
    if (running_[i] && running_[i + 1]) ++used;
  }
  return used;
}

bool Protocol::packed() const noexcept {
  return (features_.value_or(0) & feature_ring_packed) != 0;
}

// ---- The link -------------------------------------------------------------------------------------------------------

Result<void> Protocol::change(const std::function<void()>& what) {
  what();
  return follow();
}

Result<void> Protocol::change(const Ring& ring, const std::function<void()>& what) {
  const bool ran = !linked_ || is_complete(ring);
  what();
  return ran || is_complete(ring) ? follow() : Result<void>{};
}

Result<void> Protocol::follow() {
  const auto link = make_link();
  if (!link) {
    suspend();
    return {};
  }
  if (!linked_) {
    if (auto connected = dataplane_.connect_guest(port_, *link); !connected) return connected;
    linked_ = true;
  } else {
    const auto positions = dataplane_.relink_guest(port_, *link);
    if (!positions) {
      suspend();  // now, for the caller is about to close what the old link uses
      return fail(positions.error());
    }
    note_positions(*positions);
  }
  for (std::size_t i = 0; i < rings_.size(); ++i) running_[i] = is_complete(rings_[i]);
  return {};
}

void Protocol::suspend() {
  if (!linked_) return;
  note_positions(dataplane_.disconnect_guest(port_));
  linked_ = false;
}

void Protocol::note_positions(const dataplane::RingPositions& positions) {
  for (std::size_t i = 0; i < rings_.size(); ++i) {
    if (!running_[i]) continue;
    rings_[i].position = positions[i];
    rings_[i].position_known = true;
  }
}

std::optional<dataplane::GuestLink> Protocol::make_link() const {
  if (!memory_ || !features_) return std::nullopt;
  dataplane::GuestLink link;
  link.features = *features_ & device_features_;
  link.memory = memory_;
  bool any = false;
  for (std::size_t i = 0; i < rings_.size(); ++i) {
    const Ring& ring = rings_[i];
    if (!is_complete(ring)) continue;
    any = true;
    link.rings[i].size = ring.size;
    link.rings[i].desc_address = ring.address->desc;
    link.rings[i].avail_address = ring.address->avail;
    link.rings[i].used_address = ring.address->used;
    link.rings[i].base = ring.base;
    link.rings[i].position = ring.position;
    link.rings[i].position_known = ring.position_known;
    link.rings[i].enabled = true;
    link.rings[i].kick_fd = ring.kick.get();
    link.rings[i].call_fd = ring.call.get();
  }
  return any ? std::optional(std::move(link)) : std::nullopt;
}

bool Protocol::is_enabled(const Ring& ring) const noexcept {
  return ring.enabled.value_or((*features_ & feature_protocol_features) == 0);
}

bool Protocol::is_complete(const Ring& ring) const noexcept {
  return ring.size != 0 && ring.address && ring.kick && is_enabled(ring);
}

}  // namespace patchbay::vhost_user
