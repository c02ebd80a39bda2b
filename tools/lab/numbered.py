"""Numbered frames from one raw port to another: which of them arrived, how often, and in which order."""

import contextlib
import threading
import time

from .proc import wait_until

IPV4 = b"\x08\x00"


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def udp(to, source, number, flow=0):
    """A numbered frame of one of many flows, 60 bytes or more: IPv4 and UDP without a checksum."""
    payload = b"%010d" % number + bytes(14)
    ports = (40000 + flow).to_bytes(2, "big") + (9).to_bytes(2, "big")
    header = bytes.fromhex("450000340000400040110000") + bytes((10, 9, 0, 1, 10, 9, 0, 2))
    total = sum(int.from_bytes(header[at:at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + total.to_bytes(2, "big") + header[12:]
    return to + source + IPV4 + header + ports + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload


def number_of(frame):
    """The number in a frame of udp(), with a tag or without; None: it is another one."""
    at = 16 if frame[12:14] == b"\x81\x00" else 12
    if frame[at:at + 2] != IPV4 or len(frame) < at + 2 + 38:
        return None
    text = frame[at + 30:at + 40]
    return int(text) if text.isdigit() else None


class Stream:
    """Numbered frames from one raw port to another, at a steady pace, in several flows; what was heard."""

    def __init__(self, source, target, to, pace_s=0.0005, flows=16):
        """`source`: (raw port, its address); `target`: a raw port; `to`: its address. A frame each `pace_s`."""
        self.source_mac, self.to = source[1], to
        self._from, self._at = source[0], target
        self._pace, self._flows = pace_s, flows
        self.sent = 0
        self.heard = {}  # number: how often
        self.reordered = 0
        self._last = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._send, self._hear)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self):
        frames = [udp(self.to, self.source_mac, 0, flow) for flow in range(self._flows)]
        at = frames[0].index(b"%010d" % 0)
        start, due = time.monotonic(), 0
        while not self._stop.is_set():
            frame = frames[self.sent % self._flows]
            with contextlib.suppress(OSError):  # its interface may be between two states
                self._from.send(frame[:at] + b"%010d" % self.sent + frame[at + 10:])
            self.sent += 1
            due += 1
            self._stop.wait(max(0.0, start + due * self._pace - time.monotonic()))

    def _hear(self):
        end = None
        while end is None or time.monotonic() < end:
            for frame in self._at.pending():
                self._note(frame)
            if self._stop.is_set() and end is None:
                end = time.monotonic() + 0.5
            time.sleep(0.0005)

    def _note(self, frame):
        number = number_of(frame)
        if number is None or frame[:6] != self.to:
            return
        self.heard[number] = self.heard.get(number, 0) + 1
        flow = number % self._flows
        self.reordered += number < self._last.get(flow, -1)
        self._last[flow] = max(number, self._last.get(flow, -1))

    @property
    def lost(self):
        return self.sent - len(self.heard)

    @property
    def doubled(self):
        return {number: times for number, times in self.heard.items() if times > 1}

    def goes_on(self, count=50, limit_s=30.0):
        goal = len(self.heard) + count
        wait_until(lambda: len(self.heard) >= goal, "numbered frames to arrive", limit_s)
