"""The ways to wire VLANs, each as a table: what the physical ports carry, which switches, which VLAN each vnic has.

All ends are in one IP subnet, so that nothing but the VLAN keeps two of them apart.

1   one access port, one switch, no ids: every guest is in the VLAN of the port
2a  two access ports, one NIC and one switch each, no ids: the switch that a vnic is on decides
2b  two trunks, one switch each with a forced VLAN: as 2a, without trust in the physical ports
3   one trunk, one switch, an id for each vnic (recommended)
"""

from dataclasses import dataclass

from .netcheck import End
from .proc import LabError, wait_until

NICS = ("trunk0", "trunk1")
SUBNET = "10.77.0"
VMS = ("vm1", "vm2", "vm3", "vm4")
HOST_VNIC = "host101"
WIRE_HOSTS = {"h101": (101, f"{SUBNET}.101"), "h102": (102, f"{SUBNET}.102")}
ADDRESSES = {"vm1": f"{SUBNET}.1", "vm2": f"{SUBNET}.2", "vm3": f"{SUBNET}.3", "vm4": f"{SUBNET}.4",
             HOST_VNIC: f"{SUBNET}.100"}


@dataclass(frozen=True)
class Switch:
    name: str
    nic: str
    force_vlan: int | None = None


@dataclass(frozen=True)
class Vnic:
    name: str
    switch: str
    vlan: int | None  # what Patchbay is told
    vid: int          # where it has to end up

    @property
    def is_host(self):
        return self.name == HOST_VNIC


@dataclass(frozen=True)
class Wiring:
    name: str
    title: str
    ports: dict  # NIC: ("access", vid) or ("trunk", (vid, …))
    switches: tuple
    vnics: tuple


def _vnics(switch_of, vlan_of, vid_of):
    vlan = {"vm1": 101, "vm2": 101, "vm3": 102, "vm4": 102, HOST_VNIC: 101}
    return tuple(Vnic(name, switch_of(vid), vlan_of(vid), vid_of(vid)) for name, vid in vlan.items())


_TRUNK = ("trunk", (101, 102))
WIRINGS = {w.name: w for w in (
    Wiring("1", "one access port in VLAN 101, one switch, no VLAN ids", {"trunk0": ("access", 101)},
           (Switch("lan", "trunk0"),), _vnics(lambda _: "lan", lambda _: None, lambda _: 101)),
    Wiring("2a", "two access ports, one switch each, no VLAN ids",
           {"trunk0": ("access", 101), "trunk1": ("access", 102)},
           (Switch("lan101", "trunk0"), Switch("lan102", "trunk1")),
           _vnics(lambda vid: f"lan{vid}", lambda _: None, lambda vid: vid)),
    Wiring("2b", "two trunks, one switch each with a forced VLAN", {"trunk0": _TRUNK, "trunk1": _TRUNK},
           (Switch("lan101", "trunk0", 101), Switch("lan102", "trunk1", 102)),
           _vnics(lambda vid: f"lan{vid}", lambda _: None, lambda vid: vid)),
    Wiring("3", "one trunk, one switch, a VLAN id for each vnic", {"trunk0": _TRUNK},
           (Switch("lan", "trunk0"),), _vnics(lambda _: "lan", lambda vid: vid, lambda vid: vid)),
)}


def wiring(name):
    if name not in WIRINGS:
        raise LabError(f"there is no wiring {name!r}; known: {', '.join(WIRINGS)}")
    return WIRINGS[name]


