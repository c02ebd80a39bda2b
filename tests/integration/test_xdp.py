"""AF_XDP as the driver of an uplink: an emulated 82576 (igb, which runs XDP programs itself) and an e1000e (generic mode)
in an appliance, with Debian's kernel and drivers; the wire is a tap outside."""

import ipaddress
import random
import re
import shlex

import pytest
from conftest import lab_name
from lab import image, netcheck
from lab.appliance import RUN_DIR, SETPRIV, Appliance, Nic, check_idle
from lab.lab import Lab
from lab.proc import wait_until
from lab.rawport import RawPort
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from stream import FRAME, Stream, send_burst

ANSWER_S = 40.0  # a guest under TCG whose NIC negotiates its link anew
PEER_MAC = "02:00:00:00:03:01"
HOST_MAC, TAGGED_MAC = "02:00:00:00:04:01", "02:00:00:00:04:02"
TAGGED_HOST, TAGGED_PEER = "10.1.9.2", "10.1.9.1"  # VLAN 101; the peer is only scapy
USER = "800"
OFFLOADS = ("rx-vlan-offload", "generic-receive-offload")


class Uplink:
    """The switch `lan` on one NIC of the appliance, with an untagged and a tagged host vnic."""

    def __init__(self, appliance, nic, subnet):
        self.inside = appliance
        self.daemon = appliance.daemon
        self.nic = nic
        self.wire = nic.netns
        self.name = appliance.interface(nic)
        self.host = f"10.0.{subnet}.2"
        self.wire.set_ip(nic.wire, f"10.0.{subnet}.1")

    def set_queues(self, count):
        """As many as the driver makes by itself on a host with `count` CPUs."""
        if len(self.per_queue()) != count:
            self.inside.run(f"ethtool -L {self.name} combined {count}")

    def per_queue(self):
        """The frames that each queue has received."""
        _, text = self.inside.run(f"ethtool -S {self.name}")
        return [int(frames) for frames in re.findall(r"rx_queue_\d+_packets: (\d+)", text)]

    def clear(self):
        self.inside.set_link(self.nic, up=True)
        if not self.daemon.running():
            self.daemon.start()
        for vnic in self.daemon.json("vnic", "list"):
            self.daemon.do("vnic", "delete", vnic["name"])
        for switch in self.daemon.json("switch", "list"):
            self.daemon.do("switch", "delete", switch["name"])

    def create(self, *options):
        self.daemon.do("switch", "create", "lan", "--external", self.name, *options)
        self.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host", "--mac", HOST_MAC)
        self.daemon.do("vnic", "create", "h101", "--switch", "lan", "--host", "--vlan", 101, "--mac", TAGGED_MAC)
        self.inside.run(f"ip addr add {self.host}/24 dev mgmt; ip addr add {TAGGED_HOST}/24 dev h101; "
                        f"/usr/sbin/ip neigh replace {TAGGED_PEER} lladdr {PEER_MAC} dev h101")
        self.wait_answer()
        return self.show()

    def show(self):
        return self.daemon.json("switch", "show", "lan")["uplink"]

    def wait_answer(self):
        wait_until(lambda: self.wire.ping(self.host), f"an answer of {self.host} inside", ANSWER_S)

    def program(self):
        """How an XDP program is attached: "xdp", "xdpgeneric" or nothing."""
        _, text = self.inside.run(f"/usr/sbin/ip link show dev {self.name}")
        found = re.search(r" (xdp\w*)(?:/id:\d+)? qdisc ", text)
        return found[1] if found else None

    def offloads(self):
        """{name: "on" or "off"} of what AF_XDP cannot bear."""
        _, text = self.inside.run(f"ethtool -k {self.name}")
        return {name: re.search(rf"^{name}: (\w+)", text, re.M)[1] for name in OFFLOADS}

    def rss_table(self):
        """The queue of each entry, as the driver has it."""
        _, text = self.inside.run(f"ethtool -x {self.name}")
        return [int(queue) for row in re.findall(r"^ *\d+: ([ \d]+)$", text, re.M) for queue in row.split()]

    def sorting(self):
        """Who sorts, and why it is that."""
        nic, = self.daemon.json("vmq", "list", "--nic", self.name)["nics"]
        return nic["sorting"], nic["sorting_reason"]

    def is_promiscuous(self):
        _, text = self.inside.run(f"/usr/sbin/ip -details link show dev {self.name}")
        return "promiscuity 0" not in text

    def check_tagged(self):
        """An echo request in VLAN 101 is answered there, and there only, with all its bytes."""
        request = (Ether(src=PEER_MAC, dst=TAGGED_MAC) / Dot1Q(vlan=101) / IP(src=TAGGED_PEER, dst=TAGGED_HOST)
                   / ICMP(id=7, seq=1) / bytes(range(200)))
        with RawPort(self.wire, self.nic.wire) as raw:
            raw.send(request)
            to_peer = bytes.fromhex(PEER_MAC.replace(":", ""))
            answers = raw.receive(lambda frame: frame[:6] == to_peer, 1, ANSWER_S)
        assert len(answers) == 1, answers
        answer = Ether(answers[0])
        assert answer[Dot1Q].vlan == 101 and answer[ICMP].type == 0, answer
        assert bytes(answer[ICMP].payload)[:200] == bytes(range(200))


