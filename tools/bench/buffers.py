"""python3 -m bench buffers: what receivers that stand still lose, by size of their buffer, and what others notice of them."""

import argparse
import contextlib
import os
import time

from lab.daemon import build_dir
from lab.guest import accelerator
from lab.lab import Lab
from lab.proc import LabError, run

from . import candidates, isolation, machine, measure, stalled_guests, stalls, verdicts

STALLS_MS = (1, 2, 5, 10, 20, 50, 100)
RATES = (10_000, 65_500, 131_000, 260_000)  # frames a second
SIZES = (64, 600, 1500)
MB = 1 << 20
SETTINGS = {"0": 0, "1M": MB, "2M": 2 * MB, "4M": 4 * MB, "auto": 16 * MB}  # of Patchbay's buffers: bytes that they hold
GUEST_RATE = 10_000
QUICK = {"stalls_ms": (1, 10, 100), "sizes": (64, 1500)}
PARTS = ("stalls", "guests", "isolation")
COMPARED = ("patchbay", "ovs")
PEER = "ovs"  # the column of what has no such setting


def say(text):
    print(text, flush=True)


class Bench:
    def __init__(self, lab, arguments):
        self.lab = lab
        self.arguments = arguments
        self.generator_cpu, self.cpu = machine.cpus()
        self.plan = {"stalls_ms": STALLS_MS, "rates": RATES, "sizes": SIZES, **(QUICK if arguments.quick else {})}
        self.candidates = {}
        self.results = {
            "kind": "buffers", "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": arguments.quick,
            "repeats": arguments.repeats, "rounds": arguments.rounds, "load_average": os.getloadavg()[0],
            "machine": machine.describe(), "cpus": {"generator": self.generator_cpu, "switch": self.cpu},
            "ring_entries": stalls.RING_ENTRIES, "plan": self.plan, "candidates": {}, "stalls": [], "guests": {},
            "isolation": {}, "reasons": []}
        for kind in (candidates.Patchbay, candidates.OvsDpdk):
            if kind.family in arguments.only:
                self.add(kind(lab, self.cpu))

    def add(self, candidate):
        reason = candidate.missing()
        if reason:
            self.fail(candidate.title, reason)
            return
        self.candidates[candidate.name] = candidate
        self.results["candidates"][candidate.name] = {
            "title": candidate.title, "version": candidate.version(), "configuration": candidate.configuration()}

    def fail(self, what, reason):
        """Something cannot be measured."""
        say(f"   {what}: {reason}")
        self.results["reasons"].append([what, str(reason).splitlines()[0]])

    def run(self):
        for part in self.arguments.parts:
            for candidate in self.candidates.values():
                say(f"== {part}: {candidate.title}")
                try:
                    getattr(self, part)(candidate)
                except LabError as error:
                    self.fail(f"{part}, {candidate.title}", error)
                self.save()
        return self.results

    def save(self):
        measure.save(self.arguments.json, self.results)

    # ---- Stalls -----------------------------------------------------------------------------------------------------

    def settings(self, candidate):
        """[(column of the tables, bytes that a buffer holds)], each in force when it is yielded."""
        if candidate.name != "patchbay":
            yield candidate.name, None
            return
        for setting, limit_bytes in SETTINGS.items():
            candidate.daemon.do("vnic", "set", "v1", "--buffer", setting)
            yield setting, limit_bytes

    def cases(self):
        """(frame bytes, stall in ms)"""
        return [(size, stall_ms) for size in self.plan["sizes"] for stall_ms in self.plan["stalls_ms"]]

    def stalls(self, candidate):
        with stalls.attached(self.lab, candidate, self.generator_cpu) as stream:
            for column, limit_bytes in self.settings(candidate):
                begin = time.monotonic()
                for frame_bytes, stall_ms in self.cases():
                    for rate in self.plan["rates"]:
                        for _ in range(self.arguments.repeats):
                            self.judge(column, limit_bytes, stream.stall(frame_bytes, rate, stall_ms))
                say(f"   {column}: {time.monotonic() - begin:.0f} s")

    def judge(self, column, limit_bytes, stall):
        stall.update(column=column, limit_bytes=limit_bytes, expected=None, wrong=[])
        if limit_bytes is not None:
            room = stalls.RING_ENTRIES + verdicts.buffered(limit_bytes, stall["frame_bytes"])
            stall["expected"], stall["wrong"] = verdicts.judge(stall, room)
        self.results["stalls"].append(stall)

    # ---- Real guests ------------------------------------------------------------------------------------------------

    def guests(self, candidate):
        facts = self.results["guests"]
        facts.setdefault("accelerator", accelerator())
        facts.setdefault("qemu", run("qemu-system-x86_64", "--version").stdout.splitlines()[0])
        facts.setdefault("stalls", [])
        with stalled_guests.attached(self.lab, candidate, self.generator_cpu) as stream:
            if "rate" not in facts:  # the first sets the pace of all, with the largest buffer that it has
                for _ in self.settings(candidate):
                    pass
                facts["rate"] = stream.highest_rate(GUEST_RATE, self.plan["sizes"])
            for column, limit_bytes in self.settings(candidate):
                for frame_bytes in self.plan["sizes"]:
                    self.judge_guest(column, limit_bytes, stream.without_stall(frame_bytes, facts["rate"]))
                for frame_bytes, stall_ms in self.cases():
                    self.judge_guest(column, limit_bytes, stream.stall(frame_bytes, facts["rate"], stall_ms))

    def judge_guest(self, column, limit_bytes, stall):
        stall.update(column=column, limit_bytes=limit_bytes, expected=None, wrong=[])
        if limit_bytes is not None:
            kept = verdicts.buffered(limit_bytes, stall["frame_bytes"])
            stall["expected"], stall["wrong"] = verdicts.judge_guest(stall, stalls.RING_ENTRIES, kept)
        self.results["guests"]["stalls"].append(stall)

    # ---- Others -----------------------------------------------------------------------------------------------------

    def isolation(self, candidate):
        facts = isolation.run(self.lab, candidate, self.generator_cpu, self.arguments.rounds, self.arguments.stall_s)
        facts.update(stall_s=self.arguments.stall_s, wrong=[])
        if candidate.name == "patchbay":
            facts["wrong"] = verdicts.judge_return(facts["flood"], facts["dropped"], isolation.room(MB))
        self.results["isolation"][candidate.name] = facts


