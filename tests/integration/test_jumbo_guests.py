"""Jumbo frames with real guests: told to the guest, carried whole to other guests, the host and the wire, and a guest
that cannot take them loses them alone."""

import json
import os

import pytest
from lab import netcheck, wirings
from lab.lab import Lab
from lab.netns import veth
from lab.proc import wait_until
from lab.rawport import RawPort

SUBNET = "10.79.0"
JUMBO = {"big1": "02:00:00:00:04:01", "big2": "02:00:00:00:04:02"}
SMALL = ("small", "02:00:00:00:04:03")
ADDRESSES = {"big1": f"{SUBNET}.1", "big2": f"{SUBNET}.2", "small": f"{SUBNET}.3", "mgmt": f"{SUBNET}.4",
             "far": f"{SUBNET}.5"}
# A guest of the old kind: buffers for standard frames, which it cannot merge, and no MTU from its device.
PLAIN = (",mrg_rxbuf=off,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,host_tso4=off,"
         "host_tso6=off")
LARGEST = 8972  # ping: 9000 less the headers of IP and ICMP
PORT = 5201


class Bench:
    """Two jumbo guests and an old one, a host vnic and a station on the wire, all with 9000 but the old guest."""

    def __init__(self, lab):
        self.lab = lab
        self.daemon = lab.daemon
        self.far = lab.add_netns("far")
        veth(lab.host, "nic0", self.far, "eth0")
        for netns, interface in ((lab.host, "nic0"), (self.far, "eth0")):
            netns.run("ip", "link", "set", interface, "mtu", 9000)
        self.far.set_ip("eth0", ADDRESSES["far"])
        lab.daemon.start()
        lab.daemon.do("switch", "create", "lan", "--external", "nic0", "--mtu", 9000)
        lab.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
        lab.host.set_ip("mgmt", ADDRESSES["mgmt"])
        for name, mac in (*JUMBO.items(), SMALL):
            lab.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)
            self.begin(name, mac, ",host_mtu=9000" if name in JUMBO else PLAIN)
        for name in (*JUMBO, "small"):
            self.finish(name)

    def begin(self, name, mac, device):
        guest = self.lab.add_guest(name, mac)
        guest.start_vhost(self.view(name)["vhost_socket"], extra_device=device)

    def finish(self, name):
        guest = self.lab.guests[name]
        guest.wait_ready()
        guest.set_ip(ADDRESSES[name])
        wirings.wait_connected(self.daemon, [name])

    def restart(self, name, device):
        guest = self.lab.guests[name]
        guest.stop()
        self.begin(name, guest.mac, device)
        self.finish(name)

    def view(self, name):
        return self.daemon.json("vnic", "show", name)

    def drops(self, port):
        shown = self.daemon.json("switch", "show", "lan")["uplink"] if port == "uplink" else self.view(port)
        return shown["counters"]["drops"]

    def wait_drop(self, port, reason, before):
        wait_until(lambda: self.drops(port)[reason] > before, f"a drop at {port} as {reason}")

    def ping(self, source, target, size):
        """Whether a ping of this size comes back."""
        words = f"ping -q -c 1 -W 2 -s {size} {ADDRESSES[target]}"
        if source in self.lab.guests:
            return self.lab.guests[source].run(words, check=False)[0] == 0
        netns = self.far if source == "far" else self.lab.host
        return netns.shell(f"busybox {words}", check=False).returncode == 0


@pytest.fixture(scope="module")
def bench(_root):
    with Lab.create(f"t{os.getpid()}-jumbo") as lab:
        yield Bench(lab)


@pytest.fixture(autouse=True)
def balanced(bench):
    yield
    for account in netcheck.settled_accounts(bench.daemon):
        assert account.difference == 0, account


def test_guests_learn_the_mtu_of_their_switch(bench):
    for name in JUMBO:
        assert bench.lab.guests[name].run("cat /sys/class/net/eth0/mtu")[1].strip() == "9000"
        assert bench.view(name)["mtu"] == 9000
        assert bench.view(name)["state_reason"] == ""
    assert bench.lab.host.run("cat", "/sys/class/net/mgmt/mtu").stdout.strip() == "9000"


