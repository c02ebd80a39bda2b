"""Where attacks are made: one daemon, two guests that talk undisturbed (talkers.py), and a vnic for the attacker, who
comes and goes. After each attack: nobody else noticed, and nothing of it is left in the daemon."""

import contextlib
import json
import os
import re
import socket
import sys

from attacker import Attacker
from lab.netns import veth
from lab import proc
from lab.proc import LabError, Process
from rest import Rest
from talkers import attack_frame

MACS = {"left": "02:00:00:00:08:01", "right": "02:00:00:00:08:02", "witness": "02:00:00:00:08:03"}
ATTACKER = "02:00:00:00:08:66"
TALKERS_VLAN, ATTACKER_VLAN = 101, 102
ROUNDS = 50  # frames that must have gone to and fro before an attack counts as survived

BROKEN = "wrote values into a ring that no driver writes"
VANISHED = "memory vanished (its file was truncated)"


def wait_until(condition, what, limit_s=60.0, every_s=0.01):
    """proc.wait_until() with more patience: nothing here is judged by how long it takes on a busy machine."""
    return proc.wait_until(condition, what, limit_s, every_s)


class Arena:
    def __init__(self, lab):
        self.lab = lab
        self.cpus = sorted(os.sched_getaffinity(0))
        lab.daemon.arguments = ["--worker-cpus", str(self.cpus[0])]  # away from who races with it
        self.daemon = lab.daemon.start()
        self.rest = Rest(self.daemon.api_socket)
        self.rest.do("POST", "/v1/switches", {"name": "lan", "type": "private"})
        plan = {name: [self._add(name, mac, ATTACKER_VLAN if name == "witness" else TALKERS_VLAN), mac]
                for name, mac in MACS.items()}
        self._control, theirs = socket.socketpair()
        self._control.settimeout(60.0)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "talkers.py")
        with theirs:
            self.talkers = Process(lab.record, "talkers", [sys.executable, program, theirs.fileno(),
                                                           json.dumps({**plan, "attacker": ATTACKER})],
                                   os.path.join(lab.dir, "talkers.log"), pass_fds=[theirs.fileno()])
        self._number = 0
        self.undisturbed({"answered": 0})
        self._held = None
        self.settle()

    def close(self):
        self._control.close()
        self.talkers.wait()

    def _add(self, name, mac, vid, switch="lan"):
        made = self.rest.do("POST", "/v1/vnics", {"name": name, "switch": switch, "mac": mac,
                                                  "vlan": {"mode": "access", "vid": vid}})
        return made["vhost_socket"]

    # ---- What is seen -----------------------------------------------------------------------------------------------

    def seen(self):
        """What the talkers saw so far."""
        self.talkers.check()
        self._control.sendall(b"?")
        line = b""
        while not line.endswith(b"\n"):
            line += self._control.recv(65536)
        return json.loads(line)

    def vnic(self, name="bad"):
        return self.rest.get(f"/v1/vnics/{name}")

    def drops(self, name="bad"):
        return {reason: frames for reason, frames in self.vnic(name)["counters"]["drops"].items() if frames}

    def wait_drops(self, reason, least=1, name="bad"):
        return wait_until(lambda: self.drops(name).get(reason, 0) >= least, f"{least} drops of {name} as {reason}")

    def wait_taken(self, bad):
        """Everything that the attacker has in its transmit ring was given back."""
        wait_until(lambda: bad.free(1) == bad.entries, "what the attacker offered to be taken")

    def wait_failed(self, reason):
        """The attacker lost its link, and `vnic show` says why; for people, through the CLI."""
        wait_until(lambda: self.vnic()["state"] == "failed", "the attacker's link to end")
        shown = self.daemon.json("vnic", "show", "bad")
        assert shown["state"] == "failed" and reason in shown["state_reason"], shown["state_reason"]

    def wait_refused(self, bad, reason):
        """The same for a connection that ends by what was said on it."""
        assert bad.is_closed(60.0)
        self.wait_failed(reason)

    def heard(self, bad):
        """The attacker's frames still come through, to where they may: sends one and waits for it."""
        self.wait_taken(bad)
        self.seen()  # the witness has room again
        self._number += 1
        bad.send_frame(attack_frame(bad.mac, self._number))
        wait_until(lambda: self.seen()["last_heard"] == self._number, "the witness to hear the attacker")

    def undisturbed(self, before):
        """Since `before`, what seen() gave then, nobody but the attacker lost or saw anything; and frames go on."""
        least = self.seen()["answered"] + ROUNDS
        wait_until(lambda: self.seen()["answered"] >= least, "the talkers to go on")
        seen = self.seen()
        assert seen["problems"] == []
        assert seen["answered"] > before["answered"]
        for name in MACS:
            shown = self.vnic(name)
            assert shown["state"] == "connected", shown["state_reason"]
        for name in ("left", "right"):
            assert set(self.drops(name)) <= {"not_connected"}, "of the time before both were there"
        self.daemon.process.check()

    # ---- What is left -----------------------------------------------------------------------------------------------

    def resources(self):
        """What the daemon holds: descriptors and shared memory by kind, and threads."""
        process = f"/proc/{self.daemon.process.pid}"
        held = []
        for name in os.listdir(f"{process}/fd"):
            with contextlib.suppress(FileNotFoundError):
                held.append(re.sub(r"\d+", "N", os.readlink(f"{process}/fd/{name}")))
        with open(f"{process}/maps", encoding="utf-8") as file:
            held += [f"mapped {line.split()[5]}" for line in file if "/memfd:" in line or "/hugepages" in line]
        held += ["thread"] * len(os.listdir(f"{process}/task"))
        return sorted(held)

    def settle(self):
        """What the daemon holds by now is what it must hold after each attack. Waits until that stays the same: the
        connection of the last request may not be closed yet."""
        last = [None] * 3

        def settled():
            last[:] = [*last[1:], self.resources()]
            return last[0] == last[1] == last[2] and last[0]
        self._held = wait_until(settled, "the daemon to come to rest", every_s=0.05)

    def memory_kb(self):
        """The daemon's anonymous memory, and its address space."""
        with open(f"/proc/{self.daemon.process.pid}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["RssAnon"].split()[0]), int(fields["VmSize"].split()[0])

    # ---- Others, for a while ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def uplink(self, switch):
        """An external switch on a bare wire."""
        peers = self.lab.add_netns(switch)
        veth(self.lab.host, switch, peers, "eth0")
        self.rest.do("POST", "/v1/switches", {"name": switch, "type": "external", "uplink": switch})
        # The packet ring of a vnic's queue stays for the next vnic, until the NIC is let go.
        self._add("bad", ATTACKER, ATTACKER_VLAN, switch)
        self.rest.do("DELETE", "/v1/vnics/bad")
        self.settle()
        try:
            yield
        finally:
            self.rest.do("DELETE", f"/v1/switches/{switch}")
            self.settle()

    def uplink_drops(self, switch):
        drops = self.rest.get(f"/v1/switches/{switch}")["uplink"]["counters"]["drops"]
        return {reason: frames for reason, frames in drops.items() if frames}

    # ---- An attack --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def attacker(self, switch="lan", **options):
        """An attacker (Attacker's `options`) on the vnic `bad`, not connected yet. When it is gone, all must be as
        before, and nobody may have noticed."""
        before = self.seen()
        bad = Attacker(self._add("bad", ATTACKER, ATTACKER_VLAN, switch), ATTACKER, **options)
        try:
            yield bad
        finally:
            bad.close()
            self.rest.do("DELETE", "/v1/vnics/bad")
        self.undisturbed(before)

        def difference():
            now = self.resources()
            return f"before: {self._held}\nnow: {now}" if now != self._held else ""
        try:
            wait_until(lambda: not difference(), "the daemon to let go of what the attacker gave it")
        except LabError:
            assert difference() == ""
            raise
