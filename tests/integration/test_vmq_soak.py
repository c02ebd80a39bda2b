"""Queues of vnics, teams and VLANs together, under random changes: members pulled and plugged, added and removed, modes,
balances, weights, workers, vnics, their VLANs, the partner and the daemon restarted, while numbered frames go both ways between
the wire, host vnics and two QEMU guests. No frame in a wrong VLAN, in a wrong VM or twice, none lost once a change is in
force, and at the end every frame is accounted for.

PATCHBAY_VMQ_SOAK_SECONDS (default 300) is for how long, PATCHBAY_SOAK_SEED makes the same random choices again.
"""

import os
import random
import time

import pytest
from conftest import lab_name
from lab import guest_numbers, netcheck, wirings
from lab.proc import wait_until
from lab.rawport import RawPort
from team_bed import ETHERTYPE, NICS, mac_bytes, team_bed

SECONDS = float(os.environ.get("PATCHBAY_VMQ_SOAK_SECONDS", "300"))
SEED = int(os.environ.get("PATCHBAY_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LACP = ("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
VIDS = (101, 102)
MARK = b"vmq--soak-"
GUESTS = {"g1": "02:00:00:00:07:01", "g2": "02:00:00:00:07:02"}
WRONG = 3_000_000_000  # numbers from here on are sent in a VLAN where the guest is not


class Guest:
    """A QEMU guest in a VLAN: it counts the numbers that the station there sends to it, and sends some itself."""

    def __init__(self, soak, name, vid):
        self.soak, self.name, self.mac, self.vid = soak, name, GUESTS[name], vid
        self.vm = soak.bed.lab.guests[name]
        self.next = 0
        self.start()

    def start(self):
        guest_numbers.start(self.vm, self.soak.station_text[self.vid])
        self.next, self.sends = 0, False

    def let_send(self, on):
        """To its station, a few thousand frames a second."""
        if self.sends != on:
            guest_numbers.toggle_sending(self.vm)
            self.sends = on

    def send_to(self, count):
        """From the station, and from the other VLAN, from where nothing may come."""
        right, wrong = self.soak.stations[self.vid], self.soak.stations[203 - self.vid]
        for _ in range(count):
            right.send(guest_numbers.frame(self.mac, self.soak.station_text[self.vid], self.next))
            wrong.send(guest_numbers.frame(self.mac, self.soak.station_text[203 - self.vid], WRONG))
            self.next += 1

    def check(self):
        """Whether it has all by now that was sent since the last time, however much was lost before; never twice."""
        before = self.facts()
        first = self.next
        self.send_to(10)
        time.sleep(0.2)
        now = self.facts()
        assert now["next"] <= self.next, f"{self.name}: number {now['next']} is from another VLAN"
        assert now["steps_back"] == before["steps_back"], f"{self.name}: a number came twice, or late: {now}"
        return now["next"] == self.next and now["skipped"] - before["skipped"] == first - before["next"]

    def facts(self):
        facts = guest_numbers.report(self.vm)
        assert facts["lost_by_socket"] == 0, facts
        return facts

    def move(self):
        """To the other VLAN, where the other station is its peer."""
        guest_numbers.stop(self.vm)
        self.vid = 203 - self.vid
        self.soak.bed.daemon.do("vnic", "set", self.name, "--vlan", self.vid)
        self.start()


class Soak:
    def __init__(self, bed, choices):
        self.bed, self.choices = bed, choices
        self.lacp = False
        self.changes = 0
        self.base = 0  # frames that the counters of vnics which are gone would balance
        self.sent = 0
        self.heard = 0
        self.other = bed.lab.add_wire_host("other", 102, "10.9.2.2")
        self.stations = {101: RawPort(bed.station, "eth0"), 102: RawPort(self.other, "eth0")}
        self.station_macs = {101: mac_bytes(bed.station.mac("eth0")), 102: mac_bytes(self.other.mac("eth0"))}
        self.station_text = {101: bed.station.mac("eth0"), 102: self.other.mac("eth0")}
        self.vids = {"vm": 101, "vm2": 102, "vm3": 101}
        self.weights = dict.fromkeys((*self.vids, *GUESTS), 100)
        self.ports = {}
        self.guests = []

    def open_ports(self):
        for port in self.ports.values():
            port.close()
        self.ports = {name: RawPort(self.bed.netns, name) for name in self.vids}

    def add_guests(self):
        for (name, mac), vid in zip(GUESTS.items(), VIDS):
            self.bed.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac, "--vlan", vid)
            vm = self.bed.lab.add_guest(name, mac)
            vm.start_vhost(self.bed.json("vnic", "show", name)["vhost_socket"])
        for name in GUESTS:
            vm = self.bed.lab.guests[name]
            vm.wait_ready()
            vm.run("ip link set eth0 up")
        wirings.wait_connected(self.bed.daemon, GUESTS)
        self.guests = [Guest(self, name, vid) for name, vid in zip(GUESTS, VIDS)]

    # ---- What changes -----------------------------------------------------------------------------------------------

    def pull(self):
        nic = self.choices.choice(NICS)
        self.bed.set_cable(nic, False)
        time.sleep(self.choices.random() * 0.5)
        self.bed.set_cable(nic, True)

    def members(self):
        nics = self.choices.choice(("eth1", "eth2", "eth2,eth1"))
        self.bed.daemon.do("team", "set", "uplink", "--nics", nics)
        time.sleep(self.choices.random() * 0.3)
        self.bed.daemon.do("team", "set", "uplink", "--nics", "eth1,eth2")

    def balance(self):
        self.bed.daemon.do("team", "set", "uplink", "--balance",
                           self.choices.choice(("address-hash", "vnic-port", "dynamic")))

    def vlan(self):
        name = self.choices.choice(list(self.vids))
        self.vids[name] = 203 - self.vids[name]
        self.bed.daemon.do("vnic", "set", name, "--vlan", self.vids[name])

    def guest_vlan(self):
        self.choices.choice(self.guests).move()

    def weight(self):
        name = self.choices.choice(list(self.weights))
        self.weights[name] = self.choices.choice((0, 1, 50, 100))
        self.bed.daemon.do("vnic", "set", name, "--vmq-weight", self.weights[name])

    def worker(self):
        name = self.choices.choice(list(self.weights))
        self.bed.daemon.do("vnic", "set", name, "--worker", self.choices.randrange(self.bed.workers))

    def vnic(self):
        for guest in self.guests:
            guest.let_send(False)
        self.check_account()
        self.bed.daemon.do("vnic", "delete", "vm3")
        self.base = self.difference()
        self.bed.daemon.do("vnic", "create", "vm3", "--switch", "lan", "--host", "--vlan", self.vids["vm3"])
        self.weights["vm3"] = 100
        self.open_ports()

    def partner(self):
        """Its configuration and ours, one after the other, as an administrator does it."""
        self.lacp = not self.lacp
        physical, ends = self.bed.physical, self.bed.ends
        for port in ("bond0", *ends):
            physical.vsctl("--if-exists", "del-port", "wire", port)
        vids = ",".join(map(str, VIDS))
        if self.lacp:
            physical.vsctl("add-bond", "wire", "bond0", *ends, "vlan_mode=trunk", f"trunks={vids}", *LACP)
        else:
            for end in ends:
                physical.vsctl("add-port", "wire", end, "vlan_mode=trunk", f"trunks={vids}")
        self.bed.daemon.do("team", "set", "uplink", "--mode", "lacp" if self.lacp else "switch-independent")

    def daemon(self):
        self.bed.daemon.kill9()
        self.base = 0
        self.bed.daemon.start()
        self.open_ports()

    # ---- What must hold ---------------------------------------------------------------------------------------------

    def exchange(self, count=20):
        """Marked frames both ways; each of them at most once, and in its own VLAN only."""
        for port in (*self.ports.values(), *self.stations.values()):
            port.drain()
        expected = {}  # mark: where it may be heard
        for _ in range(count):
            for name, vid in self.vids.items():
                mac = mac_bytes(self.bed.netns.mac(name))
                for source, port, target, place in ((mac, self.ports[name], self.station_macs[vid], vid),
                                                    (self.station_macs[vid], self.stations[vid], mac, name)):
                    mark = MARK + b"%08d" % self.sent
                    self.sent += 1
                    expected[mark] = place
                    port.send(target + source + ETHERTYPE + mark + bytes(40))
            for guest in self.guests:
                guest.send_to(1)
            time.sleep(0.002)
        time.sleep(0.1)
        seen = {}
        for place, port in (*self.ports.items(), *self.stations.items()):
            for frame in port.pending():
                for guest in self.guests:
                    assert frame[6:12] != mac_bytes(guest.mac) or self.vids.get(place, place) == guest.vid, (
                        f"{place} hears {guest.name}, which is in {guest.vid}: {frame.hex()}")
                at = frame.find(MARK)
                if at < 0 or frame[at:at + 18] not in expected:
                    continue
                seen.setdefault(frame[at:at + 18], []).append(place)
        for mark, places in seen.items():
            assert len(places) == 1, f"{mark} was heard at {places}"
            assert places[0] == expected[mark], f"{mark} is for {expected[mark]} and was heard at {places[0]}"
        self.heard += len(seen)
        return len(seen) == len(expected)

    def difference(self):
        [account] = netcheck.settled_accounts(self.bed.daemon)
        return account.difference

    def check_account(self):
        assert self.difference() == self.base, str(netcheck.accounts(self.bed.daemon)[0])

    def settle(self):
        """What was changed is in force, and then nothing is lost."""
        wait_until(lambda: set(self.bed.states().values()) == {"active"}, "both members to carry frames", 30.0)
        wait_until(self.exchange, "all frames to arrive", 20.0)
        for guest in self.guests:
            wait_until(guest.check, f"{guest.name} to get all that is sent to it", 20.0)
        self.check_queues()

    def check_queues(self):
        """Who has a weight has queues that run, on its own worker; who has none has not."""
        shown = self.bed.json("vmq", "list")
        for name, weight in self.weights.items():
            rows = [row for row in shown["queues"] if row["vnic"] == name]
            if weight == 0:
                assert not rows, rows
                continue
            assert rows and all(row["state"] == "running" for row in rows), (name, rows)
            assert {row["worker"] for row in rows} == {self.bed.json("vnic", "show", name)["on_worker"]}, rows


@pytest.fixture
def bed(_root):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with team_bed(lab_name("vsoak"), "--worker-cpus", ",".join(map(str, cpus))) as made:
        made.workers = len(cpus)
        yield made


def test_soak(bed):
    print(f"\nvmq soak: {SECONDS:g} s with PATCHBAY_SOAK_SEED={SEED}", flush=True)
    bed.cable(bond=False).wire("--failback-delay", 100, vnics=(("vm", 101), ("vm2", 102), ("vm3", 101)))
    soak = Soak(bed, random.Random(SEED))
    soak.open_ports()
    soak.add_guests()
    soak.settle()
    changes = [soak.pull] * 4 + [soak.members] * 3 + [soak.balance] * 3 + [soak.vlan] * 2 + [soak.vnic] * 2 + [
        soak.weight] * 4 + [soak.worker] * 2 + [soak.guest_vlan, soak.partner, soak.daemon]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(soak.choices.randrange(1, 4)):
            for guest in soak.guests:
                guest.let_send(soak.choices.random() < 0.5)
            soak.choices.choice(changes)()
            soak.changes += 1
            soak.exchange(5)
        for guest in soak.guests:
            guest.let_send(False)
        soak.settle()
        soak.check_account()
    print(f"{soak.changes} changes, {soak.sent} frames sent, {soak.heard} heard", flush=True)
    assert soak.changes and soak.heard
