"""Trunks, private VLANs and MAC spoofing with real guests and the wire; each mode is set while everybody is connected."""

import contextlib

from bed import MACS, RAW_NIC
from lab import wirings
from lab.rawport import RawPort
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1Q, Ether

import pytest

CLUSTER = "02:bf:0a:4d:00:c8"
CLUSTER_IP = f"{wirings.SUBNET}.200"
MASKED = {"vm1": "02:01:0a:4d:00:c8", "vm2": "02:02:0a:4d:00:c8"}
OUTSIDE = "02:aa:00:00:00:01"


def forget_neighbours(net):
    for vm in net.guests.values():
        vm.run("ip neigh flush dev eth0")
    for netns in (*net.wire.hosts.values(), net.lab.host):
        netns.run("ip", "neigh", "flush", "all")


@contextlib.contextmanager
def vlan_interface(vm, vid, address):
    vm.run(f"vconfig add eth0 {vid} && ip addr add {address}/24 dev eth0.{vid} && ip link set eth0.{vid} up")
    try:
        yield
    finally:
        vm.run(f"vconfig rem eth0.{vid}")


def test_a_trunk_guest_is_in_the_vlans_it_may_and_in_no_other(net):
    vm1, vm2, vm3 = (net.guests[name] for name in ("vm1", "vm2", "vm3"))
    net.daemon.do("vnic", "set", "vm1", "--trunk", "101,102,300", "--prune", "300", "--native", 101)
    assert vm1.ping(vm2.ip) and net.wire.hosts["h101"].ping(vm1.ip), "the native VLAN, without a tag"
    for vm, prefix in ((vm3, "10.80.1"), (vm2, "10.80.2")):
        vm.run(f"ip addr add {prefix}.3/24 dev eth0")
    try:
        with vlan_interface(vm1, 102, "10.80.1.1"):
            assert vm1.ping("10.80.1.3") and vm3.ping("10.80.1.1"), "VLAN 102, with its tag"
            assert not vm2.ping("10.80.1.1", wait_s=1)
        with vlan_interface(vm1, 300, "10.80.2.1"):  # pruned
            assert not vm1.ping("10.80.2.3", wait_s=1)
        assert net.drops("vm1").get("vlan_not_allowed", 0) > 0
        net.daemon.do("vnic", "set", "vm1", "--trunk", "102")
        assert not vm1.ping(vm2.ip, wait_s=1), "no native VLAN any more"
        with vlan_interface(vm1, 102, "10.80.1.1"):
            assert vm1.ping("10.80.1.3")
    finally:
        for vm, prefix in ((vm3, "10.80.1"), (vm2, "10.80.2")):
            vm.run(f"ip addr del {prefix}.3/24 dev eth0")
    net.daemon.do("vnic", "set", "vm1", "--vlan", 101)
    net.check_matrix()


def test_private_vlans_keep_isolated_guests_apart(net):
    for name, mode in (("vm1", "isolated:101:201"), ("vm2", "isolated:101:201"), ("vm3", "community:101:202"),
                       ("vm4", "promiscuous:101:201,202")):
        net.daemon.do("vnic", "set", name, "--pvlan", mode)
    forget_neighbours(net)
    vms = net.guests
    hear = {(a, "vm4") for a in ("vm1", "vm2", "vm3")} | {("vm4", b) for b in ("vm1", "vm2", "vm3")}
    # An answer that comes is not waited for any longer; on a slow machine it may take more than a second.
    reached = {(a, b) for a in wirings.VMS for b in wirings.VMS
               if a != b and vms[a].ping(vms[b].ip, wait_s=10 if (a, b) in hear else 1)}
    assert reached == hear
    net.daemon.do("vnic", "set", "vm1", "--pvlan", "community:101:202")
    assert vms["vm1"].ping(vms["vm3"].ip, wait_s=10) and not vms["vm1"].ping(vms["vm2"].ip, wait_s=1)
    refused = net.daemon.cli("vnic", "set", "vm1", "--pvlan", "isolated:301:202")
    assert refused.returncode == 1 and "202" in refused.stderr and "vm1" in refused.stderr
    assert vms["vm1"].ping(vms["vm3"].ip, wait_s=10)


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_private_vlans_travel_with_the_tag_they_were_sent_in(net):
    net.daemon.do("vnic", "set", "vm1", "--pvlan", "isolated:100:201")
    with RawPort(net.raw, "eth0") as wire:
        net.guests["vm1"].ping(f"{wirings.SUBNET}.250", wait_s=1)
        asked = wire.receive(lambda frame: Ether(frame).src == MACS["vm1"])
        assert asked and Ether(asked[0])[Dot1Q].vlan == 201
        before = net.guests["vm1"].statistics()["rx_packets"]
        for vid in (201, 100):
            wire.send(bytes(Ether(dst=MACS["vm1"], src=OUTSIDE) / Dot1Q(vlan=vid) / IP(dst="10.0.0.1") / ICMP()))
        net.wait_account("uplink", "drops", 1)
    assert net.drops("uplink") == {"no_destination": 1}, "the secondary is not for an isolated guest"
    assert net.guests["vm1"].statistics()["rx_packets"] == before + 1


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("mode, vid", [(("--vlan", 101), 0), (("--trunk", "102", "--native", 101), 102)],
                         ids=["a priority tag of an access vnic", "a tag of a trunk"])
