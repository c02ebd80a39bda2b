"""Front-ends that lie on the socket: messages in any order, cut, too long, of unknown kinds, with descriptors too many, too
few or of the wrong kind. The link ends with the reason in `vnic show`, no descriptor stays behind, and two other guests
talk undisturbed."""

import os
import random
import struct

import pytest
from arena import ATTACKER, wait_until
from front_end import (FRONT_END_BASE, GET_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, PROTOCOL, PROTOCOL_FEATURES, SEND_RARP,
                       SET_FEATURES, SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
                       SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, VERSION_1, message)
from test_hostile_tables import KINDS as NO_MEMORY_KINDS
from test_hostile_tables import NO_MEMORY

RESET_OWNER, SET_LOG_BASE, SET_LOG_FD, SET_VRING_ERR, GET_PROTOCOL_FEATURES = 4, 6, 7, 14, 15
NET_SET_MTU, GET_INFLIGHT_FD, SET_INFLIGHT_FD, CREATE_CRYPTO_SESSION, POSTCOPY_ADVISE = 20, 31, 32, 26, 28
LOG_ALL = 1 << 26
NEED_REPLY = 8  # a flag of the header
MAC = bytes.fromhex(ATTACKER.replace(":", "")) + bytes(2)
REQUESTS_END = 48  # behind every number that the specification uses
PAYLOAD_MAX = 1024


