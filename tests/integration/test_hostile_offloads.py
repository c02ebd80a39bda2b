"""Guests that lie in the header in front of a frame: checksums and segments where there are none. A receiver without
offloads has the switch finish each frame in software; what cannot be finished is dropped under its name."""

import struct

import pytest
from arena import MACS, wait_until
from attacker import EVENT_IDX, MERGE, OFFLOADS

NEEDS_CSUM, DATA_VALID = 1, 2
TCP4, UDP, TCP6, UDP_L4, ECN = 1, 3, 4, 5, 0x80
IP, TRANSPORT = 14, 34

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def header(flags=NEEDS_CSUM, gso=0, hdr_len=54, size=0, start=TRANSPORT, offset=16, buffers=0):
    return struct.pack("=BBHHHHH", flags, gso, hdr_len, size, start, offset, buffers)


def tcp(bad, payload=100, data_offset=5, flags=0x10, protocol=6, length=None):
    """A TCP segment from the attacker to the witness."""
    total = 40 + payload if length is None else length
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total & 0xFFFF, 1, 0, 64, protocol, 0, bytes([10, 0, 0, 1]),
                     bytes([10, 0, 0, 2]))
    body = struct.pack("!HHIIBBHHH", 1, 2, 0, 0, data_offset << 4, flags, 100, 0, 0)
    witness = bytes.fromhex(MACS["witness"].replace(":", ""))
    return witness + bad.mac + b"\x08\x00" + ip + body + bytes(payload)


BAD, UNSUPPORTED = "bad_offload", "offload_unsupported"
# name: (virtio-net header, frame of `bad`, how it is dropped)
LIES = {
    "checksum from behind the frame": (header(start=0xFFFF, offset=0xFFFF), tcp, BAD),
    "checksum that ends behind the frame": (header(start=0xFFFE, offset=2), tcp, BAD),
    "sum of start and offset wraps": (header(start=TRANSPORT, offset=0xFFFF - TRANSPORT + 1), tcp, BAD),
    "checksum in the addresses": (header(start=0, offset=0), tcp, BAD),
    "checksum over the source address": (header(start=6, offset=0), tcp, BAD),
    "checksum in the type of the frame": (header(start=0, offset=12), tcp, BAD),
    "checksum in the IP header": (header(start=IP, offset=10), tcp, BAD),
    "checksum one byte off": (header(start=TRANSPORT + 1), tcp, BAD),
    "checksum at another place in TCP": (header(offset=15), tcp, BAD),
    "checksum of what is not IP": (header(), lambda bad: b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(100), BAD),
    "checksum of a frame that ends before it": (header(), lambda bad: tcp(bad)[:40], BAD),
    "checksum of a fragment": (header(), lambda bad: tcp(bad)[:20] + b"\x20\x00" + tcp(bad)[22:], BAD),
    "segments without a checksum": (header(flags=0, gso=TCP4, size=100), lambda bad: tcp(bad, 5000), BAD),
    "segments of size zero": (header(gso=TCP4, size=0), lambda bad: tcp(bad, 5000), BAD),
    "segments of one byte": (header(gso=TCP4, size=1), lambda bad: tcp(bad, 5000), UNSUPPORTED),
    "segments of IPv6 that is none": (header(gso=TCP6, size=1000), lambda bad: tcp(bad, 5000), BAD),
    "segments of TCP that is UDP": (header(gso=TCP4, size=1000, offset=6), lambda bad: tcp(bad, 5000, protocol=17), BAD),
    "a TCP header of 0 bytes": (header(gso=TCP4, size=1000), lambda bad: tcp(bad, 5000, data_offset=0), BAD),
    "a TCP header of 60 bytes in a frame of 54": (header(gso=TCP4, size=1000), lambda bad: tcp(bad, 0, data_offset=15),
                                                  BAD),
    "SYN in a piece": (header(gso=TCP4, size=1000), lambda bad: tcp(bad, 5000, flags=0x02), BAD),
    "IP fragments of UDP": (header(gso=UDP, size=1000, offset=6), lambda bad: tcp(bad, 5000, protocol=17), UNSUPPORTED),
    "a kind that does not exist": (header(gso=0x7F, size=1000), lambda bad: tcp(bad, 5000), UNSUPPORTED),
    "UDP segments that were not negotiated": (header(gso=UDP_L4, size=1000, offset=6),
                                              lambda bad: tcp(bad, 5000, protocol=17), BAD),
    "ECN that was not negotiated": (header(gso=TCP4 | ECN, size=1000), lambda bad: tcp(bad, 5000), BAD),
}


@both
@pytest.mark.parametrize("name", LIES)
def test_a_header_that_asks_for_what_cannot_be(arena, name, packed):
    head, frame, reason = LIES[name]
    with arena.attacker(packed=packed, features=OFFLOADS) as bad:
        bad.start()
        for count in (1, 2):
            bad.send_frame(frame(bad), head)
            arena.wait_drops(reason, count)
        arena.heard(bad)
        shown = arena.vnic()["counters"]["drops"]
        assert shown[BAD] + shown[UNSUPPORTED] == 2, "each once"


@both
def test_offloads_that_were_not_negotiated(arena, packed):
    with arena.attacker(packed=packed, features=EVENT_IDX) as bad:
        bad.start()
        for number, head in enumerate((header(), header(gso=TCP4, size=1000))):
            bad.send_frame(tcp(bad, 5000), head)
            arena.wait_drops(BAD, number + 1)
        arena.heard(bad)


# name: (virtio-net header, bytes of payload, frames that the witness gets)
HARMLESS = {
    "segments larger than the piece": (header(gso=TCP4, size=65535), 1000, 1),
    "headers of 65535 bytes": (header(gso=TCP4, hdr_len=0xFFFF, size=1000), 3000, 3),
    "headers of no bytes": (header(gso=TCP4, hdr_len=0, size=1000), 3000, 3),
    "a number of buffers": (header(buffers=0xFFFF), 100, 1),
    "flags that nobody knows": (header(flags=NEEDS_CSUM | 0xF8), 100, 1),
    "a valid checksum that is not": (header(flags=DATA_VALID), 100, 1),
    "a size where nothing is to be cut": (header(size=0xFFFF), 100, 1),
}


@both
@pytest.mark.parametrize("name", HARMLESS)
def test_a_header_with_lies_that_nobody_reads(arena, name, packed):
    head, payload, frames = HARMLESS[name]
    with arena.attacker(packed=packed, features=OFFLOADS | MERGE) as bad:
        bad.start()
        before = arena.seen()["witnessed"]
        bad.send_frame(tcp(bad, payload), head)
        wait_until(lambda: arena.seen()["witnessed"] == before + frames, f"{frames} frames")
        arena.heard(bad)
        assert arena.seen()["witnessed"] == before + frames + 1
