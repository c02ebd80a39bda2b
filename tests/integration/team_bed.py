"""A team of two NICs between Patchbay and an Open vSwitch, a station in VLAN 101 at each side, and numbered frames."""

import contextlib
import json
import re

from conftest import Host
from lab import netcheck
from lab.cables import NICS, Cables
from lab.lab import Lab
from lab.numbered import Stream, mac_bytes
from lab.proc import wait_until
from lab.rawport import RawPort

VIDS = (101, 102)
ETHERTYPE = b"\x88\xb5"
class TeamBed(Host):
    """eth1 and eth2 lead to the physical switch; the host vnic `vm` is in VLAN 101, and so is eth0 of `station`."""

    def __init__(self, lab):
        super().__init__(lab)
        self.physical = lab.add_physical()
        self.station = lab.add_wire_host("station", 101, "10.9.0.2")
        self.cables = Cables(self.physical, self.netns, VIDS)
        self._ports = {}

    @property
    def ends(self):
        """The cables' ends at the physical switch, in the order of NICS."""
        return self.cables.ends

    def cable(self, *settings, bond=True):
        self.cables.plug(*settings, bond=bond)
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

    def wait_partner(self, *enabled):
        """Until the bond there says that exactly these of its cables are in use: it lets LACP say so a little earlier."""
        def in_use():
            text = self.physical.appctl("bond/show", "bond0").stdout
            return {end for end in self.ends if re.search(rf"^member {end}: enabled", text, re.MULTILINE)}
        wanted = {self.ends[NICS.index(nic)] for nic in enabled}
        wait_until(lambda: in_use() == wanted, f"the bond to use {wanted}, not {in_use()}", 20.0)

    def set_cable(self, nic, up):
        self.cables.set_carrier(nic, up)

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
        self.cables.unplug()


@contextlib.contextmanager
def team_bed(name, *arguments):
    """`arguments`: of patchbayd."""
    with Lab.create(name) as lab:
        lab.daemon.arguments += arguments
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
