"""Guests whose memory is not what they said: it vanishes while it is used, changes, or was none from the start. Only their
own link ends, with the reason in `vnic show`, and two other guests talk undisturbed."""

import ctypes
import mmap
import os
import tempfile

import pytest
from arena import BROKEN, VANISHED, wait_until
from attacker import FAR_BYTES
from front_end import HEADER_BYTES, new_memfd

HUGE_PAGE = 2 << 20
HUGE_PAGES = 4
NR_HUGEPAGES = "/proc/sys/vm/nr_hugepages"
PUNCH_HOLE = 3  # and keep the size

both = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


# ---- Kinds of memory ------------------------------------------------------------------------------------------------

def tmpfs_file(size):
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        os.ftruncate(file.fileno(), size)
        return os.dup(file.fileno())


def huge_memfd(size):
    descriptor = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    os.ftruncate(descriptor, -(-size // HUGE_PAGE) * HUGE_PAGE)
    return descriptor


@pytest.fixture(scope="module")
def huge_pages():
    """A few more huge pages than the machine had; afterwards as many as before."""
    try:
        with open(NR_HUGEPAGES, encoding="ascii") as file:
            before = int(file.read())
        _set_huge_pages(before + HUGE_PAGES)
    except OSError as error:
        pytest.skip(f"huge pages cannot be set up: {error}")
    try:
        if _free_huge_pages() < HUGE_PAGES:
            pytest.skip(f"the kernel has not {HUGE_PAGES} huge pages of 2 MB free")
        yield
    finally:
        _set_huge_pages(before)


def _set_huge_pages(count):
    with open(NR_HUGEPAGES, "w", encoding="ascii") as file:
        file.write(str(count))


def _free_huge_pages():
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    if int(fields["Hugepagesize"].split()[0]) * 1024 != HUGE_PAGE:
        return 0
    return int(fields["HugePages_Free"])


@pytest.fixture(params=["memfd", "tmpfs", "hugetlbfs"])
def open_memory(request):
    if request.param == "hugetlbfs":
        request.getfixturevalue("huge_pages")
    return {"memfd": new_memfd, "tmpfs": tmpfs_file, "hugetlbfs": huge_memfd}[request.param]


# ---- Memory that vanishes: whoever touches it gets SIGBUS -----------------------------------------------------------

@both
def test_memory_vanishes_under_a_sender(arena, open_memory, packed):
    with arena.attacker(packed=packed, open_memory=open_memory) as bad:
        bad.start()
        arena.heard(bad)
        for _ in range(20):
            bad.put(1, bad.piece(b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(1000)))
        os.ftruncate(bad.memory_fd, 0)
        bad.kick_ring()
        arena.wait_failed(VANISHED)


@both
def test_memory_vanishes_under_a_receiver(arena, open_memory, packed):
    """It needs not do anything: the frame of another touches it."""
    with arena.attacker(packed=packed, open_memory=open_memory) as bad:
        bad.start()
        bad.put(0, bad.room())
        wait_until(lambda: arena.vnic()["counters"]["to_guest"]["frames"] == 1, "a frame in the buffer")
        for _ in range(20):
            bad.put(0, bad.room())
        os.ftruncate(bad.memory_fd, 0)
        arena.wait_failed(VANISHED)


@both
@pytest.mark.parametrize("head", [0, HEADER_BYTES + 128], ids=["all of a frame", "all but its head"])
def test_memory_vanishes_under_a_frame_but_not_under_the_ring(arena, packed, head):
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        data = bytes(HEADER_BYTES) + b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(1000)
        os.pwrite(bad.far_fd, data, 0)
        start = [(bad.place(data[:head]), head, 0)] if head else []
        os.ftruncate(bad.far_fd, 0)
        bad.put(1, *start, (bad.far, len(data) - head, 0))
        bad.kick_ring()
        arena.wait_failed(VANISHED)


@both
def test_only_the_last_page_vanishes(arena, packed):
    """Rings and their pages stay: there is no half of a memory."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        os.ftruncate(bad.far_fd, FAR_BYTES - mmap.PAGESIZE)
        bad.put(1, (bad.far + FAR_BYTES - 100, 100, 0))
        bad.kick_ring()
        arena.wait_failed(VANISHED)


def test_there_are_not_as_many_huge_pages_as_the_file_has(arena, huge_pages):
    """Also that is SIGBUS for whoever touches the page that is not there."""
    with arena.attacker() as bad:
        os.close(bad.far_fd)
        bad.far_fd = huge_memfd(FAR_BYTES)
        bad.start()
        arena.heard(bad)
        for page in range(min(60, FAR_BYTES // HUGE_PAGE)):
            bad.put(1, (bad.far + page * HUGE_PAGE, 100, 0))
        bad.kick_ring()
        arena.wait_failed(VANISHED)


@both
def test_memory_vanishes_and_comes_back_again_and_again(arena, packed):
    """The same file, shared anew each time by one that goes and comes."""
    with arena.attacker(packed=packed) as bad:
        for _ in range(10):
            bad.start()
            bad.put(0, bad.room())
            bad.put(1, bad.piece(b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(46)))
            os.ftruncate(bad.memory_fd, 0)
            bad.kick_ring()
            assert bad.is_closed(60.0)
            os.ftruncate(bad.memory_fd, bad.memory_bytes)
            bad.forget()
        bad.start()
        arena.heard(bad)


@both
def test_a_hole_is_punched_under_the_rings(arena, packed):
    """Reads as zeros: a ring that says nothing, or one that says what no driver writes."""
    with arena.attacker(packed=packed) as bad:
        bad.start()
        arena.heard(bad)
        fallocate(bad.memory_fd, PUNCH_HOLE, 0, bad.memory_bytes)
        bad.kick_ring()
        before = arena.seen()["answered"]
        wait_until(lambda: arena.seen()["answered"] > before + 50, "the others to go on")
        shown = arena.vnic()
        assert shown["state"] == "connected" or BROKEN in shown["state_reason"]


def fallocate(descriptor, mode, offset, size):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate64(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def test_memory_vanishes_while_the_kernel_reads_it_for_the_wire(arena):
    """No SIGBUS there: the kernel refuses the frame, and nothing else happens."""
    with arena.uplink("out"), arena.attacker(switch="out") as bad:
        bad.start()
        head = bytes(HEADER_BYTES) + b"\xff" * 6 + bad.mac + b"\x88\xb5" + bytes(114)
        os.ftruncate(bad.far_fd, 0)
        bad.put(1, (bad.place(head), len(head), 0), (bad.far, 1000, 0))
        bad.kick_ring()
        wait_until(lambda: arena.uplink_drops("out").get("uplink_refused") == 1, "the drop")
        assert arena.vnic()["state"] == "connected"
        bad.put(1, (bad.far, 1000, 0))
        bad.kick_ring()
        arena.wait_failed(VANISHED)
