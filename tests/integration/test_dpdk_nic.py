"""A PCI NIC that is bound for DPDK as uplink: an emulated Intel 82576 in an appliance, driven by DPDK's own driver."""

import pytest
from conftest import lab_name
from lab import image, netcheck
from lab.appliance import SETPRIV, Appliance, Nic, check_idle
from lab.lab import Lab
from lab.netns import ipv6_commands
from lab.proc import wait_until
from lab.rawport import RawPort
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from stream import Stream, send_burst

WIRE = "10.0.9.1"
WIRE6, HOST6 = "fd00:9::1", "fd00:9::2"
HOST = "10.0.9.2"  # of the host vnic without a VLAN
TAGGED_HOST = "10.1.9.2"  # of the host vnic in VLAN 101
TAGGED_PEER = "10.1.9.1"  # a machine in VLAN 101 that only scapy plays
PEER_MAC = "02:00:00:00:03:01"
HOST_MAC, TAGGED_MAC = "02:00:00:00:04:01", "02:00:00:00:04:02"
USER = "800"
ANSWER_S = 30.0  # a guest under TCG that negotiates its link


class Bed:
    """The appliance, one switch on its NIC, and what the wire sends and sees."""

    def __init__(self, appliance):
        self.appliance = appliance
        self.daemon = appliance.daemon
        self.nic = appliance.nics[0]
        self.wire = self.nic.netns
        self.lab = appliance.lab

    def reset(self):
        """The NIC bound to vfio-pci and its switch `lan` with two host vnics up, whatever the last test left."""
        if not self.appliance.present(self.nic):
            self.appliance.plug_again(self.nic)
            wait_until(lambda: self.appliance.present(self.nic), "the NIC to be back", ANSWER_S)
        self.appliance.set_link(self.nic, up=True)
        if not self.daemon.running():
            self.daemon.start()
        if self.appliance.driver(self.nic) != "vfio-pci":
            self.appliance.bind(self.nic, "vfio-pci")
        if not self.daemon.json("switch", "list"):
            self.daemon.do("switch", "create", "lan", "--external", self.nic.pci, "--mtu", 9000)
            self.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host", "--mac", HOST_MAC)
            self.daemon.do("vnic", "create", "h101", "--switch", "lan", "--host", "--vlan", 101, "--mac", TAGGED_MAC)
            self.appliance.run(f"ip addr add {HOST}/24 dev mgmt; ip addr add {TAGGED_HOST}/24 dev h101; "
                               f"/usr/sbin/ip neigh replace {TAGGED_PEER} lladdr {PEER_MAC} dev h101")
        self.wait_answer()

    def answers(self):
        return self.wire.ping(HOST)

    def wait_answer(self, what="an answer from inside"):
        wait_until(self.answers, what, ANSWER_S)

    def uplink(self):
        return self.daemon.json("switch", "show", "lan")["uplink"]

    def show(self):
        return self.daemon.json("nic", "show", self.nic.pci)

    def counts(self):
        """(frames from the wire, frames to it) as (Patchbay, the tap outside) counted them, and the drops."""
        counters = self.uplink()["counters"]
        tap = self.wire.statistics(self.nic.wire)
        return ((counters["from_wire"]["frames"], counters["to_wire"]["frames"]),
                (tap["tx_packets"], tap["rx_packets"]), counters["drops"])

    @staticmethod
    def echo(raw, size):
        """The answer to an echo request whose IP packet has `size` bytes, sent with scapy in VLAN 101."""
        request = (Ether(src=PEER_MAC, dst=TAGGED_MAC) / Dot1Q(vlan=101) / IP(src=TAGGED_PEER, dst=TAGGED_HOST)
                   / ICMP(id=size, seq=1) / bytes(size - 28))
        raw.send(request)
        return raw.receive(lambda frame: frame[:6] == bytes.fromhex(PEER_MAC.replace(":", "")), 1, ANSWER_S)


@pytest.fixture(scope="module")
def appliance(igb_qemu):
    with Lab.create(lab_name("dpdk"), own_host=False) as lab:
        made = Appliance.create(lab, [Nic(lab.add_netns("wire"), "wire0", "igb")],
                                files={SETPRIV: image.program("setpriv")})
        made.nics[0].netns.set_ip(made.nics[0].wire, WIRE)
        made.set_huge_pages(64)
        made.daemon.start()
        yield made


@pytest.fixture
def bed(appliance):
    made = Bed(appliance)
    made.reset()
    return made


def refused(done, *words):
    """`done` was refused with one sentence that has all the words."""
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done
    for word in words:
        assert word in done.stderr, done.stderr
    return True