class Wire:
    """The physical side: the switch, its cables to the NICs of the host namespace, the wire hosts."""

    def __init__(self, lab):
        self.lab = lab
        self.hosts = {}
        self._ports = {}

    def build(self, nics=NICS):
        physical = self.lab.add_physical()
        for nic in nics:
            self._ports[nic] = physical.add_trunk(self.lab.host, nic, (101, 102))
        for name, (vid, address) in WIRE_HOSTS.items():
            self.hosts[name] = self.lab.add_wire_host(name, vid, address)
        return self

    def set_ports(self, ports):
        """Tells the physical switch what each NIC's port carries; a NIC that is not named gets nothing."""
        for nic, port in self._ports.items():
            mode, vids = ports.get(nic, ("trunk", (4000,)))
            if mode == "access":
                settings = [f"tag={vids}", "trunks=[]", "vlan_mode=access"]
            else:
                settings = ["tag=[]", f"trunks={','.join(map(str, vids))}", "vlan_mode=trunk"]
            self.lab.physical.vsctl("set", "port", port, *settings)
        self.lab.physical.appctl("fdb/flush", "wire")

    def ends(self):
        return [End.of_netns(netns, name, WIRE_HOSTS[name][1], WIRE_HOSTS[name][0], "wire")
                for name, netns in self.hosts.items()]


def clear(daemon):
    """Deletes every policy, then every vnic, then every switch, then every team."""
    host = daemon.json("show")
    for policy in host["policies"]:
        if policy["apply_to"]:
            daemon.do("policy", "set", policy["name"], "--apply-to", "none")
        daemon.do("policy", "delete", policy["name"])
    for vnic in host["vnics"]:
        daemon.do("vnic", "delete", vnic["name"])
    for switch in host["switches"]:
        daemon.do("switch", "delete", switch["name"])
    for team in host["teams"]:
        daemon.do("team", "delete", team["name"])


def create(daemon, plan, macs=None, nics=None, connect=None):
    """Builds the wiring `plan` with the CLI, on an empty host. `macs`: addresses of vnics that must not come from the
    pool; `nics`: other NICs than the lab's; `connect`: sockets that guests listen on. Gives the commands."""
    commands = []
    for switch in plan.switches:
        words = ["switch", "create", switch.name, "--external", (nics or {}).get(switch.nic, switch.nic)]
        if switch.force_vlan:
            words += ["--force-vlan", str(switch.force_vlan)]
        commands.append(words)
    for vnic in plan.vnics:
        words = ["vnic", "create", vnic.name, "--switch", vnic.switch]
        if vnic.is_host:
            words.append("--host")
        if vnic.vlan:
            words += ["--vlan", str(vnic.vlan)]
        if macs and vnic.name in macs:
            words += ["--mac", macs[vnic.name]]
        if connect and vnic.name in connect:
            words += ["--connect", connect[vnic.name]]
        commands.append(words)
    for words in commands:
        daemon.do(*words)
    return commands


def set_host_ip(lab):
    """The host vnic is an ordinary interface of the host namespace: give it its address as an administrator would."""
    wait_until(lambda: lab.host.run("ip", "link", "show", HOST_VNIC, check=False).returncode == 0,
               f"the host interface {HOST_VNIC}")
    lab.host.set_ip(HOST_VNIC, ADDRESSES[HOST_VNIC])


def ends(lab, plan, wire):
    """Every end of the wiring as netcheck wants it."""
    found = []
    for vnic in plan.vnics:
        if vnic.is_host:
            found.append(End.of_netns(lab.host, vnic.name, ADDRESSES[vnic.name], vnic.vid, "host vnic"))
        else:
            found.append(End.of_guest(lab.guests[vnic.name], vnic.vid))
    return found + (wire.ends() if wire else [])


def wait_connected(daemon, vnic_names, limit_s=30.0):
    """Waits until each of the vnics has its guest."""
    def missing():
        views = {v["name"]: v for v in daemon.json("vnic", "list")}
        return [f"{n}: {views[n]['state']} ({views[n]['state_reason']})" for n in vnic_names
                if views[n]["state"] != "connected"]
    try:
        wait_until(lambda: not missing(), "the guests to connect", limit_s)
    except LabError as error:
        raise LabError(f"{error}: {'; '.join(missing())}") from error
