"""A team of two NICs between Patchbay and an Open vSwitch, a station in VLAN 101 at each side, and numbered frames."""

import contextlib
import json
import re
import threading
import time

from conftest import Host
from lab import netcheck
from lab.lab import Lab
from lab.proc import wait_until
from lab.rawport import RawPort

NICS = ("eth1", "eth2")
VIDS = (101, 102)
ETHERTYPE = b"\x88\xb5"
IPV4 = b"\x08\x00"


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def udp(to, source, number, flow=0):
    """A numbered frame of one of many flows, 60 bytes or more: IPv4 and UDP without a checksum."""
    payload = b"%010d" % number + bytes(14)
    ports = (40000 + flow).to_bytes(2, "big") + (9).to_bytes(2, "big")
    header = bytes.fromhex("450000340000400040110000") + bytes((10, 9, 0, 1, 10, 9, 0, 2))
    total = sum(int.from_bytes(header[at:at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + total.to_bytes(2, "big") + header[12:]
    return to + source + IPV4 + header + ports + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload


def number_of(frame):
    """The number in a frame of udp(), with a tag or without; None: it is another one."""
    at = 16 if frame[12:14] == b"\x81\x00" else 12
    if frame[at:at + 2] != IPV4 or len(frame) < at + 2 + 38:
        return None
    text = frame[at + 30:at + 40]
    return int(text) if text.isdigit() else None


class Stream:
    """Numbered frames from one raw port to another, at a steady pace, in several flows; what was heard, and when."""

    def __init__(self, source, target, to, pace_s=0.0005, flows=16):
        self.source_mac, self.to = source[1], to
        self._from, self._at = source[0], target
        self._pace, self._flows = pace_s, flows
        self.sent = 0
        self.heard = {}  # number: how often
        self.reordered = 0
        self.longest_gap_s = 0.0
        self._last = {}
        self._last_heard = None
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._send, self._hear)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self):
        while not self._stop.is_set():
            with contextlib.suppress(OSError):  # its interface may be between two states
                self._from.send(udp(self.to, self.source_mac, self.sent, self.sent % self._flows))
            self.sent += 1
            self._stop.wait(self._pace)

    def _hear(self):
        end = None
        while end is None or time.monotonic() < end:
            for frame in self._at.pending():
                self._note(frame)
            if self._stop.is_set() and end is None:
                end = time.monotonic() + 0.5
            time.sleep(0.0005)

    def _note(self, frame):
        number = number_of(frame)
        if number is None or frame[:6] != self.to:
            return
        now = time.monotonic()
        if self._last_heard is not None:
            self.longest_gap_s = max(self.longest_gap_s, now - self._last_heard)
        self._last_heard = now
        self.heard[number] = self.heard.get(number, 0) + 1
        flow = number % self._flows
        self.reordered += number < self._last.get(flow, -1)
        self._last[flow] = max(number, self._last.get(flow, -1))

    @property
    def lost(self):
        return self.sent - len(self.heard)

    @property
    def doubled(self):
        return {number: times for number, times in self.heard.items() if times > 1}

    def goes_on(self, count=50, limit_s=30.0):
        goal = len(self.heard) + count
        wait_until(lambda: len(self.heard) >= goal, "numbered frames to arrive", limit_s)


class TeamBed(Host):
    """eth1 and eth2 lead to the physical switch; the host vnic `vm` is in VLAN 101, and so is eth0 of `station`."""

    def __init__(self, lab):
        super().__init__(lab)
        self.physical = lab.add_physical()
        self.station = lab.add_wire_host("station", 101, "10.9.0.2")
        self.ends = []
        self._ports = {}

    def cable(self, *settings, bond=True):
        """Both cables to the switch: one port there (a bond), or two trunks."""
        vids = VIDS
        if bond:
            self.ends = self.physical.add_bond("bond0", self.netns, NICS, vids, *settings)
        else:
            self.ends = [self.physical.add_trunk(self.netns, nic, vids) for nic in NICS]
        return self

    def wire(self, *words, vnics=(("vm", 101),)):
        """The team `uplink`, the switch `lan` on it, and host vnics."""
        self.daemon.do("team", "create", "uplink", "--nics", ",".join(NICS), *words)
        self.daemon.do("switch", "create", "lan", "--external", "uplink")
        for name, vid in vnics:
            self.daemon.do("vnic", "create", name, "--switch", "lan", "--host", "--vlan", vid)
        return self

    def team(self):
        return self.json("team", "show", "uplink")

    def states(self):
        return {member["nic"]: member["state"] for member in self.team()["members"]}

    def wait_states(self, *states, limit_s=20.0):
        wanted = dict(zip(NICS, states))
        wait_until(lambda: self.states() == wanted, f"members to be {wanted}, not {self.team()['members']}", limit_s)

    def set_cable(self, nic, up):
        """The carrier of one of the cables, at the switch's end."""
        self.physical.netns.run("ip", "link", "set", self.ends[NICS.index(nic)], "up" if up else "down")

    def port(self, netns, interface):
        if (netns.name, interface) not in self._ports:
            self._ports[netns.name, interface] = RawPort(netns, interface)
        return self._ports[netns.name, interface]

    def stream_out(self, **options):
        """From the vnic to the station."""
        vm = (self.port(self.netns, "vm"), mac_bytes(self.netns.mac("vm")))
        return Stream(vm, self.port(self.station, "eth0"), mac_bytes(self.station.mac("eth0")), **options)

    def stream_in(self, **options):
        station = (self.port(self.station, "eth0"), mac_bytes(self.station.mac("eth0")))
        return Stream(station, self.port(self.netns, "vm"), mac_bytes(self.netns.mac("vm")), **options)

    def check_account(self):
        [account] = netcheck.settled_accounts(self.daemon)
        assert account.difference == 0, str(account)

    def reset(self):
        """Without team and cables, for the next test."""
        for port in self._ports.values():
            port.close()
        self._ports = {}
        self.clear()
        for end in self.ends:
            self.physical.netns.run("ip", "link", "delete", end, check=False)
        for port in ("bond0", *self.ends):
            self.physical.vsctl("--if-exists", "del-port", "wire", port)
        self.ends = []
        wait_until(lambda: not any(f"{nic}@" in self.netns.run("ip", "-o", "link").stdout for nic in NICS), "the cables to go")


@contextlib.contextmanager
def team_bed(name):
    with Lab.create(name) as lab:
        lab.daemon.start()
        yield TeamBed(lab)


def lacp_lines(physical):
    """What the partner says of each member: {end: its line of lacp/show}."""
    text = physical.appctl("lacp/show", "bond0").stdout
    return {match[1]: match[2] for match in re.finditer(r"^member: (\S+): (.*)$", text, re.MULTILINE)}


def drops(view):
    return {reason: frames for reason, frames in view["counters"]["drops"].items() if frames}


def show(value):
    return json.dumps(value, indent=1)