def test_a_device_says_what_it_needs_before_it_can_be_used(appliance):
    nic, daemon = appliance.nics[0], appliance.daemon
    create = ("switch", "create", "lan", "--external", nic.pci)
    assert appliance.driver(nic) is None
    shown = daemon.json("nic", "show", nic.pci)
    assert shown["mac"] is None and shown["pci"]["id"] == "8086:10c9" and shown["pci"]["driver"] is None
    assert "vfio-pci" in shown["state_reason"]
    assert refused(daemon.cli(*create), nic.pci, "no driver", "vfio-pci")
    appliance.bind(nic, "igb")
    eth = appliance.interface(nic)
    wait_until(lambda: eth in [each["name"] for each in daemon.json("nic", "list")], f"{eth} in the list")
    assert refused(daemon.cli(*create), nic.pci, f"bound to igb (kernel interface {eth})", f"use {eth}", "vfio-pci")
    assert refused(daemon.cli("nic", "show", nic.pci), f"use {eth}")
    appliance.run(f"/usr/sbin/ip link set {eth} up && ip addr add 192.0.2.10/24 dev {eth}")
    assert refused(daemon.cli(*create), nic.pci, eth, "192.0.2.10/24", "--share-with-host", "vfio-pci")
    assert daemon.json("nic", "show", eth)["pci"]["address"] == nic.pci
    appliance.bind(nic, "vfio-pci")
    wait_until(lambda: "ready for DPDK" in daemon.json("nic", "show", nic.pci)["state_reason"], "the NIC to be ready")
    for wrong in ("0000:01:00", "01:00.0", "0000:01:00.8", nic.pci.replace("0000", "000A")):
        assert refused(daemon.cli("switch", "create", "lan", "--external", wrong), wrong, "0000:01:00.0")
    assert refused(daemon.cli("switch", "create", "lan", "--external", "0000:77:00.0"), "0000:77:00.0", "nic list")
    assert daemon.json("switch", "list") == []


def test_frames_of_all_sizes_pass_and_all_are_counted(bed):
    ours, theirs, drops = bed.counts()
    for size in (56, 1472, 1473, 2020, 8972):  # of ICMP data: 8972 is an MTU of 9000
        assert bed.wire.run("busybox", "ping", "-q", "-c", 3, "-W", 5, "-s", size, HOST, check=False).returncode == 0
    with RawPort(bed.wire, bed.nic.wire) as raw:
        for size in (46, 1500, 1501, 2048, 9000):
            answers = bed.echo(raw, size)
            assert len(answers) == 1, size
            assert answers[0][12:16] == b"\x81\x00\x00\x65", "the tag of VLAN 101"
            assert len(answers[0]) == max(18 + size, 60)
        raw.send(Ether(src=PEER_MAC, dst=TAGGED_MAC) / IP(src=TAGGED_PEER, dst=TAGGED_HOST) / ICMP())  # in the wrong VLAN

    def balanced():
        now, wire, dropped = bed.counts()
        since = [new - old for new, old in zip(now, ours)]
        return since if since == [new - old for new, old in zip(wire, theirs)] and dropped["no_destination"] > \
            drops["no_destination"] else None
    since = wait_until(balanced, "both sides to have counted the same", ANSWER_S)
    assert since[0] >= 21 and since[1] >= 20
    _, _, dropped = bed.counts()
    assert {reason for reason in dropped if dropped[reason] > drops[reason]} == {"no_destination"}


def test_a_burst_of_segments_becomes_a_large_piece_unless_gro_is_off(bed):
    def burst():
        before = bed.uplink()["counters"]["merged_frames"]
        packets, _ = send_burst(bed.appliance, bed.nic, "h101", (PEER_MAC, TAGGED_PEER), (TAGGED_MAC, TAGGED_HOST), 101)
        return packets, bed.uplink()["counters"]["merged_frames"] - before
    stream = Stream(bed.appliance, "mgmt", HOST, bed.wire)
    packets, merged = burst()
    assert merged >= 10 and packets <= 20 - merged + 1, (packets, merged)
    stream.transfer()
    bed.daemon.do("switch", "set", "lan", "--gro", "off")
    try:
        packets, merged = burst()
        assert packets >= 20 and merged == 0
        stream.transfer()
    finally:
        bed.daemon.do("switch", "set", "lan", "--gro", "on")
    for account in netcheck.settled_accounts(bed.daemon, ANSWER_S):
        assert account.difference == 0, account


_TAKE = """import hashlib, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("listens", flush=True)
stream, _ = server.accept()
digest = hashlib.md5()
while data := stream.recv(65536):
    digest.update(data)
print(digest.hexdigest(), flush=True)
"""


