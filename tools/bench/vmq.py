"""python3 -m bench vmq: what a queue of its own costs a vnic, and what it is worth beside a busy one.

The NIC is one end of a veth pair, whose other end sends frames back (uplinks.py). Each vnic has a packet ring of its own into
which the kernel sorts, or all share the ring of the NIC (--vmq-weight 0).
"""

import argparse
import os
import time

from lab.daemon import build_dir
from lab.lab import Lab
from lab.proc import LabError

from . import machine, measure
from .candidates import Setup
from .uplinks import FAR, MIRROR, PatchbayPacket, Wire
from .wire_programs import Flood

SIZES = (64, 1514)
VNICS = 4
BUSY = "busy"
BUSY_MAC = "02:00:00:01:00:01"
QUIET_RATE = 2000.0  # frames a second of each of two vnics
FLOOD_BYTES = 64
PARTS = ("cost", "neighbour")


def say(text):
    print(text, flush=True)


class Own(PatchbayPacket):
    name, title = "own", "a ring for each vnic, the kernel sorts"
    weight = 100

    def __init__(self, lab, cpu):
        super().__init__(lab, cpu)
        self.vnic_settings = {"vmq_weight": self.weight}

    def with_busy(self, busy):
        """A host vnic beside the generator's vnics: each frame to it is a system call, so it is soon as busy as can be."""
        self.more_vnics = {BUSY: {"switch": "lan", "kind": "host", "mac": BUSY_MAC, **self.vnic_settings}} if busy else {}
        return self

    def sorting(self):
        """What the daemon says of the NIC's queues: {name of a vnic: its row}."""
        return {row["vnic"]: row for row in self.daemon.json("vmq", "list")["queues"] if row["vnic"]}


class Shared(Own):
    name, title = "shared", "one ring for all, the worker sorts"
    weight = 0


CLASSES = (Own, Shared)


class Bench:
    def __init__(self, lab, arguments):
        self.lab, self.arguments = lab, arguments
        self.generator_cpu, cpu = machine.cpus()
        self.wire = Wire(lab).build()
        self.wire.add_mirror()
        self.candidates = [kind(lab, cpu) for kind in CLASSES]
        self.results = {
            "kind": "vmq", "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": arguments.quick,
            "rounds": arguments.rounds, "load_average": os.getloadavg()[0], "machine": machine.describe(),
            "cpus": {"generator": self.generator_cpu, "switch": cpu},
            "candidates": {one.name: {"title": one.title, "configuration": one.configuration()} for one in self.candidates},
            "cost": [], "neighbour": [], "reasons": []}

    def run(self):
        for number in range(self.arguments.rounds):
            order = self.candidates[number % len(self.candidates):] + self.candidates[:number % len(self.candidates)]
            for candidate in order:
                say(f"== round {number + 1} of {self.arguments.rounds}: {candidate.title}")
                for part in self.arguments.parts:
                    try:
                        getattr(self, part)(candidate)
                    except LabError as error:
                        say(f"   {error}")
                        self.results["reasons"].append([candidate.title, str(error).splitlines()[0]])
                measure.save(self.arguments.json, self.results)
        return self.results

    def cost(self, candidate):
        setup = Setup(vnics=VNICS, uplink=True, shape={"mirror": MIRROR})
        with measure.attached(self.lab, candidate.with_busy(False), setup, self.generator_cpu) as bed:
            for size in SIZES:
                result = measure.run(bed, self.arguments.seconds, frame_bytes=size)
                facts = {key: result[key] for key in ("frames_per_s", "cycles_per_frame", "lost", "waited")}
                facts.update(candidate=candidate.name, frame_bytes=size)
                self.results["cost"].append(facts)
                say(f"   {size} bytes: {facts['frames_per_s'] / 1e3:.0f} k frames/s, {facts['cycles_per_frame']:.0f} cycles each")
            self._check_queues(candidate)

    def _check_queues(self, candidate):
        """A result about queues that were not in use would say nothing."""
        rows = candidate.sorting()
        if candidate.weight == 0 and rows:
            raise LabError(f"--vmq-weight 0, and still queues: {sorted(rows)}")
        for number in range(VNICS if candidate.weight else 0):
            row = rows.get(f"v{number}")
            if not row or row["sorting"] != "kernel" or row["frames"] == 0:
                raise LabError(f"v{number} has not got its frames by a queue that the kernel sorts into: {row}")

    def neighbour(self, candidate):
        setup = Setup(vnics=2, uplink=True, shape={"mirror": MIRROR})
        with measure.attached(self.lab, candidate.with_busy(True), setup, self.generator_cpu) as bed:
            for busy in (False, True):
                flood = Flood(self.wire.far, FAR, BUSY_MAC, FLOOD_BYTES) if busy else None
                result = bed.generator.run(seconds=self.arguments.seconds, frame_bytes=64, rate=QUIET_RATE, burst=1)
                came = flood.end() if flood else {"sent": 0, "seconds": 1.0}
                facts = {key: result[key] for key in ("sent", "received", "lost", "reordered", "latency_ns")}
                facts.update(candidate=candidate.name, busy=busy, flood_per_s=came["sent"] / came["seconds"])
                self.results["neighbour"].append(facts)
                say(f"   beside {facts['flood_per_s'] / 1e3:.0f} k frames/s for another: {facts['lost']} of {facts['sent']} lost, "
                    f"p99 {facts['latency_ns']['p99'] / 1e3:.0f} us")


def parse(words):
    parser = argparse.ArgumentParser(prog="bench vmq", description="Queues of single vnics beside a queue for all.")
    parser.add_argument("--quick", action="store_true", help="two rounds, short")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    parser.add_argument("--seconds", type=float, help="of each run; default 3, with --quick 1")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default build/bench/vmq-DATE.json")
    parser.add_argument("--from", dest="earlier", metavar="FILE", help="measures nothing: the report of an earlier run")
    parser.add_argument("--docs", action="store_true", help="puts tables and chart into docs/performance.md")
    arguments = parser.parse_args(words)
    arguments.parts = arguments.parts.split(",")
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"--parts: {', '.join(unknown)}: give names of {', '.join(PARTS)}")
    for option, usual, quick in (("rounds", 5, 2), ("seconds", 3.0, 1.0)):
        if getattr(arguments, option) is None:
            setattr(arguments, option, quick if arguments.quick else usual)
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 600:
        parser.error("--rounds: at least 1; --seconds: from 0.1 to 600")
    arguments.json = arguments.json or os.path.join(build_dir(), "bench", time.strftime("vmq-%Y%m%d-%H%M%S.json"))
    return arguments


def measure_all(arguments, name):
    with Lab.create(name) as lab:
        return Bench(lab, arguments).run()
