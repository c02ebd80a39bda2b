// BPF programs as tables of instructions: loaded as they stand, without a compiler or object files at run time.
//
// Source  bpf(2); Linux Documentation/bpf/standardization/instruction-set.rst.
#pragma once
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cstdint>

namespace patchbay::dataplane {

// struct bpf_insn without its bit fields, so that it can be written as a table.
struct BpfInstruction {
  std::uint8_t code;
  std::uint8_t registers;  // source << 4 | destination
  std::int16_t offset;
  std::int32_t immediate;
};
static_assert(sizeof(BpfInstruction) == sizeof(bpf_insn));

namespace bpf {

inline constexpr std::uint8_t load_word = BPF_LDX | BPF_MEM | BPF_W;
inline constexpr std::uint8_t load_half = BPF_LDX | BPF_MEM | BPF_H;
inline constexpr std::uint8_t load_double = BPF_LD | BPF_DW | BPF_IMM;
inline constexpr std::uint8_t store_half = BPF_STX | BPF_MEM | BPF_H;
inline constexpr std::uint8_t move = BPF_ALU64 | BPF_MOV | BPF_K;
inline constexpr std::uint8_t move_register = BPF_ALU64 | BPF_MOV | BPF_X;
inline constexpr std::uint8_t add = BPF_ALU64 | BPF_ADD | BPF_K;
inline constexpr std::uint8_t mask = BPF_ALU64 | BPF_AND | BPF_K;
inline constexpr std::uint8_t jump_if_greater = BPF_JMP | BPF_JGT | BPF_X;
inline constexpr std::uint8_t jump_if_equal = BPF_JMP | BPF_JEQ | BPF_K;
inline constexpr std::uint8_t jump_if_not_equal = BPF_JMP | BPF_JNE | BPF_K;
inline constexpr std::uint8_t call = BPF_JMP | BPF_CALL;
inline constexpr std::uint8_t leave = BPF_JMP | BPF_EXIT;

}  // namespace bpf

// As libbpf's own macro, which is no standard C++, makes them.
template <typename Options>
[[nodiscard]] Options options_of() noexcept {
  Options options = {};
  options.sz = sizeof options;
  return options;
}

}  // namespace patchbay::dataplane
