// Hints that a cache line will be needed soon. Lines that another core wrote last take hundreds of cycles to come; asked
// for early, many come at once.
//
// Limits  A hint never faults, whatever the address is.
// Source  AMD64 Architecture Programmer's Manual, PREFETCH/PREFETCHW: a processor without PREFETCHW takes it for a NOP.
#pragma once
#include <cstddef>

namespace patchbay {

inline constexpr std::size_t cache_line_size = 64;

inline void prefetch_to_read(const void* at) noexcept {
  __builtin_prefetch(at);
}

// To be written: the line comes with the right to write it. The compiler's own builtin asks for that only where it is
// told that every processor can, and else for a line to read, which would have to be asked for again.
inline void prefetch_to_write(void* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace patchbay
