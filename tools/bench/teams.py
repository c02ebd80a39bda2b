"""python3 -m bench teams: what the loss of one of two NICs costs, and whether LACP holds when the uplink is full."""

import argparse
import json
import os
import re
import time

from lab.cables import BOND, NICS, Cables
from lab.daemon import build_dir
from lab.lab import Lab
from lab.physical import OpenVSwitch
from lab.proc import LabError, wait_until

from . import machine, measure
from .wire_programs import WireStream

VID = 101
LACP = ("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
EVENTS = ("carrier", "silence", "removal")
DIRECTIONS = ("out", "in")
COMPARED = ("patchbay", "ovs")
FRAMES_PER_S, FLOWS = 10000, 32
SHAPED = "200mbit"
VM = "vm"
SETTLE_S = 20.0


def say(text):
    print(text, flush=True)


class Patchbay:
    name, title = "patchbay", "Patchbay"

    def __init__(self, lab):
        self.daemon = lab.daemon.start()
        self.netns = lab.host

    def version(self):
        return self.daemon.cli("--version").stdout.strip()

    def configuration(self):
        return "a team of two NICs (packet sockets), LACP with the fast timer, a host vnic"

    def wire(self, nics=NICS):
        self.daemon.do("team", "create", "uplink", "--nics", ",".join(nics), "--mode", "lacp")
        self.daemon.do("switch", "create", "lan", "--external", "uplink")
        self.daemon.do("vnic", "create", VM, "--switch", "lan", "--host", "--vlan", VID)

    def unwire(self):
        self.daemon.do("vnic", "delete", VM)
        self.daemon.do("switch", "delete", "lan")
        self.daemon.do("team", "delete", "uplink")

    def active(self):
        """How many members carry frames."""
        return sum(member["state"] == "active" for member in self.daemon.json("team", "show", "uplink")["members"])

    def remove(self, nic):
        self.daemon.do("team", "set", "uplink", "--nics", ",".join(other for other in NICS if other != nic))

    def add(self, _):
        self.daemon.do("team", "set", "uplink", "--nics", ",".join(NICS))


class Ovs:
    """Open vSwitch in userspace, as the lab's physical switch is, with system interfaces: a bond and a port for the VM."""

    name, title = "ovs", "Open vSwitch"

    def __init__(self, lab):
        self.netns = lab.add_netns("ovs-host")
        self.switch = OpenVSwitch(os.path.join(lab.dir, "peer"), self.netns)
        os.makedirs(os.path.join(lab.dir, "peer"), exist_ok=True)
        self.switch.start_daemons()

    def version(self):
        return self.switch.vsctl("--version").stdout.splitlines()[0]

    def configuration(self):
        return "userspace datapath, bond balance-tcp over two system interfaces, LACP with the fast timer, an internal port"

    def wire(self, nics=NICS):
        self.switch.vsctl("add-br", "lan", "--", "set", "bridge", "lan", "datapath_type=netdev")
        if len(nics) > 1:
            self.switch.vsctl("add-bond", "lan", BOND, *nics, "vlan_mode=trunk", f"trunks={VID}", *LACP)
        else:
            self.switch.vsctl("add-port", "lan", *nics, "vlan_mode=trunk", f"trunks={VID}", "lacp=active",
                              "other_config:lacp-time=fast")
        self.switch.vsctl("add-port", "lan", VM, f"tag={VID}", "--", "set", "interface", VM, "type=internal")
        self.netns.run("ip", "link", "set", VM, "up")

    def unwire(self):
        self.switch.vsctl("del-br", "lan")

    def active(self):
        text = self.switch.appctl("lacp/show").stdout
        return len(re.findall(r"actor state:.* distributing", text))

    def remove(self, nic):
        self.switch.vsctl("del-bond-iface", BOND, nic)

    def add(self, nic):
        self.switch.vsctl("add-bond-iface", BOND, nic)


CLASSES = (Patchbay, Ovs)


class Bench:
    def __init__(self, lab, arguments):
        self.lab, self.arguments = lab, arguments
        self.physical = lab.add_physical()
        self.station = lab.add_wire_host("station", VID, "10.9.0.2")
        self.candidates = {kind.name: kind(lab) for kind in CLASSES if kind.name in arguments.only}
        generator, cpu = machine.cpus()
        self.results = {
            "kind": "teams", "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "quick": arguments.quick,
            "rounds": arguments.rounds, "load_average": os.getloadavg()[0], "machine": machine.describe(),
            "cpus": {"generator": generator, "switch": cpu}, "candidates": {}, "failover": [], "throughput": [],
            "overload": [], "reasons": []}
        for candidate in self.candidates.values():
            self.results["candidates"][candidate.name] = {
                "title": candidate.title, "version": candidate.version(), "configuration": candidate.configuration()}

    def run(self):
        for number in range(self.arguments.rounds):
            order = list(self.candidates.values())
            order = order[number % len(order):] + order[:number % len(order)]
            for candidate in order:
                say(f"== round {number + 1} of {self.arguments.rounds}: {candidate.title}")
                for part in (self.failover, self.throughput, self.overload):
                    try:
                        part(candidate)
                    except LabError as error:
                        say(f"   {error}")
                        self.results["reasons"].append([candidate.title, str(error).splitlines()[0]])
                measure.save(self.arguments.json, self.results)
        return self.results

    # ---- One team, wired for a while --------------------------------------------------------------------------------

    def wired(self, candidate, nics=NICS):
        return _Wired(self, candidate, nics)

    def failover(self, candidate):
        for event in EVENTS:
            for direction in DIRECTIONS:
                with self.wired(candidate) as wires:
                    facts = wires.lose(event, direction)
                facts.update(candidate=candidate.name, event=event, direction=direction)
                self.results["failover"].append(facts)
                say(f"   {event}, {direction}: {facts['lost']} of {facts['sent']} lost, longest gap "
                    f"{facts['gap_ms']:.1f} ms (before: {facts['gap_before_ms']:.1f}), {facts['reordered']} out of order, "
                    f"{facts['doubled']} twice")

    def throughput(self, candidate):
        """Each cable is held to a rate: what eight TCP streams get through one, and through two."""
        for nics in (NICS[:1], NICS):
            with self.wired(candidate, nics) as wires:
                mbits = wires.tcp(self.arguments.seconds)
            self.results["throughput"].append({"candidate": candidate.name, "members": len(nics), "mbits": mbits})
            say(f"   {len(nics)} member{'s' if len(nics) > 1 else ''} of {SHAPED}: {mbits:.0f} Mbit/s")

    def overload(self, candidate):
        with self.wired(candidate) as wires:
            facts = wires.overload(self.arguments.overload_s)
        facts["candidate"] = candidate.name
        self.results["overload"].append(facts)
        say(f"   full for {facts['seconds']:.0f} s: {facts['lacpdus']} LACPDUs, the longest pause "
            f"{facts['longest_pause_s']:.2f} s, {facts['flaps']} times out of the aggregate")


class _Wired:
    def __init__(self, bench, candidate, nics):
        self.bench, self.candidate, self.nics = bench, candidate, nics
        self.cables = Cables(bench.physical, candidate.netns, [VID])

    def __enter__(self):
        self.cables.plug(*LACP)
        self.candidate.wire(self.nics)
        self._wait_active(len(self.nics))
        self.candidate.netns.set_ip(VM, "10.9.0.1")
        wait_until(lambda: self.candidate.netns.ping("10.9.0.2"), "the station to answer", SETTLE_S)
        return self

    def __exit__(self, *_):
        self.candidate.unwire()
        self.cables.unplug()

    def _wait_active(self, count):
        wait_until(lambda: self.candidate.active() == count, f"{count} members of {self.candidate.title} to carry frames",
                   SETTLE_S)

    def _stream(self, direction):
        ends = [(self.candidate.netns, VM), (self.bench.station, "eth0")]
        return WireStream(*(ends if direction == "out" else reversed(ends)), FRAMES_PER_S, FLOWS)

    def lose(self, event, direction):
        nic = NICS[0]
        act = {"carrier": lambda: self.cables.set_carrier(nic, False), "silence": lambda: self.cables.silence(nic),
               "removal": lambda: self.candidate.remove(nic)}[event]
        with self._stream(direction) as stream:
            stream.goes_on(1000)
            stream.ask()
            time.sleep(1.0)
            before = stream.ask()
            act()
            self._wait_active(1)
            time.sleep(2.0)
            after = stream.ask()
        total = stream.total
        return {"sent": stream.sent, "frames_per_s": stream.sent / stream.seconds, "lost": stream.sent - total["heard"],
                "gap_ms": after["flow_gap_ms"], "gap_before_ms": before["flow_gap_ms"], "reordered": total["reordered"],
                "doubled": total["doubled"]}

    def tcp(self, seconds):
        for nic in self.nics:
            self.candidate.netns.run("tc", "qdisc", "replace", "dev", nic, "root", "tbf", "rate", SHAPED, "burst", "128kb",
                                     "latency", "20ms")
        server = self.bench.station.start("iperf3-server", "iperf3", "-s", "-1")
        time.sleep(0.5)
        text = self.candidate.netns.run("iperf3", "-c", "10.9.0.2", "-t", seconds, "-P", "8", "-J").stdout
        server.stop()
        return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e6

    def overload(self, seconds):
        """UDP, as fast as it goes, and what LACP does meanwhile: LACPDUs that reach the partner, and what that says."""
        physical, path = self.bench.physical, os.path.join(self.bench.lab.dir, "lacp.txt")
        sender = self.candidate.netns.mac(NICS[0])
        capture = physical.netns.start("capture-lacp", "sh", "-c",
                                       f"exec tcpdump -tt -n -l -Q in -i {self.cables.ends[0]} ether proto 0x8809 > {path}")
        server = self.bench.station.start("iperf3-server", "iperf3", "-s", "-1")
        time.sleep(0.5)
        flood = self.candidate.netns.start("flood", "iperf3", "-c", "10.9.0.2", "-u", "-b", "0", "-l", "1400", "-P", "4",
                                           "-t", str(seconds))
        end, flaps, was = time.monotonic() + seconds, 0, True
        while time.monotonic() < end:
            good = physical.appctl("lacp/show", BOND).stdout.count("current attached") == len(NICS)
            flaps += was and not good
            was = good
            time.sleep(0.2)
        for process in (flood, server, capture):
            process.stop()
        with open(path, encoding="utf-8") as file:
            times = [float(line.split()[0]) for line in file if line[:1].isdigit()]
        pauses = [later - earlier for earlier, later in zip(times, times[1:])]
        if not pauses:
            raise LabError(f"no LACPDUs of {sender} were seen")
        return {"seconds": seconds, "lacpdus": len(times), "longest_pause_s": max(pauses), "flaps": flaps}


def parse(words):
    parser = argparse.ArgumentParser(prog="bench teams",
                                     description="Takes a NIC from a team of two in several ways, and counts what that costs.")
    parser.add_argument("--quick", action="store_true", help="one round, short")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 1")
    parser.add_argument("--seconds", type=int, help="of each TCP run; default 10, with --quick 3")
    parser.add_argument("--overload-s", type=float, help="how long the uplink is kept full; default 60, with --quick 10")
    parser.add_argument("--only", default=",".join(COMPARED), metavar="NAMES",
                        help=f"of {', '.join(COMPARED)}, separated by commas; default all")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default build/bench/teams-DATE.json")
    parser.add_argument("--from", dest="earlier", metavar="FILE", help="measures nothing: the report of an earlier run")
    parser.add_argument("--docs", action="store_true", help="puts tables and chart into docs/performance.md")
    arguments = parser.parse_args(words)
    given = arguments.only.split(",")
    if unknown := sorted(set(given) - set(COMPARED)):
        parser.error(f"--only: {', '.join(unknown)}: give names of {', '.join(COMPARED)}")
    arguments.only = [name for name in COMPARED if name in given]
    for option, usual, quick in (("rounds", 5, 1), ("seconds", 10, 3), ("overload_s", 60.0, 10.0)):
        if getattr(arguments, option) is None:
            setattr(arguments, option, quick if arguments.quick else usual)
    if arguments.rounds < 1 or arguments.seconds < 1 or not 5 <= arguments.overload_s <= 3600:
        parser.error("--rounds, --seconds: at least 1; --overload-s: from 5 to 3600")
    arguments.json = arguments.json or os.path.join(build_dir(), "bench", time.strftime("teams-%Y%m%d-%H%M%S.json"))
    return arguments


def measure_all(arguments, name):
    with Lab.create(name) as lab:
        return Bench(lab, arguments).run()
