"""Teams and VLANs under random changes: members pulled and plugged, added and removed, modes, balances, vnics, their VLANs, the
partner and the daemon restarted, while numbered frames go both ways. No frame in a wrong VLAN or twice, and at the end
every frame is accounted for.

PATCHBAY_TEAM_SOAK_SECONDS (default 120) is for how long, PATCHBAY_SOAK_SEED makes the same random choices again.
"""

import os
import random
import time

import pytest
from conftest import lab_name
from lab import netcheck
from lab.proc import wait_until
from lab.rawport import RawPort
from team_bed import ETHERTYPE, NICS, mac_bytes, team_bed

SECONDS = float(os.environ.get("PATCHBAY_TEAM_SOAK_SECONDS", "120"))
SEED = int(os.environ.get("PATCHBAY_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LACP = ("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
VIDS = (101, 102)
MARK = b"team-soak-"


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
        self.vids = {"vm": 101, "vm2": 102, "vm3": 101}
        self.ports = {}

    def open_ports(self):
        for port in self.ports.values():
            port.close()
        self.ports = {name: RawPort(self.bed.netns, name) for name in self.vids}

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

    def vnic(self):
        self.check_account()
        self.bed.daemon.do("vnic", "delete", "vm3")
        self.base = self.difference()
        self.bed.daemon.do("vnic", "create", "vm3", "--switch", "lan", "--host", "--vlan", self.vids["vm3"])
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
            time.sleep(0.002)
        time.sleep(0.1)
        seen = {}
        for place, port in (*self.ports.items(), *self.stations.items()):
            for frame in port.pending():
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


@pytest.fixture
def bed(_root):
    with team_bed(lab_name("tsoak")) as made:
        yield made


def test_soak(bed):
    print(f"\nteam soak: {SECONDS:g} s with PATCHBAY_SOAK_SEED={SEED}", flush=True)
    bed.cable(bond=False).wire("--failback-delay", 100, vnics=(("vm", 101), ("vm2", 102), ("vm3", 101)))
    soak = Soak(bed, random.Random(SEED))
    soak.open_ports()
    soak.settle()
    changes = [soak.pull] * 4 + [soak.members] * 3 + [soak.balance] * 3 + [soak.vlan] * 3 + [soak.vnic] * 2 + [
        soak.partner, soak.daemon]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(soak.choices.randrange(1, 4)):
            soak.choices.choice(changes)()
            soak.changes += 1
            soak.exchange(5)
        soak.settle()
        soak.check_account()
    print(f"{soak.changes} changes, {soak.sent} frames sent, {soak.heard} heard", flush=True)
    assert soak.changes and soak.heard
