#include "dataplane/ports/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace patchbay::dataplane {
namespace {

// struct bpf_insn without its bit fields, so that it can be written as a table.
struct Instruction {
  std::uint8_t code;
  std::uint8_t registers;  // source << 4 | destination
  std::int16_t offset;
  std::int32_t immediate;
};
static_assert(sizeof(Instruction) == sizeof(bpf_insn));

// What is for the neighbour only (01-80-C2-00-00-0x: LACP, LLDP, spanning tree) stays with the kernel, whose programs, and
// a team's own sockets, wait for it. All else is for the socket of its queue.
std::array<Instruction, 18> instructions(int map_fd) noexcept {
  constexpr std::uint8_t load_word = BPF_LDX | BPF_MEM | BPF_W;
  constexpr std::uint8_t load_half = BPF_LDX | BPF_MEM | BPF_H;
  constexpr std::uint8_t load_double = BPF_LD | BPF_DW | BPF_IMM;
  constexpr std::uint8_t move = BPF_ALU64 | BPF_MOV | BPF_K;
  constexpr std::uint8_t move_register = BPF_ALU64 | BPF_MOV | BPF_X;
  constexpr std::uint8_t add = BPF_ALU64 | BPF_ADD | BPF_K;
  constexpr std::uint8_t mask = BPF_ALU64 | BPF_AND | BPF_K;
  constexpr std::uint8_t jump_if_greater = BPF_JMP | BPF_JGT | BPF_X;
  constexpr std::uint8_t jump_if_equal = BPF_JMP | BPF_JEQ | BPF_K;
  constexpr std::uint8_t jump_if_not_equal = BPF_JMP | BPF_JNE | BPF_K;
  constexpr std::int32_t reserved_first = 0x00C28001;  // 01-80-C2-00 as it is loaded, and then
  constexpr std::int32_t reserved_mask = 0xF0FF;       // 00-0x
  return {{
      {load_word, 1 << 4 | 3, offsetof(xdp_md, data), 0},            // r3 = the frame
      {load_word, 1 << 4 | 4, offsetof(xdp_md, data_end), 0},        // r4 = its end
      {load_word, 1 << 4 | 2, offsetof(xdp_md, rx_queue_index), 0},  // r2 = context->rx_queue_index
      {move_register, 3 << 4 | 5, 0, 0},
      {add, 5, 0, 14},
      {jump_if_greater, 4 << 4 | 5, 5, 0},  // shorter than an Ethernet header
      {load_word, 3 << 4 | 5, 0, 0},
      {jump_if_not_equal, 5, 3, reserved_first},
      {load_half, 3 << 4 | 5, 4, 0},
      {mask, 5, 0, reserved_mask},
      {jump_if_equal, 5, 5, 0},
      {load_double, BPF_PSEUDO_MAP_FD << 4 | 1, 0, map_fd},  // r1 = the map, in two halves
      {0, 0, 0, 0},
      {move, 3, 0, XDP_PASS},  // r3 = what to do if the queue has no socket
      {BPF_JMP | BPF_CALL, 0, 0, BPF_FUNC_redirect_map},
      {BPF_JMP | BPF_EXIT, 0, 0, 0},
      {move, 0, 0, XDP_PASS},
      {BPF_JMP | BPF_EXIT, 0, 0, 0},
  }};
}

// As libbpf's own macro, which is no standard C++, makes them.
template <typename Options>
Options options_of() noexcept {
  Options options = {};
  options.sz = sizeof options;
  return options;
}

std::string name_of_program(std::uint32_t id) {
  const UniqueFd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info = {};
  std::uint32_t size = sizeof info;
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return "";
  return info.name;
}

Error lacks(const std::string& nic, const char* what, int error) {
  if (error == EPERM) {
    return make_error(ErrorCode::unavailable, "nic " + nic + ": " + what +
                                                  " is not permitted; give patchbayd CAP_BPF, CAP_NET_ADMIN and "
                                                  "CAP_NET_RAW, or use --driver packet");
  }
  return system_error("nic " + nic + ": " + what, error);
}

}  // namespace

Result<XdpProgram> XdpProgram::load(const std::string& nic, unsigned queues, bool multi_buffer) {
  XdpProgram program(nic);
  program.sockets_.reset(
      bpf_map_create(BPF_MAP_TYPE_XSKMAP, name, sizeof(std::uint32_t), sizeof(int), queues, nullptr));
  if (!program.sockets_) return fail(lacks(nic, "making the map of AF_XDP sockets", errno));
  const auto code = instructions(program.sockets_.get());
  auto options = options_of<bpf_prog_load_opts>();
  if (multi_buffer) options.prog_flags = BPF_F_XDP_HAS_FRAGS;
  program.program_.reset(bpf_prog_load(BPF_PROG_TYPE_XDP, name, "Apache-2.0",
                                       reinterpret_cast<const bpf_insn*>(code.data()), code.size(), &options));
  if (!program.program_) return fail(lacks(nic, "loading the XDP program", errno));
  return program;
}

Result<void> XdpProgram::set_socket(unsigned queue, int socket) {
  if (bpf_map_update_elem(sockets_.get(), &queue, &socket, BPF_ANY) == 0) return {};
  return fail(lacks(nic_, "entering an AF_XDP socket", errno));
}

Result<void> XdpProgram::attach(int if_index, bool native) {
  auto options = options_of<bpf_link_create_opts>();
  options.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  link_.reset(bpf_link_create(program_.get(), if_index, BPF_XDP, &options));
  if (link_) return {};
  return fail(attach_error(if_index, native, errno));
}

Error XdpProgram::attach_error(int if_index, bool native, int error) const {
  if (error == EBUSY || error == EEXIST) {
    auto there = options_of<bpf_xdp_query_opts>();
    if (bpf_xdp_query(if_index, 0, &there) == 0 && there.prog_id != 0) {
      const std::string other = name_of_program(there.prog_id);
      const std::string shown = (other.empty() ? "" : other + " ") + "(id " + std::to_string(there.prog_id) + ")";
      if (other == name) {
        return make_error(ErrorCode::in_use, "nic " + nic_ + ": the XDP program " + shown +
                                                 " of another patchbayd is attached to it; end that one first");
      }
      return make_error(ErrorCode::in_use, "nic " + nic_ + ": the XDP program " + shown +
                                               " of somebody else is attached to it; take it off (`ip link set " +
                                               nic_ + " xdp off`), or use --driver packet");
    }
  }
  if (native && (error == EOPNOTSUPP || error == EINVAL || error == ERANGE)) {
    return make_error(ErrorCode::unavailable, "nic " + nic_ + ": its driver does not take the XDP program (" +
                                                  std::strerror(error) + "): not at all, or not with this mtu");
  }
  return lacks(nic_, native ? "attaching the XDP program to its driver" : "attaching the XDP program", error);
}

}  // namespace patchbay::dataplane
