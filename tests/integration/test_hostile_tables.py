"""Memory tables that cannot be: regions that wrap, overlap, are no memory or too much of it; and tables that change under
rings that run. What is refused ends that one link with the reason in `vnic show`; two other guests talk undisturbed."""

import fcntl
import os
import select
import socket
import struct
import tempfile

import pytest
from arena import wait_until
from front_end import FRONT_END_BASE, GUEST_BASE, SET_MEM_TABLE, new_memfd

GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 36, 37, 38
TIB = 1 << 40
REGIONS_MAX = 8

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])

LOW = (GUEST_BASE, 0x1000, FRONT_END_BASE, 0)  # a region that is right
WRAPS = "its size is zero, too large, or wraps around"
TOO_MUCH = "more than twice the memory of this host"
# name: (regions, what `vnic show` says); each region comes with the attacker's first memory file
TABLES = {
    "no region": ([], "the guest has no shared memory"),
    "nine regions": ([LOW] * (REGIONS_MAX + 1), "SET_MEM_TABLE"),
    "of size zero": ([(GUEST_BASE, 0, FRONT_END_BASE, 0)], WRAPS),
    "larger than all addresses": ([(GUEST_BASE, 2**64 - 1, FRONT_END_BASE, 0)], TOO_MUCH),
    "guest addresses that wrap": ([(2**64 - 0x800, 0x1000, FRONT_END_BASE, 0)], WRAPS),
    "front-end addresses that wrap": ([(GUEST_BASE, 0x1000, 2**64 - 0x800, 0)], WRAPS),
    "an offset of 2^64 - 1": ([(GUEST_BASE, 0x1000, FRONT_END_BASE, 2**64 - 1)], WRAPS),
    "offset and size that wrap": ([(GUEST_BASE, 0x1000, FRONT_END_BASE, 2**64 - 0x1000)], WRAPS),
    "larger than its file": ([(GUEST_BASE, 1 << 30, FRONT_END_BASE, 0)], "bytes, 1073741824 are claimed"),
    "behind its file": ([(GUEST_BASE, 0x1000, FRONT_END_BASE, 1 << 30)], "are claimed"),
    "good, then behind its file": ([LOW, (0, 0x1000, 0, 1 << 30)], "memory region 1: the file has"),
    "without the rings": ([(GUEST_BASE, 0x1000, 0, 0)], "a part of the ring lies outside"),
    "with half a ring": ([LOW], "a part of the ring lies outside"),
}


@both
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be(arena, name, packed):
    regions, reason = TABLES[name]
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        bad.tell(SET_MEM_TABLE, bad.table(regions), [bad.memory_fd] * min(len(regions), REGIONS_MAX))
        arena.wait_refused(bad, reason)


@pytest.mark.parametrize("claimed", [0, 1, 3, REGIONS_MAX, 2**32 - 1, 2**27 + 2])
def test_a_table_with_another_number_of_regions_than_it_says(arena, claimed):
    with arena.attacker() as bad:
        bad.connect()
        bad.tell(SET_MEM_TABLE, struct.pack("=II", claimed, 0) + bad.table()[8:], [bad.memory_fd, bad.far_fd])
        assert bad.is_closed(60.0)
        shown = arena.vnic()
        assert shown["state"] == "failed" and "memory" in shown["state_reason"].replace("MEM_TABLE", "memory")


# ---- What is no memory ----------------------------------------------------------------------------------------------

def disk_file():
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(os.path.abspath(__file__))) as file:
        os.truncate(file.name, 1 << 20)
        return os.open(file.name, os.O_RDWR)


def epoll():
    with select.epoll() as made:
        return os.dup(made.fileno())


def socket_end():
    one, other = socket.socketpair()
    other.close()
    return one.detach()


def memfd_that_is_only_a_name():
    descriptor = new_memfd(1 << 20)
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_PATH)
    finally:
        os.close(descriptor)


def read_only_memfd():
    descriptor = new_memfd(1 << 20)
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    finally:
        os.close(descriptor)


def sealed_memfd():
    descriptor = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 1 << 20)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return descriptor


