#include "dataplane/ports/team_port.h"

#include <rte_cycles.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/byte_order.h"
#include "dataplane/offload/headers.h"
#include "dataplane/virtqueue/flow.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint64_t group_bit = std::uint64_t{1} << 40;
constexpr std::uint16_t type_ipv4 = 0x0800;
constexpr std::uint16_t type_ipv6 = 0x86DD;
constexpr std::uint8_t protocol_icmp6 = 58;
// Neighbour discovery (RFC 4861): it tells stations of addresses, so it keeps the one that it has.
constexpr std::uint8_t icmp6_discovery_first = 133;
constexpr std::uint8_t icmp6_discovery_last = 137;

constexpr std::uint64_t flowlet_gaps_per_second = 1000;  // 1 ms: a pause that no two paths differ by
constexpr std::uint64_t fades_per_second = 100;          // loads are halved so often
constexpr std::uint64_t moves_per_second = 5;            // 200 ms: frames for an address's old home are on their way
constexpr std::uint64_t ticks_per_second = 100;
constexpr std::uint64_t copy_ticks = 10;   // 100 ms: copies of a frame do not differ by more
constexpr std::size_t print_bytes = 28;    // behind the Ethernet header: an ARP message
constexpr std::size_t copied_bytes = 112;  // enough for what differs between two frames of a flow

std::uint64_t destination_of(const Frame& frame) noexcept {
  return load_be48(frame.head);
}
std::uint64_t source_of(const Frame& frame) noexcept {
  return load_be48(frame.head + 6);
}
std::uint16_t type_of(const Frame& frame) noexcept {
  return load_be16(frame.head + addresses_size);
}

std::uint64_t mix(std::uint64_t word) noexcept {
  word = (word ^ (word >> 29)) * 0xBF58476D1CE4E5B9U;  // splitmix64
  return (word ^ (word >> 32)) * 0x94D049BB133111EBU;
}

// May leave by any member, with that member's address for its source if need be.
bool may_leave_anywhere(const Frame& frame) noexcept {
  if ((destination_of(frame) & group_bit) != 0) return false;
  const std::uint16_t type = type_of(frame);
  if (type == type_ipv4) return true;
  if (type != type_ipv6) return false;
  const auto headers = parse_headers(std::span(frame.head, frame.head_size));
  if (!headers || headers->protocol != protocol_icmp6) return headers.has_value();
  if (headers->transport >= frame.head_size) return false;
  const std::uint8_t kind = frame.head[headers->transport];
  return kind < icmp6_discovery_first || kind > icmp6_discovery_last;
}

// Without IP options; `type_at`: where its Ethernet type is.
bool is_udp_over_ipv4(const Frame& frame, std::size_t type_at) noexcept {
  constexpr std::uint32_t ipv4_without_options = 0x080045;
  constexpr std::size_t protocol_at = 2 + 9;
  if (frame.head_size < type_at + 2 + ipv4_header_min + udp_header) return false;
  const std::uint8_t* const at = frame.head + type_at;
  return (std::uint32_t{load_be16(at)} << 8 | at[2]) == ipv4_without_options && at[protocol_at] == protocol_udp;
}

// A frame of the wire: where what its (first) tag hides starts, and that tag's VLAN.
struct Inside {
  std::size_t type_at = addresses_size;
  std::uint16_t vid = 0;
};
Inside inside_of(const Frame& frame) noexcept {
  constexpr std::uint16_t vid_mask = 0x0FFF;
  if (frame.tag_tpid != 0) return {addresses_size, static_cast<std::uint16_t>(frame.tag_tci & vid_mask)};
  if (frame.head_size < ethernet_header_size + vlan_tag_size || type_of(frame) != tpid_8021q) return {};
  return {addresses_size + vlan_tag_size, static_cast<std::uint16_t>(load_be16(frame.head + 14) & vid_mask)};
}

// What frames that are the same have in common, at both ends of the switch. Not UDP's checksum: it may have left unfinished.
std::uint64_t print_of(const Frame& frame, std::size_t bytes) noexcept {
  const Inside inside = inside_of(frame);
  std::uint64_t print = mix(destination_of(frame) ^ (std::uint64_t{inside.vid} << 48));
  print = mix(print ^ source_of(frame));
  const std::size_t end = std::min<std::size_t>(frame.head_size, inside.type_at + 2 + bytes);
  std::size_t at = inside.type_at;
  constexpr std::uint64_t checksum_mask = std::uint64_t{0xFFFF} << 32;  // of the word, in memory's order
  const std::size_t checksum_word = is_udp_over_ipv4(frame, at) ? at + 24 : end;
  for (; at + sizeof(std::uint64_t) <= end; at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, frame.head + at, sizeof word);
    if (at == checksum_word) word &= ~checksum_mask;
    print = mix(print ^ word);
  }
  for (; at < end; ++at) print = mix(print ^ frame.head[at]);
  return print;
}