@pytest.fixture(scope="module")
def appliance(igb_qemu):
    with Lab.create(lab_name("xdp"), own_host=False) as lab:
        wire = lab.add_netns("wire")
        made = Appliance.create(lab, [Nic(wire, "wire0", "igb"), Nic(wire, "wire1", "e1000e")],
                                files={SETPRIV: image.program("setpriv")})
        # Behind packet sockets the kernel hears the NIC, too. It must not answer for the host vnics, by the NIC's address.
        made.run("echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore")
        for nic in made.nics:
            made.bind(nic, nic.model)
        made.daemon.start()
        yield made


@pytest.fixture(scope="module")
def uplinks(appliance):
    return [Uplink(appliance, nic, 9 + number) for number, nic in enumerate(appliance.nics)]


@pytest.fixture
def igb(uplinks):
    uplinks[0].clear()
    uplinks[0].set_queues(2)
    return uplinks[0]


@pytest.fixture
def e1000e(uplinks):
    uplinks[1].clear()
    return uplinks[1]


def test_auto_takes_af_xdp_in_a_driver_that_runs_programs(igb):
    before = igb.offloads()
    assert before["rx-vlan-offload"] == "on"
    nic = igb.daemon.json("nic", "show", igb.name)
    assert nic["uplink_driver"] == "xdp" and "igb" in nic["uplink_driver_reason"], nic
    assert nic["rx_vlan_offload"] == "on" and nic["queues"] == 2 and nic["xdp_multi_buffer"] is False, nic
    assert "driver auto takes" in igb.daemon.do("nic", "show", igb.name)
    uplink = igb.create()
    assert uplink["driver"] == "xdp" and uplink["driver_reason"] == "AF_XDP in driver igb, 2 queues", uplink
    assert igb.program() == "xdp" and igb.is_promiscuous()
    assert set(igb.offloads().values()) == {"off"}
    igb.check_tagged()
    igb.daemon.do("vnic", "delete", "mgmt")
    igb.daemon.do("vnic", "delete", "h101")
    igb.daemon.do("switch", "delete", "lan")
    assert igb.program() is None and not igb.is_promiscuous()
    assert igb.offloads() == before


def check_every_queue(igb, queues):
    """Frames come in through each, and the switch has them all."""
    before, counted = igb.per_queue(), igb.show()["counters"]["from_wire"]["frames"]
    # QEMU's igb hashes addresses only, with a key that its driver draws: many bits have to differ.
    numbers = random.Random(82576)
    sources = [str(ipaddress.IPv4Address(0x0A000000 + numbers.randrange(1 << 24))) for _ in range(100)]
    flows = [Ether(src=PEER_MAC, dst=HOST_MAC) / IP(src=source, dst=igb.host) / UDP(sport=1000, dport=9) / bytes(64)
             for source in sources]
    with RawPort(igb.wire, igb.nic.wire) as raw:
        raw.send(*flows)
    wait_until(lambda: igb.show()["counters"]["from_wire"]["frames"] >= counted + len(flows),
               "every flow to be counted", ANSWER_S)
    came = [after - earlier for after, earlier in zip(igb.per_queue(), before)]
    assert len(came) == queues and min(came) > 0, came
    assert igb.show()["counters"]["drops"]["kernel_ring_full"] == 0


