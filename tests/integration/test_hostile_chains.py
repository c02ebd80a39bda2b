"""Guests that lie in their descriptors, with split rings and packed ones: what they lie about is dropped under its name,
the ring goes on or the guest loses its link, and two other guests talk undisturbed."""

import pytest
from arena import wait_until
from attacker import F_INDIRECT, F_NEXT, F_WRITE, FAR_BYTES, MERGE
from front_end import GUEST_BASE, HEADER_BYTES
from talkers import attack_frame

SEGMENTS_MAX = 64  # descriptors of one chain

FRAME = b"\xff" * 6 + bytes(range(6)) + b"\x88\xb5" + bytes(46)
BAD = "bad_descriptor"

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def end_of(bad):
    """The first guest address behind all memory."""
    return bad.far + FAR_BYTES


# Each gives one chain to send: a list of pieces (address, bytes, flags).
ADDRESSES = {
    "below all memory": lambda bad: [(GUEST_BASE - 0x1000, 100, 0)],
    "address zero": lambda bad: [(0, 100, 0)],
    "behind all memory": lambda bad: [(end_of(bad), 100, 0)],
    "one byte over the end": lambda bad: [(end_of(bad) - 99, 100, 0)],
    "one byte under the start": lambda bad: [(GUEST_BASE - 1, 100, 0)],
    "over the seam of two regions": lambda bad: [(bad.far - 50, 100, 0)],
    "all of both regions": lambda bad: [(GUEST_BASE, 0xFFFFFFFF, 0)],
    "a front-end address": lambda bad: [(0x7F0000000, 100, 0)],
    "the sum wraps at 64 bits": lambda bad: [(2**64 - 50, 100, 0)],
    "the sum wraps into memory": lambda bad: [(2**64 - 0x1000, GUEST_BASE + 0x1000 + 100, 0)],
    "a length that is negative": lambda bad: [(bad.far, 0xFFFFFF9C, 0)],
    "good, then outside": lambda bad: [bad.piece(FRAME), (0, 100, 0)],
}
SHAPES = {
    "longer than a chain may be": lambda bad: [bad.piece(FRAME)] + [bad.piece(b"x", b"")] * SEGMENTS_MAX,
    "to be written, not read": lambda bad: [bad.piece(FRAME, flags=F_WRITE)],
    "read, then written": lambda bad: [bad.piece(FRAME), bad.room()],
    "nothing in it": lambda bad: [(GUEST_BASE, 0, 0)],
    "empty pieces without end": lambda bad: [(GUEST_BASE, 0, 0)] * (SEGMENTS_MAX + 1),
    "less than a virtio-net header": lambda bad: [(bad.scratch + GUEST_BASE, HEADER_BYTES - 1, 0)],
}
TABLES = {
    "inside of another": lambda bad: [bad.indirect([bad.indirect([bad.piece(FRAME)])])],
    "behind a good entry inside of another": lambda bad: [bad.indirect([bad.piece(FRAME),
                                                                        bad.indirect([bad.piece(FRAME)])])],
    "itself": lambda bad: [bad.indirect([(bad.scratch + GUEST_BASE, 16, F_INDIRECT)])],
    "misaligned by one": lambda bad: [bad.indirect([bad.piece(FRAME)], align=1)],
    "misaligned by four": lambda bad: [bad.indirect([bad.piece(FRAME)], align=4)],
    "no entry": lambda bad: [bad.indirect([bad.piece(FRAME)], size=0)],
    "half an entry": lambda bad: [bad.indirect([bad.piece(FRAME)], size=8)],
    "one entry and a half": lambda bad: [bad.indirect([bad.piece(FRAME)] * 2, size=24)],
    "more entries than a chain may have": lambda bad: [bad.indirect([bad.piece(b"x")] * (SEGMENTS_MAX + 1))],
    "as long as lengths can be": lambda bad: [bad.indirect([bad.piece(FRAME)], size=0xFFFFFFF0)],
    "outside of the memory": lambda bad: [(end_of(bad), 16, F_INDIRECT)],
    "over the seam of two regions": lambda bad: [(bad.far - 16, 32, F_INDIRECT)],
    "over the end": lambda bad: [(end_of(bad) - 16, 32, F_INDIRECT)],
    "its sum wraps": lambda bad: [(2**64 - 16, 32, F_INDIRECT)],
    "with a next one": lambda bad: [bad.indirect([bad.piece(FRAME)]), bad.piece(b"x", b"")],
    "behind a good piece": lambda bad: [bad.piece(FRAME), bad.indirect([bad.piece(b"x", b"")])],
    "an entry outside of the memory": lambda bad: [bad.indirect([bad.piece(FRAME), (0, 100, 0)])],
    "an entry over the seam": lambda bad: [bad.indirect([bad.piece(FRAME), (bad.far - 50, 100, 0)])],
}


def dropped_and_goes_on(arena, chain, packed, reason=BAD, **options):
    with arena.attacker(packed=packed, **options) as bad:
        bad.start()
        arena.heard(bad)
        for count in (1, 2):
            bad.put(1, *chain(bad))
            bad.kick_ring()
            arena.wait_drops(reason, count)
            arena.wait_taken(bad)
        arena.heard(bad)
        shown = arena.vnic()
        assert shown["counters"]["drops"][reason] == 2, "each once"
        assert shown["state"] == "connected"


@both
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_piece_at_an_address_that_is_not_memory(arena, name, packed):
    dropped_and_goes_on(arena, ADDRESSES[name], packed)


@both
@pytest.mark.parametrize("name", SHAPES)
def test_a_chain_of_no_use(arena, name, packed):
    dropped_and_goes_on(arena, SHAPES[name], packed)


