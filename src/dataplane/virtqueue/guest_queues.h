// The virtqueues of a connected guest: one queue pair.
#pragma once
#include "dataplane/virtqueue/queue_pair.h"

namespace patchbay::dataplane {

using GuestQueues = QueuePair;

}  // namespace patchbay::dataplane