def test_frames_come_in_through_every_queue(igb):
    igb.create()
    check_every_queue(igb, 2)


def test_queues_that_somebody_adds_are_taken(igb):
    """A queue without a socket would give its frames to the host's own stack, past the switch and its VLANs. Fewer queues
    than sockets: the kernel does not allow that."""
    igb.create()
    for queues in (3, 4):
        igb.set_queues(queues)
        reason = f"AF_XDP in driver igb, {queues} queues"
        wait_until(lambda: igb.show()["driver_reason"] == reason, reason, ANSWER_S)
        igb.wait_answer()
        check_every_queue(igb, queues)
        igb.check_tagged()


def test_what_an_82576_lacks_to_sort_by_rules_is_said_and_nothing_of_it_is_changed(igb):
    """Its driver has ntuple filters, but not for this chip: they begin with the i350."""
    table = igb.rss_table()
    assert len(table) == 128 and set(table) == {0, 1}, table

    def check_untouched():
        _, features = igb.inside.run(f"ethtool -k {igb.name}")
        assert re.search(r"^ntuple-filters: off \[fixed\]$", features, re.M), features
        _, rules = igb.inside.run(f"ethtool -n {igb.name}")
        assert "Total 0 rules" in rules, rules
        assert igb.rss_table() == table
        assert igb.inside.run(f"ls {RUN_DIR}/rings/")[1].strip() == ""
    check_untouched()
    igb.create()
    missing = ("software", "the ntuple filters of driver igb are off and fixed")
    assert igb.sorting() == missing
    assert missing[1] in igb.daemon.do("nic", "show", igb.name)
    check_untouched()
    before, = [queue for queue in igb.daemon.json("vmq", "list")["queues"] if queue["vnic"] == "h101"]
    igb.check_tagged()
    after, = [queue for queue in igb.daemon.json("vmq", "list")["queues"] if queue["vnic"] == "h101"]
    assert after["frames"] == before["frames"] + 1 and after["sorting"] == "software", (before, after)
    igb.daemon.kill9()
    igb.daemon.start()
    igb.wait_answer()
    assert igb.sorting() == missing
    check_untouched()


def test_an_rss_table_that_a_killed_run_left_is_put_back_by_its_note(igb):
    """No NIC here has rules, so no run gets as far; what it would have left is made by hand."""
    table = igb.rss_table()
    igb.daemon.stop()
    _, boot = igb.inside.run("cat /proc/sys/kernel/random/boot_id")
    _, index = igb.inside.run(f"cat /sys/class/net/{igb.name}/ifindex")

    def start_after(about):
        igb.inside.run(f"ethtool -X {igb.name} equal 1")
        assert set(igb.rss_table()) == {0}
        lines = (f"about {about}", "switched_on 0", f"rss {len(table)} " + " ".join(map(str, table)), "rules 0", "end")
        igb.inside.run(f"printf '%s\\n' {shlex.join(lines)} > {RUN_DIR}/rings/ntuple+{index.strip()}")
        igb.daemon.start()
        assert igb.inside.run(f"ls {RUN_DIR}/rings/")[1].strip() == ""
    try:
        start_after(f"{boot.strip()[::-1]}/{index.strip()}")
        assert set(igb.rss_table()) == {0}, "a note of another boot says nothing about this one"
        igb.daemon.stop()
        start_after(f"{boot.strip()}/{index.strip()}")
        assert igb.rss_table() == table
    finally:
        igb.inside.run(f"ethtool -X {igb.name} weight 1 1")
    igb.create()
    igb.check_tagged()


def merged_frames(uplink):
    return uplink.show()["counters"]["merged_frames"]


def check_balance(daemon):
    for account in netcheck.settled_accounts(daemon, ANSWER_S):
        assert account.difference == 0, account


