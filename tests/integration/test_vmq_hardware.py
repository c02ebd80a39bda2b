"""Receive queues that a NIC sorts into, at the NIC itself: pools of an emulated Intel 82576 (VMDq), and flow rules of DPDK's
net_tap, which gives them to the classifier of the guest's kernel.

Inside the appliance queue_probe.cpp plays workers and control; frames come from outside, each with a number of its own, so
that a frame that is lost, comes in twice or in a wrong queue has a name.
"""

import json
import shlex
import threading

import pytest
from conftest import lab_name
from lab import image
from lab.appliance import Appliance, Nic
from lab.daemon import program
from lab.lab import Lab
from lab.proc import LabError, wait_until
from lab.rawport import RawPort
from scapy.layers.l2 import Dot1Q, Ether

SORTINGS = ("software", "kernel", "ntuple", "flow_rules", "vmdq")
PROBE = "/bin/queue_probe"
ANSWER_S = 40.0  # a guest under TCG that negotiates its link anew
SENDER = "02:00:00:00:03:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
POOLS = 7  # beside the default one
TAP, TAP_QUEUES = "dtap0", 3
UNTAGGED = None


def vnic(number):
    return f"02:00:00:00:05:{number:02x}"


class Probe:
    """queue_probe inside the appliance, on one device."""

    def __init__(self, appliance, address):
        self._inside = appliance
        self._asked = 0
        self._folder = "/tmp/probe"
        appliance.run(f"rm -rf {self._folder}; mkdir {self._folder}; mkfifo {self._folder}/in")
        words = shlex.join([PROBE, address, f"{self._folder}/in", f"{self._folder}/answer"])
        _, text = appliance.run(f"setsid {words} >/dev/ttyS0 2>&1 </dev/null & echo $!")
        self._pid = int(text)

    def running(self):
        return self._inside.run(f"kill -0 {self._pid}", check=False)[0] == 0

    def ask(self, *words):
        """What the command answers; an error as {"error": sentence}."""
        return self.ask_all([words])[-1]

    def ask_all(self, commands):
        """The answer to each."""
        first = self._asked + 1
        self._asked += len(commands)
        lines = [" ".join([str(number), *map(str, words)]) for number, words in enumerate(commands, first)]
        answers = " ".join(f"{self._folder}/answer.{number}" for number in range(first, self._asked + 1))
        _, text = self._inside.run(
            f"printf '%s\\n' {shlex.join(lines)} > {self._folder}/in; "
            f"while [ ! -e {self._folder}/answer.{self._asked} ]; do kill -0 {self._pid} || exit 1; usleep 20000; done; "
            f"cat {answers}; rm {answers}", limit_s=ANSWER_S)
        return [json.loads(line) for line in text.splitlines()]

    def do(self, *words):
        answer = self.ask(*words)
        if isinstance(answer, dict) and "error" in answer:
            raise LabError(answer["error"])
        return answer

    def end(self):
        self._inside.run(f"echo 0 quit > {self._folder}/in", check=False)
        wait_until(lambda: not self.running(), "queue_probe to end", ANSWER_S)


