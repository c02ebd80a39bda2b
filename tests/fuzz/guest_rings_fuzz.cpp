// Guest memory of any content, with the rings of one or two queue pairs in it, split or packed, and a file of ring
// positions of any content: nothing that stands there may crash us, make us loop, or reach outside.
//
// Input: two bytes of features and positions, then what the first bytes of guest memory hold, and the records too. Of odd
// length: two queue pairs.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/virtqueue/guest_queues.h"
#include "tests/support/every_mode.h"
#include "tests/support/guest_driver.h"
#include "tests/support/put.h"

using namespace patchbay;
using namespace patchbay::dataplane;

namespace {

// Without this nearly every input would end at the first look at the rings.
void offer_chains(test::GuestDriver& driver, std::size_t count) {
  for (auto& ring : driver.rings) {
    if (!driver.packed()) {
      const auto used = driver.get<std::uint16_t>(ring.used + 2);
      driver.set(ring.avail + 2, static_cast<std::uint16_t>(used + count));
      continue;
    }
    for (std::size_t i = 0; i < std::min<std::size_t>(count, driver.size()); ++i) {
      const std::size_t at = ring.desc + 16 * i;
      driver.set(at + 14, static_cast<std::uint16_t>((driver.get<std::uint16_t>(at + 14) & 0x7F7F) | 0x80));
      driver.set(at + 12, static_cast<std::uint16_t>(driver.get<std::uint16_t>(at + 12) % (driver.size() + 1U)));
    }
  }
}

// A record that is believed to be this ring's, whatever it holds.
void adopt(RingRecord& record, const GuestMemory& memory, const Vring& vring) {
  const FilePlace place = memory.place_of(memory.translate_front_end(vring.desc_address, 16));
  record.device = place.device;
  record.inode = place.inode;
  record.offset = place.offset;
  record.size = vring.size;
  record.base = vring.base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 0x30000) return 0;
  const std::size_t port = (data[0] >> 4) % 7U;
  constexpr std::uint64_t offloads = virtio_net_f_csum | virtio_net_f_host_tso4 | virtio_net_f_host_tso6 |
                                     virtio_net_f_host_ecn | virtio_net_f_host_uso | virtio_net_f_guest_csum |
                                     virtio_net_f_guest_tso4 | virtio_net_f_guest_tso6 | virtio_net_f_guest_ecn |
                                     virtio_net_f_guest_uso4 | virtio_net_f_guest_uso6;
  const std::uint64_t features = virtio_f_version_1 | ((data[0] & 1) != 0 ? virtio_net_f_mrg_rxbuf : 0) |
                                 ((data[0] & 2) != 0 ? virtio_ring_f_event_idx | offloads : 0) |
                                 ((data[0] & 4) != 0 ? virtio_ring_f_indirect_desc : 0) |
                                 ((data[0] & 8) != 0 ? virtio_f_ring_packed : 0);
  const std::size_t pairs = size % 2 == 0 ? 1 : 2;
  test::GuestDriver driver(features, static_cast<std::uint16_t>((data[0] & 8) != 0 ? 64 - data[1] / 4 : 64), pairs);
  for (std::size_t i = 2; i < size; ++i) driver.set(i - 2, data[i]);
  offer_chains(driver, data[1] % 65);
  const MemoryRegion region = driver.region();
  const auto memory = *GuestMemory::map({&region, 1});
  const GuestLink link = driver.link(memory);
  RingRecords records{};
  if ((data[1] & 1) != 0) {
    std::memcpy(&records, data + 2, std::min(size - 2, sizeof records));
    for (std::size_t i = 0; i < driver.rings.size(); ++i) adopt(records[i], *memory, link.rings[i]);
  }
  auto queues = GuestQueues::create(link, &records);
  if (!queues) return 0;
  (*queues)->catch_up();
  static test::EveryMode on;
  static Burst burst;
  static CallSignal calls = *CallSignal::create();
  for (int pass = 0; pass < 3; ++pass) {
    const std::size_t count = (*queues)->take(burst);
    const std::span frames(burst.frames.data(), count);
    on.decide(frames, static_cast<forwarding::PortIndex>(port));
    for (const Frame& frame : frames) {
      if (frame.action != Action::drop) static_cast<void>(test::put(**queues, frame));
    }
    (*queues)->give_back(count);
    (*queues)->publish(calls);
  }
  return 0;
}
