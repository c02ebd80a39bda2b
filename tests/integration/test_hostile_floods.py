"""Front-ends that ask for too much: floods of messages, of kicks, of connections, and calls that nobody reads. They wait, or
lose their link; two other guests talk undisturbed, the API answers all the while, and nothing grows."""

import contextlib
import fcntl
import os
import socket
import struct
import sys
import threading

import pytest
from arena import wait_until
from front_end import (GET_FEATURES, GET_VRING_BASE, SET_FEATURES, SET_MEM_TABLE, SET_VRING_CALL, SET_VRING_ENABLE,
                       SET_VRING_KICK, SET_VRING_NUM, message)
from lab.daemon import sanitizer
from lab.proc import LabError, Process

GET_INFLIGHT_FD = 31
MESSAGES = 6000         # more than may come at once (4096)
ANSWERS = 20            # of the API, meanwhile
# That the daemon may have more after a flood: what it keeps of its own, not what comes with each. A sanitizer keeps some, too.
MEMORY_KB_MORE = 8192 if not sanitizer() else 32768
COUNTER_MAX = 2**64 - 2  # of an eventfd: another signal does not fit

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def others_go_on(arena):
    """The API answers, and the talkers talk."""
    before = arena.seen()["answered"]
    for _ in range(ANSWERS):
        for name in ("left", "right", "bad"):
            arena.vnic(name)
    wait_until(lambda: arena.seen()["answered"] > before + 200, "the talkers to go on")


# ---- Messages -------------------------------------------------------------------------------------------------------

def pack(ring, value):
    return struct.pack("=II", ring, value)


# name: what is said over and over: (request, payload, descriptors, an answer comes) of the attacker and the turn
FLOODS = {
    "questions": lambda bad, turn: (GET_FEATURES, b"", [], True),
    "sizes": lambda bad, turn: (SET_VRING_NUM, pack(1, bad.entries >> turn % 2), [], False),
    "memory": lambda bad, turn: (SET_MEM_TABLE, bad.table(), [bad.memory_fd, bad.far_fd], False),
    "calls": lambda bad, turn: (SET_VRING_CALL, struct.pack("=Q", 0), [bad.call[0]], False),
    "kicks": lambda bad, turn: (SET_VRING_KICK, struct.pack("=Q", 1), [bad.kick[1]], False),
    "stops and starts": lambda bad, turn: ((GET_VRING_BASE, pack(1, 0), [], True) if turn % 2 else
                                           (SET_VRING_KICK, struct.pack("=Q", 1), [bad.kick[1]], False)),
    "on and off": lambda bad, turn: (SET_VRING_ENABLE, pack(0, turn % 2), [], False),
    "features": lambda bad, turn: (SET_FEATURES, struct.pack("=Q", bad.features | (turn % 2) << 30), [], False),
    "what was not offered": lambda bad, turn: (GET_INFLIGHT_FD, bytes(20), [bad.kick[0]], None),
}


def flood(bad, kind):
    with contextlib.suppress(OSError):  # the end of the connection, from either side
        for turn in range(MESSAGES):
            request, payload, descriptors, answered = kind(bad, turn)
            if answered is None:
                assert not bad.acknowledged(request, payload, descriptors)
            elif answered:
                bad.ask(request, payload, descriptors)
            else:
                bad.tell(request, payload, descriptors)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_messages(arena, name):
    before = arena.memory_kb()
    with arena.attacker() as bad:
        bad.start()
        thread = threading.Thread(target=flood, args=(bad, FLOODS[name]))
        thread.start()
        try:
            others_go_on(arena)
            thread.join(120.0)
            assert not thread.is_alive(), "a flood is slowed down, not stopped"
            assert arena.vnic()["state"] in ("connected", "negotiating"), arena.vnic()["state_reason"]
        finally:
            bad.socket.shutdown(socket.SHUT_RDWR)
            thread.join()
    after = arena.memory_kb()
    assert after[0] < before[0] + MEMORY_KB_MORE, "memory that stays"
    assert after[1] < before[1] + 16 * MEMORY_KB_MORE, "addresses that stay"


def test_replies_that_nobody_reads(arena):
    """They fill the socket, and then no further message is read; the rings run on."""
    with arena.attacker() as bad:
        bad.start()
        bad.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                bad.socket.sendall(message(GET_FEATURES) * 100)
        others_go_on(arena)
        arena.heard(bad)


# ---- Connections ----------------------------------------------------------------------------------------------------

def test_a_second_connection_is_closed_and_the_first_goes_on(arena):
    with arena.attacker() as bad:
        bad.start()
        for _ in range(20):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second:
                second.connect(bad.path)
                second.settimeout(20.0)
                with contextlib.suppress(OSError):
                    socket.send_fds(second, [message(SET_MEM_TABLE, bad.table())], [bad.memory_fd, bad.far_fd])
                with contextlib.suppress(ConnectionResetError):
                    assert second.recv(1) == b""
        arena.heard(bad)
        assert arena.vnic()["state"] == "connected"


