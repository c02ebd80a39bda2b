"""python3 -m bench: what ./bench runs once everything is installed and built."""

import argparse
import contextlib
import os
import re
import resource
import signal
import sys
import time

from lab.daemon import build_dir
from lab.guest import accelerator
from lab.image import REPOSITORY
from lab.lab import Lab
from lab.proc import LabError

from . import buffers, buffers_report, candidates, machine, measure, report, rows, tcp, teams, teams_report, uplinks, vmq, vmq_report

EQUAL_SHARE = 0.5  # of what the slowest candidate takes at full load: what all are offered then
CALIBRATE_S = 0.4
COMPARED = ("patchbay", "ovs", "testpmd")
NAME = os.environ.get("PATCHBAY_LAB_NAME", "bench")  # tests run one beside the user's


def say(text):
    print(text, flush=True)


class Bench:
    def __init__(self, lab, arguments):
        self.lab = lab
        self.rounds = arguments.rounds
        self.quick = arguments.quick
        self.seconds = arguments.seconds
        self.generator_cpu, cpu = machine.cpus()
        self.cpu = cpu
        self.path = arguments.json
        self.rows = arguments.rows
        self.wire = uplinks.Wire(lab)
        self.candidates = {table: {} for table in (*rows.TABLES, "tcp")}
        self.results = {
            "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": self.quick, "rounds": self.rounds,
            "seconds": self.seconds, "load_average": os.getloadavg()[0],
            "machine": machine.describe(),
            "cpus": {"generator": self.generator_cpu, "switch": cpu}, "candidates": {}, "traffic": {}, "uplink": {},
            "latency": {}, "wake": {}, "idle": {}, "attach": {}}
        for table, kinds in (("traffic", candidates.CLASSES), ("uplink", uplinks.CLASSES)):
            for kind in kinds:
                if kind.family in arguments.only and rows.groups_of(table, self.quick, self.rows):
                    self.add_candidate(table, kind(lab, cpu))
        if self.has_tcp():
            for kind in tcp.CLASSES:
                if kind.family in arguments.only:
                    self.add_candidate("tcp", kind(lab, cpu))
        self.polling = None  # Patchbay that does not sleep, for the figures that depend on it
        if "patchbay" in self.candidates["traffic"] and self.wants("latency"):
            self.polling = candidates.PatchbayPolling(lab, cpu)
            self.describe("latency", self.polling)

    def wants(self, key):
        return not self.rows or key in self.rows

    def has_tcp(self):
        return "tcp" in self.rows or not (self.quick or self.rows)

    def add_candidate(self, table, candidate):
        reason = candidate.missing()
        if reason:
            say(f"== {candidate.title} is left out: {reason}")
            return
        self.candidates[table][candidate.name] = candidate
        self.describe(table, candidate)

    def describe(self, table, candidate):
        self.results["candidates"][candidate.name] = {
            "table": table, "title": candidate.title, "version": candidate.version(),
            "configuration": candidate.configuration()}

    # ---- Frames from VM to VM, and to the uplink and back -----------------------------------------------------------

    def traffic(self, table):
        groups = rows.groups_of(table, self.quick, self.rows)
        if table == "uplink" and groups:
            self.wire.build().add_mirror()
        for setup, group in groups:
            for row in group:
                self.results[table][row.key] = {
                    "title": row.title, "vnics": setup.vnics, "frames": row.frames, "burst": row.burst,
                    "offered_frames_per_s": None, "runs": {}, "reasons": {}}
            able = self.calibrate(setup, group)
            if self.polling and able and self.has_latency(group):
                able.append(self.polling)
            for number in range(self.rounds):
                # Each round begins with another one, so that what changes over time falls on all alike.
                for place in range(len(able)):
                    candidate = able[(number + place) % len(able)]
                    say(f"   round {number + 1} of {self.rounds}: {candidate.title}")
                    self.attempt(candidate, setup, group, lambda bed: self.round(bed, group))
            self.save()

    def attempt(self, candidate, setup, group, act):
        """act(Attached); False, with the reason noted, if that did not work."""
        try:
            with measure.attached(self.lab, candidate, setup, self.generator_cpu) as bed:
                if not setup.pieces and not setup.uplink:
                    times = self.results["attach"].setdefault(setup.vnics, {}).setdefault(candidate.name, [])
                    times.append(bed.seconds)
                if setup.pieces or setup.uplink:
                    for row in group:
                        measure.verify(bed, row)
                act(bed)
            return True
        except LabError as error:
            say(f"   {str(error).splitlines()[0]}")
            reason = re.sub(r"^[^:]*: (load generator: )?(\S+\.sock: )?(patchbay apply: \S+, line \d+: )?", "",
                            str(error).splitlines()[0])
            for row in group:
                self.facts(row)["reasons"].setdefault(candidate.name, reason)
            return False

    def facts(self, row):
        return self.results[row.table][row.key]

    def calibrate(self, setup, group):
        """The candidates that can run this setup; how much is offered in each row follows from the slowest."""
        say(f"== {setup.vnics} vnics{' and an uplink' if setup.uplink else ''}, MTU {setup.mtu}: "
            f"{', '.join(row.title for row in group)}")
        fastest = {row.key: {} for row in group}
        able = []

        def try_all(bed):
            for row in group:
                fastest[row.key][bed.candidate] = measure.full_load(bed, row, CALIBRATE_S)["frames_per_s"]
        for candidate in self.candidates[group[0].table].values():
            reason = candidate.unable(setup)
            if reason:
                for row in group:
                    self.facts(row)["reasons"][candidate.name] = reason
            elif self.attempt(candidate, setup, group, try_all):
                able.append(candidate)
        for row in group:
            if fastest[row.key]:
                pace = [rate for candidate, rate in fastest[row.key].items() if candidate.sets_pace]
                self.facts(row)["offered_frames_per_s"] = EQUAL_SHARE * min(pace or fastest[row.key].values())
        return able

    def has_latency(self, group):
        return self.wants("latency") and any(row.key == "64" for row in group)

    def round(self, bed, group):
        name = bed.candidate.name
        for row in group:
            facts = self.facts(row)
            if bed.candidate is self.polling:
                if row.key == "64":
                    self.more_about_small_frames(bed, row, facts["offered_frames_per_s"] / EQUAL_SHARE)
                continue
            runs = facts["runs"].setdefault(name, {"full": [], "equal": []})
            if bed.setup.macs:
                measure.full_load(bed, row, self.seconds)  # the switch learns; that is not what is measured
            runs["full"].append(measure.full_load(bed, row, self.seconds))
            runs["equal"].append(measure.equal_load(bed, row, self.seconds, facts["offered_frames_per_s"]))
            if row.key == "64" and self.wants("latency"):
                self.more_about_small_frames(bed, row, facts["offered_frames_per_s"] / EQUAL_SHARE)

    def more_about_small_frames(self, bed, row, slowest):
        name = bed.candidate.name
        for share in (10, 70):
            facts = self.results["latency"].setdefault(
                share, {"offered_frames_per_s": slowest * share / 100, "runs": {}})
            facts["runs"].setdefault(name, []).append(
                measure.equal_load(bed, row, self.seconds, facts["offered_frames_per_s"], burst=1))
        self.results["wake"].setdefault(name, []).append(measure.wake(bed, 200 if self.quick else 1000))
        if name == "patchbay":
            self.results["wake"].setdefault("bare", []).append(
                bed.generator.bare_ping(200 if self.quick else 1000, self.cpu))
        if not self.quick and bed.candidate is not self.polling:
            self.results.setdefault("zero_loss", {}).setdefault(name, []).append(
                measure.zero_loss(bed, row, self.seconds / 2, slowest * 2))

    # ---- TCP of real guests -----------------------------------------------------------------------------------------

    def tcp(self):
        compared = list(self.candidates["tcp"].values())
        if not compared:
            return
        say(f"== TCP of two guests, {accelerator()}")
        facts = self.results["tcp"] = {"accelerator": accelerator(), "runs": {}, "reasons": {}}
        self.wire.build().remove_mirror()
        for number in range(self.rounds):
            for place in range(len(compared)):
                candidate = compared[(number + place) % len(compared)]
                say(f"   round {number + 1} of {self.rounds}: {candidate.title}")
                try:
                    for path, value in tcp.measure(self.lab, self.wire, candidate).items():
                        facts["runs"].setdefault(candidate.name, {}).setdefault(path, []).append(value)
                except LabError as error:
                    reason = str(error).splitlines()[0]
                    say(f"   {reason}")
                    facts["reasons"].setdefault(candidate.name, reason.split(": ", 1)[-1])
            self.save()

    # ---- Nobody sends; control plane --------------------------------------------------------------------------------

    def idle(self):
        say(f"== {rows.IDLE.vnics} vnics attached, nobody sends")
        compared = self.candidates["traffic"]
        also = [self.polling] if self.polling else []
        also += [candidates.OvsSleeping(self.lab, self.cpu)] if "ovs" in compared else []
        for candidate in [*compared.values(), *also]:
            facts = {"title": candidate.title}
            self.results["idle"][candidate.name] = facts
            facts["reason"] = candidate.unable(rows.IDLE)
            if facts["reason"]:
                continue
            try:
                with measure.attached(self.lab, candidate, rows.IDLE, self.generator_cpu) as bed:
                    facts.update(measure.idle(bed, 3.0))
                del facts["reason"]
            except LabError as error:
                facts["reason"] = str(error).splitlines()[0]

    def control(self):
        vnics = 200 if self.quick else 1000
        say(f"== Patchbay: {vnics} vnics applied, connected, started again")
        self.results["control"] = measure.control_plane(self.lab, self.cpu, self.generator_cpu, vnics)

    def save(self):
        """What there is by now, so that a long run that is interrupted is not in vain."""
        waited = [run["waited"] for table in rows.TABLES for facts in self.results[table].values()
                  for runs in facts["runs"].values() for kind in runs.values() for run in kind]
        self.results["waited_median"] = report.median(waited) or 0.0
        measure.save(self.path, self.results)
        return self.results


