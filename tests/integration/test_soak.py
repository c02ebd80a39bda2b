"""A random soak: four switches with guests, host vnics and the wire are changed all the time while good frames and bad
ones flow. No frame is ever where it should not be, none is lost or made up, and nothing that was refused left a trace.

Theory  Rounds. While frames flow, changes come at random, and each arrival is held against an independent model of the
        forwarding rules (soak_model.py), under the states that may have been in force. Then all comes to rest, the
        counters must balance, and agree with what each end sent and got. At last frames are sent while nothing changes:
        each has to arrive exactly where the model says, and every drop has to have the reason that the model gives.
        When all is deleted, the daemon holds no more descriptors than at its start.
Limits  While frames flow a frame that is missing is not seen, only one that is wrong: a guest may be gone or its ring
        full. A vnic that goes while frames flow takes its counters with it, half of the time; its switch is not
        balanced in that round. What was learned is known to the model only as "one of these".

PATCHBAY_SOAK_SECONDS (default 180) is for how long, PATCHBAY_SOAK_SEED makes the same random choices again; what the
kernel's scheduler does is not repeated.
"""

import os
import random
import time

import pytest
from lab.lab import Lab
from lab.netns import veth
from lab.proc import LabError, wait_until
from rest import Rest
from soak_changes import NIC_MTU, UPLINKS, Changes
from soak_ends import LIMIT_S
from soak_model import Decision, State, Timeline, decide
from soak_traffic import Traffic