def test_priorities_of_a_guest_count_only_if_it_is_trusted(net, mode, vid):
    vm1 = net.guests["vm1"]
    net.daemon.do("vnic", "set", "vm1", *mode)
    with vlan_interface(vm1, vid, "10.80.3.1"), RawPort(net.raw, "eth0") as wire:
        vm1.run(f"vconfig set_egress_map eth0.{vid} 0 5")

        targets = iter(range(250, 254))  # another each time: for one that it asked for already it may not ask again

        def priority():
            target = f"10.80.3.{next(targets)}"
            wire.drain()
            vm1.ping(target, wait_s=1)
            asked, *_ = wire.receive(lambda frame: ARP in Ether(frame) and Ether(frame)[ARP].pdst == target)
            assert Ether(asked)[Dot1Q].vlan == (vid or 101)
            return Ether(asked)[Dot1Q].prio
        assert priority() == 0
        net.daemon.do("vnic", "set", "vm1", "--trust-priority", "on")
        assert priority() == 5
        net.daemon.do("vnic", "set", "vm1", "--trust-priority", "off")
        assert priority() == 0


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
def test_cluster_guests_get_nothing_without_mac_spoofing_and_work_with_it(net):
    """The reference system's load balancing cluster: both guests have one address, and send from masked ones."""
    query = Ether(dst="ff:ff:ff:ff:ff:ff", src=OUTSIDE) / Dot1Q(vlan=101) / ARP(
        pdst=CLUSTER_IP, psrc=f"{wirings.SUBNET}.250", hwsrc=OUTSIDE)
    to_cluster = bytes(Ether(dst=CLUSTER, src=OUTSIDE) / Dot1Q(vlan=101) / IP(dst=CLUSTER_IP) / ICMP())

    def received(name):
        return net.guests[name].statistics()["rx_packets"]

    with RawPort(net.raw, "eth0") as wire:
        for name, masked in MASKED.items():
            net.guests[name].run(f"ip link set eth0 address {masked} && ip addr add {CLUSTER_IP}/24 dev eth0")
        try:
            wire.send(bytes(query))
            assert not wire.receive(lambda frame: Ether(frame).src in MASKED.values(), limit_s=2.0, quiet_s=1.0)
            before = {name: received(name) for name in MASKED}
            wire.send(to_cluster)
            net.wait_account("uplink", "drops", 1)
            assert {name: received(name) for name in MASKED} == before
            for name, masked in MASKED.items():
                shown = net.daemon.json("vnic", "show", name)
                assert shown["counters"]["drops"]["source_mac"] > 0
                assert shown["refused_source"]["mac"] == masked and shown["refused_source"]["holder"] is None
                text = net.daemon.do("vnic", "show", name)
                assert masked in text and f"patchbay vnic set {name} --mac-spoofing on" in text
                net.daemon.do("vnic", "set", name, "--mac-spoofing", "on")
            wire.send(bytes(query))
            answers = wire.receive(lambda frame: Ether(frame).src in MASKED.values() and ARP in Ether(frame)
                                   and Ether(frame)[ARP].op == 2, count=2)
            assert {Ether(frame).src for frame in answers} == set(MASKED.values())
            assert all(Ether(frame)[Dot1Q].vlan == 101 for frame in answers)
            before = {name: received(name) for name in MASKED}
            wire.send(to_cluster)
            net.wait_account("vm2", "out", 1)
            net.account()
            for name in MASKED:
                assert received(name) > before[name], "both get what is for the cluster"
                assert net.daemon.json("vnic", "show", name)["refused_source"] is None
            rows = net.daemon.json("switch", "fdb", net.plan.switches[0].name)
            assert {(row["mac"], row["port"]) for row in rows} >= {(masked, name) for name, masked in MASKED.items()}
        finally:
            for name in MASKED:
                net.guests[name].run(f"ip addr del {CLUSTER_IP}/24 dev eth0; ip link set eth0 address {MACS[name]}")


def test_nobody_takes_the_address_of_another_vnic(net):
    vm2 = net.guests["vm2"]
    net.daemon.do("vnic", "set", "vm2", "--mac-spoofing", "on")
    vm2.run(f"ip link set eth0 address {MACS['vm1']}")
    try:
        assert not vm2.ping(net.guests["vm1"].ip, wait_s=1)
        shown = net.daemon.json("vnic", "show", "vm2")["refused_source"]
        assert (shown["mac"], shown["holder"]) == (MACS["vm1"], "vm1") and "vm1" in shown["advice"]
    finally:
        vm2.run(f"ip link set eth0 address {MACS['vm2']}")
    net.check_matrix()