void write_source(const Frame& frame, std::uint64_t mac) noexcept {
  store_be48(frame.head + 6, mac);
}

}  // namespace

TeamPort::TeamPort(PortId id, int fault_event_fd, std::uint64_t tsc_hz)
    : Port(id, fault_event_fd),
      second_(tsc_hz),
      flowlet_gap_(second_ / flowlet_gaps_per_second),
      tick_(std::max<std::uint64_t>(1, second_ / ticks_per_second)),
      flowlets_(flowlets_max),
      sent_(sent_max) {
  for (auto& sender : senders_) sender.store(team_no_member, std::memory_order_relaxed);
  for (auto& sender : senders_before_) sender.store(team_no_member, std::memory_order_relaxed);
}

void TeamPort::set_members(const TeamConfig& config, std::vector<Member> members) {
  const auto has = [](const std::vector<Member>& some, const UplinkPort* port) {
    return std::any_of(some.begin(), some.end(), [port](const Member& member) { return member.port == port; });
  };
  for (const Member& member : members_) {
    if (epoll_fd_ >= 0 && !has(members, member.port)) member.port->detach();
  }
  for (const Member& member : members) {
    if (epoll_fd_ >= 0 && !has(members_, member.port)) member.port->attach(epoll_fd_);
  }
  config_ = config;
  members_ = std::move(members);
  next_ = 0;
  brought_by_ = nullptr;
  // Numbers mean other members now.
  for (Flowlet& flowlet : flowlets_) flowlet = {};
  loads_.fill(0);
  before_until_.store(0, std::memory_order_relaxed);
  copies_until_.store(0, std::memory_order_relaxed);
  for (auto& taken : taken_) taken.store(0, std::memory_order_relaxed);
}

void TeamPort::set_paths(const TeamPaths& paths) noexcept {
  bool moved = primary_.load(std::memory_order_relaxed) != paths.primary;
  for (std::size_t i = 0; i < team_buckets; ++i) moved = moved || sender_of(i) != paths.senders[i];
  const std::uint64_t now = rte_rdtsc();
  const std::uint64_t until = now + second_ / moves_per_second;
  // Those that moved a moment ago, and not now, keep the home before that.
  const bool still = now < before_until_.load(std::memory_order_relaxed);
  // First, so that nothing is taken unnoted at a new home.
  if (moved) copies_until_.store(until + copy_ticks * tick_, std::memory_order_release);
  const auto move = [still](std::atomic<std::uint8_t>& at, std::atomic<std::uint8_t>& before, std::uint8_t to) {
    const std::uint8_t from = at.load(std::memory_order_relaxed);
    if (from != to || !still) before.store(from, std::memory_order_relaxed);
    at.store(to, std::memory_order_release);
  };
  std::uint32_t sends = 0;
  for (std::size_t i = 0; i < team_buckets; ++i) {
    const std::uint8_t next = paths.senders[i];
    if (next != team_no_member) sends |= std::uint32_t{1} << next;
    move(senders_[i], senders_before_[i], next);
  }
  move(primary_, primary_before_, paths.primary);
  sends_.store(sends, std::memory_order_relaxed);
  receives_.store(paths.receives, std::memory_order_relaxed);
  if (moved) before_until_.store(until, std::memory_order_release);
}

// ---- In -------------------------------------------------------------------------------------------------------------

std::size_t TeamPort::receive(Burst& burst) noexcept {
  for (std::size_t tried = 0; tried < members_.size(); ++tried) {
    const std::size_t member = next_;
    next_ = next_ + 1 < members_.size() ? next_ + 1 : 0;
    UplinkPort& port = *members_[member].port;
    if (port.held.load(std::memory_order_acquire)) continue;
    const std::size_t count = port.receive(burst);
    port.note_look(count == 0);
    if (count == 0) continue;
    brought_by_ = &port;
    now_ = rte_rdtsc();
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) {
      Frame& frame = burst.frames[i];
      bytes += frame.size;
      if (frame.action != Action::undecided || frame.head_size < ethernet_header_size) continue;
      if (inside_of(frame).type_at != addresses_size) bytes -= vlan_tag_size;
      judge(frame, member, now_);
    }
    port.count_ingress(count, bytes);
    return count;
  }
  return 0;
}