SECONDS = float(os.environ.get("PATCHBAY_SOAK_SECONDS", "180"))
SEED = int(os.environ.get("PATCHBAY_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
ROUND_S = 4.0
CHANGES_PER_ROUND = 40
STEADY_FRAMES = 150  # of each round
STEADY_BURST = 12    # at most so many on their way at once: far from filling any ring
OUTSIDE_THE_BALANCE = "kernel_ring_full"
MEMORY_LIMIT_KB = 150 << 10  # anonymous, of a daemon on which nothing is left


class Soak:
    def __init__(self, lab):
        self.lab = lab
        lab.wire = {}
        for uplink in UPLINKS:
            lab.wire[uplink] = lab.add_netns(uplink)
            veth(lab.host, uplink, lab.wire[uplink], f"{uplink}-far")
            for netns, name in ((lab.host, uplink), (lab.wire[uplink], f"{uplink}-far")):
                netns.run("ip", "link", "set", name, "mtu", NIC_MTU)  # larger than any switch's: oversize frames arrive
        lab.daemon.start()
        self.rest = Rest(lab.daemon.api_socket)
        self.timeline = Timeline(State())
        self.traffic = Traffic(self.timeline, SEED)
        self.chance = random.Random(SEED + 1)
        self.changes = Changes(self.chance, self.rest, lab, self.timeline, self.traffic)
        self.rounds = 0
        self.steady = 0
        self._base = {}

    def build(self):
        for name, kind, uplink in (("ext", "external", "raw0"), ("out", "external", "raw1"), ("int", "internal", None),
                                   ("priv", "private", None)):
            self.changes.create_switch(name, kind, uplink)
        self.changes.create_machine("ext")
        for _ in range(18):
            self.changes.create_vnic()

    def close(self):
        self.traffic.stop()
        for end in self.traffic.ends.values():
            end.close()

    def clear(self):
        """Deletes every vnic and switch, frames or not."""
        for name in self.timeline.now.vnics:
            self.rest.do("DELETE", f"/v1/vnics/{name}")
        for name in self.timeline.now.switches:
            self.rest.do("DELETE", f"/v1/switches/{name}")

    # ---- A round ----------------------------------------------------------------------------------------------------

    def round(self):
        self.rounds += 1
        self.rebase()
        self.traffic.go()
        end = time.monotonic() + ROUND_S
        try:
            while (left := end - time.monotonic()) > 0 and not self.traffic.problems:
                self.changes.one()
                time.sleep(min(left, self.chance.expovariate(CHANGES_PER_ROUND / ROUND_S)))
        finally:
            self.traffic.pause()
        self.come_to_rest()
        self.check_no_problem()
        self.check_shown()
        self.rebase()
        self.steady_frames()

    def check_no_problem(self):
        assert not self.traffic.problems, f"seed {SEED}, round {self.rounds}:\n" + "\n".join(self.traffic.problems)

    def rebase(self):
        self.traffic.rest()
        self.timeline.rest()
        self.changes.unbalanced.clear()
        self.changes.gone.clear()
        self._base = self.changes.base = self.counters()
        for end in self.traffic.ends.values():
            end.rebase()

    # ---- The account ------------------------------------------------------------------------------------------------

    def counters(self):
        """{port: {"in", "out", "copies", "cut", "merged", "waiting", "drops": {reason: frames}}}, all of one moment."""
        shown = self.rest.get("/v1/show")
        state = self.timeline.now
        ports = {state.vnics[vnic["name"]].port: _of_vnic(vnic) for vnic in shown["vnics"]}
        for switch in shown["switches"]:
            if switch["uplink"]:
                ports[state.switches[switch["name"]].port] = _counted(switch["uplink"]["counters"], "wire")
        return ports

    def since(self, now):
        none = {"in": 0, "out": 0, "copies": 0, "cut": 0, "merged": 0, "waiting": 0, "drops": {}}
        return {port: _minus(counted, self._base.get(port, none)) for port, counted in now.items()}

    def come_to_rest(self):
        """Waits until every frame is accounted for; AssertionError with what is not."""
        try:
            wait_until(lambda: self.traffic.problems or not self.unrest(), "rest", LIMIT_S)
        except LabError:
            self.check_no_problem()
            raise AssertionError(f"seed {SEED}, round {self.rounds}: frames are lost or made up:\n"
                                 + "\n".join(self.unrest())) from None

    def unrest(self):
        """Sentences about frames that are not accounted for."""
        self.traffic.poll()
        problems = [f"{port}: frames are waiting" for port, end in self.traffic.ends.items() if not end.at_rest()]
        since = self.since(self.counters())
        for port, end in self.traffic.ends.items():
            counted = since[port]
            never_came = counted["drops"].get(OUTSIDE_THE_BALANCE, 0)
            if counted["waiting"]:
                problems.append(f"{port}: {counted['waiting']} frames wait in its buffer")
            if end.exact and counted["in"] + never_came != end.sent:
                problems.append(f"{port}: sent {end.sent}, counted {counted}")
            if end.exact and counted["out"] != end.received:
                problems.append(f"{port}: got {end.received}, counted {counted}")
                end.hurry()
        state = self.timeline.now
        for name, switch in state.switches.items():
            if name in self.changes.unbalanced:
                continue
            ports = [since[vnic.port] for vnic in state.of_switch[name]]
            ports += [since[switch.port]] if switch.uplink else []
            ports += [_minus(_of_vnic(last), self._base[port]) if port in self._base else _of_vnic(last)
                      for port, last in self.changes.gone.get(name, [])]
            difference = sum(port["in"] + port["copies"] + port["cut"] - port["out"] - port["merged"] - port["waiting"]
                             - _drops(port) for port in ports)
            if difference:
                problems.append(f"switch {name}: {difference} frames of {ports}")
        return problems

    # ---- What is shown ----------------------------------------------------------------------------------------------

    def check_shown(self):
        """The daemon shows what was asked for and nothing of what was refused."""
        shown = self.rest.get("/v1/show")
        state = self.timeline.now
        assert {s["name"]: (s["type"], s["mtu"], s["force_vlan"]) for s in shown["switches"]} == \
            {s.name: (s.kind, s.mtu, s.force_vlan) for s in state.switches.values()}
        assert {v["name"]: (v["switch"], v["mac"], v["mac_spoofing"], v["trust_priority"], _mode(v["vlan"]))
                for v in shown["vnics"]} == \
            {v.name: (v.switch, v.mac.hex(":"), v.spoofing, v.trusts_priority, _mode(state.modes[v.name].json()))
             for v in state.vnics.values()}

        def waiting():
            return [(vnic["name"], vnic["state"], vnic["state_reason"]) for vnic in self.rest.get("/v1/vnics")
                    if vnic["state"] != ("up" if vnic["kind"] == "host" else "connected")]
        wait_until(lambda: not waiting(), f"vnics to be connected: {waiting()}", LIMIT_S)

    # ---- Frames while nothing changes -------------------------------------------------------------------------------

    def steady_frames(self):
        state = self.timeline.now
        wanted, reasons, open_ports = {}, {}, set()
        ends = list(self.traffic.ends.values())
        for at in range(STEADY_FRAMES):
            end = self.chance.choice(ends)
            number = self.traffic.send(end, steady=True)
            if number is not None:
                self._expect(state, end.port, number, wanted, reasons, open_ports)
            if at % STEADY_BURST == STEADY_BURST - 1:
                self.come_to_rest()
        self.come_to_rest()
        self.check_no_problem()
        self.steady += len(wanted)
        got = self.traffic.arrived
        wrong = [number for number, to in wanted.items() if got.get(number, set()) != to]
        assert not wrong, f"seed {SEED}, round {self.rounds}: " + "\n".join(
            f"frame {number} {self.traffic.sent_frame(number)[:48].hex()} should reach {sorted(wanted[number])}, "
            f"reached {sorted(got.get(number, set()))}" for number in wrong[:5])
        for port, counted in self.since(self.counters()).items():
            if port not in open_ports:
                assert counted["drops"] == reasons.get(port, {}), f"seed {SEED}, round {self.rounds}: drops of {port}"

    def _expect(self, state, port, number, wanted, reasons, open_ports):
        frame = self.traffic.sent_frame(number)
        decision = decide(state, port, frame) if frame else Decision(faults={"bad_descriptor"})
        if decision.unsure or len(decision.faults) > 1:
            open_ports.add(port)
        if not decision.unsure:
            wanted[number] = set(decision.to)
        if len(decision.faults) == 1:
            fault = next(iter(decision.faults))
            of_port = reasons.setdefault(port, {})
            of_port[fault] = of_port.get(fault, 0) + 1


def _of_vnic(shown):
    return _counted(shown["counters"], "guest", shown["buffer"]["frames"])


def _counted(counters, other_side, waiting=0):
    return {"in": counters[f"from_{other_side}"]["frames"], "out": counters[f"to_{other_side}"]["frames"],
            "copies": counters["flood_copies"], "cut": counters["cut_frames"],
            "merged": counters.get("merged_frames", 0),  # uplinks only
            "waiting": waiting,
            "drops": {reason: frames for reason, frames in counters["drops"].items() if frames}}


def _minus(now, before):
    drops = {reason: frames - before["drops"].get(reason, 0) for reason, frames in now["drops"].items()}
    return {"drops": {reason: frames for reason, frames in drops.items() if frames},
            **{key: now[key] - before[key] for key in ("in", "out", "copies", "cut", "merged", "waiting")}}


def _drops(counted):
    return sum(frames for reason, frames in counted["drops"].items() if reason != OUTSIDE_THE_BALANCE)


def _mode(shown):
    """A VLAN mode without what says nothing, lists as sets of ids."""
    mode = {}
    for key, value in shown.items():
        if key == "forced" or value is None or value == "":
            continue
        mode[key] = _vids(value) if key in ("allowed", "pruned", "secondaries") else value
    return mode


def _vids(text):
    ids = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        ids.update(range(int(first), int(last or first) + 1))
    return ids


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1])


@pytest.fixture
def lab():
    with Lab.create(f"t{os.getpid()}-soak") as made:
        yield made


def test_soak(lab):
    print(f"\nsoak: {SECONDS:g} s with PATCHBAY_SOAK_SEED={SEED}", flush=True)
    soak = Soak(lab)
    pid = lab.daemon.process.pid
    open_before = descriptors(pid)
    soak.build()
    print("soak: the guest is up, frames begin to flow", flush=True)
    soak.traffic.start()
    end = time.monotonic() + SECONDS
    told = 0.0
    try:
        while time.monotonic() < end:
            soak.round()
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"soak: round {soak.rounds}, {soak.traffic.frames_sent} frames sent and "
                      f"{soak.traffic.frames_received} arrivals held against the model, {soak.steady} frames against "
                      f"all of it, {sum(soak.changes.done.values())} changes, daemon "
                      f"{memory_kb(pid)} kB", flush=True)
    finally:
        soak.close()
    print(f"soak: {soak.changes.done}", flush=True)
    soak.clear()
    wait_until(lambda: descriptors(pid) <= open_before,
               f"no more than {open_before} descriptors to be open", LIMIT_S)
    assert memory_kb(pid) < MEMORY_LIMIT_KB