def good_messages(bad):
    """What QEMU says from power-on to rings that run: (request, payload, descriptors)."""
    rings = []
    for ring in range(2):
        base = FRONT_END_BASE + ring * bad.ring_bytes
        rings += [(SET_VRING_NUM, struct.pack("=II", ring, bad.entries), []),
                  (SET_VRING_BASE, struct.pack("=II", ring, 0), []),
                  (SET_VRING_ADDR, struct.pack("=IIQQQQ", ring, 0, base, base + bad.ring_bytes // 2,
                                               base + bad.ring_bytes // 4, 0), []),
                  (SET_VRING_KICK, struct.pack("=Q", ring), [bad.kick[ring]]),
                  (SET_VRING_CALL, struct.pack("=Q", ring), [bad.call[ring]]),
                  (SET_VRING_ENABLE, struct.pack("=II", ring, 1), [])]
    return [(GET_FEATURES, b"", []), (GET_PROTOCOL_FEATURES, b"", []),
            (SET_PROTOCOL_FEATURES, struct.pack("=Q", PROTOCOL), []), (GET_QUEUE_NUM, b"", []), (SET_OWNER, b"", []),
            (SET_FEATURES, struct.pack("=Q", VERSION_1 | PROTOCOL_FEATURES), []),
            (SET_MEM_TABLE, bad.table(), [bad.memory_fd, bad.far_fd]), *rings,
            (GET_VRING_BASE, struct.pack("=II", 0, 0), []), (RESET_OWNER, b"", [])]


def say(bad, messages):
    """Sends them all, and waits until they were taken."""
    for request, payload, descriptors in messages:
        bad.tell(request, payload, descriptors)
    bad.tell(SET_VRING_ERR, struct.pack("=Q", 0x100), flags=1 | NEED_REPLY)
    answered = None
    while answered != SET_VRING_ERR:
        answered, _, size = struct.unpack("=III", bad._receive_exactly(12))
        bad._receive_exactly(size)


# ---- Order ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(12))
def test_the_messages_of_a_handshake_in_any_order(arena, seed):
    """Any picture that they make is a ring that runs, or one that waits for more; and then the right order works."""
    chance = random.Random(seed)
    with arena.attacker() as bad:
        for _ in range(4):
            bad.connect()
            messages = good_messages(bad) * 2
            chance.shuffle(messages)
            say(bad, messages)
            assert arena.vnic()["state"] in ("connected", "negotiating"), arena.vnic()["state_reason"]
            bad.socket.close()
        bad.start()
        arena.heard(bad)


@pytest.mark.parametrize("number", range(21))
def test_any_message_as_the_first_and_only_one(arena, number):
    with arena.attacker() as bad:
        messages = good_messages(bad)
        bad.connect()
        say(bad, [messages[number]] * 3)
        assert arena.vnic()["state"] == "negotiating"
        bad.socket.close()
        bad.start()
        arena.heard(bad)


# ---- Shape ----------------------------------------------------------------------------------------------------------

HEADERS = {
    "a payload one byte too long": (struct.pack("=III", SET_MEM_TABLE, 1, PAYLOAD_MAX + 1), "announces a payload of 1025"),
    "a payload of 4 GB": (struct.pack("=III", SET_FEATURES, 1, 2**32 - 1), "announces a payload of 4294967295"),
    "version 0": (struct.pack("=III", GET_FEATURES, 0, 0), "version 0"),
    "version 2": (struct.pack("=III", GET_FEATURES, 2, 0), "version 2"),
    "a reply": (struct.pack("=III", GET_FEATURES, 1 | 4, 0), "came as a reply"),
    "noise": (b"GET / HTTP/1.1\r\n\r\n", "version"),
    "an unknown request": (message(77), "request 77, which was not offered"),
    "request 0": (message(0), "request 0, which was not offered"),
    "the last request": (message(2**32 - 1), "request 4294967295, which was not offered"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_none(arena, name):
    data, reason = HEADERS[name]
    with arena.attacker() as bad:
        bad.start()
        bad.socket.sendall(data)
        arena.wait_refused(bad, reason)


@pytest.mark.parametrize("number", range(21))
def test_a_payload_of_another_length(arena, number):
    with arena.attacker() as bad:
        request, payload, descriptors = good_messages(bad)[number]
        lengths = {0, 1, len(payload) - 1, len(payload) + 1, PAYLOAD_MAX} - {len(payload), -1}
        if request == SET_MEM_TABLE:
            lengths -= {len(payload) + 1}  # it has room for regions that it does not name
        for length in sorted(lengths):
            bad.connect()
            bad.tell(request, (payload + bytes(PAYLOAD_MAX))[:length], descriptors)
            arena.wait_refused(bad, "payload of")


def test_a_message_that_ends_at_any_byte(arena):
    """The front-end goes away in the middle; the descriptors that came with the first byte go with it."""
    with arena.attacker() as bad:
        data = message(SET_MEM_TABLE, bad.table())
        for length in range(1, len(data)):
            bad.connect()
            bad.socket.sendmsg([data[:length]], [(1, 1, struct.pack("=ii", bad.memory_fd, bad.far_fd))])
            bad.socket.close()
        wait_until(lambda: arena.vnic()["state"] == "waiting_for_guest", "the last one to be gone")
        bad.start()
        arena.heard(bad)


def test_half_a_message_is_not_waited_for_for_ever(arena):
    with arena.attacker() as bad:
        bad.start()
        bad.socket.sendmsg([message(SET_MEM_TABLE, bad.table())[:20]],
                           [(1, 1, struct.pack("=ii", bad.memory_fd, bad.far_fd))])
        arena.heard(bad)  # its rings run on meanwhile
        arena.wait_refused(bad, "half a message")


# ---- Descriptors ----------------------------------------------------------------------------------------------------

WRONG_NUMBERS = [(GET_FEATURES, b"", 1), (GET_FEATURES, b"", 8), (SET_FEATURES, bytes(8), 1), (SET_OWNER, b"", 1),
                 (GET_QUEUE_NUM, b"", 1), (SET_VRING_NUM, struct.pack("=II", 0, 128), 1), (SET_VRING_BASE, bytes(8), 8),
                 (SET_VRING_ADDR, bytes(40), 1), (GET_VRING_BASE, bytes(8), 2), (SET_VRING_ENABLE, bytes(8), 1),
                 (SEND_RARP, MAC, 1), (NET_SET_MTU, struct.pack("=Q", 1500), 1),
                 *[(request, bytes(8), count) for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR)
                   for count in (0, 2, 8, 9, 253)],
                 *[(request, struct.pack("=Q", 0x100), 1) for request in (SET_VRING_KICK, SET_VRING_CALL)],
                 (GET_INFLIGHT_FD, bytes(20), 1), (GET_INFLIGHT_FD, bytes(20), 8), (SET_INFLIGHT_FD, bytes(20), 8),
                 (SET_LOG_BASE, bytes(16), 8), (SET_LOG_FD, b"", 1), (77, b"", 8)]


@pytest.mark.parametrize("request_number, payload, count", WRONG_NUMBERS,
                         ids=[f"{request}-{payload[1:2].hex()}-{count}" for request, payload, count in WRONG_NUMBERS])
def test_a_number_of_descriptors_that_is_wrong(arena, request_number, payload, count):
    """Each again and again: whatever came with a message that is refused is closed."""
    with arena.attacker() as bad:
        for _ in range(10):
            bad.connect()
            bad.tell(request_number, payload, [bad.kick[0]] * count)
            assert bad.is_closed(60.0)
        wait_until(lambda: arena.vnic()["state"] == "failed", "the refusal")
        assert any(words in arena.vnic()["state_reason"] for words in ("descriptor", "which was not offered"))


@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 253])
def test_a_table_with_a_number_of_descriptors_that_is_wrong(arena, count):
    with arena.attacker() as bad:
        for _ in range(10):
            bad.connect()
            bad.tell(SET_MEM_TABLE, bad.table(), [bad.memory_fd] * count)
            arena.wait_refused(bad, "descriptors")


@pytest.mark.parametrize("request_number", [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR], ids=["kick", "call", "err"])
@pytest.mark.parametrize("name", NO_MEMORY_KINDS)
def test_an_eventfd_that_is_none(arena, name, request_number):
    make, reason = NO_MEMORY_KINDS[name]
    with arena.attacker() as bad:
        bad.start()
        descriptor = make()
        try:
            if name == "an eventfd":
                assert bad.acknowledged(request_number, struct.pack("=Q", 0), [descriptor])
                arena.heard(bad)
                return
            bad.tell(request_number, struct.pack("=Q", 0), [descriptor])
        finally:
            os.close(descriptor)
        arena.wait_refused(bad, NO_MEMORY if reason == NO_MEMORY else "a descriptor that is not an eventfd")


# ---- Numbers --------------------------------------------------------------------------------------------------------

def pair(ring, value=0):
    return struct.pack("=II", ring, value)


NUMBERS = {
    **{f"ring {ring} of {name}": (request, payload(ring), f"names ring {ring}")
       for ring in (256, 257, 2**16, 2**16 + 1, 2**31, 2**32 - 1)
       for name, request, payload in (("its size", SET_VRING_NUM, lambda ring: pair(ring, 128)),
                                      ("its base", SET_VRING_BASE, pair), ("its addresses", SET_VRING_ADDR,
                                                                           lambda ring: pair(ring) + bytes(32)),
                                      ("its state", SET_VRING_ENABLE, pair), ("its end", GET_VRING_BASE, pair))},
    "more in a ring's number": (SET_VRING_KICK, struct.pack("=Q", 0x200), "reserved bits"),
    "a kick that is to be polled": (SET_VRING_KICK, struct.pack("=Q", 0x100), "without a descriptor"),
    "a ring that is half enabled": (SET_VRING_ENABLE, pair(0, 2), "0 or 1 is needed"),
    "a log of writes": (SET_VRING_ADDR, pair(0, 1) + bytes(32), "logging of writes"),
    "a feature of another back-end": (SET_FEATURES, struct.pack("=Q", LOG_ALL), "virtio feature 26"),
    "all features": (SET_FEATURES, struct.pack("=Q", 2**64 - 1), "that was not offered"),
    "all protocol features": (SET_PROTOCOL_FEATURES, struct.pack("=Q", 2**64 - 1), "that was not offered"),
    "an MTU of 0": (NET_SET_MTU, struct.pack("=Q", 0), "host_mtu"),
    "an MTU of 2^64 - 1": (NET_SET_MTU, struct.pack("=Q", 2**64 - 1), "host_mtu"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be(arena, name):
    request, payload, reason = NUMBERS[name]
    with arena.attacker() as bad:
        bad.start()
        bad.tell(request, payload)
        arena.wait_refused(bad, reason)


@pytest.mark.parametrize("ring", [2, 3, 255])
def test_rings_that_a_front_end_may_have_and_the_vnic_has_not(arena, ring):
    with arena.attacker() as bad:
        bad.start()
        for _ in range(20):
            for request, payload in ((SET_VRING_NUM, pair(ring, 32768)), (SET_VRING_BASE, pair(ring, 0xFFFF)),
                                     (SET_VRING_ADDR, pair(ring) + b"\xff" * 32), (SET_VRING_ENABLE, pair(ring, 1))):
                assert bad.acknowledged(request, payload)
            for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
                assert bad.acknowledged(request, struct.pack("=Q", ring), [bad.kick[0]])
            assert struct.unpack("=II", bad.ask(GET_VRING_BASE, pair(ring))) == (ring, 0xFFFF)
        arena.heard(bad)


NOT_OFFERED = {
    "a log whose size and offset wrap": (SET_LOG_BASE, struct.pack("=QQ", 2**64 - 1, 2**64 - 1), 1),
    "a log of no size": (SET_LOG_BASE, bytes(16), 1),
    "inflight memory": (GET_INFLIGHT_FD, struct.pack("=QQHH", 0, 0, 2, 128), 0),
    "inflight memory of 65535 queues": (GET_INFLIGHT_FD, struct.pack("=QQHH", 0, 0, 0xFFFF, 0xFFFF), 0),
    "inflight memory of its own": (SET_INFLIGHT_FD, struct.pack("=QQHH", 2**64 - 1, 2**64 - 1, 0xFFFF, 0xFFFF), 1),
    "a crypto session": (CREATE_CRYPTO_SESSION, bytes(PAYLOAD_MAX), 0),
    "post-copy migration": (POSTCOPY_ADVISE, b"", 1),
    **{f"request {number}": (number, bytes(8), 1) for number in range(21, REQUESTS_END)},
}


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_what_was_not_offered_is_denied_as_often_as_it_is_asked_for(arena, name):
    """Who waits for an answer gets a no, each time; its descriptors and what it asks for go nowhere."""
    request, payload, count = NOT_OFFERED[name]
    with arena.attacker() as bad:
        bad.start()
        for _ in range(50):
            assert not bad.acknowledged(request, payload, [bad.kick[0]] * count)
        arena.heard(bad)
        bad.tell(request, payload, [bad.kick[0]] * count)
        arena.wait_refused(bad, "which was not offered")
