"""One measurement of one candidate: attached(), then full_load(), equal_load() and so on.

Each gives a dict for the results; what everybody disturbs too much is measured again, whatever came out.
"""

import contextlib
import json
import os
import time

from lab.proc import LabError, wait_until

from . import machine
from .candidates import Patchbay, Setup, last_words
from .generator import Generator

DISTURBED = 0.10  # share of the time that a thread waited for its CPU, above which a measurement is repeated
ATTEMPTS = 3
LINK_LIMIT_S = 30.0
WARM_UP_LIMIT_S = 20.0
RING_ENTRIES = 1024  # of the generator's rings, if nobody says otherwise


class Attached:
    """A candidate that runs, with the generator's vnics attached and linked."""

    def __init__(self, candidate, setup, generator):
        self.candidate = candidate
        self.setup = setup
        self.generator = generator
        self.features = None  # virtio, negotiated
        self.seconds = None   # from the start of the candidate until all vnics were attached


@contextlib.contextmanager
def attached(lab, candidate, setup, generator_cpu, link=True):
    generator, begin = None, time.monotonic()
    try:
        sockets = candidate.start(setup)
        generator = Generator(lab.host, lab.dir, sockets, role=candidate.role, cpu=generator_cpu, **setup.shape).start()
        candidate.connect(setup)
        bed = Attached(candidate, setup, generator)
        bed.features = generator.attached()["features"]
        bed.seconds = time.monotonic() - begin
        machine.favour(candidate.process().pid)
        machine.favour(generator.pid)
        if link:
            generator.link(LINK_LIMIT_S)
            warm_up(bed)
        yield bed
    except LabError as error:
        raise LabError(f"{candidate.title}: {error}\n{last_words(candidate)}") from error
    finally:
        if generator:
            generator.end()
        candidate.stop()


def warm_up(bed):
    """Every buffer is used, so that no page of the guests' is new to anybody any more."""
    bed.generator.run(seconds=WARM_UP_LIMIT_S, frames_each=2 * RING_ENTRIES)


def run(bed, seconds, **frames):
    """One run of the generator with what it cost: cycles a delivered frame, CPUs used, how much it was disturbed."""
    best = None
    for _ in range(ATTEMPTS):
        pid = bed.candidate.process().pid
        watch = machine.Watch(pid, bed.generator.pid)
        before = bed.candidate.busy_cycles()
        result = bed.generator.run(seconds=seconds, **frames)
        busy = bed.candidate.busy_cycles() - before
        seen = watch.read()
        result.update(busy_cycles=busy, cycles_per_frame=busy / max(1, result["received"]),
                      cpus=seen["cpu"][pid], waited=seen["waited"])
        if result["received"] == 0:
            raise LabError("no frame arrived")
        wrong = {name: result[name] for name in ("misdelivered", "damaged") if result[name]}
        if wrong:
            raise LabError(f"frames arrived wrong: {wrong}")
        if best is None or result["waited"] < best["waited"]:
            best = result
        if best["waited"] <= DISTURBED:
            break
    return best


def verify(bed, row):
    """Some frames, of which every byte is compared. LabError if one arrives wrong."""
    result = bed.generator.run(seconds=10.0, frames_each=64, window=8, check_bytes=True, **row.frames)
    wrong = {name: result[name] for name in ("misdelivered", "damaged") if result[name]}
    if result["received"] == 0 and not wrong:
        raise LabError("no frame arrived")
    if wrong:
        where = f", the first one's {result['first_damage']}" if result["damaged"] else ""
        raise LabError(f"of {result['sent']} frames some arrived wrong: {wrong}{where}")


def full_load(bed, row, seconds):
    """As fast as it takes frames without dropping them."""
    return run(bed, seconds, **row.frames)


def equal_load(bed, row, seconds, frames_per_s, burst=None):
    """At `frames_per_s` over all vnics, `burst` frames of a vnic at once, or as many as the row says. One at a time, every
    pass of every candidate finds one frame, all are busy all the time, and cycles a frame say nothing but the rate (tried:
    1,657, 1,745 and 1,711 at 1.37 M frames/s)."""
    burst = burst or row.burst
    return run(bed, seconds, rate=frames_per_s / bed.setup.vnics, burst=burst, burst_least=burst, **row.frames)


def zero_loss(bed, row, seconds, frames_per_s, steps=6):
    """RFC 2544, 26.1: the highest rate, by halving the interval up to `frames_per_s`, at which nothing is lost."""
    low, high = 0.0, frames_per_s
    for _ in range(steps):
        rate = (low + high) / 2
        result = equal_load(bed, row, seconds, rate)
        if result["lost"] == 0 and result["not_offered"] <= result["sent"] * 0.01:
            low = rate
        else:
            high = rate
    return {"frames_per_s": low}


def wake(bed, count):
    """Latency of single frames after a silence."""
    return bed.generator.wake(count, sleep_limit_s=0.0 if bed.candidate.polls else 1.0)


def idle(bed, seconds):
    """What it costs when nobody sends, with all vnics attached; and its memory. Nothing is waited for but the clock."""
    pid = bed.candidate.process().pid
    time.sleep(0.5)
    switches, watch = machine.context_switches(pid), machine.Watch(pid)
    time.sleep(seconds)
    seen = watch.read()
    return {"vnics": bed.setup.vnics, "cpus": seen["cpu"][pid],
            "switches_per_s": (machine.context_switches(pid) - switches) / seen["seconds"],
            "memory_mb": memory_mb(pid)}


def memory_mb(pid):
    """Anonymous memory and huge pages; guests' shared memory is neither."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return sum(int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "HugetlbPages")) / 1024


def control_plane(lab, cpu, generator_cpu, vnics):
    """Patchbay alone: seconds to apply so many vnics, to connect guests to them, and to start again with them."""
    patchbay = Patchbay(lab, cpu)
    setup = Setup(vnics=vnics, shape={"frame_bytes_max": 256, "ring_entries": 64})
    result = {"vnics": vnics}
    try:
        started = time.monotonic()
        sockets = patchbay.start(Setup(vnics=0))
        result["start_s"] = time.monotonic() - started
        started = time.monotonic()
        patchbay.apply(setup)
        result["apply_s"] = time.monotonic() - started
        shown = {vnic["name"]: vnic["vhost_socket"] for vnic in patchbay.daemon.json("vnic", "list")}
        sockets = [shown[f"v{number}"] for number in range(vnics)]
        result["connect_s"] = _connect(lab, patchbay, sockets, setup, generator_cpu)
        result["memory_mb"] = memory_mb(patchbay.process().pid)
        patchbay.daemon.stop()
        started = time.monotonic()
        patchbay.daemon.start()
        result["restart_s"] = time.monotonic() - started
        return result
    finally:
        patchbay.stop()


def _connect(lab, patchbay, sockets, setup, generator_cpu):
    started = time.monotonic()
    generator = Generator(lab.host, lab.dir, sockets, cpu=generator_cpu, **setup.shape).start()
    try:
        generator.attached()
        wait_until(lambda: all(vnic["state"] == "connected" for vnic in patchbay.daemon.json("vnic", "list")),
                   f"{len(sockets)} vnics to be connected", 60.0)
        return time.monotonic() - started
    finally:
        generator.end()


def save(path, results):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise LabError(f"{path} is no result of ./bench: {error}") from error
