"""A QEMU guest that gets no CPU, is paused or starts anew while frames come for it. The guest itself counts their
numbers (tools/lab/guest_numbers.c); who sends is a scripted front-end, which waits for nobody."""

import os
import signal
import threading

import pytest
from front_end import FrontEnd
from lab import guest_numbers, netcheck, wirings
from lab.guest_numbers import frame
from lab.proc import wait_until

GUEST_MAC, SENDER_MAC = "02:00:00:00:0c:01", "02:00:00:00:0c:02"
COUNT = 10000  # of 62 bytes: with 1M all that a ring of 1024 does not hold, and more than 256K
SIZE = 62
RING = 1024


class Lan:
    """A guest `web` that counts, and a sender."""

    def __init__(self, host):
        self.host = host
        host.clear()
        host.daemon.do("switch", "create", "lan", "--private")
        host.daemon.do("vnic", "create", "web", "--switch", "lan", "--mac", GUEST_MAC)
        host.daemon.do("vnic", "create", "sender", "--switch", "lan", "--mac", SENDER_MAC)
        self.sender = FrontEnd(host.json("vnic", "show", "sender")["vhost_socket"], SENDER_MAC, 256, 2048).start()
        self.vm = host.lab.add_guest("web", GUEST_MAC)
        self.vm.start_vhost(host.json("vnic", "show", "web")["vhost_socket"])
        self.vm.wait_ready()
        wirings.wait_connected(host.daemon, ["web", "sender"])
        self._drops = {}

    def begin(self):
        """The next test: the guest runs and counts anew, and so do drops()."""
        self.thaw()
        self.vm.monitor("cont")
        self.host.daemon.do("vnic", "set", "web", "--buffer", "default")
        self.vm.run("[ ! -e /tmp/pid ] || kill $(cat /tmp/pid)", check=False)
        self.count_anew()
        self.wait_empty()
        self._drops = self.show()["counters"]["drops"]

    def count_anew(self):
        self.vm.run("ip link set eth0 up")
        guest_numbers.start(self.vm, SENDER_MAC)

    def show(self):
        return self.host.json("vnic", "show", "web")

    def drops(self):
        return {reason: frames - self._drops[reason] for reason, frames in self.show()["counters"]["drops"].items()
                if frames != self._drops[reason]}

    def to_guest(self):
        return self.show()["counters"]["to_guest"]["frames"]

    def send(self, numbers, size=SIZE):
        """All are taken and counted when it returns."""
        self.sender.send_all(frame(GUEST_MAC, SENDER_MAC, number, size) for number in numbers)
        self.check_balance()

    def check_balance(self):
        for account in netcheck.settled_accounts(self.host.daemon):
            assert account.difference == 0, account

    def wait_empty(self):
        wait_until(lambda: self.show()["buffer"]["frames"] == 0, "the guest to take what waits", 60.0)
        self.check_balance()

    def wait_next(self, number):
        """What the guest saw, when number - 1 has come to it."""
        def seen():
            facts = guest_numbers.report(self.vm)
            return facts if facts["next"] >= number else None
        facts = wait_until(seen, f"number {number - 1} to arrive", 60.0, every_s=0.3)
        assert facts["next"] == number and facts["lost_by_socket"] == facts["steps_back"] == 0, facts
        return facts

    def freeze(self):
        os.kill(self.vm.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.vm.process.pid, signal.SIGCONT)

    def close(self):
        if self.vm.running():
            self.thaw()
        self.host.lab.guests.pop("web").stop()
        self.sender.close()
        self.host.clear()


@pytest.fixture(scope="module")
def one_lan(host):
    made = Lan(host)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lan(one_lan):
    one_lan.begin()
    return one_lan