NO_MEMORY = "neither an eventfd nor shared memory"
KINDS = {
    "a file on a disk": (disk_file, NO_MEMORY),
    "a directory": (lambda: os.open("/", os.O_RDONLY), NO_MEMORY),
    "a directory of tmpfs": (lambda: os.open("/dev/shm", os.O_RDONLY), NO_MEMORY),
    "a device": (lambda: os.open("/dev/zero", os.O_RDWR), NO_MEMORY),
    "a socket": (socket_end, NO_MEMORY),
    "a pipe": (lambda: os.pipe2(os.O_CLOEXEC)[0], NO_MEMORY),
    "an epoll": (epoll, NO_MEMORY),
    "an eventfd": (lambda: os.eventfd(0), "memory region 0 is not shared memory"),
    "a memfd that is only a name": (memfd_that_is_only_a_name, NO_MEMORY),
    "a memfd that may only be read": (read_only_memfd, "mapping it"),
    "a memfd sealed against writes": (sealed_memfd, "mapping it"),
}


@pytest.mark.parametrize("name", KINDS)
def test_memory_that_is_none(arena, name):
    make, reason = KINDS[name]
    with arena.attacker() as bad:
        bad.connect()
        descriptor = make()
        try:
            bad.tell(SET_MEM_TABLE, bad.table([LOW]), [descriptor])
        finally:
            os.close(descriptor)
        arena.wait_refused(bad, reason)


# ---- Tables that change ---------------------------------------------------------------------------------------------

@both
def test_the_table_changes_all_the_time_while_frames_flow(arena, packed):
    """The same file at other guest addresses, in one region or in two that overlap: frames named by an address that is
    gone are dropped, and nothing else happens."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        size = bad.memory_bytes
        room = bad.room()  # one for all: what others send must not overwrite what is sent
        tables = [([(GUEST_BASE, size, FRONT_END_BASE, 0)], [bad.memory_fd]),
                  ([(GUEST_BASE + TIB, size, FRONT_END_BASE, 0)], [bad.memory_fd]),
                  ([(GUEST_BASE, size, FRONT_END_BASE, 0), (GUEST_BASE + 0x1000, size, FRONT_END_BASE + 0x1000, 0)],
                   [bad.memory_fd] * 2),
                  ([(GUEST_BASE, size, FRONT_END_BASE, 0)] * REGIONS_MAX, [bad.memory_fd] * REGIONS_MAX)]
        for turn in range(200):
            if bad.free(0) > 0:
                bad.put(0, room)
            bad.put(1, bad.piece(bad.mac * 2 + b"\x88\xb5" + bytes(200)))
            bad.kick_ring()
            regions, descriptors = tables[turn % len(tables)]
            bad.tell(SET_MEM_TABLE, bad.table(regions), descriptors)
            wait_until(lambda: bad.free(1) == bad.entries, "the chain to come back", every_s=0.0005)
        bad.share_memory()
        arena.heard(bad)
        assert arena.vnic()["state"] == "connected"


@both
def test_the_rings_vanish_from_the_table_and_come_back(arena, packed):
    """The file of the new table has zeros where the rings were: they say that nothing is there."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        empty = new_memfd(bad.memory_bytes)
        try:
            bad.tell(SET_MEM_TABLE, bad.table(), [empty, bad.far_fd])
            bad.kick_ring()
            bad.tell(SET_MEM_TABLE, bad.table(), [bad.far_fd, empty])
        finally:
            os.close(empty)
        assert bad.is_closed(60.0) or arena.vnic()["state"] == "connected"


@pytest.mark.parametrize("asked", [GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG])
def test_memory_in_slots_of_its_own_was_not_offered(arena, asked):
    """Who asks for an answer gets a no and goes on; who does not is not obeyed either, and told so."""
    region = struct.pack("=QQQQQ", 0, GUEST_BASE + TIB, 0x1000, FRONT_END_BASE + TIB, 0)
    with arena.attacker() as bad:
        bad.start()
        assert not bad.acknowledged(asked, region, [bad.memory_fd])
        arena.heard(bad)
        bad.tell(asked, region, [bad.memory_fd])
        arena.wait_refused(bad, "which was not offered")


# ---- Too much memory ------------------------------------------------------------------------------------------------

def test_a_guest_cannot_take_all_the_address_space(arena):
    """A file without a byte in it, shared eight times over: no guest has more memory than its host."""
    with arena.attacker() as bad:
        bad.start()
        huge = new_memfd(4 * TIB)
        try:
            regions = [(number * 4 * TIB, 3 * TIB, number * 4 * TIB, 0) for number in range(REGIONS_MAX)]
            bad.tell(SET_MEM_TABLE, bad.table(regions), [huge] * REGIONS_MAX)
        finally:
            os.close(huge)
        arena.wait_refused(bad, TOO_MUCH)
