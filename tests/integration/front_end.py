"""A scripted vhost-user front-end with a small guest of its own: two split rings in a memfd. It keeps the rules, or
breaks exactly those that a test tells it to. attacker.py has one that breaks many, with packed rings as well."""

import mmap
import os
import select
import socket
import struct
import time

VERSION_1 = 1 << 32
PROTOCOL_FEATURES = 1 << 30
RING_PACKED = 1 << 34
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE, SEND_RARP = 16, 17, 18, 19
PROTOCOL = 1 << 0 | 1 << 2 | 1 << 3  # MQ, RARP, REPLY_ACK

ENTRIES = 16
BUFFER_BYTES = 512
HEADER_BYTES = 12
GUEST_BASE = 0x10000
FRONT_END_BASE = 0x7F0000000
RING_BYTES = 0x1000  # of each ring: descriptors, the driver's part at a quarter, the device's in the middle
MEMORY_BYTES = 2 * RING_BYTES + 2 * ENTRIES * BUFFER_BYTES


def message(request, payload=b"", flags=1):
    return struct.pack("=III", request, flags, len(payload)) + payload


def new_memfd(size):
    descriptor = os.memfd_create("guest", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


class FrontEnd:
    """connect() and set_up(), or start() for both; then send() and receive()."""

    def __init__(self, path, mac, entries=ENTRIES, buffer_bytes=BUFFER_BYTES, features=0, open_memory=new_memfd):
        """`entries`: of each ring, a power of two; `buffer_bytes`: of each buffer, header included; `features`: virtio
        features beside VERSION_1; `open_memory`: gives the descriptor of a memory file of at least so many bytes."""
        self.path = path
        self.entries = entries
        self.buffer_bytes = buffer_bytes
        self.features = VERSION_1 | features
        self.ring_bytes = max(RING_BYTES, 64 * entries)
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.socket = None
        self.memory_fd = open_memory(2 * self.ring_bytes + 2 * entries * buffer_bytes)
        self.memory_bytes = os.fstat(self.memory_fd).st_size
        self.memory = mmap.mmap(self.memory_fd, self.memory_bytes)
        self._words = memoryview(self.memory).cast("H")  # for the indices: struct.pack_into() writes zeros first
        self.kick = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        self.call = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        self._next = [0, 0]  # avail index of each ring
        self._seen = [0, 0]  # used index

    # ---- The protocol -----------------------------------------------------------------------------------------------

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(self.path)  # waits while the back-end's queue is full; with a time limit it would give up
        self.socket.settimeout(30.0)
        return self

    def tell(self, request, payload=b"", fds=(), flags=1):
        socket.send_fds(self.socket, [message(request, payload, flags)], list(fds))

    def ask(self, request, payload=b"", fds=(), flags=1):
        """The payload of the reply."""
        self.tell(request, payload, fds, flags)
        return self._receive_exactly(struct.unpack("=III", self._receive_exactly(12))[2])

    def acknowledged(self, request, payload=b"", fds=()):
        return self.ask(request, payload, fds, flags=1 | 8) == bytes(8)

    def _receive_exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionResetError(f"{self.path}: the back-end closed the connection")
            data += more
        return data

    def set_up(self):
        """From features to rings that run; the guest offers all its buffers first."""
        for number in range(self.entries):
            self._offer_buffer(number)
        return self._negotiate()

    def _negotiate(self):
        self.ask(GET_FEATURES)
        self.tell(SET_PROTOCOL_FEATURES, struct.pack("=Q", PROTOCOL))
        self.tell(SET_OWNER)
        self.tell(SET_FEATURES, struct.pack("=Q", self.features | PROTOCOL_FEATURES))
        self.share_memory()
        for ring in range(2):
            self.set_up_ring(ring)
        for ring in range(2):
            assert self.acknowledged(SET_VRING_ENABLE, struct.pack("=II", ring, 1))
        return self

    def share_memory(self):
        table = struct.pack("=IIQQQQ", 1, 0, GUEST_BASE, self.memory_bytes, FRONT_END_BASE, 0)
        assert self.acknowledged(SET_MEM_TABLE, table, [self.memory_fd])

    def set_up_ring(self, ring):
        base = FRONT_END_BASE + ring * self.ring_bytes
        if self.features & RING_PACKED:
            start = 0x80008000  # both wrap counters are 1
        else:  # what was used, as QEMU says it when it comes back to another back-end
            start = struct.unpack_from("=H", self.memory, ring * self.ring_bytes + self.ring_bytes // 2 + 2)[0]
        self.tell(SET_VRING_NUM, struct.pack("=II", ring, self.entries))
        self.tell(SET_VRING_BASE, struct.pack("=II", ring, start))
        self.tell(SET_VRING_ADDR, struct.pack("=IIQQQQ", ring, 0, base, base + self.ring_bytes // 2,
                                              base + self.ring_bytes // 4, 0))
        self.tell(SET_VRING_KICK, struct.pack("=Q", ring), [self.kick[ring]])
        self.tell(SET_VRING_CALL, struct.pack("=Q", ring), [self.call[ring]])

    def start(self):
        return self.connect().set_up()

    def start_again(self):
        """start() with the same memory and rings, for another back-end or after the connection ended: buffers that it was
        offered stay offered."""
        self.connect()
        return self._negotiate()

    def announce(self, mac=None):
        """SEND_RARP; true if it is acknowledged."""
        return self.acknowledged(SEND_RARP, (mac or self.mac) + bytes(2))

    def is_closed(self, limit_s=20.0):
        """Whether the back-end closes the connection within limit_s; what it says before is read and forgotten."""
        self.socket.settimeout(limit_s)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self):
        if self.socket:
            self.socket.close()
        for descriptor in (*self.kick, *self.call, self.memory_fd):
            os.close(descriptor)
        self._words.release()
        self.memory.close()

    # ---- The guest --------------------------------------------------------------------------------------------------

    def _buffer(self, ring, number):
        return 2 * self.ring_bytes + (ring * self.entries + number) * self.buffer_bytes

    def _offer(self, ring, number, size, flags):
        at = ring * self.ring_bytes
        struct.pack_into("=QIHH", self.memory, at + 16 * number, GUEST_BASE + self._buffer(ring, number), size, flags, 0)
        self._make_available(ring, number)

    def _make_available(self, ring, number):
        """Offers the chain that starts with descriptor `number`."""
        at = ring * self.ring_bytes + self.ring_bytes // 4
        self._words[(at + 4) // 2 + self._next[ring] % self.entries] = number
        self._next[ring] = (self._next[ring] + 1) & 0xFFFF
        self._words[(at + 2) // 2] = self._next[ring]

    def _offer_buffer(self, number):
        self._offer(0, number, self.buffer_bytes, 2)

    def _used(self, ring):
        """(buffer, bytes written) of the next used entry; None if there is none."""
        at = ring * self.ring_bytes + self.ring_bytes // 2
        if struct.unpack_from("=H", self.memory, at + 2)[0] == self._seen[ring]:
            return None
        entry = struct.unpack_from("=II", self.memory, at + 4 + 8 * (self._seen[ring] % self.entries))
        self._seen[ring] = (self._seen[ring] + 1) & 0xFFFF
        return entry

    def send(self, frame, length=None):
        """At most `entries` frames may be on their way: reap() what was taken. `length`: what the descriptor says where
        that is not the truth, header included."""
        number = self._next[1] % self.entries
        data = bytes(HEADER_BYTES) + frame
        at = self._buffer(1, number)
        self.memory[at:at + len(data)] = data
        self._offer(1, number, len(data) if length is None else length, 0)
        os.eventfd_write(self.kick[1], 1)

    def reap(self):
        """How many frames were taken since the last call."""
        count = 0
        while self._used(1):
            count += 1
        return count

    def send_all(self, frames, limit_s=60.0):
        """Sends them as fast as they are taken; all are taken when it returns. Nothing else may be on its way."""
        end = time.monotonic() + limit_s
        on_the_way = 0

        def make_room(most):
            nonlocal on_the_way
            while on_the_way > most:
                on_the_way -= self.reap()
                assert time.monotonic() < end, f"{self.path}: {on_the_way} frames are not taken"
        for frame in frames:
            make_room(self.entries - 1)
            self.send(frame)
            on_the_way += 1
        make_room(0)

    def receive(self):
        """The frames that have arrived by now. The back-end is told that there is room, whether it asked or not."""
        frames = []
        while used := self._used(0):
            number, written = used
            at = self._buffer(0, number)
            frames.append(bytes(self.memory[at + HEADER_BYTES:at + written]))
            self._offer_buffer(number)
        if frames:
            os.eventfd_write(self.kick[0], 1)
        return frames

    def receive_all(self, count, limit_s=60.0):
        """`count` frames or more, waited for."""
        frames = []
        end = time.monotonic() + limit_s
        while len(frames) < count:
            frames += self.receive()
            assert time.monotonic() < end, f"{self.path}: {len(frames)} of {count} frames came"
        return frames

    def wait_frame(self, limit_s=20.0):
        """Frames, as soon as there is one: waits for the call of the back-end."""
        end = time.monotonic() + limit_s
        while True:
            frames = self.receive()
            left = end - time.monotonic()
            if frames or left <= 0:
                return frames
            calls = select.poll()  # select() knows no descriptor above 1023
            calls.register(self.call[0], select.POLLIN)
            if calls.poll(left * 1000):
                os.eventfd_read(self.call[0])  # also the first call, which comes with no frame