@pytest.mark.parametrize("source, target", [("big1", "big2"), ("big1", "mgmt"), ("mgmt", "big1"), ("big1", "far"),
                                            ("far", "big1"), ("mgmt", "far")])
def test_the_largest_ping_goes_whole(bench, source, target):
    """One frame of 9014 bytes that may not be fragmented, there and back."""
    def goes():
        return bench.ping(source, target, LARGEST)
    if "far" not in (source, target):
        wait_until(goes, f"{source} to reach {target}")
        return
    with RawPort(bench.far, "eth0") as wire:
        wait_until(goes, f"{source} to reach {target}")
        if target == "far":
            seen = wire.receive(lambda got: len(got) > 1514, count=1, limit_s=2.0)
            assert {len(got) for got in seen} == {9014}
            assert all(got[20] & 0x40 for got in seen), "IP says: do not fragment"


def test_one_byte_more_is_dropped_where_it_came_from(bench):
    """From a guest, and from the wire; the senders' own limits are raised, so that they send it in one frame."""
    small = bench.lab.guests["small"]
    wait_until(lambda: bench.ping("small", "big1", 56), "small to find big1")
    small.run("ip link set eth0 mtu 9001")
    before = bench.drops("small")["oversize"]
    assert not bench.ping("small", "big1", LARGEST + 1)
    assert bench.drops("small")["oversize"] == before + 1
    small.run("ip link set eth0 mtu 1500")

    wait_until(lambda: bench.ping("far", "big1", 56), "the wire to find big1")
    for netns, interface in ((bench.lab.host, "nic0"), (bench.far, "eth0")):
        netns.run("ip", "link", "set", interface, "mtu", 9100)
    before = bench.drops("uplink")["oversize"]
    assert not bench.ping("far", "big1", LARGEST + 1)
    assert bench.drops("uplink")["oversize"] == before + 1
    assert bench.ping("far", "big1", LARGEST)
    for netns, interface in ((bench.lab.host, "nic0"), (bench.far, "eth0")):
        netns.run("ip", "link", "set", interface, "mtu", 9000)


def test_a_standard_receiver_loses_jumbo_frames_alone(bench):
    wait_until(lambda: bench.ping("big1", "small", 1472), "big1 to reach small with standard frames")
    before = bench.drops("small")["guest_buffer"]
    assert not bench.ping("big1", "small", LARGEST)
    bench.wait_drop("small", "guest_buffer", before)
    assert bench.drops("big1")["oversize"] == 0
    assert bench.ping("big1", "big2", LARGEST) and bench.ping("big1", "far", LARGEST)
    assert bench.ping("big1", "small", 1472), "small still receives what fits"


@pytest.mark.parametrize("vid", [101, 4094])
def test_a_tag_does_not_count(bench, vid):
    """An echo request of 9018 bytes with its tag is answered with as many."""
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import Dot1Q, Ether
    station = "02:00:00:00:04:77"
    big1 = bench.lab.guests["big1"]
    bench.daemon.do("vnic", "set", "big1", "--vlan", vid)
    try:
        big1.run(f"arp -s {SUBNET}.77 {station}")
        request = bytes(Ether(dst=JUMBO["big1"], src=station) / Dot1Q(vlan=vid) / IP(src=f"{SUBNET}.77", dst=big1.ip)
                        / ICMP(id=9, seq=1) / (b"patchbay" * 1122)[:LARGEST])
        assert len(request) == 9018
        with RawPort(bench.far, "eth0") as wire:
            wire.send(request)
            [reply] = wire.receive(lambda got: b"patchbay" in got)
        assert len(reply) == 9018
        reply = Ether(reply)
        assert reply[Dot1Q].vlan == vid and reply[ICMP].type == 0
    finally:
        bench.daemon.do("vnic", "set", "big1", "--vlan", "none")


