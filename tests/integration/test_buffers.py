"""What waits for a guest that takes nothing: how much, in which order, for whom, and what `vnic show` says of it. The
guests are scripted front-ends, so that it is known to the frame what a ring holds; test_buffers_guests.py has QEMU."""

import threading

import pytest
from front_end import FrontEnd
from lab import netcheck
from lab.guest_numbers import frame, number_of
from lab.proc import wait_until
from lab.rawport import RawPort

ENTRIES = 16  # of the ring of who stands still
BUSY_ENTRIES = 256
MB = 1 << 20
MACS = {name: f"02:00:00:00:0b:{number:02x}" for number, name in enumerate(
    ("still", "left", "right", "sender", "second", "third"), 1)}


class Lan:
    """Front-ends on one switch."""

    def __init__(self, host, kind):
        self.host = host
        self.ends = {}
        host.clear()
        host.daemon.do("switch", "create", "lan", *kind)

    def add(self, name, *words, entries=BUSY_ENTRIES):
        self.host.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", MACS[name], *words)
        return self.front_end(name, entries)

    def front_end(self, name, entries):
        """Another guest at that vnic; the one before must have hung up."""
        if name in self.ends:
            self.ends[name].close()
        self.ends[name] = FrontEnd(self.show(name)["vhost_socket"], MACS[name], entries, buffer_bytes=2048).start()
        self.wait_state(name, "connected")
        return self.ends[name]

    def hang_up(self, name):
        self.ends[name].socket.close()
        self.wait_state(name, "waiting_for_guest")

    def wait_state(self, name, state):
        wait_until(lambda: self.show(name)["state"] == state, f"{name} to be {state}", 30.0)

    def show(self, name="still"):
        return self.host.json("vnic", "show", name)

    def buffer(self, name="still"):
        return self.show(name)["buffer"]

    def drops(self, name="still"):
        return {reason: frames for reason, frames in self.show(name)["counters"]["drops"].items() if frames}

    def set(self, *words):
        self.host.daemon.do("vnic", "set", "still", *words)

    def send(self, numbers, size=64, source="sender"):
        """Numbered frames for who stands still; all are taken and counted when it returns."""
        self.ends[source].send_all(frame(MACS["still"], MACS[source], number, size) for number in numbers)
        self.check_balance()

    def receive(self, numbers, size=64, source="sender"):
        """Who stood still takes exactly those, in that order, and nothing waits any more."""
        got = self.ends["still"].receive_all(len(numbers))
        assert [number_of(data) for data in got[:5]] == list(numbers[:5])
        assert got == [frame(MACS["still"], MACS[source], number, size) for number in numbers]
        self.check_balance()
        assert self.ends["still"].receive() == []
        assert (self.buffer()["frames"], self.buffer()["used_bytes"], self.buffer()["stalls"]["now_us"]) == (0, 0, 0)

    def check_balance(self):
        for account in netcheck.settled_accounts(self.host.daemon):
            assert account.difference == 0, account

    def close(self):
        for end in self.ends.values():
            end.close()
        self.host.clear()


@pytest.fixture
def lan(host):
    """`sender` and `still`, who receives when he is told to."""
    made = Lan(host, ["--private"])
    try:
        made.add("sender")
        made.add("still", entries=ENTRIES)
        yield made
    finally:
        made.close()


# ---- How much -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("setting, limit, size", [
    ("0", 0, 64), ("256K", MB // 4, 64), ("256K", MB // 4, 42), ("256K", MB // 4, 1514), ("1M", MB, 64),
    ("1M", MB, 1514), ("2M", 2 * MB, 64), ("1048577", MB + 1, 1514), ("auto", 16 * MB, 1514), ("auto:2M", 2 * MB, 64)])
