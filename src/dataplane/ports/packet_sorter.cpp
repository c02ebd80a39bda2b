#include "dataplane/ports/packet_sorter.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "dataplane/ports/bpf_program.h"
#include "dataplane/ports/packet_socket.h"

namespace patchbay::dataplane {
namespace {

constexpr const char* program_name = "patchbay_sort";
constexpr int fanout_ignore_outgoing = 0x4000;  // PACKET_FANOUT_FLAG_IGNORE_OUTGOING, since Linux 6.2

// As the program builds it on its stack: the address as it lies in the frame, then the VLAN.
struct Key {
  std::array<std::uint8_t, 6> mac{};
  std::uint16_t vid = 0;
};
static_assert(sizeof(Key) == 8);

Key key_of(const QueueFilter& filter) noexcept {
  Key key;
  const std::uint64_t mac = filter.mac.to_uint64();
  for (std::size_t i = 0; i < key.mac.size(); ++i) key.mac[i] = static_cast<std::uint8_t>(mac >> (40 - 8 * i));
  key.vid = filter.vid;
  return key;
}

// The kernel has taken the outer tag out of the bytes by now.
std::array<BpfInstruction, 27> instructions(int map_fd) noexcept {
  using namespace bpf;
  constexpr std::int16_t key = -8;  // where it lies on the stack (r10)
  return {{
      {move_register, 1 << 4 | 6, 0, 0},  // r6 = the frame
      {move, 7, 0, 0},                    // r7 = its VLAN
      {load_word, 6 << 4 | 2, offsetof(__sk_buff, vlan_present), 0},
      {jump_if_equal, 2, 4, 0},  // no tag
      {load_word, 6 << 4 | 2, offsetof(__sk_buff, vlan_proto), 0},
      {jump_if_not_equal, 2, 17, htons(ETH_P_8021Q)},  // another kind of tag: ring 0
      {load_word, 6 << 4 | 7, offsetof(__sk_buff, vlan_tci), 0},
      {mask, 7, 0, 0x0FFF},
      {move_register, 6 << 4 | 1, 0, 0},  // key = its first six bytes
      {move, 2, 0, 0},
      {move_register, 10 << 4 | 3, 0, 0},
      {add, 3, 0, key},
      {move, 4, 0, 6},
      {move, 5, 0, BPF_HDR_START_MAC},
      {call, 0, 0, BPF_FUNC_skb_load_bytes_relative},
      {jump_if_not_equal, 0, 7, 0},                          // it has none: ring 0
      {store_half, 7 << 4 | 10, key + 6, 0},                 // and r7
      {load_double, BPF_PSEUDO_MAP_FD << 4 | 1, 0, map_fd},  // r1 = the map, in two halves
      {0, 0, 0, 0},
      {move_register, 10 << 4 | 2, 0, 0},
      {add, 2, 0, key},
      {call, 0, 0, BPF_FUNC_map_lookup_elem},
      {jump_if_not_equal, 0, 2, 0},
      {move, 0, 0, 0},  // ring 0
      {leave, 0, 0, 0},
      {load_word, 0, 0, 0},  // the ring that the map says
      {leave, 0, 0, 0},
  }};
}

bool attach_filter(int fd, const sock_filter* code, unsigned short size) noexcept {
  const sock_fprog program{size, const_cast<sock_filter*>(code)};
  return set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, program);
}

// For kernels where a group also hears what this host sends.
bool ignore_outgoing(int fd) noexcept {
  static constexpr std::array<sock_filter, 4> code{{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, PACKET_OUTGOING},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 0xFFFFFFFF},
  }};
  return attach_filter(fd, code.data(), code.size());
}

// Returns when every frame that the kernel was at has its ring: this is a grace period of the kernel's.
void wait_for_frames() noexcept {
  syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

bool hear_all(int fd) noexcept {
  constexpr int none = 0;
  return set_option(fd, SOL_SOCKET, SO_DETACH_FILTER, none) || errno == ENOENT;
}

}  // namespace

bool silence_socket(int fd) noexcept {
  static constexpr sock_filter nothing{BPF_RET | BPF_K, 0, 0, 0};
  return attach_filter(fd, &nothing, 1);
}

Result<PacketSorter> PacketSorter::create(const std::string& nic) {
  PacketSorter sorter(nic);
  const auto lacks = [&nic](const char* what) {
    return make_error(ErrorCode::unavailable, "nic " + nic + ": " + what + ": " + system_error("", errno).message);
  };
  sorter.rings_.reset(
      bpf_map_create(BPF_MAP_TYPE_HASH, program_name, sizeof(Key), sizeof(std::uint32_t), queues_max, nullptr));
  if (!sorter.rings_) return fail(lacks("the kernel does not sort into rings of single vnics"));
  const auto code = instructions(sorter.rings_.get());
  sorter.program_.reset(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, program_name, "Apache-2.0",
                                      reinterpret_cast<const bpf_insn*>(code.data()), code.size(), nullptr));
  if (!sorter.program_) return fail(lacks("the kernel does not sort into rings of single vnics"));
  return sorter;
}

Result<std::uint32_t> PacketSorter::add(int socket) {
  const auto failed = [this] { return fail(system_error("nic " + nic_ + ": one more packet ring", errno)); };
  const auto join = [&] {
    const int flags = count_ == 0 ? flags_ | PACKET_FANOUT_FLAG_UNIQUEID : flags_;
    const int argument = group_ | (PACKET_FANOUT_EBPF | flags) << 16;
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
    const int program = program_.get();
    if (!set_option(socket, SOL_PACKET, PACKET_FANOUT_DATA, program)) return failed();
  }
  if (flags_ == 0 ? !ignore_outgoing(socket) : !hear_all(socket)) return failed();
  return count_++;
}

Result<void> PacketSorter::set(const QueueFilter& filter, std::uint32_t ring) {
  const Key key = key_of(filter);
  if (bpf_map_update_elem(rings_.get(), &key, &ring, BPF_ANY) == 0) {
    wait_for_frames();
    return {};
  }
  return fail(system_error("nic " + nic_ + ": a filter for " + filter.mac.to_string(), errno));
}

void PacketSorter::clear(const QueueFilter& filter) noexcept {
  const Key key = key_of(filter);
  static_cast<void>(bpf_map_delete_elem(rings_.get(), &key));
  wait_for_frames();
}

}  // namespace patchbay::dataplane
