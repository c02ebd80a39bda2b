"""What others notice of a guest that stands still under the full load of three senders.

One process of the load generator has all six vnics: two that send to each other, and three that send to the one that stands
still (tests/performance/isolation.h). The two are measured while it stands still and while it does not, in turns: as fast as
they go, and at half of that, where latency says something.
"""

from lab.proc import LabError

from . import measure
from .candidates import Setup
from .stalls import RING_ENTRIES, since
from .verdicts import buffered

FRAME_BYTES = 64
RECEIVER = 5  # number of the vnic that stands still
SETUP = Setup(vnics=6, shape={"isolation": True, "ring_entries": RING_ENTRIES})
FRAMES = {"frame_bytes": FRAME_BYTES}
EQUAL_SHARE = 0.5


def run(lab, candidate, cpu, rounds, stall_s):
    """{"stands_still": [{"full", "equal"}], "runs": [the same], "flood": counts at the end, "delivered", "dropped"}. It stands
    still for `stall_s` the first time, later for a third of that, and runs for as long in between."""
    facts = {"stands_still": [], "runs": []}
    with measure.attached(lab, candidate, SETUP, cpu) as bed:
        before = candidate.counts(RECEIVER)
        pace = _phase(bed, False, stall_s / 6)["frames_per_s"]
        flood = bed.generator.command("settle", wait_s=60.0)
        returns = []
        for number in range(rounds):
            for stands_still in (True, False):
                full = _phase(bed, stands_still, stall_s * (5 / 6 if stands_still and number == 0 else 1 / 6))
                if not stands_still:
                    returns.append(full["flood"]["before_gap"])
                equal = _phase(bed, stands_still, stall_s / 6, rate=pace * EQUAL_SHARE / 2, flood_rate=pace * EQUAL_SHARE / 6)
                facts["stands_still" if stands_still else "runs"].append({"full": full, "equal": equal})
            flood = bed.generator.command("settle", wait_s=60.0)
        facts["flood"] = dict(flood, returns=returns)
        facts.update(since(before, candidate.counts(RECEIVER)))
    return facts


def _phase(bed, stands_still, seconds, **rates):
    result = bed.generator.command("isolate", wait_s=seconds + 60.0, seconds=seconds, stands_still=stands_still,
                                   **FRAMES, **rates)
    wrong = {name: result[name] for name in ("misdelivered", "damaged") if result[name]}
    if wrong:
        raise LabError(f"frames arrived wrong: {wrong}")
    return {name: result[name] for name in ("frames_per_s", "sent", "received", "lost", "reordered", "seconds",
                                            "not_offered", "latency_ns", "flood")}


def room(limit_bytes):
    """Frames that the one that stands still has room for."""
    return RING_ENTRIES + buffered(limit_bytes, FRAME_BYTES)