def test_exactly_as_much_waits_as_the_buffer_holds(lan, setting, limit, size):
    counted = max(size, 60)  # a shorter frame is padded on a wire
    kept, lost = limit // counted, 100
    lan.set("--buffer", setting)
    lan.send(range(ENTRIES + kept + lost), size)
    shown = lan.buffer()
    assert lan.drops() == {"buffer_full": lost}
    assert (shown["size"], shown["size_from"]) == (setting, "vnic")
    assert (shown["frames"], shown["used_bytes"], shown["peak_bytes"]) == (kept, kept * counted, kept * counted)
    assert shown["limit_bytes"] == limit
    assert shown["stalls"]["count"] == (1 if kept else 0)
    assert bool(shown["stalls"]["now_us"]) == bool(kept)
    lan.receive(range(ENTRIES + kept), size)
    shown = lan.show()
    assert shown["counters"]["to_guest"]["frames"] == ENTRIES + kept
    assert shown["buffer"]["waited"]["frames"] == kept
    assert shown["buffer"]["peak_bytes"] == kept * counted
    assert lan.drops() == {"buffer_full": lost}


@pytest.mark.parametrize("setting, limit", [("1M", MB), ("2M", 2 * MB), ("4M", 4 * MB)])
@pytest.mark.parametrize("rate", [65_500, 131_000, 262_000])
def test_a_pause_of_10_ms_loses_nothing_if_the_buffer_holds_rate_times_pause(lan, rate, setting, limit):
    """Full frames; who sends does not keep to a rate, what counts is how many come while the guest takes none."""
    lan.set("--buffer", setting)
    come = rate // 100
    lan.send(range(ENTRIES + come), 1514)
    lost = max(0, come - limit // 1514)
    assert lan.drops() == ({"buffer_full": lost} if lost else {})
    lan.receive(range(ENTRIES + come - lost), 1514)


def test_1m_holds_the_655_frames_that_it_holds_at_hyper_v(host):
    """There it is 655 buffers of 1600 bytes. Here bytes are counted, so it is as many of that size, and more of any other."""
    lan = Lan(host, ["--private", "--mtu", "1586"])
    try:
        lan.add("sender")
        lan.add("still", entries=ENTRIES)
        lan.send(range(ENTRIES + 655), 1600)
        assert lan.drops() == {} and lan.buffer()["frames"] == 655
        lan.send(range(ENTRIES + 655, ENTRIES + 658), 1600)
        assert lan.drops() == {"buffer_full": 3}
        lan.receive(range(ENTRIES + 655), 1600)
    finally:
        lan.close()


def test_without_a_word_it_is_1m(lan):
    shown = lan.buffer()
    assert (shown["size"], shown["size_from"], shown["limit_bytes"]) == ("1M", "built_in", MB)
    lan.host.daemon.do("switch", "set", "lan", "--buffer", "256K")
    shown = lan.buffer()
    assert (shown["size"], shown["size_from"], shown["limit_bytes"]) == ("256K", "switch", MB // 4)
    lan.send(range(ENTRIES + 4096 + 5))
    assert lan.drops() == {"buffer_full": 5}
    lan.host.daemon.do("switch", "set", "lan", "--buffer", "default")
    assert lan.buffer()["size_from"] == "built_in"
    lan.send(range(ENTRIES + 4096, ENTRIES + 8192))
    lan.receive(range(ENTRIES + 8192))
    assert lan.drops() == {"buffer_full": 5}


def test_the_advice_names_a_size_that_holds_the_same_stall(lan):
    lan.set("--buffer", "256K")
    count = ENTRIES + 20000  # of 64 bytes: 1.22 MiB have to wait
    lan.send(range(count))
    kept = MB // 4 // 64
    lan.receive(range(ENTRIES + kept))
    assert lan.drops() == {"buffer_full": count - ENTRIES - kept}
    advice = lan.buffer()["advice"]
    assert "2M would have held it" in advice and "patchbay vnic set still --buffer 2M" in advice, advice
    lan.set("--buffer", "2M")
    assert lan.buffer()["advice"] is None
    lan.send(range(count))
    lan.receive(range(count))
    assert lan.drops() == {"buffer_full": count - ENTRIES - kept}, "no more than before"
    assert lan.buffer()["stalls"]["count"] == 2


def test_what_is_too_old_when_the_guest_could_take_it_is_dropped(lan):
    """At the latest then: a worker that is awake drops it sooner."""
    lan.set("--buffer-max-age", 1)
    lan.send(range(ENTRIES + 1000))
    got = lan.ends["still"].receive_all(ENTRIES)
    wait_until(lambda: lan.buffer()["frames"] == 0, "the old frames to go")
    got += lan.ends["still"].receive()
    assert [number_of(data) for data in got] == list(range(ENTRIES)), "those in the ring have no age"
    assert lan.drops() == {"buffer_expired": 1000}
    lan.check_balance()


# ---- Changes while frames wait --------------------------------------------------------------------------------------

def test_a_larger_size_counts_at_once_a_smaller_one_takes_nothing_away(lan):
    lan.set("--buffer", "256K")
    lan.send(range(ENTRIES + 4096))  # full to the last byte
    lan.set("--buffer", "4M")
    assert lan.show()["state"] == "connected"
    lan.send(range(ENTRIES + 4096, ENTRIES + 40000))
    assert lan.drops() == {}
    lan.set("--buffer", "256K")
    shown = lan.buffer()
    assert (shown["frames"], shown["used_bytes"], shown["limit_bytes"]) == (40000, 40000 * 64, MB // 4)
    assert "drain" in lan.host.daemon.do("vnic", "show", "still")
    lan.send(range(10))
    assert lan.drops() == {"buffer_full": 10}
    lan.receive(range(ENTRIES + 40000))
    assert "drain" not in lan.host.daemon.do("vnic", "show", "still")
    lan.send(range(ENTRIES + 4096))
    lan.receive(range(ENTRIES + 4096))
    assert lan.drops() == {"buffer_full": 10}
    assert lan.show()["state"] == "connected"


def cost_no_frame(lan, change, count):
    """change(0), change(1), … up to `count` and more, while frames wait and are taken: each comes, in order."""
    ended = threading.Event()
    changes = [0]

    def go_on():
        while not ended.is_set():
            change(changes[0])
            changes[0] += 1
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        first = 0
        while changes[0] < count:
            numbers = range(first, first + 2000)
            lan.ends["sender"].send_all(frame(MACS["still"], MACS["sender"], number, 64) for number in numbers)
            got = lan.ends["still"].receive_all(len(numbers))
            assert [number_of(data) for data in got] == list(numbers)
            first += 2000
            assert thread.is_alive() and first < 2_000_000
    finally:
        ended.set()
        thread.join(60.0)
    lan.check_balance()
    assert lan.drops() == {} and lan.show()["state"] == "connected"


def test_no_change_of_size_costs_a_frame(lan):
    """The size changes again and again while frames wait and are taken; never more of them than the smallest holds."""
    sizes = ("4M", "auto", "256K", "1M", "auto:2M", "default")
    cost_no_frame(lan, lambda number: lan.set("--buffer", sizes[number % len(sizes)]), 30)


# ---- For whom -------------------------------------------------------------------------------------------------------

def test_who_comes_back_with_the_same_rings_finds_what_waits(lan):
    lan.send(range(ENTRIES + 1000))
    lan.hang_up("still")
    lan.send(range(ENTRIES + 1000, ENTRIES + 1500))
    assert lan.buffer()["frames"] == 1500 and lan.drops() == {}
    lan.ends["still"].start_again()
    lan.wait_state("still", "connected")
    lan.receive(range(ENTRIES + 1500))
    assert lan.drops() == {}


@pytest.mark.parametrize("received", [ENTRIES, 0], ids=["received", "never_received"])
def test_who_comes_with_other_rings_does_not_get_what_was_for_another(lan, received):
    waits = 1000
    lan.send(range(received + (waits if received else 0)))
    lan.hang_up("still")
    lan.send(range(received + waits, received + waits + 500))
    lan.front_end("still", ENTRIES)
    wait_until(lambda: lan.buffer()["frames"] == 0, "what waited to be forgotten")
    forgotten = {"buffer_reset": waits + 500 if received else 500}
    assert lan.drops() == forgotten
    lan.send(range(7000, 7100))
    lan.receive(range(7000, 7100))
    assert lan.drops() == forgotten


def test_for_a_guest_that_does_not_come_back_nothing_waits_for_ever(lan):
    lan.send(range(ENTRIES + 100))
    lan.hang_up("still")
    wait_until(lambda: lan.buffer()["frames"] == 0, "the switch to give the guest up", 60.0, every_s=1.0)
    assert lan.drops() == {"buffer_reset": 100}
    lan.send(range(5))
    assert lan.drops() == {"buffer_reset": 100, "not_connected": 5}


# ---- Others ---------------------------------------------------------------------------------------------------------

def exchange(lan, rounds, busy=lambda: True):
    """Numbered frames between left and right, each answered before the next; AssertionError at the first lost one."""
    ends = [lan.ends["left"], lan.ends["right"]]
    done = 0
    while done < rounds or not busy():
        for source, target in (ends, ends[::-1]):
            data = target.mac + source.mac + b"\x88\xb5" + done.to_bytes(8, "big") + bytes(40)
            source.send(data)
            assert target.wait_frame(60.0) == [data], f"round {done}"
            source.reap()
        done += 1
        assert done < 1_000_000
    return done


def test_a_guest_that_stands_still_holds_up_nobody(lan):
    """Three send to it as fast as their rings are emptied; two others lose nothing of what they say to each other."""
    senders = ["sender", "second", "third"]
    for name in ("left", "right", "second", "third"):
        lan.add(name)
    sent = dict.fromkeys(senders, 0)
    ended = threading.Event()

    def flood(name):
        while not ended.is_set():
            lan.ends[name].send_all(frame(MACS["still"], MACS[name], number, 64)
                                    for number in range(sent[name], sent[name] + 1000))
            sent[name] += 1000
    threads = [threading.Thread(target=flood, args=(name,)) for name in senders]
    for thread in threads:
        thread.start()
    try:
        rounds = exchange(lan, 1000, lambda: min(sent.values()) >= 20000)
    finally:
        ended.set()
        for thread in threads:
            thread.join(90.0)
    lan.check_balance()
    kept = MB // 64
    print(f"\n{rounds} rounds, {sent} frames for the guest that stands still")
    assert lan.drops() == {"buffer_full": sum(sent.values()) - ENTRIES - kept}, sent
    for name in senders:
        assert lan.drops(name) == {} and lan.show(name)["counters"]["from_guest"]["frames"] == sent[name]
    for name in ("left", "right"):
        shown = lan.show(name)
        assert lan.drops(name) == {} and shown["buffer"]["peak_bytes"] == 0
        assert shown["counters"]["to_guest"]["frames"] == shown["counters"]["from_guest"]["frames"] == rounds
    got = lan.ends["still"].receive_all(ENTRIES + kept)
    assert len(got) == ENTRIES + kept
    for name in senders:
        numbers = [number_of(data) for data in got if data[6:12].hex(":") == MACS[name]]
        assert numbers == sorted(set(numbers)), f"frames of {name} are out of order"


def test_what_a_slow_uplink_does_not_take_stays_in_the_guests_ring(host):
    """Buffers are on the way to guests only: a guest that sends is held, loses nothing, and holds up nobody."""
    nic = host.add_nic("slow0")
    shaper = ("dev", nic, "root", "tbf", "burst", "32kb", "limit", "64mb", "rate")
    host.netns.run("tc", "qdisc", "add", *shaper, "64kbit")  # six minutes for what follows
    lan = Lan(host, ["--external", nic])
    try:
        for name in ("sender", "left", "right"):
            lan.add(name)
        wait_until(lambda: host.json("switch", "show", "lan")["uplink"]["state"] == "up", "the uplink to be up")
        count = 3000
        outside = "02:00:00:00:0b:99"
        with RawPort(host.peers, nic) as wire:
            frames = [frame(outside, MACS["sender"], number, 1000) for number in range(count)]
            done = threading.Event()

            def send():
                lan.ends["sender"].send_all(frames)
                done.set()
            thread = threading.Thread(target=send)
            thread.start()
            rounds = exchange(lan, 300)
            taken, was_held = lan.show("sender")["counters"]["from_guest"]["frames"], not done.is_set()
            host.netns.run("tc", "qdisc", "change", *shaper, "80mbit")
            thread.join(60.0)
            got = wire.receive(lambda data: data[12:14] == b"\x88\xb5" and data[:6] == frames[0][:6], count, 60.0)
        print(f"\n{rounds} rounds while {taken} of {count} frames were taken")
        assert was_held and taken < count
        assert got == frames
        lan.check_balance()
        uplink = host.json("switch", "show", "lan")["uplink"]["counters"]
        assert not any(uplink["drops"].values()), uplink["drops"]
        for name in ("sender", "left", "right"):
            shown = lan.show(name)
            assert lan.drops(name) == {} and shown["buffer"]["stalls"]["count"] == 0
    finally:
        lan.close()