def test_a_guest_without_cpu_loses_nothing_that_its_buffer_holds(lan):
    """With 256K some is lost, counted, and the rest in order; the size that the advice names holds the same."""
    lan.host.daemon.do("vnic", "set", "web", "--buffer", "256K")
    before = lan.to_guest()
    lan.freeze()
    lan.send(range(COUNT))
    shown = lan.show()
    lost = lan.drops()["buffer_full"]
    waiting = shown["buffer"]["frames"]
    assert waiting == 262144 // SIZE and shown["buffer"]["used_bytes"] == waiting * SIZE
    assert shown["buffer"]["stalls"]["now_us"] > 0
    in_ring = COUNT - lost - waiting
    assert 0 < in_ring <= 1024 and lost > 0 and lan.drops() == {"buffer_full": lost}
    lan.thaw()
    lan.wait_empty()
    lan.send(range(COUNT, COUNT + 1))
    facts = lan.wait_next(COUNT + 1)
    assert facts["skipped"] == lost and facts["gaps"] == [f"{in_ring + waiting}-{COUNT - 1}"], facts
    shown = lan.show()
    assert shown["counters"]["to_guest"]["frames"] - before == COUNT + 1 - lost
    assert shown["buffer"]["used_bytes"] == shown["buffer"]["stalls"]["now_us"] == 0
    assert shown["buffer"]["stalls"]["count"] >= 1 and shown["buffer"]["waited"]["frames"] >= waiting
    assert "1M would have held it; `patchbay vnic set web --buffer 1M`" in shown["buffer"]["advice"]

    lan.host.daemon.do("vnic", "set", "web", "--buffer", "1M")
    stalls = shown["buffer"]["stalls"]["count"]
    lan.freeze()
    lan.send(range(COUNT + 1, 2 * COUNT + 1))
    assert lan.drops() == {"buffer_full": lost}, "no more than before"
    lan.thaw()
    lan.wait_empty()
    facts = lan.wait_next(2 * COUNT + 1)
    assert facts["skipped"] == lost, facts
    shown = lan.show()
    assert shown["state"] == "connected" and shown["buffer"]["stalls"]["count"] > stalls
    assert shown["buffer"]["advice"] is None


@pytest.mark.parametrize("setting, limit", [("1M", 1 << 20), ("2M", 2 << 20), ("4M", 4 << 20)])
@pytest.mark.parametrize("rate", [65_500, 131_000, 262_000])
def test_a_guest_that_is_paused_for_10_ms_loses_what_exceeds_ring_and_buffer(lan, rate, setting, limit):
    """Full frames, as many as come in 10 ms at that rate; how long it takes to send them does not matter."""
    size, come = 1514, rate // 100
    kept = limit // size
    lan.host.daemon.do("vnic", "set", "web", "--buffer", setting)
    lan.vm.monitor("stop")
    lan.send(range(come), size)
    lost, waiting = lan.drops().get("buffer_full", 0), lan.show()["buffer"]["frames"]
    assert lan.drops() == ({"buffer_full": lost} if lost else {})
    in_ring = come - lost - waiting
    assert in_ring <= RING and lost == max(0, come - in_ring - kept), (in_ring, waiting)
    if come <= kept:
        assert lost == 0
    elif come > kept + RING:
        assert lost > 0
    lan.vm.monitor("cont")
    lan.wait_empty()
    lan.send(range(come, come + 1))
    facts = lan.wait_next(come + 1)
    assert facts["gaps"] == ([f"{come - lost}-{come - 1}"] if lost else []), "the rest came in order"
    assert facts["skipped"] == lost and lan.drops() == ({"buffer_full": lost} if lost else {})


