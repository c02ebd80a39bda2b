"""Offloads end to end with real guests: large pieces stay whole where they may, and are finished frames where they must."""

import ipaddress
import json
import os

import pytest
from lab import netcheck, wirings
from lab.lab import Lab
from lab.netns import veth
from lab.proc import wait_until
from lab.rawport import RawPort

SUBNET = "10.78.0"
GUESTS = {"one": "02:00:00:00:05:01", "two": "02:00:00:00:05:02", "plain": "02:00:00:00:05:03"}
ADDRESSES = {"one": f"{SUBNET}.1", "two": f"{SUBNET}.2", "plain": f"{SUBNET}.3", "mgmt": f"{SUBNET}.4",
             "far": f"{SUBNET}.5"}
SUBNET6 = "fd00:78::"
ADDRESSES6 = {name: SUBNET6 + address.rsplit(".", 1)[1] for name, address in ADDRESSES.items()}
FAMILIES = {"IPv4": ADDRESSES, "IPv6": ADDRESSES6}
PLAIN = ",csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,host_tso4=off,host_tso6=off"
PORT = 5201
FRAME = 1514  # the longest frame of the MTU


class Bench:
    """Two guests with every offload and one with none, a host vnic, and a station on a bare wire."""

    def __init__(self, lab):
        self.lab = lab
        self.daemon = lab.daemon
        self.far = lab.add_netns("far")
        veth(lab.host, "nic0", self.far, "eth0")
        self.far.set_ip("eth0", ADDRESSES["far"])
        self.far.set_ip6("eth0", ADDRESSES6["far"])
        self.far.tx_offload("eth0", True)
        lab.daemon.start()
        lab.daemon.do("switch", "create", "lan", "--external", "nic0")
        lab.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
        lab.host.set_ip("mgmt", ADDRESSES["mgmt"])
        lab.host.set_ip6("mgmt", ADDRESSES6["mgmt"])
        for name, mac in GUESTS.items():
            lab.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)
            lab.add_guest(name, mac).start_vhost(self.view(name)["vhost_socket"],
                                                 extra_device=PLAIN if name == "plain" else "")
        for name in GUESTS:
            lab.guests[name].wait_ready()
            lab.guests[name].set_ip(ADDRESSES[name])
            lab.guests[name].set_ip6(ADDRESSES6[name])
        wirings.wait_connected(lab.daemon, GUESTS)

    def view(self, name):
        return self.daemon.json("vnic", "show", name)

    def uplink(self):
        return self.daemon.json("switch", "show", "lan")["uplink"]

    def set_vlan(self, vid, *vnics):
        for vnic in vnics:
            self.daemon.do("vnic", "set", vnic, "--vlan", vid)

    def run(self, name, words):
        """(status, output) of a command where `name` is."""
        if name in self.lab.guests:
            return self.lab.guests[name].run(words, check=False, limit_s=60)
        done = (self.far if name == "far" else self.lab.host).shell(words, check=False, limit_s=60)
        return done.returncode, done.stdout

    def received(self, name):
        """(packets, bytes) that came in at the end `name`, as its kernel counts them."""
        if name in self.lab.guests:
            kernel = self.lab.guests[name].statistics()
        elif name == "far":
            kernel = self.far.statistics("eth0")
        else:
            kernel = self.lab.host.statistics(name)
        return kernel["rx_packets"], kernel["rx_bytes"]

    def wrong_checksums(self, name):
        _, text = self.run(name, "cat /proc/net/snmp")
        lines = text.splitlines()
        return sum(int(value) for names, values in zip(lines[::2], lines[1::2])
                   for field, value in zip(names.split(), values.split()) if field == "InCsumErrors")

    def tcp(self, source, target, family="IPv4"):
        """Moves a stream for a second; the mean size of the frames that `target` received, and what iperf3 says."""
        address = FAMILIES[family][target]
        if target in self.lab.guests:
            self.lab.guests[target].run("pidof iperf3 >/dev/null || iperf3 -s -D")
            wait_until(lambda: self.run(target, f"netstat -ltn | grep -q :{PORT}")[0] == 0, "the guest's iperf3 server")
        else:
            netns = self.far if target == "far" else self.lab.host
            netns.start(f"iperf3 at {target}", "iperf3", "-s", "-1", "-B", address)
            listens = f"[{address}]:{PORT}" if family == "IPv6" else f"{address}:{PORT}"
            wait_until(lambda: listens in netns.run("ss", "-ltn").stdout, "the iperf3 server")
        before = self.received(target)
        _, output = self.run(source, f"iperf3 -J -c {address} -p {PORT} -t 1 --connect-timeout 3000")
        assert "{" in output, output
        result = json.loads(output[output.index("{"):])
        assert "error" not in result, result["error"]
        after = self.received(target)
        assert result["end"]["sum_received"]["bytes"] > 1_000_000
        return (after[1] - before[1]) / (after[0] - before[0]), result["end"]


@pytest.fixture(scope="module")
def bench(_root):
    with Lab.create(f"t{os.getpid()}-offload") as lab:
        yield Bench(lab)