@pytest.mark.parametrize("wire", [WIRE, WIRE6])
def test_the_device_cuts_what_leaves_and_completes_it(bed, wire):
    bed.wire.set_ip6(bed.nic.wire, WIRE6)
    bed.appliance.run(ipv6_commands("mgmt", HOST6))

    def counted():  # frames to the wire, as Patchbay and the tap outside counted them, cut ones, wrong checksums
        counters = bed.uplink()["counters"]
        snmp = bed.wire.run("nstat", "-asz", "TcpInCsumErrors").stdout.split()
        return (counters["to_wire"]["frames"], bed.wire.statistics(bed.nic.wire)["rx_packets"], counters["cut_frames"],
                int(snmp[snmp.index("TcpInCsumErrors") + 1]))
    taker = bed.wire.start("taker", "/usr/bin/python3", "-c", _TAKE, wire, 5003)

    def said():
        with open(taker.log, encoding="utf-8") as file:
            return file.read().split()
    wait_until(lambda: "listens" in said(), "somebody to listen on the wire")
    before = counted()
    _, text = bed.appliance.run("dd if=/dev/urandom of=/tmp/sent bs=65536 count=64 2>/dev/null; md5sum /tmp/sent")
    bed.appliance.run(f"nc {wire} 5003 </tmp/sent", limit_s=120)
    assert taker.wait(60.0) == 0
    assert said()[-1] == text.split()[0], "other bytes came than were sent"
    pieces, frames, cut, wrong = (now - then for now, then in zip(counted(), before))
    assert wrong == 0
    assert cut == 0, "Patchbay cut what the device can cut"
    # How large the guest makes its pieces depends on how fast it runs.
    assert frames > pieces, "the device cut nothing"


@pytest.mark.parametrize("vid", [None, 101])
@pytest.mark.parametrize("payload", ["x", "some-words-of-odd-length"])
def test_the_device_completes_checksums_with_and_without_a_tag(bed, vid, payload):
    target = TAGGED_PEER if vid else WIRE

    def is_it(frame):
        packet = Ether(frame)
        return UDP in packet and packet[UDP].dport == 69
    with RawPort(bed.wire, bed.nic.wire) as raw:  # the shortest frame that a tool of the appliance sends is TFTP's question
        bed.appliance.run(f"timeout 2 tftp -g -l /dev/null -r {payload} {target}", check=False, limit_s=60)
        frame = raw.receive(is_it, 1, ANSWER_S)[0]
    packet = Ether(frame)
    assert (Dot1Q in packet) == (vid is not None) and (vid is None or packet[Dot1Q].vlan == vid)
    assert payload.encode() in bytes(packet[UDP].payload)
    checksum = packet[UDP].chksum
    del packet[UDP].chksum
    assert Ether(bytes(packet))[UDP].chksum == checksum != 0, frame.hex()


def test_its_pools_are_queues_of_vnics(bed):
    def queues():
        return {row["vnic"]: row for row in bed.daemon.json("vmq", "list")["queues"] if row["vnic"]}

    def come_by_queue(vnic, send):
        before = queues()[vnic]["frames"]
        wait_until(lambda: send() and queues()[vnic]["frames"] > before, f"{vnic} to get frames by its queue", ANSWER_S)
    bed.daemon.do("switch", "set", "lan", "--mtu", 1500)
    try:
        rows = queues()
        assert {name: (row["state"], row["sorting"], row["vlan"]) for name, row in rows.items()} == {
            "mgmt": ("running", "vmdq", 0), "h101": ("running", "vmdq", 101)}, rows
        assert len({row["queue"] for row in rows.values()} - {0}) == 2
        bed.wait_answer()
        come_by_queue("mgmt", bed.answers)
        with RawPort(bed.wire, bed.nic.wire) as raw:
            come_by_queue("h101", lambda: len(bed.echo(raw, 1500)) == 1)
        check_idle(bed.daemon)
        # Back to the default queue, and again.
        bed.daemon.do("vnic", "set", "mgmt", "--vmq-weight", 0)
        assert "mgmt" not in queues()
        bed.wait_answer()
        bed.daemon.do("vnic", "set", "mgmt", "--vmq-weight", 100)
        come_by_queue("mgmt", bed.answers)
        for account in netcheck.settled_accounts(bed.daemon, ANSWER_S):
            assert account.difference == 0, account
    finally:
        bed.daemon.do("switch", "set", "lan", "--mtu", 9000)
    # Frames of this size do not pass the pools.
    [nic] = bed.daemon.json("vmq", "list")["nics"]
    assert nic["sorting"] == "software" and "1500" in nic["sorting_reason"], nic
    assert {row["sorting"] for row in queues().values()} == {"software"}
    bed.wait_answer()
    assert bed.wire.run("busybox", "ping", "-q", "-c", 3, "-W", 5, "-s", 8972, HOST, check=False).returncode == 0
    check_idle(bed.daemon)


