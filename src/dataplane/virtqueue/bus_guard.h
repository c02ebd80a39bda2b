// Survives SIGBUS from guest memory whose file was truncated: one table of guarded ranges and one signal handler.
//
// Theory  A signal handler can reach nothing but globals, so this is the one place that has one: a fixed table of
//         ranges made of atomics. On a fault inside a guarded range the handler maps anonymous zero pages over the
//         whole range and sets the range's flag; a fault anywhere else ends the process as if we were not there.
// Limits  guarded_ranges_max ranges, guarded_bytes_max in all, so that front-ends cannot take the address space that the
//         rest of the process needs. When full, guard() fails and the guest is not connected.
// Threads guard(), unguard(), guardable_bytes(): control. The handler: any thread, at any time.
#pragma once
#include <atomic>
#include <cstddef>
#include <optional>

namespace patchbay::dataplane {

inline constexpr std::size_t guarded_ranges_max = 16384;
inline constexpr std::size_t guarded_bytes_max = std::size_t{32} << 40;  // a process has 128 TiB

// Sets `lost` when a byte of [begin, begin + size) turns out to be gone. Both must stay until unguard().
[[nodiscard]] std::optional<std::size_t> guard(void* begin, std::size_t size, std::atomic<bool>* lost) noexcept;
void unguard(std::size_t entry) noexcept;
// How many bytes more there is room for.
[[nodiscard]] std::size_t guardable_bytes() noexcept;

}  // namespace patchbay::dataplane