class Wire:
    """What is outside: numbered frames, and where they have to come in."""

    def __init__(self, raw, probe):
        self._raw = raw
        self._probe = probe
        self._number = 0
        self._sent = {}

    def send(self, mac, vid, queue, count=1, size=50):
        """`count` frames of `size` bytes behind the tag that have to arrive in `queue` (a number, or several of which one
        is right)."""
        first = self._number + 1
        self._number += count
        for number in range(first, first + count):
            self._sent[number] = (mac, -1 if vid is UNTAGGED else vid, queue if isinstance(queue, tuple) else (queue,))
        self._put(mac, vid, first, count, size)

    def _put(self, mac, vid, first, count, size):
        for number in range(first, first + count):
            tag = Dot1Q(vlan=vid, type=0x88B5) if vid is not UNTAGGED else b""
            kind = {"type": 0x88B5} if vid is UNTAGGED else {}
            self._raw.send(Ether(src=SENDER, dst=mac, **kind) / tag / number.to_bytes(4, "big") / bytes(size - 4))

    def check(self):
        """All that were sent are there, once, with their tag, and where they have to be. What was seen, as the probe
        says it."""
        seen = []

        def all_there():
            seen.extend(self._probe.do("seen"))
            return len({number for _, _, _, number in seen}) >= len(self._sent)
        try:
            wait_until(all_there, "all frames", ANSWER_S)
        except LabError:
            missing = {number: self._sent[number] for number in self._sent.keys() - {one[3] for one in seen}}
            raise AssertionError(f"lost: {missing}") from None
        # One that comes twice comes with the next ones, at the latest.
        seen.extend(self._probe.do("seen"))
        numbers = [number for _, _, _, number in seen]
        assert len(numbers) == len(set(numbers)), [one for one in seen if numbers.count(one[3]) > 1]
        for queue, mac, vid, number in seen:
            wanted = self._sent.pop(number)
            assert (mac, vid) == wanted[:2] and queue in wanted[2], (queue, mac, vid, wanted)
        self._sent.clear()
        return seen


class TapWire(Wire):
    """The kernel's end of a net_tap, inside. What is sent leaves with check()."""

    def __init__(self, probe):
        super().__init__(None, probe)
        self._waiting = []

    def _put(self, mac, vid, first, count, size):
        self._waiting.append(("send", TAP, mac, -1 if vid is UNTAGGED else vid, first, count))

    def check(self):
        while self._waiting:
            part, self._waiting = self._waiting[:40], self._waiting[40:]
            assert not any(self._probe.ask_all(part)), "they left"
        return super().check()


@pytest.fixture(scope="module")
def appliance(igb_qemu):
    with Lab.create(lab_name("vmq"), own_host=False) as lab:
        made = Appliance.create(lab, [Nic(lab.add_netns("wire"), "wire0", "igb")], files={PROBE: program("queue_probe")})
        made.set_huge_pages(64)
        made.bind(made.nics[0], "vfio-pci")
        yield made


@pytest.fixture
def probe(appliance):
    made = Probe(appliance, appliance.nics[0].pci)
    yield made
    if made.running():
        made.end()


@pytest.fixture
def wire(appliance, probe):
    nic = appliance.nics[0]
    with RawPort(nic.netns, nic.wire) as raw:
        yield Wire(raw, probe)


def wait_carrier(probe):
    wait_until(lambda: probe.ask("carrier"), "the link to be up", ANSWER_S)