def parse(words):
    parser = argparse.ArgumentParser(prog="bench", description="Measures Patchbay beside other switches.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and 3 rounds, in less than 10 minutes")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 3")
    parser.add_argument("--seconds", type=float, help="of each measurement; default 1, with --quick 0.5")
    parser.add_argument("--only", default=",".join(COMPARED), metavar="NAMES",
                        help=f"of {', '.join(COMPARED)}, separated by commas; default all")
    parser.add_argument("--rows", default="", metavar="KEYS",
                        help=f"only these, and nothing else: of {', '.join(rows.KEYS)}")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default build/bench/DATE.json")
    parser.add_argument("--from", dest="earlier", metavar="FILE", help="measures nothing: the report of an earlier run")
    parser.add_argument("--docs", action="store_true", help="puts tables and charts into docs/performance.md")
    arguments = parser.parse_args(words)
    arguments.only = arguments.only.split(",")
    arguments.rows = [key for key in arguments.rows.split(",") if key]
    for option, given, known in (("--only", arguments.only, COMPARED),
                                 ("--rows", arguments.rows, rows.KEYS)):
        unknown = sorted(set(given) - set(known))
        if unknown:
            parser.error(f"{option}: {', '.join(unknown)}: give names of {', '.join(known)}")
    if arguments.rounds is None:
        arguments.rounds = 3 if arguments.quick else 5
    if arguments.seconds is None:
        arguments.seconds = 0.5 if arguments.quick else 1.0
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 60:
        parser.error("--rounds: at least 1; --seconds: from 0.1 to 60")
    arguments.json = arguments.json or os.path.join(build_dir(), "bench", time.strftime("%Y%m%d-%H%M%S.json"))
    return arguments