@both
@pytest.mark.parametrize("name", TABLES)
def test_an_indirect_table_that_lies(arena, name, packed):
    dropped_and_goes_on(arena, TABLES[name], packed)


@both
def test_an_indirect_table_that_was_not_negotiated(arena, packed):
    dropped_and_goes_on(arena, lambda bad: [bad.indirect([bad.piece(FRAME)])], packed, features=0)


@both
def test_a_sum_of_lengths_that_wraps_at_32_bits(arena, packed):
    """17 pieces of 256 MB each are 4 GB and a frame."""
    dropped_and_goes_on(arena, lambda bad: [(bad.far, FAR_BYTES, 0)] * 16 + [bad.piece(FRAME)], packed, "oversize")


@both
def test_a_header_in_pieces_of_a_byte_each(arena, packed):
    """No lie, but the driver's right: the virtio-net header may lie in any number of pieces, the frame's head as well."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        for pieces in (HEADER_BYTES, SEGMENTS_MAX - 1):
            frame = attack_frame(bad.mac, 1000 + pieces)
            data = bytes(HEADER_BYTES) + frame
            bad.put(1, *[(*bad.piece(b"", data[at:at + 1])[:2], 0) for at in range(pieces)],
                    bad.piece(data[pieces:], b""))
            bad.kick_ring()
            wait_until(lambda: arena.seen()["last_heard"] == 1000 + pieces, "the witness to hear it")
            arena.wait_taken(bad)


LOOPS = {
    "one that follows itself": lambda bad: [(*bad.piece(FRAME), 0)],
    "two that follow each other": lambda bad: [(*bad.piece(FRAME), 1), (*bad.piece(FRAME), 0)],
    "a next one outside of the ring": lambda bad: [(*bad.piece(FRAME), bad.entries)],
    "a next one far outside": lambda bad: [(*bad.piece(FRAME), 0xFFFF)],
    "in an indirect table": lambda bad: [bad.indirect([(*bad.piece(FRAME), 1), (*bad.piece(FRAME), 0)])],
    "a next one outside of the table": lambda bad: [bad.indirect([(*bad.piece(FRAME), 1)])],
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_of_descriptors(arena, name):
    """Split rings only: in a packed ring a chain goes from each descriptor to the one behind it."""
    with arena.attacker() as bad:
        bad.start()
        bad.put(1, *LOOPS[name](bad))
        bad.kick_ring()
        arena.wait_drops(BAD)
        arena.heard(bad)


def test_an_endless_indirect_flag_of_a_packed_table_is_not_followed(arena):
    """All entries of a packed table are the chain; a flag for a next one behind the last leads nowhere."""
    with arena.attacker(packed=True) as bad:
        bad.start()
        bad.put(1, bad.indirect([(*bad.piece(FRAME)[:2], F_NEXT)]))
        bad.kick_ring()
        wait_until(lambda: arena.vnic()["counters"]["from_guest"]["frames"] >= 1, "the frame")
        arena.heard(bad)


# ---- The other direction: the witness sends to the attacker all the time --------------------------------------------

ROOMS = {
    "below all memory": lambda bad: [(0, 2048, F_WRITE)],
    "over the seam of two regions": lambda bad: [(bad.far - 20, 2048, F_WRITE)],
    "over the end": lambda bad: [(end_of(bad) - 20, 2048, F_WRITE)],
    "the sum wraps": lambda bad: [(2**64 - 20, 2048, F_WRITE)],
    "to be read, not written": lambda bad: [bad.room()[:2] + (0,)],
    "written, then read": lambda bad: [bad.room(20), bad.piece(FRAME)],
    "too small for a header": lambda bad: [bad.room(HEADER_BYTES - 1)],
    "empty pieces without end": lambda bad: [(GUEST_BASE, 0, F_WRITE)] * (SEGMENTS_MAX + 1),
    "an indirect table outside": lambda bad: [(end_of(bad), 32, F_INDIRECT)],
    "indirect inside of indirect": lambda bad: [bad.indirect([bad.indirect([bad.room()])])],
}


@both
@pytest.mark.parametrize("name", ROOMS)
def test_a_receive_buffer_that_lies(arena, name, packed):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        for count in (1, 2):
            bad.put(0, *ROOMS[name](bad))
            arena.wait_drops("guest_buffer", count)
        assert arena.vnic()["counters"]["to_guest"]["frames"] == 0
        bad.put(0, bad.room())
        wait_until(lambda: arena.vnic()["counters"]["to_guest"]["frames"] == 1, "a frame in the good buffer")
        arena.heard(bad)


@both
def test_a_receive_buffer_in_pieces_of_a_byte_each(arena, packed):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        bad.put(0, *[bad.room(1)] * (SEGMENTS_MAX - 1), bad.room())
        wait_until(lambda: arena.vnic()["counters"]["to_guest"]["frames"] == 1, "a frame in the pieces")
        arena.heard(bad)


@both
@pytest.mark.parametrize("features", [0, MERGE], ids=["alone", "merged"])
def test_receive_buffers_that_are_too_small(arena, features, packed):
    """They stay where they are, for a frame that fits; what does not is lost for this guest alone."""
    with arena.attacker(packed=packed, features=features) as bad:
        bad.start()
        for _ in range(SEGMENTS_MAX // HEADER_BYTES + 1 if features else 1):
            bad.put(0, *([bad.room(1)] * HEADER_BYTES if features else [bad.room(HEADER_BYTES + 20)]))
        arena.wait_drops("guest_buffer", 20)
        assert arena.vnic()["counters"]["to_guest"]["frames"] == 0
        arena.heard(bad)