def test_pools_sort_by_address_and_nothing_is_lost_or_doubled(probe, wire):
    ability = probe.do("ability")
    assert SORTINGS[ability["sorting"]] == "software", "it takes large frames until it is told that there are none"
    assert "1500" in ability["reason"], ability
    probe.do("mtu", 1500)
    ability = probe.do("ability")
    assert SORTINGS[ability["sorting"]] == "vmdq" and ability["queues"] == POOLS and ability["restarts"], ability
    idle = probe.do("mbufs")
    queues = [probe.do("open") for _ in range(POOLS)]
    assert "taken" in probe.ask("open")["error"]
    vids = [101, 102, UNTAGGED, 101, 102, 300, 4094]
    for number, queue in enumerate(queues):
        probe.do("filter", queue, vnic(number), vids[number] or 0)
    wait_carrier(probe)
    wire.send(vnic(0), 101, queues[0])
    wire.check()

    # Every vnic in its VLAN; and more vnics than pools.
    for number in range(POOLS):
        wire.send(vnic(number), vids[number], queues[number], 5)
    for number in range(POOLS, POOLS + 4):
        wire.send(vnic(number), 101, 0, 5)
        wire.send(vnic(number), UNTAGGED, 0, 5)
    # A wrong VLAN comes in with the address: whoever receives judges it.
    wire.send(vnic(0), 102, queues[0], 3)
    wire.send(vnic(0), UNTAGGED, queues[0], 3)
    wire.send(vnic(2), 101, queues[2], 3)
    # Groups come in once, by the default queue, in VLANs with and without a filter.
    for vid in (UNTAGGED, 101, 102, 300, 7, 4094):
        wire.send(BROADCAST, vid, 0, 3)
        for group in ("01:00:5e:00:00:01", "33:33:00:00:00:01", "33:33:ff:12:34:56", "01:80:c2:00:00:0e",
                      "03:ab:cd:ef:fe:dc"):
            wire.send(group, vid, 0, 2)
    assert len(wire.check()) == 5 * (POOLS + 8) + 9 + 6 * (3 + 10)

    # The hardware itself has put them there.
    probe.do("hold")
    wire.send(vnic(1), 102, queues[1], 8)
    wire.send(vnic(6), 4094, queues[6], 4)
    wire.send(vnic(20), 102, 0, 4)
    # The driver counts by fours.
    wait_until(lambda: probe.do("rings") == [4, 0, 8, 0, 0, 0, 0, 4], "the frames in the rings", ANSWER_S)
    probe.do("go")
    assert len(wire.check()) == 16

    # A filter that moves to another queue, and one that goes, without a loss: the device runs on.
    for round_ in range(3):
        probe.do("clear", queues[3])
        wire.send(vnic(3), 101, 0, 5)
        assert len(wire.check()) == 5, round_
        probe.do("filter", queues[3], vnic(3), 101)
        wire.send(vnic(3), 101, queues[3], 5)
        assert len(wire.check()) == 5, round_
    for queue in queues:
        probe.do("clear", queue)
        wire.send(vnic(0), 101, 0, 5)
        wire.send(BROADCAST, 102, 0, 5)
        wire.check()

    # Large frames do not pass the pools: they are off when such frames may come.
    probe.do("mtu", 9000)
    wait_carrier(probe)
    wire.send(vnic(0), 101, 0, 5, size=9000)
    wire.send(BROADCAST, 102, 0, 5)
    wire.check()
    for queue in queues:
        probe.do("close", queue)
    assert probe.do("mbufs") == idle


def test_frames_of_the_largest_size_pass_the_pools(probe, wire):
    probe.do("mtu", 1500)
    queue = probe.do("open")
    probe.do("filter", queue, vnic(0), 101)
    wait_carrier(probe)
    for size in (50, 1499, 1500):
        for vid in (101, UNTAGGED):
            wire.send(vnic(0), vid, queue, 3, size=size)
            wire.send(vnic(1), vid, 0, 3, size=size)
            wire.send(BROADCAST, vid, 0, 3, size=size)
    wire.check()
    # The filter goes with the pools, and its queue stays empty.
    probe.do("mtu", 9000)
    wait_carrier(probe)
    wire.send(vnic(0), 101, 0, 5, size=9000)
    wire.check()
    assert SORTINGS[probe.do("ability")["sorting"]] == "software"
    assert "9000" in probe.ask("filter", queue, vnic(0), 101)["error"]
    probe.do("mtu", 1500)
    probe.do("filter", queue, vnic(0), 101)
    wait_carrier(probe)
    wire.send(vnic(0), 101, queue, 5)
    wire.check()


def test_a_filter_is_set_and_cleared_while_frames_come(probe, wire):
    probe.do("mtu", 1500)
    first, second = probe.do("open"), probe.do("open")
    probe.do("filter", first, vnic(0), 101)
    wait_carrier(probe)
    ended = threading.Event()

    def traffic():
        while not ended.wait(0.005):
            wire.send(vnic(0), 101, first)
            wire.send(vnic(1), 102, (0, second))
            wire.send(BROADCAST, 102, 0)
    sender = threading.Thread(target=traffic)
    sender.start()
    try:
        for _ in range(10):
            probe.do("filter", second, vnic(1), 102)
            probe.do("clear", second)
    finally:
        ended.set()
        sender.join()
    seen = wire.check()
    assert len(seen) > 100 and {queue for queue, mac, _, _ in seen if mac == vnic(1)} == {0, second}
    probe.do("close", second)
    probe.do("clear", first)
    wire.send(vnic(0), 101, 0, 5)
    wire.check()


