// Frames into the rings of a guest for which nothing may wait.
#pragma once
#include <span>

#include "dataplane/virtqueue/guest_queues.h"

namespace patchbay::test {

inline dataplane::Puts put(dataplane::GuestQueues& queues, std::span<const dataplane::Frame> frames) {
  dataplane::VnicBuffer none(nullptr);
  return queues.put(frames, none);
}

inline dataplane::Put put(dataplane::GuestQueues& queues, const dataplane::Frame& frame) {
  const dataplane::Puts puts = put(queues, {&frame, 1});
  if (puts.delivered != 0) return dataplane::Put::delivered;
  return puts.bad_buffer != 0 ? dataplane::Put::bad_buffer : dataplane::Put::ring_full;
}

}  // namespace patchbay::test
