"""The ugly neighbour: frames from the wire that no decent host sends, and tagged ones from guests.

Each case is a frame, who gets it, and how it is counted if nobody does. That the counters tell the truth is checked
after each test against what guests, host and wire saw themselves.
"""

import pytest
from bed import MACS, RAW_NIC
from lab import wirings
from lab.rawport import RawPort
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Dot1Q, Ether

NEIGHBOUR = "02:00:00:00:03:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
UNKNOWN = "02:00:00:00:03:99"
GROUP_101 = {"vm1", "vm2", wirings.HOST_VNIC}
EVERYBODY = {*wirings.VMS, wirings.HOST_VNIC}
PAYLOAD = b"\x88\xb5patchbay-neighbour" + bytes(40)  # a type that no guest answers


def frame(dst, *vids, src=NEIGHBOUR, prio=0):
    tags = b"".join(b"\x81\x00" + (prio << 13 | vid).to_bytes(2, "big") for vid in vids)
    header = bytes(Ether(dst=dst, src=src))[:12]
    return header + tags + PAYLOAD


TRUNK_CASES = {
    "tagged unicast": (frame(MACS["vm1"], 101), {"vm1"}, None),
    "tagged unicast with a priority": (frame(MACS["vm1"], 101, prio=5), {"vm1"}, None),
    "unicast in the wrong VLAN": (frame(MACS["vm1"], 102), set(), "no_destination"),
    "untagged unicast": (frame(MACS["vm1"]), set(), "no_destination"),
    "VID 0 is untagged": (frame(MACS["vm1"], 0, prio=5), set(), "no_destination"),
    "broadcast": (frame(BROADCAST, 101), GROUP_101, None),
    "multicast": (frame("01:00:5e:01:02:03", 101), GROUP_101, None),
    "broadcast in the other VLAN": (frame(BROADCAST, 102), {"vm3", "vm4"}, None),
    "broadcast in a VLAN of nobody": (frame(BROADCAST, 103), set(), "no_destination"),
    "unknown unicast": (frame(UNKNOWN, 101), set(), "no_destination"),
    # Only the outer tag is a tag to the switch; what follows is the VLAN's own business and never leads out of it.
    "two tags": (frame(MACS["vm1"], 101, 102), {"vm1"}, None),
    "two tags, the inner one of the receiver": (frame(MACS["vm3"], 101, 102), set(), "no_destination"),
    "two tags, broadcast": (frame(BROADCAST, 101, 102), GROUP_101, None),
    "a tag behind VID 0": (frame(MACS["vm1"], 0, 101), set(), "vlan_not_allowed"),
    "spanning tree": (frame("01:80:c2:00:00:00", 101), set(), "reserved_address"),
    "LACP, untagged": (frame("01:80:c2:00:00:02"), set(), "reserved_address"),
    "LLDP": (frame("01:80:c2:00:00:0e", 101), set(), "reserved_address"),
    "last reserved address": (frame("01:80:c2:00:00:0f", 101), set(), "reserved_address"),
    "first address after the reserved": (frame("01:80:c2:00:00:10", 101), GROUP_101, None),
    "group address as source": (frame(MACS["vm1"], 101, src="03:00:00:00:03:01"), set(), "source_multicast"),
    "zero as source": (frame(MACS["vm1"], 101, src="00:00:00:00:00:00"), set(), "source_multicast"),
    "a guest's address as source": (frame(MACS["vm1"], 101, src=MACS["vm2"]), set(), "source_mac"),
    "VID 4095": (frame(MACS["vm1"], 4095), set(), "vlan_not_allowed"),
}
UNTAGGED_CASES = {
    "untagged unicast": (frame(MACS["vm1"]), {"vm1"}, None),
    "VID 0 is untagged": (frame(MACS["vm1"], 0, prio=5), {"vm1"}, None),
    "untagged broadcast": (frame(BROADCAST), EVERYBODY, None),
    "tagged unicast": (frame(MACS["vm1"], 101), set(), "no_destination"),
    "tagged broadcast": (frame(BROADCAST, 101), set(), "no_destination"),
}


def check_from_wire(net, sent, receivers, reason):
    with RawPort(net.raw, "eth0") as wire:
        wire.send(sent)
    account = {port: change for (_, port), change in net.wait_account("uplink", "in", 1).items()}
    assert account["uplink"]["in"] == 1 and account["uplink"]["out"] == 0
    assert {port: change["out"] for port, change in account.items() if change["out"]} == dict.fromkeys(receivers, 1)
    assert account["uplink"]["copies"] == max(0, len(receivers) - 1)
    if not receivers:
        assert account["uplink"]["reasons"] == {reason: 1}


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("case", TRUNK_CASES)
def test_from_the_wire_on_a_trunk(rewired, case):
    check_from_wire(rewired, *TRUNK_CASES[case])