def test_a_burst_of_segments_becomes_a_large_piece_unless_gro_is_off(igb):
    igb.create()
    source, target = (PEER_MAC, TAGGED_PEER), (TAGGED_MAC, TAGGED_HOST)
    before = merged_frames(igb)
    packets, octets = send_burst(igb.inside, igb.nic, "h101", source, target, 101)
    merged = merged_frames(igb) - before
    assert merged >= 10, merged
    assert packets <= 20 - merged + 1 and octets <= 20_000 + (20 - merged + 1) * 64, (packets, octets)
    assert igb.daemon.json("switch", "set", "lan", "--gro", "off")["gro"] is False
    packets, octets = send_burst(igb.inside, igb.nic, "h101", source, target, 101)
    assert packets >= 20 and octets >= 20 * 1054
    assert merged_frames(igb) == before + merged
    shown = igb.daemon.do("switch", "show", "lan")
    assert re.search(r"gro +off", shown) and re.search(rf"merged frames +{before + merged}\b", shown), shown
    check_balance(igb.daemon)


def test_gro_changes_under_traffic_and_nothing_is_lost(igb):
    igb.create()
    stream = Stream(igb.inside, "mgmt", igb.host, igb.wire)
    stream.begin(30_000_000)
    changes = 0
    while stream.arriving():
        igb.daemon.do("switch", "set", "lan", "--gro", ("off", "on")[changes % 2])
        changes += 1
    stream.end()
    assert changes > 3
    check_balance(igb.daemon)


def test_with_packet_sockets_gro_off_is_the_nics(igb):
    before = igb.offloads()
    igb.create("--driver", "packet")
    assert igb.offloads() == before and before["generic-receive-offload"] == "on"
    stream = Stream(igb.inside, "mgmt", igb.host, igb.wire)
    stream.transfer()
    igb.daemon.do("switch", "set", "lan", "--gro", "off")
    assert igb.offloads() == {**before, "generic-receive-offload": "off"}
    assert stream.transfer() <= FRAME and merged_frames(igb) == 0
    check_balance(igb.daemon)
    igb.daemon.kill9()
    igb.daemon.start()
    igb.wait_answer()
    assert igb.offloads()["generic-receive-offload"] == "off"
    igb.daemon.do("switch", "set", "lan", "--driver", "xdp")
    assert set(igb.offloads().values()) == {"off"}
    igb.daemon.do("switch", "set", "lan", "--driver", "packet")
    assert igb.offloads() == {**before, "generic-receive-offload": "off"}
    igb.daemon.do("switch", "set", "lan", "--gro", "on")
    assert igb.offloads() == before


def test_nothing_of_a_killed_daemon_stays_unclaimed(igb):
    before = igb.offloads()
    igb.create()
    igb.daemon.kill9()
    assert igb.program() is None and not igb.is_promiscuous()
    assert igb.offloads()["rx-vlan-offload"] == "off"  # claimed below
    igb.daemon.start()
    igb.wait_answer()
    assert igb.show()["driver"] == "xdp" and igb.program() == "xdp"
    igb.check_tagged()
    igb.daemon.do("switch", "set", "lan", "--driver", "packet")
    assert igb.program() is None and igb.offloads() == before


def test_the_driver_changes_while_the_switch_is_in_use(igb):
    igb.create()
    for driver, used in (("packet", "packet"), ("xdp", "xdp"), ("packet", "packet"), ("auto", "xdp")):
        shown = igb.daemon.json("switch", "set", "lan", "--driver", driver)
        assert shown["driver"] == driver and shown["uplink"]["driver"] == used, shown
        igb.wait_answer()
        igb.check_tagged()
    assert igb.program() == "xdp"


def test_stripping_that_somebody_switches_on_is_switched_off_again(igb):
    igb.create()
    igb.inside.run(f"ethtool -K {igb.name} rxvlan on", limit_s=ANSWER_S)
    wait_until(lambda: igb.offloads()["rx-vlan-offload"] == "off", "rx-vlan-offload to be off again", ANSWER_S)
    igb.wait_answer()
    igb.check_tagged()


def test_carrier_loss_is_seen_and_survived(igb):
    igb.create()
    igb.inside.set_link(igb.nic, up=False)
    wait_until(lambda: igb.show()["state_reason"] == "no carrier", "the loss of carrier to show", ANSWER_S)
    igb.inside.set_link(igb.nic, up=True)
    igb.wait_answer()
    assert igb.show()["state"] == "up" and igb.show()["driver"] == "xdp"
    igb.check_tagged()


