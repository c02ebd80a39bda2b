"""Fifty front-ends that break every rule, beside two guests that do not notice: not one frame of theirs is lost, and the
API answers all the while."""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from front_end import (ENTRIES, GET_FEATURES, MEMORY_BYTES, RING_BYTES, SEND_RARP, SET_FEATURES, SET_MEM_TABLE,
                       SET_VRING_KICK, FrontEnd, message)
from lab import wirings
from lab.proc import wait_until
from test_front_ends import drops, missing_replies

MACS = {"good1": "02:00:00:00:06:01", "good2": "02:00:00:00:06:02"}
IPS = {"good1": "10.77.0.1", "good2": "10.77.0.2"}
COPIES = 5


# ---- What they do: each gets a FrontEnd that is not connected yet, and a source of random numbers ---------------------

def says_nothing(end, _):
    end.connect()


def sends_half_a_header(end, _):
    end.connect()
    end.socket.sendall(message(GET_FEATURES)[:5])


def sends_half_a_message(end, _):
    end.connect()
    end.socket.sendall(message(SET_FEATURES, bytes(8))[:15])


def sends_noise(end, chance):
    for _ in range(20):
        end.connect()
        with contextlib.suppress(OSError):
            end.socket.sendall(chance.randbytes(4096))
        end.socket.close()


def sends_well_formed_nonsense(end, chance):
    for _ in range(10):
        end.connect()
        with contextlib.suppress(OSError):
            for _ in range(200):
                payload = chance.randbytes(chance.choice((0, 8, 8, 8, 40)))
                end.tell(chance.randrange(45), payload, flags=1 | chance.choice((0, 8)))


def asks_without_reading(end, _):
    end.connect()
    end.socket.settimeout(2.0)
    with contextlib.suppress(OSError):
        while True:
            end.socket.sendall(message(GET_FEATURES) * 1000)


def shares_what_is_no_memory(end, _):
    reader, writer = os.pipe()
    try:
        for descriptor in (reader, writer, end.kick[0]):
            end.connect()
            end.tell(SET_MEM_TABLE, struct.pack("=IIQQQQ", 1, 0, 0, 4096, 0, 0), [descriptor])
            assert end.is_closed()
    finally:
        os.close(reader)
        os.close(writer)


def floods_with_descriptors(end, _):
    end.connect()
    with contextlib.suppress(OSError):
        for _ in range(100):
            end.tell(SET_VRING_KICK, struct.pack("=Q", 0), [end.kick[0]] * 100)


def takes_its_memory_away(end, _):
    """Sends, then truncates the file that the ring is in, and kicks."""
    end.start()
    end.send(b"\xff" * 6 + end.mac + b"\x88\xb5" + bytes(46))
    os.ftruncate(end.memory_fd, 0)
    os.eventfd_write(end.kick[1], 1)
    assert end.is_closed()


def lies_in_its_rings(end, chance):
    for _ in range(5):
        end.start()
        for _ in range(20):
            at = RING_BYTES + 16 * chance.randrange(ENTRIES)
            end.memory[at:at + 16] = chance.randbytes(16)
            end.send(chance.randbytes(60))
            end.memory[at:at + 16] = chance.randbytes(16)
        end.memory[RING_BYTES + 0x402:RING_BYTES + 0x404] = b"\xff\x7f"  # an index that no driver writes
        os.eventfd_write(end.kick[1], 1)
        assert end.is_closed()
        end.memory[:] = bytes(MEMORY_BYTES)
        end._next, end._seen = [0, 0], [0, 0]


def announces_without_end(end, _):
    end.start()
    for _ in range(1500):
        end.tell(SEND_RARP, end.mac + bytes(2))


def is_killed_in_the_middle(end, _):
    """Another process, for only a process can be killed with kill -9."""
    program = (f"import sys, time; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
               f"from front_end import *\nend = FrontEnd({end.path!r}, {end.mac.hex(':')!r}).start()\n"
               "end.socket.sendall(message(SET_FEATURES, bytes(8))[:15])\nprint('half', flush=True)\ntime.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as victim:
        assert victim.stdout.readline() == b"half\n"
        victim.send_signal(signal.SIGKILL)


KINDS = [says_nothing, sends_half_a_header, sends_half_a_message, sends_noise, sends_well_formed_nonsense,
         asks_without_reading, shares_what_is_no_memory, floods_with_descriptors, takes_its_memory_away,
         lies_in_its_rings, announces_without_end, is_killed_in_the_middle]


class Attack:
    """Every kind COPIES times, each on a vnic of its own, all at once."""

    def __init__(self, host):
        self.ends = []
        self.problems = []
        self.threads = []
        for number in range(len(KINDS) * COPIES):
            kind = KINDS[number % len(KINDS)]
            name, mac = f"bad{number}", f"02:00:00:00:07:{number:02x}"
            host.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)
            end = FrontEnd(host.json("vnic", "show", name)["vhost_socket"], mac)
            self.ends.append(end)
            self.threads.append(threading.Thread(target=self._run, args=(kind, end, number)))

    def _run(self, kind, end, number):
        try:
            kind(end, random.Random(number))  # the same each time
        except (OSError, AssertionError) as problem:
            self.problems.append(f"{kind.__name__} on {end.path}: {problem!r}")

    def run(self, meanwhile):
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads):
            meanwhile()
        for thread in self.threads:
            thread.join()

    def close(self):
        for end in self.ends:
            end.close()