@pytest.mark.wiring("1", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("case", UNTAGGED_CASES)
def test_from_the_wire_to_untagged_vnics(rewired, case):
    check_from_wire(rewired, *UNTAGGED_CASES[case])


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_in_band_tags_both_ways(net):
    """A tagged echo request of scapy's is answered with the same tag."""
    vm1 = net.guests["vm1"]
    vm1.run(f"arp -s 10.77.0.200 {NEIGHBOUR}")
    request = (Ether(dst=MACS["vm1"], src=NEIGHBOUR) / Dot1Q(vlan=101) / IP(src="10.77.0.200", dst=vm1.ip)
               / ICMP(id=7, seq=1) / b"patchbay")
    with RawPort(net.raw, "eth0") as wire:
        wire.send(request)
        replies = wire.receive(lambda got: b"patchbay" in got)
    assert len(replies) == 1
    reply = Ether(replies[0])
    assert (reply.dst, reply.src) == (NEIGHBOUR, MACS["vm1"])
    assert reply[Dot1Q].vlan == 101 and reply[ICMP].type == 0


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_a_guests_broadcast_arrives_everywhere_exactly_once(net):
    def wanted(got):
        return b"\x0a\x4d\x00\xfa" in got  # ARP for 10.77.0.250

    with RawPort(net.raw, "eth0") as wire, RawPort(net.lab.host, wirings.HOST_VNIC) as host:
        net.guests["vm1"].run("arping -c 1 -w 1 -I eth0 10.77.0.250", check=False)
        on_wire = wire.receive(wanted)
        at_host = host.receive(wanted, limit_s=1.0)
    assert len(on_wire) == 1 and Ether(on_wire[0])[Dot1Q].vlan == 101
    assert len(at_host) == 1 and Dot1Q not in Ether(at_host[0])
    account = {port: change for (_, port), change in net.account().items()}
    assert {port: change["out"] for port, change in account.items() if change["out"]} == {
        "vm2": 1, wirings.HOST_VNIC: 1, "uplink": 1}
    assert account["vm1"]["copies"] == 2


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("vid", [101, 102])
def test_a_guest_on_an_access_vnic_may_not_tag(net, vid):
    """Neither another VLAN's id nor its own gets through: no hopping by a second tag."""
    vm1 = net.guests["vm1"]
    vm1.run(f"vconfig add eth0 {vid} && ip link set eth0.{vid} up && ip addr add 10.78.0.1/24 dev eth0.{vid}")
    try:
        vm1.run(f"arping -c 2 -w 3 -I eth0.{vid} 10.78.0.2", check=False)
        account = {port: change for (_, port), change in net.account().items()}
        assert account["vm1"]["in"] >= 2
        assert account["vm1"]["reasons"] == {"vlan_not_allowed": account["vm1"]["in"]}
        assert all(change["out"] == 0 for change in account.values())
    finally:
        vm1.run(f"vconfig rem eth0.{vid}")


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_vid_0_of_a_guest_counts_as_untagged(net):
    vm1 = net.guests["vm1"]
    vm1.run("vconfig add eth0 0 && ip link set eth0.0 up && ip addr add 10.78.0.1/24 dev eth0.0")
    try:
        with RawPort(net.raw, "eth0") as wire:
            vm1.run("arping -c 1 -w 1 -I eth0.0 10.78.0.2", check=False)
            frames = wire.receive(lambda got: b"\x0a\x4e\x00\x02" in got)
        assert len(frames) == 1
        assert Ether(frames[0])[Dot1Q].vlan == 101 and frames[0][16:18] == b"\x08\x06"
    finally:
        vm1.run("vconfig rem eth0.0")


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_a_guest_may_not_use_another_address(net):
    vm1 = net.guests["vm1"]
    vm1.run(f"ip link set eth0 down; ip link set eth0 address {MACS['vm2']}; ip link set eth0 up")
    try:
        vm1.run("arping -c 2 -w 3 -I eth0 10.77.0.2", check=False)
        account = {port: change for (_, port), change in net.account().items()}
        assert account["vm1"]["in"] >= 2
        assert account["vm1"]["reasons"] == {"source_mac": account["vm1"]["in"]}
    finally:
        vm1.run(f"ip link set eth0 down; ip link set eth0 address {MACS['vm1']}; ip link set eth0 up")