def test_a_frame_in_any_queue_wakes_who_sleeps(probe, wire):
    probe.do("mtu", 1500)
    queue = probe.do("open")
    ports = {0: 1, queue: 2}
    probe.do("filter", queue, vnic(0), 101)
    wait_carrier(probe)
    for mac, target in ((vnic(0), queue), (vnic(1), 0), (vnic(0), queue)):
        probe.do("seen")
        later = threading.Timer(1.0, wire.send, (mac, 101, target))
        later.start()
        slept = probe.do("sleep")
        later.join()
        assert not slept["work"] and slept["woken"] == 1 and slept["port"] == ports[target], slept
        wire.check()


def test_the_devices_own_address_stays_in_the_default_queue(appliance, probe):
    probe.do("mtu", 1500)
    queue = probe.do("open")
    refused = probe.ask("filter", queue, appliance.nics[0].mac, 101)
    assert "own address" in refused["error"] and appliance.nics[0].pci in refused["error"]


def test_without_the_kernels_classifier_the_device_has_one_queue_and_says_why(appliance):
    appliance.load("tun")
    probe = Probe(appliance, f"net_tap0,iface={TAP}")
    try:
        ability = probe.do("ability")
        assert SORTINGS[ability["sorting"]] == "software" and ability["queues"] == 0, ability
        assert "net_tap" in ability["reason"] and "no rule" in ability["reason"], ability
        assert "error" in probe.ask("open")
        wire = TapWire(probe)
        for number in range(20):
            wire.send(vnic(number), 101, 0)
        assert len(wire.check()) == 20
    finally:
        probe.end()


def test_flow_rules_sort_and_what_no_rule_names_is_in_the_default_queue(appliance):
    appliance.load("tun", *image.MODULES_FLOWER)
    probe = Probe(appliance, f"net_tap0,iface={TAP}")
    try:
        wire = TapWire(probe)
        ability = probe.do("ability")
        assert SORTINGS[ability["sorting"]] == "flow_rules" and ability["queues"] == TAP_QUEUES, ability
        assert not ability["restarts"] and not ability["vlan_only"]
        queues = [probe.do("open") for _ in range(TAP_QUEUES)]
        vids = [101, UNTAGGED, 300]
        for number, queue in enumerate(queues):
            probe.do("filter", queue, vnic(number), vids[number] or 0)
        for round_ in range(2):
            for number, queue in enumerate(queues):
                wire.send(vnic(number), vids[number], queue, 5)
            # Many flows that no rule names, which the kernel's own hash would spread.
            for number in range(TAP_QUEUES, 60):
                wire.send(vnic(number), 101, 0)
                wire.send(vnic(number), UNTAGGED, 0)
            # net_tap's rules name no VLAN: a wrong one comes in with the address, and whoever receives judges it.
            wire.send(vnic(0), 102, queues[0], 3)
            wire.send(vnic(1), 7, queues[1], 3)
            for vid in (UNTAGGED, 101, 7):
                wire.send(BROADCAST, vid, 0, 3)
                wire.send("33:33:00:00:00:01", vid, 0, 3)
            assert len(wire.check()) == 5 * TAP_QUEUES + 2 * (60 - TAP_QUEUES) + 6 + 18, round_
            for queue in queues[:2]:
                probe.do("clear", queue)
            wire.send(vnic(0), 101, 0, 5)
            wire.send(vnic(1), UNTAGGED, 0, 5)
            wire.check()
            for number, queue in enumerate(queues[:2]):
                probe.do("filter", queue, vnic(number), vids[number] or 0)
    finally:
        probe.end()