def parse(words):
    parser = argparse.ArgumentParser(
        prog="bench buffers", description="Stops receivers while frames come for them, and counts what they lose.")
    parser.add_argument("--quick", action="store_true", help="fewer stalls, each once, in less than 3 minutes")
    parser.add_argument("--repeats", type=int, help="of each stall; default 3, with --quick 1")
    parser.add_argument("--rounds", type=int, help="of isolation; default 4")
    parser.add_argument("--stall-s", type=float,
                        help="how long the guest of isolation stands still the first time; default 60, with --quick 5")
    parser.add_argument("--only", default=",".join(COMPARED), metavar="NAMES",
                        help=f"of {', '.join(COMPARED)}, separated by commas; default all")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAMES", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default build/bench/buffers-DATE.json")
    parser.add_argument("--from", dest="earlier", metavar="FILE", help="measures nothing: the report of an earlier run")
    parser.add_argument("--docs", action="store_true", help="puts tables and chart into docs/performance.md")
    arguments = parser.parse_args(words)
    for option, known in (("only", COMPARED), ("parts", PARTS)):
        given = getattr(arguments, option).split(",")
        unknown = sorted(set(given) - set(known))
        if unknown:
            parser.error(f"--{option}: {', '.join(unknown)}: give names of {', '.join(known)}")
        setattr(arguments, option, [name for name in known if name in given])
    if arguments.repeats is None:
        arguments.repeats = 1 if arguments.quick else 3
    if arguments.rounds is None:
        arguments.rounds = 4
    if arguments.stall_s is None:
        arguments.stall_s = 5.0 if arguments.quick else 60.0
    if arguments.repeats < 1 or arguments.rounds < 1 or not 0.5 <= arguments.stall_s <= 600:
        parser.error("--repeats, --rounds: at least 1; --stall-s: from 0.5 to 600")
    arguments.json = arguments.json or os.path.join(build_dir(), "bench", time.strftime("buffers-%Y%m%d-%H%M%S.json"))
    return arguments


def measure_all(arguments, name):
    peers = set(arguments.only) - {"patchbay"}
    with Lab.create(name) as lab, machine.huge_pages() if peers else contextlib.nullcontext():
        bench = Bench(lab, arguments)
        if not bench.candidates:
            raise LabError("nothing is left to measure")
        return bench.run()