@pytest.fixture
def pair(host):
    """Two guests on one switch that ping each other."""
    host.clear()
    host.daemon.do("switch", "create", "lan", "--private")
    for name, mac in MACS.items():
        host.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)
        host.lab.add_guest(name, mac).start_vhost(host.json("vnic", "show", name)["vhost_socket"])
    for name, ip in IPS.items():
        host.lab.guests[name].wait_ready()
        host.lab.guests[name].set_ip(ip)
    wirings.wait_connected(host.daemon, MACS)
    yield host
    for name in MACS:
        host.lab.guests.pop(name).stop()
    host.clear()


def test_fifty_hostile_front_ends_disturb_nobody(pair):
    good1 = pair.lab.guests["good1"]
    assert good1.ping(IPS["good2"])
    good1.run(f"busybox ping -i 0.02 -W 60 {IPS['good2']} > /tmp/ping.log 2>&1 & echo $! > /tmp/ping.pid")

    def replies():
        return int(good1.run("grep -c 'bytes from' /tmp/ping.log", check=False)[1])

    attack = Attack(pair)
    answers = []

    def ask():
        start = time.monotonic()
        pair.json("vnic", "show", "good1")
        answers.append(time.monotonic() - start)

    try:
        before = replies()
        attack.run(ask)
        wait_until(lambda: replies() > before + 200, "the good guests to go on", 60.0)
        assert attack.problems == []
        # Half a message is not waited for for ever, and the vnic says so.
        for number in (KINDS.index(sends_half_a_header), KINDS.index(sends_half_a_message)):
            assert attack.ends[number].is_closed()
            assert "half a message" in pair.json("vnic", "show", f"bad{number}")["state_reason"]
        silent = pair.json("vnic", "show", f"bad{KINDS.index(says_nothing)}")
        assert (silent["state"], silent["state_reason"]) == ("negotiating", "no memory shared yet")
    finally:
        good1.run("kill -INT $(cat /tmp/ping.pid)")
        attack.close()
    log = os.path.join(pair.lab.dir, "good1.ping.log")
    with open(log, "w", encoding="utf-8") as file:
        file.write(good1.run("cat /tmp/ping.log")[1])
    assert missing_replies(log) == []
    for name in MACS:
        assert pair.json("vnic", "show", name)["state"] == "connected"
        # What others flood may not fit into a ring; before they were connected nothing could.
        assert set(drops(pair, name)) <= {"buffer_full", "not_connected"}
    assert answers and max(answers) < 10.0, f"the API took {max(answers):.1f} s"


@pytest.mark.parametrize("kind", KINDS)
def test_a_vnic_works_after_whatever_its_front_end_did(host, kind):
    host.clear()
    host.daemon.do("switch", "create", "lan", "--private")
    ends = {}
    try:
        for name, mac in MACS.items():
            host.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)
        bad = FrontEnd(host.json("vnic", "show", "good1")["vhost_socket"], MACS["good1"])
        try:
            kind(bad, random.Random(0))
        finally:
            bad.close()
        for name, mac in MACS.items():
            ends[name] = _start(host, name, mac)
        ends["good1"].send(ends["good2"].mac + ends["good1"].mac + b"\x88\xb5" + bytes(46))
        assert ends["good2"].wait_frame() == [ends["good2"].mac + ends["good1"].mac + b"\x88\xb5" + bytes(46)]
    finally:
        for end in ends.values():
            end.close()


def _start(host, name, mac):
    """A front-end that keeps the rules: QEMU would try again, too, until the limits on its predecessor are over."""
    path = host.json("vnic", "show", name)["vhost_socket"]

    def started():
        end = FrontEnd(path, mac)
        try:
            return end.start()
        except (OSError, socket.timeout):
            end.close()
            return None
    return wait_until(started, f"a front-end of {name} to start", 60.0)