def test_a_change_of_size_costs_a_guest_neither_a_frame_nor_its_connection(lan):
    """Again and again while frames come for a guest that has CPU, and for one that has none for a moment. What waits is
    never more than the smallest size holds."""
    sizes = ("4M", "auto", "256K", "1M", "auto:2M", "default")
    identity = "cat /proc/sys/kernel/random/boot_id /sys/class/net/eth0/carrier_changes"
    before, stalls = lan.vm.run(identity)[1], lan.show()["buffer"]["stalls"]["count"]
    ended, problems, changes = threading.Event(), [], [0]

    def change():
        while not ended.is_set() and not problems:
            done = lan.host.cli("vnic", "set", "web", "--buffer", sizes[changes[0] % len(sizes)])
            if done.returncode != 0:
                problems.append(done.stderr)
            changes[0] += 1
    thread = threading.Thread(target=change)
    thread.start()
    sent = rounds = 0
    try:
        while rounds < 10 or changes[0] < 60:
            if rounds % 2:
                lan.freeze()
            lan.sender.send_all(frame(GUEST_MAC, SENDER_MAC, number, SIZE) for number in range(sent, sent + 3000))
            sent += 3000
            lan.thaw()
            wait_until(lambda: lan.show()["buffer"]["frames"] == 0, "the guest to take what waits", 60.0)
            rounds += 1
            assert thread.is_alive() and rounds < 1000, problems
    finally:
        ended.set()
        thread.join(60.0)
    lan.check_balance()
    facts = lan.wait_next(sent)
    assert facts["skipped"] == 0 and lan.drops() == {} and not problems, facts
    assert lan.show()["state"] == "connected" and lan.vm.run(identity)[1] == before, "another boot, or the carrier went"
    assert lan.show()["buffer"]["stalls"]["count"] - stalls >= 5, "each time that it had no CPU frames waited"


def test_what_comes_while_a_guest_is_paused_waits_and_comes_first(lan):
    """QEMU stops the rings of a guest that is paused, and starts them where they stood."""
    lan.send(range(100))
    lan.vm.monitor("stop")
    lan.send(range(100, COUNT))
    waiting = lan.show()["buffer"]["frames"]
    assert waiting > 0 and lan.drops() == {}
    lan.vm.monitor("cont")
    lan.send(range(COUNT, COUNT + 100))
    lan.wait_empty()
    facts = lan.wait_next(COUNT + 100)
    assert facts["skipped"] == 0 and lan.drops() == {}, facts


def test_a_driver_that_is_bound_again_gets_nothing_of_what_waited_before(lan):
    lan.send(range(10))
    lan.wait_next(10)
    guest_numbers.stop(lan.vm)
    lan.vm.run("echo 'cd /sys/bus/virtio/drivers/virtio_net && d=$(ls -d virtio*) && echo $d > unbind && "
               "touch /tmp/unbound; kill -STOP $$; echo $d > bind' > /tmp/bind")
    lan.vm.run("sh /tmp/bind & echo $! > /tmp/binder; until [ -e /tmp/unbound ]; do usleep 10000; done")
    lan.send(range(3000))
    assert lan.show()["buffer"]["frames"] == 3000 and lan.drops() == {}
    lan.vm.run("kill -CONT $(cat /tmp/binder); until [ -e /sys/class/net/eth0 ]; do usleep 10000; done")
    lan.count_anew()
    wait_until(lambda: lan.show()["buffer"]["frames"] == 0, "what waited to be forgotten", 60.0)
    assert lan.drops() == {"buffer_reset": 3000}
    lan.send(range(5000, 5100))
    facts = lan.wait_next(5100)
    assert facts["skipped"] == 5000 and facts["gaps"] == ["0-4999"], facts


def test_a_guest_that_starts_anew_gets_nothing_of_what_waited_before(lan):
    """By a reset of a guest that is paused: its rings are other ones afterwards. The last test: the guest is not waited
    for."""
    lan.send(range(10))
    lan.vm.monitor("stop")
    lan.send(range(10, 3000))
    waiting = lan.show()["buffer"]["frames"]
    assert waiting > 0
    before = lan.to_guest()
    lan.vm.monitor("system_reset")
    lan.vm.monitor("cont")
    wait_until(lambda: lan.show()["buffer"]["frames"] == 0, "what waited to be forgotten", 60.0)
    assert lan.drops() == {"buffer_reset": waiting}
    assert lan.to_guest() == before
    lan.check_balance()