def measure_all(arguments):
    peers = set(arguments.only) - {"patchbay"}
    with Lab.create(NAME) as lab, machine.huge_pages() if peers else contextlib.nullcontext():
        bench = Bench(lab, arguments)
        if not any(bench.candidates.values()):
            raise LabError("nothing is left to measure")
        for table in rows.TABLES:
            bench.traffic(table)
        bench.tcp()
        if not arguments.rows:
            bench.idle()
            if "patchbay" in bench.candidates["traffic"]:
                bench.control()
        return bench.save()


def show(made, results_file, docs, mark):
    """Prints a report and, if `docs`, puts it into docs/performance.md."""
    text = made.text()
    say("\n" + report.plain(text))
    say(f"\nresults: {results_file}")
    if docs:
        charts = made.charts(os.path.join(REPOSITORY, "docs", "performance"))
        pictures = "\n\n".join(f"![{title}](performance/{file})" for file, title in charts.items())
        report.put_into(os.path.join(REPOSITORY, "docs", "performance.md"), f"{text}\n\n{pictures}", mark)
        say("docs/performance.md and its charts are written")


def main_buffers(words):
    """1 if something was seen that must not be."""
    arguments = buffers.parse(words)
    results = measure.load(arguments.earlier) if arguments.earlier else buffers.measure_all(arguments, NAME)
    made = buffers_report.BuffersReport(results)
    show(made, arguments.earlier or arguments.json, arguments.docs, "bench buffers")
    return 1 if made.problems() else 0


def main_teams(words):
    arguments = teams.parse(words)
    results = measure.load(arguments.earlier) if arguments.earlier else teams.measure_all(arguments, NAME)
    show(teams_report.TeamsReport(results), arguments.earlier or arguments.json, arguments.docs, "bench teams")
    return 0


def main_vmq(words):
    arguments = vmq.parse(words)
    results = measure.load(arguments.earlier) if arguments.earlier else vmq.measure_all(arguments, NAME)
    show(vmq_report.VmqReport(results), arguments.earlier or arguments.json, arguments.docs, "bench vmq")
    return 0


def main_rows(words):
    arguments = parse(words)
    results = measure.load(arguments.earlier) if arguments.earlier else measure_all(arguments)
    show(report.Report(results), arguments.earlier or arguments.json, arguments.docs, report.MARK)
    return 0


def main():
    words = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that huge pages and lab go in this case, too
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # six descriptors a vnic, at both ends
    try:
        kinds = {"buffers": main_buffers, "teams": main_teams, "vmq": main_vmq}
        return kinds[words[0]](words[1:]) if words[:1] and words[0] in kinds else main_rows(words)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
