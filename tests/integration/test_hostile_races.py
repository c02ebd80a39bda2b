"""Guests that change their minds: one process of theirs rewrites what another has just offered. Whatever the switch read
first is what it judges and what it delivers, so nothing leaves with a foreign address or a tag, and nothing of a talker's
VLAN hears it. Each race is run until both values of what changes were seen by the switch."""

import contextlib
import json
import os
import struct
import sys

import pytest
from arena import ATTACKER, BROKEN, MACS, wait_until
from attacker import F_INDIRECT, F_NEXT, F_WRITE, FAR_BYTES, INDIRECT, OFFLOADS
from front_end import GUEST_BASE, HEADER_BYTES
from lab.proc import Process
from test_hostile_offloads import TCP4, header, tcp

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


OWN, LEFT, WITNESS = (mac_bytes(mac) for mac in (ATTACKER, MACS["left"], MACS["witness"]))
FRAMES_LEAST = 20_000  # enough that a switch which reads a header twice is found out on a busy machine, too
FRAME = WITNESS + OWN + b"\x88\xb5" + bytes(100)


@contextlib.contextmanager
def rewriting(arena, bad, *places):
    """While inside, each of `places`, (guest address, values), takes its values in turn, and the transmit ring is kicked."""
    reader, writer = os.pipe()
    plan = json.dumps([[address - GUEST_BASE, [value.hex() for value in values]] for address, values in places])
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flipper.py")
    flipper = Process(arena.lab.record, "flipper", [sys.executable, program, bad.memory_fd, bad.kick[1], plan],
                      os.path.join(arena.lab.dir, "flipper.log"), pass_fds=[bad.memory_fd, bad.kick[1]], stdin=reader)
    os.close(reader)
    os.sched_setaffinity(flipper.pid, arena.cpus[-1:])
    try:
        yield
        flipper.check()
    finally:
        os.close(writer)
        flipper.wait()


