"""Guests that lie with their rings as a whole: indices that jump, names of no chain, rings on top of each other or
outside of memory. The guest loses its link, `vnic show` says why, and two other guests talk undisturbed."""

import struct

import pytest
from arena import BROKEN, wait_until
from attacker import EVENT_IDX, F_WRITE, FAR_BYTES, FAR_FRONT_END_BASE, INDIRECT
from front_end import (FRONT_END_BASE, GET_VRING_BASE, GUEST_BASE, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_ENABLE,
                       SET_VRING_KICK, SET_VRING_NUM)

CHAIN_SLOTS_MAX = 256  # of a packed ring, before nobody looks for the end of a chain any more
FRAME = b"\xff" * 6 + bytes(range(6)) + b"\x88\xb5" + bytes(46)
OUTSIDE = "a part of the ring lies outside of the guest's memory"
MISALIGNED = "a part of the ring is misaligned"

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


# ---- Indices --------------------------------------------------------------------------------------------------------

def set_index(bad, ring, value):
    bad._words[(ring * bad.ring_bytes + bad.ring_bytes // 4 + 2) // 2] = value & 0xFFFF


INDICES = {
    "one more than the ring has": lambda bad: bad._next[1] + bad.entries + 1,
    "half of all": lambda bad: bad._next[1] + 0x8000,
    "one back": lambda bad: bad._next[1] - 1,
}


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("features", [INDIRECT, EVENT_IDX], ids=["flags", "event index"])
def test_an_avail_index_that_jumps(arena, name, features):
    with arena.attacker(features=features) as bad:
        bad.start()
        arena.heard(bad)
        set_index(bad, 1, INDICES[name](bad))
        bad.kick_ring()
        arena.wait_failed(BROKEN)
        assert bad.is_closed(60.0)


def test_an_avail_index_of_the_receive_ring_that_jumps(arena):
    with arena.attacker() as bad:
        bad.start()
        set_index(bad, 0, bad.entries + 1)
        arena.wait_failed(BROKEN)


def test_an_avail_index_as_far_ahead_as_it_may_be(arena):
    """As many as the ring has are chains, whatever stands there; each is dropped once, and the ring goes on."""
    with arena.attacker() as bad:
        bad.start()
        set_index(bad, 1, bad.entries)
        bad.kick_ring()
        arena.wait_drops("bad_descriptor", bad.entries)
        bad._next[1] = bad.entries
        arena.heard(bad)


@both
@pytest.mark.parametrize("ring", [0, 1], ids=["receive", "transmit"])
@pytest.mark.parametrize("ident", ["the first outside", "the last number"])
def test_a_name_of_no_chain(arena, packed, ring, ident):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.put(ring, bad.piece(FRAME) if ring else bad.room(), ident=bad.entries if "first" in ident else 0xFFFF)
        bad.kick_ring()
        arena.wait_failed(BROKEN)


def test_the_same_chain_offered_over_and_over(arena):
    """A split ring whose every entry names one chain: it is sent that often, and no more."""
    with arena.attacker() as bad:
        bad.start()
        bad.put(1, bad.piece(FRAME[:6] + bad.mac + FRAME[12:]))
        for _ in range(bad.entries - 1):
            bad._make_available(1, 0)
        bad.kick_ring()
        frames = lambda: arena.vnic()["counters"]["from_guest"]["frames"]
        wait_until(lambda: frames() >= bad.entries, "all of them")
        assert frames() == bad.entries
        arena.heard(bad)


@pytest.mark.parametrize("ring", [0, 1], ids=["receive", "transmit"])
def test_a_chain_without_end_in_a_packed_ring(arena, ring):
    """Behind so many descriptors nobody knows where the next chain starts."""
    with arena.attacker(packed=True, entries=2 * CHAIN_SLOTS_MAX) as bad:
        bad.start()
        arena.heard(bad)
        bad.put(ring, *[bad.piece(FRAME) if ring else bad.room(16)] * CHAIN_SLOTS_MAX, ends=False)
        bad.kick_ring()
        arena.wait_failed(BROKEN)


def test_a_chain_as_long_as_a_packed_ring(arena):
    with arena.attacker(packed=True) as bad:
        bad.start()
        arena.heard(bad)
        bad.put(1, *[bad.piece(FRAME)] * bad.entries, ends=False)
        bad.kick_ring()
        arena.wait_failed(BROKEN)


# ---- Where the rings are --------------------------------------------------------------------------------------------

def address(bad, ring, desc=0, used=None, avail=None):
    """SET_VRING_ADDR with places relative to where a ring belongs."""
    base = FRONT_END_BASE + ring * bad.ring_bytes
    used = bad.ring_bytes // 2 if used is None else used
    avail = bad.ring_bytes // 4 if avail is None else avail
    return struct.pack("=IIQQQQ", ring, 0, (base + desc) % 2**64, (base + used) % 2**64, (base + avail) % 2**64, 0)


OVERLAPS = {
    "used over avail": {"used": 0x800, "avail": 0x800},
    "used over descriptors": {"used": 0, "avail": 0x800},
    "avail over descriptors": {"used": 0x1000, "avail": 0},
    "all in one place": {"desc": 0, "used": 0, "avail": 0},
    "used over the other ring": {"used": -0x2000 + 0x800},
}


@both
@pytest.mark.parametrize("name", OVERLAPS)
def test_parts_of_a_ring_on_top_of_each_other(arena, name, packed):
    """They are the guest's own bytes: what comes of it is chains of no sense, or a link that ends. Then it may be set up
    anew."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.tell(SET_VRING_ADDR, address(bad, 1, **OVERLAPS[name]))
        for _ in range(3):
            bad.put(1, bad.piece(FRAME))
            bad.kick_ring()
        for ring in (0, 1):
            bad.put(ring, bad.room())
        before = arena.seen()["answered"]
        wait_until(lambda: arena.seen()["answered"] > before + 50, "the others to go on")
        state = arena.vnic()
        assert state["state"] == "connected" or BROKEN in state["state_reason"], state["state_reason"]


@both
@pytest.mark.parametrize("ring", [0, 1], ids=["receive", "transmit"])
def test_a_receive_buffer_on_top_of_a_ring(arena, ring, packed):
    """The frame of another overwrites descriptors and indices: the same as if the guest had done it."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.put(0, (GUEST_BASE + ring * bad.ring_bytes, bad.ring_bytes, F_WRITE))
        wait_until(lambda: arena.vnic()["counters"]["to_guest"]["frames"] == 1, "a frame in the buffer")
        for _ in range(3):
            bad.put(1, bad.piece(FRAME))
            bad.kick_ring()
        before = arena.seen()["answered"]
        wait_until(lambda: arena.seen()["answered"] > before + 50, "the others to go on")
        shown = arena.vnic()
        assert shown["state"] == "connected" or BROKEN in shown["state_reason"], shown["state_reason"]


OUTSIDES = {
    "below all regions": {"desc": 16 - FRONT_END_BASE},
    "a guest address": {"desc": 0x10000 - FRONT_END_BASE},
    "over the end of a region": {"desc": lambda bad: bad.memory_bytes - 16},
    "used over the end": {"used": lambda bad: bad.memory_bytes - 2},
    "avail over the end": {"avail": lambda bad: bad.memory_bytes - 2},
    "in the last bytes of all addresses": {"desc": lambda bad: 2**64 - 16 - FRONT_END_BASE},
    "its end wraps": {"avail": lambda bad: 2**64 - 2 - FRONT_END_BASE},
    "behind all regions": {"used": lambda bad: FAR_FRONT_END_BASE + FAR_BYTES - FRONT_END_BASE},
}


def places_of(bad, places):
    return {part: place(bad) if callable(place) else place for part, place in places.items()}


@both
@pytest.mark.parametrize("name", OUTSIDES)
def test_a_ring_outside_of_memory(arena, name, packed):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        bad.tell(SET_VRING_ADDR, address(bad, 0, **places_of(bad, OUTSIDES[name])))
        arena.wait_refused(bad, OUTSIDE)


@pytest.mark.parametrize("packed, places", [(False, {"desc": 8}), (False, {"avail": 1}), (False, {"used": 0x1002}),
                                            (True, {"desc": 8}), (True, {"avail": 2}), (True, {"used": 1})],
                         ids=lambda value: str(value))
def test_a_misaligned_ring(arena, packed, places):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.tell(SET_VRING_ADDR, address(bad, 1, **places))
        arena.wait_refused(bad, MISALIGNED)


@both
def test_a_ring_that_moves_and_stops_while_frames_flow(arena, packed):
    """Stopped, moved, started and enabled anew, 200 times, with whatever is in its memory."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        for turn in range(200):
            bad.put(1, bad.piece(FRAME[:6] + bad.mac + FRAME[12:]))
            bad.kick_ring()
            bad.tell(SET_VRING_ENABLE, struct.pack("=II", 1, turn % 2))
            if turn % 10 == 0:
                bad.ask(GET_VRING_BASE, struct.pack("=II", 1, 0))
                bad.tell(SET_VRING_KICK, struct.pack("=Q", 1), [bad.kick[1]])
        assert bad.acknowledged(SET_VRING_ENABLE, struct.pack("=II", 1, 1))
        assert arena.vnic()["state"] == "connected"


@both
@pytest.mark.parametrize("size", [0, 3, 32769, 65536, 65537, 2**32 - 1])
def test_a_ring_of_a_size_that_is_none(arena, size, packed):
    if packed and size == 3:
        pytest.skip("packed rings may have any size up to 32768")
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.tell(SET_VRING_NUM, struct.pack("=II", 1, size))
        arena.wait_refused(bad, f"SET_VRING_NUM gives ring 1 {size} entries")


@both
def test_a_ring_that_grows_over_the_end_of_its_memory(arena, packed):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.tell(SET_VRING_NUM, struct.pack("=II", 1, 32768))
        arena.wait_refused(bad, OUTSIDE)


def test_a_base_outside_of_a_packed_ring(arena):
    with arena.attacker(packed=True) as bad:
        bad.start()
        bad.ask(GET_VRING_BASE, struct.pack("=II", 1, 0))
        bad.tell(SET_VRING_BASE, struct.pack("=II", 1, bad.entries))
        bad.tell(SET_VRING_KICK, struct.pack("=Q", 1), [bad.kick[1]])
        arena.wait_refused(bad, f"it is to go on at {bad.entries}, and has {bad.entries} entries")


@pytest.mark.parametrize("base", [2**16, 2**32 - 1])
def test_a_base_that_no_split_ring_has(arena, base):
    with arena.attacker() as bad:
        bad.start()
        bad.tell(SET_VRING_BASE, struct.pack("=II", 1, base))
        arena.wait_refused(bad, f"SET_VRING_BASE sets ring 1 to position {base}")