def iperf(bench, source, target, *more):
    """What `source` measures towards `target`, where a server listens for this one client."""
    if target in bench.lab.guests:
        server = bench.lab.guests[target]
        server.run("pidof iperf3 >/dev/null || iperf3 -s -D")
        wait_until(lambda: server.run(f"netstat -ltn | grep -q :{PORT}", check=False)[0] == 0, "the guest's server")
    else:
        netns = bench.far if target == "far" else bench.lab.host
        netns.start(f"iperf3 at {target}", "iperf3", "-s", "-1", "-B", ADDRESSES[target])
        wait_until(lambda: f"{ADDRESSES[target]}:{PORT}" in netns.run("ss", "-ltn").stdout, "the server on the host")
    words = " ".join(["iperf3", "-J", "-c", ADDRESSES[target], "-p", str(PORT), *more])
    status, output = bench.lab.guests[source].run(words, check=False, limit_s=60)
    assert "{" in output, f"{words} gives {status}: {output}"
    result = json.loads(output[output.index("{"):])  # a warning may stand before it
    assert "error" not in result, result["error"]
    return result


@pytest.mark.parametrize("target", ["big2", "mgmt", "far"])
def test_tcp_uses_jumbo_segments(bench, target):
    wait_until(lambda: bench.ping("big1", target, 56), f"big1 to reach {target}")
    for more in ((), ("-R",)):
        result = iperf(bench, "big1", target, "-t", "2", *more)
        assert result["start"]["tcp_mss_default"] >= 8900
        assert result["end"]["sum_received"]["bytes"] > 1_000_000


@pytest.mark.parametrize("target", ["big2", "mgmt", "far"])
def test_udp_in_frames_of_the_largest_size(bench, target):
    wait_until(lambda: bench.ping("big1", target, 56), f"big1 to reach {target}")
    result = iperf(bench, "big1", target, "-u", "-b", "20M", "-l", str(LARGEST), "-t", "2")["end"]["sum"]
    # An emulated guest that gets no CPU loses some by itself; whole frames of this size are what is shown here.
    assert result["packets"] > 100 and result["lost_packets"] <= result["packets"] // 2


def test_another_mtu_asks_for_a_restart_of_the_guests_until_they_have_it(bench):
    """A guest that was told another MTU by its device, and one that was told nothing."""
    bench.daemon.do("switch", "set", "lan", "--mtu", 4074)
    for name in (*JUMBO, "small"):
        view = bench.view(name)
        assert view["state"] == "connected"
        for part in ("guest restart needed", "mtu 9000", "has 4074"):
            assert part in view["state_reason"], view
    assert "guest restart needed" in bench.daemon.cli("show").stdout
    assert bench.lab.host.run("cat", "/sys/class/net/mgmt/mtu").stdout.strip() == "4074"
    before = bench.drops("big1")["oversize"]
    assert not bench.ping("big1", "big2", LARGEST), "what it still sends too large is dropped"
    assert bench.drops("big1")["oversize"] > before

    bench.restart("big2", ",host_mtu=4074")
    assert bench.view("big2")["state_reason"] == ""
    assert bench.lab.guests["big2"].run("cat /sys/class/net/eth0/mtu")[1].strip() == "4074"
    bench.restart("small", PLAIN)
    assert bench.view("small")["state_reason"] == ""
    assert "guest restart needed" in bench.view("big1")["state_reason"]
    wait_until(lambda: bench.ping("big2", "mgmt", 4046), "the largest frame of the new MTU")

    bench.daemon.do("switch", "set", "lan", "--mtu", 9000)
    assert bench.view("big1")["state_reason"] == "", "it never had another"
    assert "mtu 4074" in bench.view("big2")["state_reason"]
    wait_until(lambda: bench.ping("big1", "far", LARGEST), "big1 to reach the wire with the largest frame")


def test_a_restart_of_the_daemon_keeps_what_guests_were_told(bench):
    """QEMU says it again when it connects again."""
    bench.daemon.kill9()
    bench.daemon.start()
    wirings.wait_connected(bench.daemon, (*JUMBO, "small"))
    wait_until(lambda: "mtu 4074" in bench.view("big2")["state_reason"], "QEMU to have said what its guest was told")
    assert bench.view("big1")["state_reason"] == ""
    wait_until(lambda: bench.ping("big1", "far", LARGEST), "big1 to reach the wire with the largest frame")
