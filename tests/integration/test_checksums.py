"""Checksums that a sender left to offload, straight on the wire: whoever receives the frame finds them right."""

import json

import pytest
from bed import RAW_NIC
from lab import wirings
from lab.proc import wait_until

ADDRESS = "10.77.0.150"
PORT = 5201
PLAIN = ",csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,host_tso4=off,host_tso6=off"


@pytest.fixture
def neighbour(net):
    """A namespace on the wire, with every transmit offload on."""
    net.raw.tx_offload("eth0", True)
    assert "tx-checksumming: on" in net.raw.run("ethtool", "-k", "eth0").stdout
    net.raw.set_ip("eth0", ADDRESS)
    yield net.raw
    net.raw.run("ip", "addr", "flush", "dev", "eth0")


@pytest.fixture
def plain_guest(net):
    """A fifth guest, whose driver was given no offload: every frame must be whole for it."""
    net.daemon.do("vnic", "create", "vm5", "--switch", "lan", "--mac", "02:00:00:00:01:05")
    vm = net.lab.add_guest("vm5", "02:00:00:00:01:05")
    try:
        vm.start_vhost(net.socket("vm5"), extra_device=PLAIN)
        vm.wait_ready()
        vm.set_ip(f"{wirings.SUBNET}.5")
        wirings.wait_connected(net.daemon, ["vm5"])
        yield vm
    finally:
        vm.stop()
        del net.lab.guests["vm5"]


def wrong_checksums(vm):
    """How many TCP and UDP pieces the guest's kernel threw away for their checksum."""
    lines = vm.run("cat /proc/net/snmp")[1].splitlines()
    total = 0
    for names, values in zip(lines[::2], lines[1::2]):
        total += sum(int(value) for name, value in zip(names.split(), values.split()) if name == "InCsumErrors")
    return total


def serve(vm):
    """An iperf3 server that listens: between two clients it closes its socket for a moment."""
    vm.run("pidof iperf3 >/dev/null || iperf3 -s -D")
    wait_until(lambda: vm.run(f"netstat -ltn | grep -q :{PORT}", check=False)[0] == 0, "the guest's iperf3 server")


def iperf(netns, vm, *more):
    serve(vm)
    done = netns.run("iperf3", "-J", "-c", vm.ip, "-p", PORT, "--connect-timeout", 3000, *more, check=False,
                     limit_s=60)
    result = json.loads(done.stdout)
    assert "error" not in result, result["error"]
    return result["end"]


@pytest.mark.wiring("1", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("who", ["vm1", "plain"])
def test_tcp_and_udp_from_an_offloading_sender(net, neighbour, who, request):
    vm = request.getfixturevalue("plain_guest") if who == "plain" else net.guests[who]
    before = wrong_checksums(vm)
    tcp = iperf(neighbour, vm, "-t", "2")
    assert tcp["sum_received"]["bytes"] > 1_000_000
    back = iperf(neighbour, vm, "-t", "2", "-R")
    assert back["sum_received"]["bytes"] > 1_000_000
    udp = iperf(neighbour, vm, "-u", "-b", "2M", "-l", "1000", "-t", "1")
    assert udp["sum"]["packets"] > 100 and udp["sum"]["lost_packets"] <= udp["sum"]["packets"] // 10
    assert wrong_checksums(vm) == before


@pytest.mark.wiring("1")
def test_tcp_between_guests_and_the_host(net):
    vm = net.guests["vm1"]
    serve(vm)
    status, output = net.guests["vm2"].run(f"iperf3 -J -c {vm.ip} -t 2", check=False, limit_s=30)
    assert status == 0, output
    assert json.loads(output)["end"]["sum_received"]["bytes"] > 1_000_000
    assert iperf(net.lab.host, vm, "-t", "2")["sum_received"]["bytes"] > 1_000_000
    assert iperf(net.wire.hosts["h101"], vm, "-t", "2", "-R")["sum_received"]["bytes"] > 1_000_000
    assert wrong_checksums(vm) == 0