@pytest.fixture(autouse=True)
def whole_and_balanced(bench):
    """No test may make a kernel find a wrong checksum, or a frame go missing."""
    ends = (*GUESTS, "mgmt", "far")
    before = {name: bench.wrong_checksums(name) for name in ends}
    yield
    assert {name: bench.wrong_checksums(name) for name in ends} == before
    for account in netcheck.settled_accounts(bench.daemon):
        assert account.difference == 0, account
    for name in GUESTS:
        drops = bench.view(name)["counters"]["drops"]
        assert drops["bad_offload"] == drops["offload_unsupported"] == drops["oversize"] == 0, (name, drops)


def test_the_driver_has_every_offload(bench):
    features = bench.run("one", "cat /sys/bus/virtio/devices/virtio*/features")[1]
    [bits] = [line for line in features.splitlines() if line[32] == "1"]  # VIRTIO_F_VERSION_1
    assert all(bits[bit] == "1" for bit in (0, 1, 7, 8, 11, 12, 13)), bits
    assert bits[9] == bits[10] == bits[14] == "0", "GUEST_ECN and UFO are not offered"
    features = bench.run("plain", "cat /sys/bus/virtio/devices/virtio*/features")[1]
    [bits] = [line for line in features.splitlines() if line[32] == "1"]
    assert all(bits[bit] == "0" for bit in (0, 1, 7, 8, 11, 12)), bits


families = pytest.mark.parametrize("family", FAMILIES)


@families
@pytest.mark.parametrize("vid", ["none", 101])
@pytest.mark.parametrize("source, target", [("one", "two"), ("one", "mgmt"), ("mgmt", "one")])
def test_large_pieces_stay_whole(bench, source, target, vid, family):
    bench.set_vlan(vid, "one", "two", "mgmt")
    try:
        mean, _ = bench.tcp(source, target, family=family)
        assert mean > 2 * FRAME
        if target in GUESTS:
            assert bench.view(target)["counters"]["cut_frames"] == 0
    finally:
        bench.set_vlan("none", "one", "two", "mgmt")


@families
def test_pieces_from_the_wire_stay_whole(bench, family):
    mean, _ = bench.tcp("far", "one", family=family)
    assert mean > 2 * FRAME


@families
@pytest.mark.parametrize("source", ["one", "mgmt", "far"])
def test_a_guest_without_offloads_gets_finished_frames(bench, source, family):
    before = bench.view("plain")["counters"]["cut_frames"]
    mean, _ = bench.tcp(source, "plain", family=family)
    assert mean <= FRAME
    assert bench.view("plain")["counters"]["cut_frames"] > before + 100


@families
@pytest.mark.parametrize("target", ["one", "mgmt", "far"])
def test_a_guest_without_offloads_sends_as_ever(bench, target, family):
    bench.tcp("plain", target, family=family)


def on_the_wire(frames):
    """Judges what was seen at the far end of the veth with scapy, which computes every checksum anew."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Dot1Q, Ether
    for raw in frames:
        assert len(raw) <= FRAME, len(raw)
        frame = Ether(raw)
        assert not frame.haslayer(Dot1Q)
        again = Ether(raw)
        del again[TCP].chksum
        if again.haslayer(IPv6):
            del again[IPv6].plen
        else:
            del again[IP].chksum, again[IP].len
        assert bytes(Ether(bytes(again))) == raw, frame.summary()


@families
@pytest.mark.parametrize("source", ["one", "mgmt"])
def test_what_leaves_on_a_veth_is_as_on_a_wire(bench, source, family):
    address = ipaddress.ip_address(FAMILIES[family][source]).packed
    ethertype, protocol, at = (b"\x86\xdd", 20, 22) if family == "IPv6" else (b"\x08\0", 23, 26)

    def is_it(raw):
        return raw[12:14] == ethertype and raw[protocol] == 6 and raw[at:at + len(address)] == address
    with RawPort(bench.far, "eth0") as wire:
        before = bench.uplink()["counters"]["cut_frames"]
        bench.tcp(source, "far", family=family)
        assert bench.uplink()["counters"]["cut_frames"] > before + 100
        frames = wire.receive(is_it, count=500, limit_s=3.0)
    assert max(map(len, frames)) == FRAME, "full frames are among them"
    on_the_wire(frames[:500])


def test_udp_and_dns_sized_frames_arrive_whole(bench):
    for source, target in (("one", "plain"), ("one", "far"), ("mgmt", "plain")):
        bench.run(target, "true")
        server = bench.lab.guests.get(target)
        if server:
            server.run("pidof iperf3 >/dev/null || iperf3 -s -D")
        else:
            bench.far.start("iperf3 at far", "iperf3", "-s", "-1", "-B", ADDRESSES["far"])
            wait_until(lambda: f"{ADDRESSES['far']}:{PORT}" in bench.far.run("ss", "-ltn").stdout, "the iperf3 server")
        _, output = bench.run(source, f"iperf3 -J -u -b 2M -l 700 -t 1 -c {ADDRESSES[target]} -p {PORT}")
        result = json.loads(output[output.index("{"):])
        assert "error" not in result, result["error"]
        assert result["end"]["sum"]["packets"] > 100
