#include "dataplane/ports/packet_sorter.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "dataplane/ports/packet_socket.h"

namespace patchbay::dataplane {
namespace {

constexpr int fanout_ignore_outgoing = 0x4000;  // PACKET_FANOUT_FLAG_IGNORE_OUTGOING, since Linux 6.2

constexpr std::uint16_t load = BPF_LD | BPF_W | BPF_ABS;
constexpr std::uint16_t load_half = BPF_LD | BPF_H | BPF_ABS;
constexpr std::uint16_t load_kept = BPF_LD | BPF_MEM;
constexpr std::uint16_t keep = BPF_ST;
constexpr std::uint16_t jump_if_equal = BPF_JMP | BPF_JEQ | BPF_K;
constexpr std::uint16_t give = BPF_RET | BPF_K;

constexpr std::uint32_t about_frame(int what) noexcept {
  return static_cast<std::uint32_t>(SKF_AD_OFF + what);
}
constexpr std::uint32_t in_frame(int offset) noexcept {
  return static_cast<std::uint32_t>(SKF_LL_OFF + offset);  // from the Ethernet header on, wherever the kernel is by now
}

// What a filter is compared by: the address' first four bytes, and its last two with the VLAN.
constexpr std::uint32_t first_word(const QueueFilter& filter) noexcept {
  return static_cast<std::uint32_t>(filter.mac.to_uint64() >> 16);
}
constexpr std::uint32_t second_word(const QueueFilter& filter) noexcept {
  return static_cast<std::uint32_t>(filter.mac.to_uint64() & 0xFFFF) << 16 | filter.vid;
}

// The kernel has taken the outer tag out of the bytes by now. A frame that is too short for a load gives 0.
constexpr std::array<sock_filter, 15> words_of_frame{{
    {load, 0, 0, about_frame(SKF_AD_VLAN_TAG_PRESENT)},
    {jump_if_equal, 5, 0, 0},  // no tag: the VLAN is 0, as this
    {load, 0, 0, about_frame(SKF_AD_VLAN_TPID)},
    {jump_if_equal, 1, 0, ETH_P_8021Q},
    {give, 0, 0, 0},  // another kind of tag
    {load, 0, 0, about_frame(SKF_AD_VLAN_TAG)},
    {BPF_ALU | BPF_AND | BPF_K, 0, 0, 0x0FFF},
    {keep, 0, 0, 0},
    {load, 0, 0, in_frame(0)},
    {keep, 0, 0, 1},  // the first word
    {load_half, 0, 0, in_frame(4)},
    {BPF_ALU | BPF_LSH | BPF_K, 0, 0, 16},
    {BPF_LDX | BPF_MEM, 0, 0, 0},
    {BPF_ALU | BPF_OR | BPF_X, 0, 0, 0},
    {keep, 0, 0, 2},  // the second, which stays at hand
}};

bool attach_filter(int fd, const sock_filter* code, std::size_t size) noexcept {
  const sock_fprog program{static_cast<unsigned short>(size), const_cast<sock_filter*>(code)};
  return set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, program);
}

// For kernels where a group also hears what this host sends.
bool ignore_outgoing(int fd) noexcept {
  static constexpr std::array<sock_filter, 4> code{{
      {load, 0, 0, about_frame(SKF_AD_PKTTYPE)},
      {jump_if_equal, 0, 1, PACKET_OUTGOING},
      {give, 0, 0, 0},
      {give, 0, 0, 0xFFFFFFFF},
  }};
  return attach_filter(fd, code.data(), code.size());
}

bool hear_all(int fd) noexcept {
  constexpr int none = 0;
  return set_option(fd, SOL_SOCKET, SO_DETACH_FILTER, none) || errno == ENOENT;
}

}  // namespace

bool silence_socket(int fd) noexcept {
  static constexpr sock_filter nothing{give, 0, 0, 0};
  return attach_filter(fd, &nothing, 1);
}

bool PacketSorter::load(const std::vector<Entry>& entries) const noexcept {
  std::vector<sock_filter> code(words_of_frame.begin(), words_of_frame.end());
  for (const Entry& entry : entries) {
    code.push_back({jump_if_equal, 0, 4, second_word(entry.filter)});
    code.push_back({load_kept, 0, 0, 1});
    code.push_back({jump_if_equal, 0, 1, first_word(entry.filter)});
    code.push_back({give, 0, 0, entry.ring});
    code.push_back({load_kept, 0, 0, 2});
  }
  code.push_back({give, 0, 0, 0});
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return set_option(first_, SOL_PACKET, PACKET_FANOUT_DATA, program);  // waits for a grace period of the kernel's
}

Result<std::uint32_t> PacketSorter::add(int socket) {
  const auto failed = [this] { return fail(system_error("nic " + nic_ + ": one more packet ring", errno)); };
  const auto join = [&] {
    const int flags = count_ == 0 ? flags_ | PACKET_FANOUT_FLAG_UNIQUEID : flags_;
    const int argument = group_ | (PACKET_FANOUT_CBPF | flags) << 16;
    return set_option(socket, SOL_PACKET, PACKET_FANOUT, argument);
  };
  if (count_ == 0) flags_ = fanout_ignore_outgoing;
  if (!join()) {
    if (count_ != 0 || errno != EINVAL) return failed();
    flags_ = 0;
    if (!join()) return failed();
  }
  if (count_ == 0) {
    int group = 0;
    socklen_t size = sizeof group;
    if (getsockopt(socket, SOL_PACKET, PACKET_FANOUT, &group, &size) != 0) return failed();
    group_ = static_cast<std::uint16_t>(group);
    first_ = socket;
    if (!load({})) return failed();
  }
  if (flags_ == 0 ? !ignore_outgoing(socket) : !hear_all(socket)) return failed();
  return count_++;
}

Result<void> PacketSorter::set(const QueueFilter& filter, std::uint32_t ring) {
  std::vector<Entry> entries = entries_;
  entries.push_back({filter, ring});
  if (!load(entries)) {
    return fail(system_error("nic " + nic_ + ": a filter for " + filter.mac.to_string(), errno));
  }
  entries_ = std::move(entries);
  return {};
}

void PacketSorter::clear(const QueueFilter& filter) noexcept {
  std::erase_if(entries_, [&filter](const Entry& entry) { return entry.filter == filter; });
  static_cast<void>(load(entries_));  // a shorter one than is there
}

}  // namespace patchbay::dataplane
