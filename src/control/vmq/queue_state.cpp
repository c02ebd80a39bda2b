#include "control/vmq/queue_state.h"

#include <fmt/format.h>

namespace patchbay::vmq {

const char* to_string(QueueState state) noexcept {
  switch (state) {
    case QueueState::undefined:
      return "undefined";
    case QueueState::allocated:
      return "allocated";
    case QueueState::set:
      return "set";
    case QueueState::running:
      return "running";
    case QueueState::paused:
      return "paused";
    case QueueState::stop_dma:
      return "stop_dma";
    case QueueState::freeing:
      return "freeing";
  }
  return "";
}

const char* to_string(QueueEvent event) noexcept {
  switch (event) {
    case QueueEvent::allocate_queue:
      return "allocate_queue";
    case QueueEvent::parameters:
      return "parameters";
    case QueueEvent::set_filter:
      return "set_filter";
    case QueueEvent::clear_last_filter:
      return "clear_filter of the last filter";
    case QueueEvent::clear_filter:
      return "clear_filter of one filter of several";
    case QueueEvent::filter_parameters:
      return "filter_parameters";
    case QueueEvent::allocation_complete:
      return "allocation_complete";
    case QueueEvent::receive_frame:
      return "receive_frame";
    case QueueEvent::free_queue:
      return "free_queue";
    case QueueEvent::dma_stopped:
      return "dma_stopped";
    case QueueEvent::all_returned:
      return "all_returned";
  }
  return "";
}

std::optional<QueueState> next_state(QueueState state, QueueEvent event) noexcept {
  using enum QueueState;
  const bool is_filled = state == set || state == running;
  switch (event) {
    case QueueEvent::allocate_queue:
      if (state == undefined) return allocated;
      break;
    case QueueEvent::parameters:
      if (state == allocated || state == paused || is_filled) return state;
      break;
    case QueueEvent::set_filter:
      if (state == allocated || state == set) return set;
      if (state == running || state == paused) return running;
      break;
    case QueueEvent::clear_last_filter:
      if (state == set) return allocated;
      if (state == running) return paused;
      break;
    case QueueEvent::clear_filter:
    case QueueEvent::filter_parameters:
      if (is_filled) return state;
      break;
    case QueueEvent::allocation_complete:
      if (state == allocated) return paused;
      if (state == set) return running;
      break;
    case QueueEvent::receive_frame:
      if (state == running) return running;
      break;
    case QueueEvent::free_queue:
      if (state == allocated || state == paused) return stop_dma;
      break;
    case QueueEvent::dma_stopped:
      if (state == stop_dma) return freeing;
      break;
    case QueueEvent::all_returned:
      if (state == freeing) return undefined;
      break;
  }
  return std::nullopt;
}

Result<QueueState> advance(const std::string& queue, QueueState state, QueueEvent event) {
  if (const auto next = next_state(state, event)) return *next;
  std::string possible;
  for (const QueueState other : all_queue_states) {
    if (next_state(other, event)) possible += (possible.empty() ? "" : " or ") + std::string(to_string(other));
  }
  return fail(ErrorCode::invalid, fmt::format("queue {} is {}, and {} is possible only while it is {}", queue,
                                              to_string(state), to_string(event), possible));
}

}  // namespace patchbay::vmq