void TeamPort::judge(std::span<Frame> frames, const UplinkPort& member) const noexcept {
  const auto found =
      std::find_if(members_.begin(), members_.end(), [&](const Member& one) { return one.port == &member; });
  const auto index = static_cast<std::size_t>(found - members_.begin());
  const std::uint64_t now = rte_rdtsc();
  for (Frame& frame : frames) {
    if (frame.action == Action::undecided && frame.head_size >= ethernet_header_size) judge(frame, index, now);
  }
}

void TeamPort::judge(Frame& frame, std::size_t member, std::uint64_t now) const noexcept {
  const std::uint64_t destination = destination_of(frame);
  if (MacAddr::is_reserved(destination)) return;
  if ((receives_.load(std::memory_order_relaxed) >> member & 1) == 0) return drop(frame, DropReason::wrong_member);
  if (!config_.switch_independent) return;
  const std::uint64_t source = source_of(frame);
  for (const Member& own : members_) {
    if (own.mac == source) return drop(frame, DropReason::reflected);
  }
  if ((destination & group_bit) != 0) {
    if (member != primary_.load(std::memory_order_relaxed)) return drop(frame, DropReason::wrong_member);
    if (remembers(frame, now)) return drop(frame, DropReason::reflected);
  } else {
    const std::uint8_t home = home_of(destination);
    const std::uint8_t before = home_before(destination);
    const bool is_taken = home == member || (before == member && now < before_until_.load(std::memory_order_acquire));
    if (!is_taken) return drop(frame, DropReason::wrong_member);
    if (home == before || now >= copies_until_.load(std::memory_order_acquire)) return;
  }
  // Of groups, which are few, always: the primary may be another one when the copy comes.
  if (came_elsewhere(frame, member, now)) drop(frame, DropReason::wrong_member);
}

bool TeamPort::came_elsewhere(const Frame& frame, std::size_t member, std::uint64_t now) const noexcept {
  constexpr std::uint64_t member_bits = 8;
  constexpr std::uint64_t tick_mask = 0xFFFF;
  constexpr std::uint64_t print_shift = 24;
  const std::uint64_t print = print_of(frame, copied_bytes);
  const std::uint64_t tick = now / tick_ & tick_mask;
  std::atomic<std::uint64_t>& slot = taken_[print % taken_max];
  const std::uint64_t taken = (print >> print_shift << print_shift) | tick << member_bits | member;
  std::uint64_t known = slot.load(std::memory_order_relaxed);
  do {
    const bool is_same = known >> print_shift == taken >> print_shift;
    // Another worker's clock may be ahead of ours, for it is read once a burst.
    const std::uint64_t apart = (tick - (known >> member_bits) + copy_ticks) & tick_mask;
    if (is_same && apart <= 2 * copy_ticks) return (known & 0xFF) != member;
  } while (!slot.compare_exchange_weak(known, taken, std::memory_order_relaxed));
  return false;
}

std::uint8_t TeamPort::home_of(std::uint64_t mac) const noexcept {
  if (config_.balance == model::TeamBalance::address_hash) return primary_.load(std::memory_order_acquire);
  return sender_of(team_bucket_of(MacAddr::from_uint64(mac)));
}

std::uint8_t TeamPort::home_before(std::uint64_t mac) const noexcept {
  const auto& before = config_.balance == model::TeamBalance::address_hash
                           ? primary_before_
                           : senders_before_[team_bucket_of(MacAddr::from_uint64(mac))];
  return before.load(std::memory_order_relaxed);
}

void TeamPort::complete(std::size_t count) noexcept {
  for (const Member& member : members_) member.port->complete(count);
}

// ---- Out ------------------------------------------------------------------------------------------------------------

std::uint8_t TeamPort::way_of(const Frame& frame) noexcept {
  const std::uint64_t source = source_of(frame);
  if (config_.switch_independent && !may_leave_anywhere(frame)) {
    if ((destination_of(frame) & group_bit) != 0) remember(frame);
    return home_of(source);
  }
  switch (config_.balance) {
    case model::TeamBalance::vnic_port:
      return sender_of(team_bucket_of(MacAddr::from_uint64(source)));
    case model::TeamBalance::address_hash:
      return sender_of(flow_of(frame) >> 24);
    case model::TeamBalance::dynamic:
      return member_of_flow(frame);
  }
  return team_no_member;
}