def test_connections_that_wait_with_descriptors_in_them(arena):
    """More than are accepted at once; those that are refused take what they brought along."""
    with arena.attacker() as bad, contextlib.ExitStack() as stack:
        bad.start()
        for _ in range(100):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                waiting.connect(bad.path)
                socket.send_fds(waiting, [message(GET_FEATURES)], [bad.kick[0]] * 253)
        others_go_on(arena)
        arena.heard(bad)


def test_a_storm_of_connections(arena):
    """Connected, half set up, gone; at the rate at which they are accepted."""
    with arena.attacker() as bad:
        def storm():
            for turn in range(120):
                with contextlib.suppress(OSError):
                    bad.connect()
                    bad.tell(SET_MEM_TABLE, bad.table(), [bad.memory_fd, bad.far_fd])
                    if turn % 3 == 0:
                        bad.socket.sendall(message(SET_FEATURES, bytes(8))[:15])
                    bad.socket.close()
        thread = threading.Thread(target=storm)
        thread.start()
        others_go_on(arena)
        thread.join()

        def started():
            try:
                return bad.start()
            except OSError:
                return None
        wait_until(started, "the attacker's vnic to be of use again")
        arena.heard(bad)


# ---- Kicks and calls ------------------------------------------------------------------------------------------------

KICKER = "import os, sys\nwhile True: os.eventfd_write(int(sys.argv[1]), 1)"


@both
def test_a_flood_of_kicks(arena, packed):
    """Without a frame behind them: the worker looks, finds nothing, and serves the others."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        kickers = [Process(arena.lab.record, "kicker", [sys.executable, "-c", KICKER, descriptor],
                           os.path.join(arena.lab.dir, "kicker.log"), pass_fds=[descriptor]) for descriptor in bad.kick]
        try:
            for _ in range(3):
                others_go_on(arena)
                arena.heard(bad)
            for kicker in kickers:
                kicker.check()
        finally:
            for kicker in kickers:
                kicker.kill()


def fill(descriptor):
    """No further signal fits into this eventfd, though others signal it meanwhile."""
    while True:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(descriptor)
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_write(descriptor, COUNTER_MAX)


def block(descriptor):
    """Whoever writes into it now waits: the flag belongs to the file, whoever has it open."""
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_NONBLOCK)


@both
def test_a_call_whose_counter_is_full_and_that_may_block(arena, packed):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        for call in bad.call:
            fill(call)
            block(call)
        for least in range(1, 20):
            bad.put(0, bad.room())
            wait_until(lambda: arena.vnic()["counters"]["to_guest"]["frames"] >= least, "a frame")
            arena.heard(bad)


@both
def test_a_kick_whose_counter_is_full(arena, packed):
    """The guest cannot kick any more. That is its own loss: what it offers is seen when the worker looks for others."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        for kick in bad.kick:
            fill(kick)
            block(kick)
        bad.put(1, bad.piece(b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(46)))
        wait_until(lambda: arena.vnic()["counters"]["from_guest"]["frames"] >= 2, "the frame")
        others_go_on(arena)


@both
def test_one_eventfd_for_every_kick_and_call(arena, packed):
    """Each call wakes the worker as a kick does; that must come to an end."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        for ring in range(2):
            for request in (SET_VRING_KICK, SET_VRING_CALL):
                assert bad.acknowledged(request, struct.pack("=Q", ring), [bad.kick[1]])
        for _ in range(20):
            if bad.free(0) > 0:
                bad.put(0, bad.room())
            arena.heard(bad)
        def sleeps():
            return sum(worker["sleeps"] for worker in arena.rest.get("/v1/workers"))
        before = sleeps()
        wait_until(lambda: sleeps() > before + 20, "the worker to sleep again")


def test_the_descriptors_of_the_daemon_are_not_the_front_ends_to_take(arena):
    """A front-end holds as many as its rings need, however often it sends them; the last ones work."""
    with arena.attacker() as bad:
        bad.start()
        before = len(arena.resources())
        for _ in range(300):
            for ring in range(2):
                bad.tell(SET_VRING_KICK, struct.pack("=Q", ring), [bad.kick[ring]])
                bad.tell(SET_VRING_CALL, struct.pack("=Q", ring), [bad.call[ring]])
        assert bad.acknowledged(SET_VRING_ENABLE, pack(1, 1))

        def same():
            return len(arena.resources()) == before
        try:
            wait_until(same, "replaced descriptors to be closed")
        except LabError:
            assert arena.resources() == before
            raise
        arena.heard(bad)
