// Guest memory of any content, with both rings in it: nothing a guest writes may crash us, make us loop, or reach
// outside.
//
// Input: two bytes of features and positions, then what the first bytes of guest memory hold.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/virtqueue/guest_queues.h"
#include "tests/support/every_mode.h"
#include "tests/support/guest_driver.h"

using namespace patchbay;
using namespace patchbay::dataplane;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 0x30000) return 0;
  const std::size_t port = (data[0] >> 4) % 7U;
  const std::uint64_t features = virtio_f_version_1 | ((data[0] & 1) != 0 ? virtio_net_f_mrg_rxbuf : 0) |
                                 ((data[0] & 2) != 0 ? virtio_ring_f_event_idx : 0) |
                                 ((data[0] & 4) != 0 ? virtio_ring_f_indirect_desc : 0);
  test::GuestDriver driver(features);
  for (std::size_t i = 2; i < size; ++i) driver.set(i - 2, data[i]);
  // Without this nearly every input would end at the first look at the index.
  for (std::size_t ring = 0; ring < 2; ++ring) {
    const auto used = driver.get<std::uint16_t>(driver.rings[ring].used + 2);
    driver.set(driver.rings[ring].avail + 2, static_cast<std::uint16_t>(used + data[1] % 65));
  }
  const MemoryRegion region = driver.region();
  const auto memory = *GuestMemory::map({&region, 1});
  auto queues = GuestQueues::create(driver.link(memory));
  if (!queues) return 0;
  static test::EveryMode on;
  static Burst burst;
  static CallSignal calls = *CallSignal::create();
  for (int pass = 0; pass < 3; ++pass) {
    const std::size_t count = (*queues)->take(burst);
    const std::span frames(burst.frames.data(), count);
    on.decide(frames, static_cast<forwarding::PortIndex>(port));
    for (const Frame& frame : frames) {
      if (frame.action != Action::drop) static_cast<void>((*queues)->put(frame));
    }
    (*queues)->give_back(count);
    (*queues)->publish(calls);
  }
  return 0;
}
