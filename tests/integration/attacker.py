"""A front-end that lies: whatever descriptors, indices and tables a test wants, in split rings or packed ones.

Its guest's memory are two regions whose guest addresses adjoin, so that a range can be inside of memory and yet in no
region: the rings, buffers and a place for frames and tables (`scratch`), and behind that `far`, which is large, empty and
costs nothing.
"""

import os
import struct

from front_end import (FRONT_END_BASE, GUEST_BASE, HEADER_BYTES, RING_PACKED, SET_MEM_TABLE, FrontEnd, new_memfd)

F_NEXT, F_WRITE, F_INDIRECT = 1, 2, 4
INDIRECT, EVENT_IDX, MERGE = 1 << 28, 1 << 29, 1 << 15
CSUM, GUEST_CSUM = 1 << 0, 1 << 1
HOST_TSO4, HOST_TSO6 = 1 << 11, 1 << 12
OFFLOADS = CSUM | HOST_TSO4 | HOST_TSO6

SCRATCH_BYTES = 0x20000
FAR_BYTES = 256 << 20
FAR_FRONT_END_BASE = FRONT_END_BASE + (1 << 40)
PACKED_AVAIL, PACKED_USED = 1 << 7, 1 << 15


class Attacker(FrontEnd):
    def __init__(self, path, mac, packed=False, features=INDIRECT, entries=128, open_memory=new_memfd):
        self.packed = packed
        super().__init__(path, mac, entries=entries, features=features | (RING_PACKED if packed else 0),
                         open_memory=lambda size: open_memory(size + SCRATCH_BYTES))
        self.scratch = 2 * self.ring_bytes + 2 * entries * self.buffer_bytes  # from here on; aligned to 64
        self._free = self.scratch
        self.far_fd = new_memfd(FAR_BYTES)
        self._slot = [0, 0]  # split: the descriptor behind the last chain; packed: where the next one goes
        self._wrap = [True, True]
        self._on_way = [[], []]  # packed: (slot, wrap counter there, slots) of each chain, until free() finds it returned

    @property
    def far(self):
        """Guest address of the second region."""
        return GUEST_BASE + self.memory_bytes

    def regions(self):
        return [(GUEST_BASE, self.memory_bytes, FRONT_END_BASE, 0), (self.far, FAR_BYTES, FAR_FRONT_END_BASE, 0)]

    def table(self, regions=None):
        regions = self.regions() if regions is None else regions
        return struct.pack("=II", len(regions), 0) + b"".join(struct.pack("=QQQQ", *region) for region in regions)

    def share_memory(self):
        assert self.acknowledged(SET_MEM_TABLE, self.table(), [self.memory_fd, self.far_fd])

    def set_up(self):
        return self._negotiate()  # offers no buffers by itself

    def forget(self):
        """Rings as at the start, for another connection; the memory must be zeros already."""
        self._next, self._seen, self._slot, self._wrap = [0, 0], [0, 0], [0, 0], [True, True]
        self._on_way = [[], []]

    def close(self):
        super().close()
        os.close(self.far_fd)

    # ---- Memory -----------------------------------------------------------------------------------------------------

    def place(self, data, at=None, align=16):
        """Puts bytes into scratch, or at offset `at`; their guest address."""
        if at is None:
            at = -(-self._free // align) * align
            if at + len(data) > self.scratch + SCRATCH_BYTES:
                at = self.scratch
            self._free = at + len(data)
        self.memory[at:at + len(data)] = data
        return GUEST_BASE + at

    def piece(self, frame, header=bytes(HEADER_BYTES), flags=0):
        """A descriptor of a frame with its virtio-net header: (address, bytes, flags)."""
        return self.place(header + frame), len(header) + len(frame), flags

    def room(self, size=2048):
        """A descriptor of a receive buffer."""
        return self.place(bytes(size)), size, F_WRITE

    def indirect(self, pieces, align=16, size=None, flags=0):
        """A descriptor of an indirect table with `pieces`; a fourth number of a piece is its next one."""
        rows = []
        for number, (address, length, piece_flags, *following) in enumerate(pieces):
            if self.packed:
                rows.append(struct.pack("=QIHH", address, length, 0, piece_flags))
                continue
            last = number + 1 == len(pieces) and not following
            rows.append(struct.pack("=QIHH", address, length, piece_flags | (0 if last else F_NEXT),
                                    following[0] if following else number + 1))
        data = b"".join(rows)
        at = self.place(bytes(align % 16) + data) + align % 16
        return at, len(data) if size is None else size, F_INDIRECT | flags

    # ---- Rings ------------------------------------------------------------------------------------------------------

    def kick_ring(self, ring=1):
        os.eventfd_write(self.kick[ring], 1)

    def put(self, ring, *pieces, ident=None, ends=True):
        """Offers one chain of pieces (address, bytes, flags[, number of the next one, split only]). `ident`: instead of
        the right one, what names the chain. `ends`: the last piece says that it is the last."""
        if self.packed:
            self._put_packed(ring, pieces, ident, ends)
        else:
            self._put_split(ring, pieces, ident, ends)

    def _put_split(self, ring, pieces, ident, ends):
        start = self._slot[ring] if self._slot[ring] + len(pieces) <= self.entries else 0
        self._slot[ring] = start + len(pieces)
        for number, (address, length, flags, *following) in enumerate(pieces):
            more = bool(following) or number + 1 < len(pieces) or not ends
            following = following[0] if following else (start + number + 1) % self.entries
            struct.pack_into("=QIHH", self.memory, ring * self.ring_bytes + 16 * (start + number), address, length,
                             flags | (F_NEXT if more else 0), following)
        self._make_available(ring, start if ident is None else ident)

    def _put_packed(self, ring, pieces, ident, ends):
        rows = []
        first = self._slot[ring]
        self._on_way[ring].append((first, self._wrap[ring], len(pieces)))
        for number, (address, length, flags, *_) in enumerate(pieces):
            slot = self._slot[ring]
            more = number + 1 < len(pieces) or not ends
            mark = PACKED_AVAIL if self._wrap[ring] else PACKED_USED
            rows.append((slot, struct.pack("=QIHH", address, length, first if ident is None else ident,
                                           flags | mark | (F_NEXT if more else 0))))
            self._slot[ring] = (slot + 1) % self.entries
            self._wrap[ring] ^= self._slot[ring] == 0
        for slot, row in reversed(rows):  # the first one last: it shows the others
            at = ring * self.ring_bytes + 16 * slot
            self.memory[at:at + 14] = row[:14]
            self._words[(at + 14) // 2] = struct.unpack_from("=H", row, 14)[0]

    def free(self, ring):
        """How many chains of one piece the ring has room for."""
        if not self.packed:
            used = self._words[(ring * self.ring_bytes + self.ring_bytes // 2 + 2) // 2]
            return self.entries - (self._next[ring] - used & 0xFFFF)
        chains = self._on_way[ring]
        while chains:
            slot, wrap, _ = chains[0]
            flags = self._words[(ring * self.ring_bytes + 16 * slot + 14) // 2]
            if bool(flags & PACKED_USED) != wrap or bool(flags & PACKED_AVAIL) != wrap:
                break
            chains.pop(0)
        return self.entries - sum(slots for _, _, slots in chains)

    def send_frame(self, frame, header=bytes(HEADER_BYTES)):
        self.put(1, self.piece(frame, header))
        self.kick_ring()