def test_a_nic_that_goes_and_comes_back_is_taken_again(igb):
    igb.create()
    igb.inside.unplug(igb.nic)
    wait_until(lambda: not igb.inside.present(igb.nic), "the NIC to be gone", ANSWER_S)
    wait_until(lambda: igb.show()["state_reason"] == "no such NIC", "its absence to show", ANSWER_S)
    assert igb.show()["driver"] is None
    igb.inside.plug_again(igb.nic)
    wait_until(lambda: igb.inside.present(igb.nic), "the NIC to be back", ANSWER_S)
    igb.inside.bind(igb.nic, "igb")
    assert igb.inside.interface(igb.nic) == igb.name
    igb.wait_answer()
    assert igb.show()["driver"] == "xdp" and igb.program() == "xdp"
    igb.check_tagged()


def test_the_worker_sleeps_while_nothing_comes_and_wakes_for_a_frame(igb):
    igb.create()
    check_idle(igb.daemon)
    before = igb.daemon.json("worker", "list")[0]
    igb.check_tagged()
    assert igb.daemon.json("worker", "list")[0]["frames"] > before["frames"]


def test_an_mtu_beyond_one_buffer_needs_packet_sockets(igb):
    igb.inside.run(f"/usr/sbin/ip link set dev {igb.name} mtu 4000", limit_s=ANSWER_S)
    try:
        refused = igb.daemon.cli("switch", "create", "lan", "--external", igb.name, "--driver", "xdp")
        assert refused.returncode == 1, refused
        for part in (igb.name, "4000", "3502", "--driver packet"):
            assert part in refused.stderr, refused.stderr
        uplink = igb.create()
        assert uplink["driver"] == "packet", uplink
        assert "4000" in uplink["driver_reason"] and "3502" in uplink["driver_reason"], uplink
    finally:
        igb.inside.run(f"/usr/sbin/ip link set dev {igb.name} mtu 1500", limit_s=ANSWER_S)
    wait_until(lambda: igb.show()["driver"] == "xdp", "auto to take AF_XDP with a smaller mtu", ANSWER_S)
    igb.wait_answer()


def test_each_capability_is_needed_and_missed_by_name(igb):
    """As another user, with the capabilities of the systemd unit and then with those that AF_XDP needs besides."""
    igb.daemon.stop()
    try:
        for more, driver, part in (((), "packet", "CAP_BPF"), (("bpf",), "packet", "CAP_IPC_LOCK"),
                                   (("bpf", "ipc_lock"), "xdp", "AF_XDP in driver igb")):
            igb.daemon.run_as(USER, ("net_admin", "net_raw", *more))
            igb.daemon.start()
            uplink = igb.create()
            assert uplink["driver"] == driver and part in uplink["driver_reason"], (more, uplink)
            igb.check_tagged()
            igb.clear()
            igb.daemon.stop()
    finally:
        igb.daemon.run_as_root()


def test_generic_mode_is_for_those_who_ask(e1000e):
    before = e1000e.offloads()
    uplink = e1000e.create()
    assert uplink["driver"] == "packet" and "generic mode" in uplink["driver_reason"], uplink
    e1000e.check_tagged()
    uplink = e1000e.daemon.json("switch", "set", "lan", "--driver", "xdp")["uplink"]
    assert uplink["driver"] == "xdp" and "generic mode" in uplink["driver_reason"], uplink
    e1000e.wait_answer()
    e1000e.check_tagged()
    assert e1000e.sorting() == ("software", "it has one receive queue")
    assert e1000e.program() == "xdpgeneric" and set(e1000e.offloads().values()) == {"off"}
    e1000e.daemon.do("switch", "set", "lan", "--driver", "auto")
    assert e1000e.program() is None and e1000e.offloads() == before


def test_virtual_devices_are_refused(appliance, igb):
    appliance.load("veth")
    appliance.run("/usr/sbin/ip link add v0 type veth peer name v1 && /usr/sbin/ip link set v1 up")
    try:
        nic = igb.daemon.json("nic", "show", "v0")
        assert nic["uplink_driver"] == "packet" and "veth is a virtual device" in nic["uplink_driver_reason"], nic
        refused = igb.daemon.cli("switch", "create", "lan", "--external", "v0", "--driver", "xdp")
        assert refused.returncode == 1 and "veth is a virtual device" in refused.stderr, refused
        assert "--driver packet" in refused.stderr, refused
        assert igb.daemon.json("switch", "list") == []
    finally:
        appliance.run("/usr/sbin/ip link del v0")
