"""The four ways to wire VLANs: who is in a VLAN reaches each other, through the wire too, and nobody else."""

import pytest
from bed import MACS
from lab import wirings


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.wiring(name)) for name in wirings.WIRINGS])
def test_vlans_reach_each_other_and_nobody_else(net, name):
    assert net.plan.name == name
    net.check_matrix()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.wiring(name)) for name in ("2b", "3")])
def test_knowing_the_address_does_not_help_across_vlans(net, name):
    """Without ARP in the way: unicast frames straight to a guest of the other VLAN, from a guest and from the wire."""
    victim = net.guests["vm3"]
    before = victim.statistics()["rx_packets"]
    net.guests["vm1"].run(f"arp -s {victim.ip} {MACS['vm3']}")
    assert not net.guests["vm1"].ping(victim.ip, count=3, wait_s=1)
    h101 = net.wire.hosts["h101"]
    h101.run("ip", "neigh", "replace", victim.ip, "lladdr", MACS["vm3"], "dev", "eth0")
    assert not h101.ping(victim.ip, count=3, wait_s=1)
    h101.run("ip", "neigh", "flush", "dev", "eth0")
    assert victim.statistics()["rx_packets"] == before


def test_patchbay_show_names_everything(net):
    picture = net.daemon.do("show")
    for word in ("lan", "trunk0", *wirings.VMS, wirings.HOST_VNIC, "101", "102", "connected"):
        assert word in picture, f"{word} is missing in:\n{picture}"