def offer(bad, ring, pieces):
    """Offers the same chain as often as there is room."""
    for _ in range(bad.free(ring) // len(pieces)):
        bad.put(ring, *pieces)


def send_until(arena, bad, pieces, enough, least=FRAMES_LEAST):
    """Offers the same chain again and again until `least` frames went in and enough(vnic) is true. The kicks are those of
    rewriting()."""
    def sent():
        offer(bad, 1, pieces)
        shown = arena.vnic()
        assert shown["state"] == "connected", shown["state_reason"]
        return shown["counters"]["from_guest"]["frames"] >= least and enough(shown)
    wait_until(sent, "the switch to see both values", every_s=0.0)


def dropped(*reasons):
    """Whether some frames came through, and some were dropped as each of `reasons`."""
    def enough(shown):
        counters = shown["counters"]
        drops = {reason: counters["drops"][reason] for reason in reasons}
        return all(drops.values()) and sum(drops.values()) < counters["from_guest"]["frames"]
    return enough


# name: (offset in the frame, values, how the second is dropped)
FRAMES = {
    "its source": (6, [OWN, LEFT], "source_mac"),
    "its source to a group": (6, [OWN, b"\x01" + OWN[1:]], "source_multicast"),
    "a tag": (12, [b"\x88\xb5\x00\x00", b"\x81\x00\x00\x65"], "vlan_not_allowed"),
    "its destination into the other VLAN": (0, [WITNESS, LEFT], "no_destination"),
    "its destination to a reserved address": (0, [WITNESS, bytes.fromhex("0180c2000000")], "reserved_address"),
}


@both
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_rewritten(arena, name, packed):
    offset, values, reason = FRAMES[name]
    with arena.attacker(packed=packed) as bad:
        bad.start()
        piece = bad.piece(FRAME)
        heard = arena.seen()["witnessed"]
        with rewriting(arena, bad, (piece[0] + HEADER_BYTES + offset, values)):
            send_until(arena, bad, [piece], dropped(reason))
        assert arena.seen()["witnessed"] > heard
        arena.heard(bad)


@both
def test_a_header_and_the_frame_behind_it_are_rewritten(arena, packed):
    """The switch cuts the piece in software meanwhile: no frame is longer than the MTU, or has a foreign source."""
    with arena.attacker(packed=packed, features=OFFLOADS) as bad:
        bad.start()
        frame = tcp(bad, 5000)
        piece = bad.piece(frame, header(gso=TCP4, size=1000))
        good = header(gso=TCP4, size=1000)
        headers = [good, header(gso=TCP4, size=1), header(start=0xFFFF), good, header(offset=0xFFFF), header(flags=0)]
        at = piece[0] + HEADER_BYTES
        with rewriting(arena, bad, (piece[0], headers), (at + 46, [b"\x50", b"\xf0", b"\x00"]),
                       (at + 14, [b"\x45", b"\x4f", b"\x65"]), (at + 6, [OWN, LEFT, OWN])):
            send_until(arena, bad, [piece], dropped("bad_offload", "source_mac"), FRAMES_LEAST // 4)
        arena.heard(bad)


def descriptor(address, length, flags=0, following=0):
    return struct.pack("=QIHH", address, length, flags, following)


@both
def test_an_indirect_table_is_rewritten(arena, packed):
    with arena.attacker(packed=packed, features=INDIRECT) as bad:
        bad.start()
        piece = bad.piece(FRAME)
        table = bad.indirect([piece])
        size = piece[1]
        rows = [(piece[0], size, 0), (0, size, 0), (piece[0], 0xFFFFFFFF, 0), (bad.far - 1, size, 0),
                (piece[0], size, F_WRITE), (piece[0], size, F_INDIRECT), (2**64 - 1, size, 0)]
        # A packed table's rows have id and flags the other way round; its entries are all of it, so F_NEXT says nothing.
        values = [struct.pack("=QIHH", *row[:2], *((0, row[2]) if packed else (row[2], 0))) for row in rows]
        with rewriting(arena, bad, (table[0], values)):
            send_until(arena, bad, [table], dropped("bad_descriptor"), FRAMES_LEAST // 4)
        arena.heard(bad)


def test_a_descriptor_and_its_next_one_are_rewritten(arena):
    """Split rings: a chain that grows, shrinks, and bites its tail."""
    with arena.attacker() as bad:
        bad.start()
        piece = bad.piece(FRAME)
        size = piece[1]
        values = [descriptor(piece[0], size), descriptor(piece[0], size, F_NEXT, 0), descriptor(0, size),
                  descriptor(piece[0], size, F_NEXT, 0xFFFF), descriptor(piece[0], size, F_NEXT | F_WRITE, 1),
                  descriptor(bad.far + FAR_BYTES - 1, size)]
        ring = GUEST_BASE + bad.ring_bytes
        bad.put(1, piece)
        with rewriting(arena, bad, *[(ring + 16 * number, values[number:] + values[:number]) for number in range(3)]):
            def sent():
                for _ in range(bad.free(1)):
                    bad._make_available(1, 0)
                counters = arena.vnic()["counters"]
                return counters["from_guest"]["frames"] >= FRAMES_LEAST // 4 and counters["drops"]["bad_descriptor"]
            wait_until(sent, "the switch to see both values", every_s=0.0)
        assert arena.vnic()["state"] == "connected"


def test_the_descriptors_of_a_packed_ring_are_rewritten(arena):
    """Whose they are is written there as well: the guest that does this loses its link at once, or talks nonsense."""
    with arena.attacker(packed=True) as bad:
        bad.start()
        piece = bad.piece(FRAME)
        values = [struct.pack("=QIHH", piece[0], piece[1], ident, flags) * bad.entries for ident, flags in
                  ((0, 0x80), (0, 0x8080), (0xFFFF, 0x80), (0, 0x81), (0, 0x8000))]
        with rewriting(arena, bad, (GUEST_BASE + bad.ring_bytes, values)):
            wait_until(lambda: arena.vnic()["state"] == "failed", "the link to end")
        arena.wait_failed(BROKEN)


def test_an_avail_index_is_rewritten(arena):
    with arena.attacker() as bad:
        bad.start()
        bad.put(1, bad.piece(FRAME))
        at = GUEST_BASE + bad.ring_bytes + bad.ring_bytes // 4 + 2
        with rewriting(arena, bad, (at, [struct.pack("=H", index) for index in (1, 2, bad.entries, 0x7FFF)])):
            wait_until(lambda: arena.vnic()["state"] == "failed", "the link to end")
        arena.wait_failed(BROKEN)


def test_the_used_ring_is_rewritten(arena):
    """It is the switch's to write: a split ring goes on where the switch knows it is, whatever the guest does there."""
    with arena.attacker() as bad:
        bad.start()
        piece = bad.piece(FRAME)
        used = GUEST_BASE + bad.ring_bytes + bad.ring_bytes // 2
        with rewriting(arena, bad, (used, [b"\x00" * 12, b"\xff" * 12])):
            for number in range(1, 300):
                bad.put(1, piece)
                wait_until(lambda least=number: arena.vnic()["counters"]["from_guest"]["frames"] >= least, "the frame",
                           every_s=0.0)
        bad.send_frame(FRAME)  # after this the ring says how far it is again
        arena.heard(bad)


@both
def test_a_receive_buffer_is_rewritten(arena, packed):
    """Indirect tables whose entries move while frames of another are written into them."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        room = bad.room()
        table = bad.indirect([room])
        rows = [room, (bad.far + FAR_BYTES - 1, 2048, F_WRITE), (room[0], 20, F_WRITE), (room[0], 2048, 0)]
        values = [struct.pack("=QIHH", *row[:2], *((0, row[2]) if packed else (row[2], 0))) for row in rows]

        def received():
            offer(bad, 0, [table])
            counters = arena.vnic()["counters"]
            return counters["to_guest"]["frames"] > 50 and counters["drops"]["guest_buffer"] > 50
        with rewriting(arena, bad, (table[0], values)):
            wait_until(received, "the switch to see both values")
        arena.heard(bad)
