"""Internal and Private switches with real guests, and several host vnics of one switch, each with a VLAN of its own."""

import contextlib

import pytest
from bed import MACS
from lab import netcheck, wirings
from lab.netcheck import End
from lab.rawport import RawPort
from scapy.layers.l2 import Ether

VIDS = {"vm1": 101, "vm2": 101, "vm3": 102, "vm4": None}  # vm4 is untagged
HOST_VNICS = {"mgmt101": 101, "mgmt102": 102, "mgmt": None}
MARK = b"patchbay-switch-types"


def vlan(vid):
    return ("--vlan", vid) if vid else ()


@pytest.fixture
def guests_on(bed):
    """Puts the guests on one switch of a type that has no uplink; gives the ends that should see each other."""
    def put(kind):
        bed.use("3")  # the guests are up and have their addresses
        wirings.clear(bed.daemon)
        bed.daemon.do("switch", "create", "lab", f"--{kind}")
        for name, vid in VIDS.items():
            bed.daemon.do("vnic", "create", name, "--switch", "lab", "--mac", MACS[name], *vlan(vid))
        wirings.wait_connected(bed.daemon, VIDS)
        return [End.of_guest(bed.guests[name], vid) for name, vid in VIDS.items()]
    yield put
    wirings.clear(bed.daemon)
    bed._reusable = None


def balanced(bed):
    [account] = netcheck.settled_accounts(bed.daemon)
    assert account.difference == 0, account
    return account


def test_private_switch_joins_guests_by_vlan_and_nobody_else(bed, guests_on):
    ends = guests_on("private")
    before = {nic: bed.lab.host.statistics(nic) for nic in wirings.NICS}
    seen = netcheck.matrix(ends)
    assert not netcheck.wrong(ends, seen), netcheck.table(ends, seen)
    refused = bed.daemon.cli("vnic", "create", "spy", "--switch", "lab", "--host")
    assert refused.returncode == 1 and "lab" in refused.stderr and "private" in refused.stderr
    assert not [link for link in bed.lab.host.run("ip", "-o", "link").stdout.splitlines() if "spy" in link]
    # Nothing of it came out at a NIC.
    assert {nic: bed.lab.host.statistics(nic)["tx_packets"] for nic in wirings.NICS} == \
        {nic: statistics["tx_packets"] for nic, statistics in before.items()}
    balanced(bed)


def test_internal_switch_has_the_host_in_it_once_for_each_vlan(bed, guests_on):
    ends = guests_on("internal")
    for name, vid in HOST_VNICS.items():
        bed.daemon.do("vnic", "create", name, "--switch", "lab", "--host", *vlan(vid))
    bed.lab.host.set_ip("mgmt102", f"{wirings.SUBNET}.102")
    ends.append(End.of_netns(bed.lab.host, "mgmt102", f"{wirings.SUBNET}.102", 102, "host vnic"))
    seen = netcheck.matrix([end for end in ends if end.vid == 102])
    assert all(seen.values()), seen
    balanced(bed)


def test_a_broadcast_reaches_the_host_vnics_of_its_vlan_once(bed, guests_on):
    guests_on("internal")
    vids = {**HOST_VNICS, "more101": 101, "more": None}
    for name, vid in vids.items():
        bed.daemon.do("vnic", "create", name, "--switch", "lab", "--host", *vlan(vid))
    macs = {name: bed.daemon.json("vnic", "show", name)["mac"] for name in vids}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(RawPort(bed.lab.host, name)) for name in vids}
        for sender in vids:
            mark = MARK + sender.encode()
            ports[sender].send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=macs[sender], type=0x88B5)
                                     / (mark + bytes(40))))
            netcheck.settled_accounts(bed.daemon)
            for name, vid in vids.items():
                heard = ports[name].receive(lambda got, mark=mark: mark + bytes(1) in got, limit_s=0.4, quiet_s=0.2)
                assert len(heard) == (vid == vids[sender] and name != sender), (sender, name, heard)
    balanced(bed)


def test_untagged_guests_meet_at_a_switch_with_a_forced_vlan(bed, guests_on):
    """Forced on a switch without an uplink: nobody is left out, and a VLAN of one's own is refused."""
    guests_on("private")
    refused = bed.daemon.cli("switch", "set", "lab", "--force-vlan", "300")
    assert refused.returncode == 1 and all(name in refused.stderr for name in ("vm1", "vm2", "vm3"))
    for name in ("vm1", "vm2", "vm3"):
        bed.daemon.do("vnic", "set", name, "--vlan", "none")
    bed.daemon.do("switch", "set", "lab", "--force-vlan", 300)
    ends = [End.of_guest(bed.guests[name], 300) for name in VIDS]
    seen = netcheck.matrix(ends)
    assert all(seen.values()), netcheck.table(ends, seen)
    refused = bed.daemon.cli("vnic", "set", "vm1", "--vlan", "101")
    assert refused.returncode == 1 and "300" in refused.stderr
    assert bed.daemon.json("vnic", "show", "vm1")["vlan"]["forced"]
    balanced(bed)