std::uint8_t TeamPort::member_of_flow(const Frame& frame) noexcept {
  const std::uint32_t sends = sends_.load(std::memory_order_relaxed);
  if (sends == 0) return team_no_member;
  Flowlet& flowlet = flowlets_[flow_of(frame) >> 22];
  const bool goes_on =
      flowlet.member != team_no_member && (sends >> flowlet.member & 1) != 0 && now_ - flowlet.last < flowlet_gap_;
  if (!goes_on) {
    std::uint8_t least = static_cast<std::uint8_t>(std::countr_zero(sends));
    for (std::uint32_t left = sends & (sends - 1); left != 0; left &= left - 1) {
      const auto other = static_cast<std::uint8_t>(std::countr_zero(left));
      if (loads_[other] < loads_[least]) least = other;
    }
    flowlet.member = least;
  }
  flowlet.last = now_;
  loads_[flowlet.member] += frame.size;
  return flowlet.member;
}

void TeamPort::let_loads_fade() noexcept {
  if (now_ - faded_ < second_ / fades_per_second) return;
  faded_ = now_;
  for (std::uint64_t& load : loads_) load /= 2;
}

std::size_t TeamPort::send(std::span<const Frame> frames) noexcept {
  now_ = rte_rdtsc();
  let_loads_fade();
  std::size_t done = 0;
  while (done < frames.size()) {
    const std::size_t count = std::min(frames.size() - done, burst_max);
    for (std::size_t i = 0; i < count; ++i) ways_[i] = way_of(frames[done + i]);
    for (std::size_t at = 0; at < count;) {
      std::size_t end = at + 1;
      while (end < count && ways_[end] == ways_[at]) ++end;
      const auto run = frames.subspan(done + at, end - at);
      if (ways_[at] >= members_.size()) {
        count_drop(DropReason::not_connected, run.size());
      } else if (const std::size_t sent = send_run(ways_[at], run); sent < run.size()) {
        return done + at + sent;
      }
      at = end;
    }
    done += count;
  }
  return done;
}

// What leaves elsewhere than at its home does so under the member's address; others who get the same frame see its own.
std::size_t TeamPort::send_run(std::size_t member, std::span<const Frame> frames) noexcept {
  UplinkPort& port = *members_[member].port;
  if (!config_.switch_independent) return port.send(frames);
  std::array<std::uint64_t, burst_max> sources;
  bool replaced = false;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    sources[i] = source_of(frames[i]);
    if (home_of(sources[i]) == member || !may_leave_anywhere(frames[i])) continue;
    write_source(frames[i], members_[member].mac);
    replaced = true;
  }
  const std::size_t sent = port.send(frames);
  for (std::size_t i = 0; replaced && i < frames.size(); ++i) write_source(frames[i], sources[i]);
  return sent;
}

void TeamPort::remember(const Frame& frame) noexcept {
  const std::uint64_t print = print_of(frame, print_bytes);
  Sent& sent = sent_[print % sent_max];
  sent.when.store(now_, std::memory_order_relaxed);
  sent.print.store(print, std::memory_order_relaxed);
}

bool TeamPort::remembers(const Frame& frame, std::uint64_t now) const noexcept {
  const std::uint64_t print = print_of(frame, print_bytes);
  const Sent& sent = sent_[print % sent_max];
  return sent.print.load(std::memory_order_relaxed) == print &&
         now - sent.when.load(std::memory_order_relaxed) < second_;
}

// ---- What members do ------------------------------------------------------------------------------------------------

bool TeamPort::gives_bare_frames() const noexcept {
  return !members_.empty() && std::all_of(members_.begin(), members_.end(),
                                          [](const Member& member) { return member.port->gives_bare_frames(); });
}

void TeamPort::flush() noexcept {
  for (const Member& member : members_) member.port->flush();
}

void TeamPort::settle() noexcept {
  for (const Member& member : members_) member.port->settle();
}

void TeamPort::notify(CallSignal& calls) noexcept {
  for (const Member& member : members_) member.port->notify(calls);
}

bool TeamPort::prepare_sleep() noexcept {
  bool work = false;
  for (const Member& member : members_) work = member.port->prepare_sleep() || work;
  return work;
}

void TeamPort::woke() noexcept {
  for (const Member& member : members_) member.port->woke();
}

// A member may start anew, and then take less.
Offloads TeamPort::takes() const noexcept {
  Offloads takes = members_.empty() ? Offloads{0} : offload_all;
  for (const Member& member : members_) takes &= member.port->takes();
  return takes;
}

bool TeamPort::full() const noexcept {
  const std::uint32_t sends = sends_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if ((sends >> i & 1) != 0 && members_[i].port->full()) return true;
  }
  return false;
}

void TeamPort::attach(int epoll_fd) noexcept {
  epoll_fd_ = epoll_fd;
  for (const Member& member : members_) member.port->attach(epoll_fd);
}

void TeamPort::detach() noexcept {
  epoll_fd_ = -1;
  for (const Member& member : members_) member.port->detach();
}

}  // namespace patchbay::dataplane
