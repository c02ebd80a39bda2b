// What becomes of a burst: to whom its frames are sent, and finished for.
#include <algorithm>
#include <utility>

#include "base/byte_order.h"
#include "dataplane/forwarding/forward.h"
#include "dataplane/offload/checksum.h"
#include "dataplane/offload/needs.h"
#include "dataplane/worker/worker.h"

namespace patchbay::dataplane {

using forwarding::PortIndex;

namespace {

// Some devices refuse to cut pieces into less (Intel's XL710: 256 bytes).
constexpr std::uint16_t device_segment_min = 256;

}  // namespace

// What goes to a port of another worker is merged in any case: only that one may ask the port what it takes.
Coalescer::Merged Worker::coalesce(const Snapshot& snapshot, Port& from, std::size_t count) noexcept {
  const auto merged = coalescer_.merge(burst_, count, [&](const Frame& frame) {
    const Snapshot::Entry& egress = snapshot.entries[frame.target];
    return egress.worker == config_.id ? egress.port->takes() : offload_all;
  });
  if (merged.frames != 0) from.count_merged_frames(merged.frames);
  return merged;
}

std::size_t Worker::send(const Snapshot& snapshot, PortIndex index, std::size_t count) noexcept {
  const Snapshot::Entry& ingress = snapshot.entries[index];
  Port& from = *ingress.port;
  std::size_t at = 0;
  while (at < count) {
    const Frame& frame = burst_.frames[at];
    const bool to_all = frame.action == Action::flood || frame.action == Action::flood_unknown;
    if (at != 0 || !to_all) from.loan.uplink_has_it = false;
    if (frame.action == Action::unicast) {
      const std::size_t begin = at;
      const PortIndex target = frame.target;
      while (at < count && burst_.frames[at].action == Action::unicast && burst_.frames[at].target == target) ++at;
      const std::size_t sent = send_run(snapshot, from, begin, at - begin);
      const Snapshot::Entry& egress = snapshot.entries[target];
      if (!egress.sorted.empty() && ingress.rule.uplink) {
        count_sorted(egress, from.brought_by(), std::span(burst_.frames).subspan(begin, sent));
      }
      if (sent < at - begin) return begin + sent;
      if (egress.rule.uplink && egress.worker != config_.id) return at;
    } else if (to_all) {
      if (!flood(snapshot, index, at)) return at;
      ++at;
    } else {
      from.count_drop(frame.reason);
      if (frame.reason == DropReason::source_mac) from.note_refused_source(load_be48(frame.head + 6));
      ++at;
    }
  }
  return count;
}

std::size_t Worker::send_run(const Snapshot& snapshot, Port& from, std::size_t begin, std::size_t count) noexcept {
  const PortIndex target = burst_.frames[begin].target;
  const Snapshot::Entry& egress = snapshot.entries[target];
  const auto frames = std::span(burst_.frames).subspan(begin, count);
  Offloads needed = 0;
  for (Frame& frame : frames) {
    forwarding::set_egress_tag(frame, egress.rule);
    needed |= frame.needs.offloads;
  }
  if (patient_ && egress.port->is_expected()) return 0;
  if (egress.worker != config_.id) return lend(snapshot, from, target, frames, begin == 0);
  note(*egress.port);
  return needed == 0 ? egress.port->send(frames) : finish_and_send(*egress.port, frames, from.cut_sent, begin == 0);
}

void Worker::count_sorted(const Snapshot::Entry& egress, const Port& uplink, std::span<const Frame> frames) noexcept {
  const auto found = std::find_if(egress.sorted.begin(), egress.sorted.end(),
                                  [&uplink](const auto& sorted) { return sorted.uplink == &uplink; });
  if (found == egress.sorted.end()) return;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  for (const Frame& frame : frames) {
    if (load_be48(frame.head) != egress.rule.mac) continue;  // it is for an address that was learned there
    ++count;
    bytes += frame.size;
  }
  if (count != 0) found->queue->count_ingress(count, bytes);
}

bool Worker::send_copy(const Snapshot& snapshot, PortIndex target, Frame& frame) noexcept {
  const Snapshot::Entry& egress = snapshot.entries[target];
  forwarding::set_egress_tag(frame, egress.rule);
  note(*egress.port);
  std::uint32_t cut_sent = 0;
  return finish_and_send(*egress.port, {&frame, 1}, cut_sent, false) != 0;
}

// A checksum is completed in the frame itself, which is then whole for everybody; a piece is cut beside it.
std::size_t Worker::finish_and_send(Port& to, std::span<Frame> frames, std::uint32_t& cut_sent, bool resumed) noexcept {
  const auto left = static_cast<Offloads>(~to.takes());
  const auto is_left = [left](const Frame& frame) {
    const Needs& needs = frame.needs;
    if ((needs.offloads & left) != 0) return true;
    if (needs.offloads == 0 || (left & offload_any_headers) == 0) return false;
    return !has_plain_headers(frame) || (needs.gso_size != 0 && needs.gso_size < device_segment_min);
  };
  for (Frame& frame : frames) {
    if (frame.needs.offloads != 0 && frame.needs.gso_size == 0 && is_left(frame)) complete_checksum(frame);
  }
  std::size_t done = 0;
  // A piece of which a part has left is cut to its end, whatever the port takes by now.
  if (resumed && cut_sent != 0 && frames[0].needs.gso_size != 0) {
    if (!cut_and_send(to, frames[0], cut_sent)) return 0;
    done = 1;
  }
  while (done < frames.size()) {
    std::size_t end = done;
    while (end < frames.size() && !is_left(frames[end])) ++end;
    if (end != done) {
      done += to.send(frames.subspan(done, end - done));
      if (done < end) return done;
    }
    if (end == frames.size()) break;
    if (done != 0 || !resumed) cut_sent = 0;  // only what waits first can have left in part
    if (!cut_and_send(to, frames[done], cut_sent)) return done;
    ++done;
  }
  return done;
}

bool Worker::cut_and_send(Port& to, const Frame& piece, std::uint32_t& cut_sent) noexcept {
  segmenter_.begin(piece, cut_sent);
  while (!segmenter_.done()) {
    std::size_t count = 0;
    for (; count < burst_max && !segmenter_.done(); ++count) {
      segmenter_.next(cut_.frames[count], cut_.heads[count], cut_.segments_of(count));
    }
    const std::size_t sent = to.send(std::span(cut_.frames).first(count));
    const bool whole = sent == count && segmenter_.done();
    to.count_cut_frames(whole ? sent - 1 : sent);
    cut_sent += static_cast<std::uint32_t>(sent);
    if (sent < count) return false;
  }
  cut_sent = 0;
  return true;
}

bool Worker::flood(const Snapshot& snapshot, PortIndex index, std::size_t at) noexcept {
  const Snapshot::Entry& entry = snapshot.entries[index];
  const PortIndex ingress = entry.ingress;
  const forwarding::SwitchTable& table = snapshot.switches[entry.switch_index];
  Port& from = *entry.port;
  Frame& frame = burst_.frames[at];
  std::uint64_t deliveries = 0;
  std::uint64_t others = 0;  // workers with members
  bool waits = false;
  for_each_member(table, frame, [&](PortIndex member) {
    if (member == ingress) return;
    ++deliveries;
    waits = waits || (patient_ && snapshot.entries[member].port->is_expected());
    const unsigned worker = snapshot.entries[member].worker;
    if (worker != config_.id) others |= std::uint64_t{1} << worker;
  });
  if (waits) return false;
  for (std::uint64_t left = others; left != 0; left &= left - 1) {
    if (peers_[static_cast<std::size_t>(__builtin_ctzll(left))].to->full()) return false;
  }
  // The uplink first: if it is full the frame waits as a whole, and no vnic gets it twice.
  const bool uplink_has_it = std::exchange(from.loan.uplink_has_it, false);
  if (const auto uplink = table.uplink(); uplink && *uplink != ingress) {
    if (uplink_has_it) {
      // From an earlier burst.
    } else if (snapshot.entries[*uplink].worker == config_.id) {
      // Cut pieces go on where they were only if this frame waits first.
      forwarding::set_egress_tag(frame, snapshot.entries[*uplink].rule);
      note(*snapshot.entries[*uplink].port);
      if (finish_and_send(*snapshot.entries[*uplink].port, {&frame, 1}, from.cut_sent, at == 0) == 0) return false;
    } else {
      forwarding::set_egress_tag(frame, snapshot.entries[*uplink].rule);
      from.loan.asks_uplink = lend(snapshot, from, *uplink, {&frame, 1}, at == 0) != 0;
      return false;
    }
    ++deliveries;
  }
  for_each_member(table, frame, [&](PortIndex member) {
    if (member == ingress || snapshot.entries[member].worker != config_.id) return;
    static_cast<void>(send_copy(snapshot, member, frame));  // vnics take or drop, they never hold up
  });
  if (others != 0) lend_flood(snapshot, entry.switch_index, from, frame, others);
  if (deliveries == 0) {
    from.count_drop(DropReason::no_destination);
  } else {
    from.count_flood_copies(deliveries - 1);
  }
  return true;
}

}  // namespace patchbay::dataplane