def test_the_device_says_what_it_is(bed):
    shown = bed.show()
    assert shown["mac"] == bed.nic.mac and shown["mtu"] == 9000 and shown["carrier"] and shown["switch"] == "lan"
    assert shown["speed_mbps"] == 1000
    assert shown["state_reason"] == "driven by DPDK's net_e1000_igb"
    assert shown["uplink_driver"] == "dpdk" and bed.uplink()["driver"] == "dpdk" and bed.uplink()["driver_reason"]
    for driver in ("packet", "xdp"):
        assert refused(bed.daemon.cli("switch", "set", "lan", "--driver", driver), bed.nic.pci, driver, "--driver auto")
    assert bed.uplink()["state"] == "up"
    assert refused(bed.daemon.cli("switch", "create", "two", "--external", bed.nic.pci), bed.nic.pci, "lan")


def test_the_worker_sleeps_while_nothing_comes_and_wakes_for_a_frame(bed):
    check_idle(bed.daemon)
    before = bed.daemon.json("worker", "list")[0]
    assert bed.answers()
    woken = bed.daemon.json("worker", "list")[0]
    assert woken["sleeps"] > before["sleeps"] and woken["frames"] > before["frames"]


def test_a_pulled_cable_shows_and_its_return_too(bed):
    bed.appliance.set_link(bed.nic, up=False)
    wait_until(lambda: bed.uplink()["state"] == "down", "the uplink to be down", ANSWER_S)
    assert bed.uplink()["state_reason"] == "no carrier" and not bed.show()["carrier"]
    dropped = bed.uplink()["counters"]["drops"]["not_connected"]
    bed.appliance.run(f"ping -c 1 -W 1 {TAGGED_PEER}", check=False)
    assert bed.uplink()["counters"]["drops"]["not_connected"] > dropped
    bed.appliance.set_link(bed.nic, up=True)
    wait_until(lambda: bed.uplink()["state"] == "up", "the uplink to be up", ANSWER_S)
    bed.wait_answer("an answer after the cable is back")


def test_it_goes_on_after_kill_9(bed):
    bed.daemon.kill9()
    assert not bed.answers()
    bed.daemon.start()
    bed.wait_answer("an answer from the next run")


def test_another_user_needs_the_group_of_the_device_and_locked_memory(bed):
    bed.daemon.stop()
    bed.appliance.run("chown 0 /dev/vfio/[0-9]*; chmod 600 /dev/vfio/[0-9]*")
    try:
        bed.daemon.run_as(USER, ("net_admin", "net_raw", "ipc_lock"))
        bed.daemon.start()
        assert not bed.answers()
        assert bed.nic.pci in bed.uplink()["state_reason"], bed.uplink()
        bed.appliance.run(f"chown {USER} /dev/vfio/[0-9]*")
        bed.daemon.stop()
        bed.daemon.start()
        bed.wait_answer("an answer from a daemon without root")
    finally:
        bed.daemon.run_as_root()


def test_an_unplugged_nic_is_let_go_and_taken_again(bed):
    bed.appliance.unplug(bed.nic)
    wait_until(lambda: not bed.appliance.present(bed.nic), "the NIC to be gone", ANSWER_S)
    wait_until(lambda: bed.uplink()["state_reason"] == "no such NIC", "its absence to show", ANSWER_S)
    bed.appliance.plug_again(bed.nic)
    wait_until(lambda: bed.appliance.present(bed.nic), "the NIC to be back", ANSWER_S)
    bed.appliance.bind(bed.nic, "vfio-pci")
    bed.wait_answer("an answer by the new NIC")


def test_a_deleted_switch_gives_the_device_back(bed):
    for vnic in ("mgmt", "h101"):
        bed.daemon.do("vnic", "delete", vnic)
    bed.daemon.do("switch", "delete", "lan")
    assert bed.show()["state_reason"] == "bound to vfio-pci, ready for DPDK"
    bed.appliance.bind(bed.nic, "igb")
    assert bed.appliance.interface(bed.nic)


def test_it_needs_no_huge_pages(bed):
    bed.daemon.stop()
    bed.appliance.set_huge_pages(0)
    bed.daemon.start()
    bed.wait_answer("an answer without huge pages")
    assert bed.wire.run("busybox", "ping", "-q", "-c", 3, "-W", 5, "-s", 8972, HOST, check=False).returncode == 0
