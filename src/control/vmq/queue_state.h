// The life of a receive queue: its states, and what may happen in each.
//
// States  undefined: there is none. allocated: it has no filter. set: it has one, and waits until the layout has it.
//         running: its worker takes frames from it. paused: running without a filter. stop_dma: nothing fills it any more.
//         freeing: frames of it may still be under way.
// Source  Windows driver documentation, "Queue States and Operations" (NDIS 6.20, VMQ).
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace patchbay::vmq {

enum class QueueState : std::uint8_t { undefined, allocated, set, running, paused, stop_dma, freeing };
inline constexpr std::array all_queue_states{QueueState::undefined, QueueState::allocated, QueueState::set,
                                             QueueState::running,   QueueState::paused,    QueueState::stop_dma,
                                             QueueState::freeing};
[[nodiscard]] const char* to_string(QueueState state) noexcept;

enum class QueueEvent : std::uint8_t {
  allocate_queue,
  parameters,  // of the queue, asked for or set; its filters listed
  set_filter,
  clear_last_filter,
  clear_filter,  // others are left
  filter_parameters,
  allocation_complete,
  receive_frame,
  free_queue,
  dma_stopped,
  all_returned,  // frames that were under way
};
inline constexpr std::array all_queue_events{
    QueueEvent::allocate_queue,      QueueEvent::parameters,    QueueEvent::set_filter,
    QueueEvent::clear_last_filter,   QueueEvent::clear_filter,  QueueEvent::filter_parameters,
    QueueEvent::allocation_complete, QueueEvent::receive_frame, QueueEvent::free_queue,
    QueueEvent::dma_stopped,         QueueEvent::all_returned};
[[nodiscard]] const char* to_string(QueueEvent event) noexcept;

// Nothing: the event is not possible in that state.
[[nodiscard]] std::optional<QueueState> next_state(QueueState state, QueueEvent event) noexcept;

// The same for a queue that has a name ("eth1#3"). Errors: invalid, naming the queue, its state, and where it is possible.
[[nodiscard]] Result<QueueState> advance(const std::string& queue, QueueState state, QueueEvent event);

}  // namespace patchbay::vmq
