"""The ends of the soak: what sits behind each port, sends what it is told to, and counts what it sent and got."""

import base64
import contextlib
import gzip
import threading

from front_end import HEADER_BYTES, FrontEnd
from lab.proc import wait_until
from lab.rawport import RawPort

LIMIT_S = 60.0  # for whatever has to happen
ENTRIES = 64
BUFFER_BYTES = 2304  # takes a frame of the largest MTU of the soak
SHORTEST_OF_KERNEL = 18  # what has no room for a tag that it says it has, kernels drop themselves


class End:
    """Behind one port. `sent` and `received` are since rebase(); `exact`: they must equal the port's counters."""

    def __init__(self, port):
        self.port = port
        self.sent = 0
        self.received = 0
        self.exact = True
        self.muted = False  # sends nothing more
        self.lock = threading.RLock()

    def rebase(self):
        with self.lock:
            self.sent = self.received = 0
            self.exact = True

    def send(self, frame, length=None):
        """Whether the frame was handed over. `length`: a lie about it, where there are descriptors that may lie."""
        with self.lock:
            if self.muted or (length is not None and not self.lies) or not self._send(frame, length):
                return False
            self.sent += 1
            return True

    def mute(self):
        """Nothing more is sent, once this returns."""
        with self.lock:
            self.muted = True

    def poll(self):
        """Frames that have arrived by now."""
        with self.lock:
            frames = self._poll()
            self.received += len(frames)
            return frames

    lies = False

    def at_rest(self):
        """Whether everything that was handed over was taken."""
        return True

    def hurry(self):
        """Somebody waits for what it got."""

    def close(self):
        pass


class GuestEnd(End):
    """A guest: a scripted front-end, which comes and goes."""

    lies = True

    def __init__(self, port, path, mac):
        super().__init__(port)
        self.path = path
        self.mac = mac
        self._front_end = None
        self._on_the_way = 0
        self.connect()

    def connect(self):
        with self.lock:
            self._front_end = FrontEnd(self.path, self.mac.hex(":"), ENTRIES, BUFFER_BYTES).start()
            self._on_the_way = 0

    def disconnect(self, gone):
        """Hangs up; gone() tells when the switch has noticed. What the ring still held was never sent."""
        with self.lock:
            self._front_end.socket.close()
            wait_until(gone, f"the switch to notice that the guest of {self.port} is gone", LIMIT_S, every_s=0.01)
            self._reap()
            self.sent -= self._on_the_way
            frames = self._poll()
            self.received += len(frames)
            self._front_end.close()
            self._front_end = None
            return frames

    def _reap(self):
        self._on_the_way -= self._front_end.reap()

    def _send(self, frame, length):
        if self._front_end is None:
            return False
        self._reap()
        if self._on_the_way == ENTRIES or len(frame) > BUFFER_BYTES - HEADER_BYTES:
            return False
        self._on_the_way += 1
        self._front_end.send(frame, length)
        return True

    def _poll(self):
        return self._front_end.receive() if self._front_end else []

    def at_rest(self):
        with self.lock:
            if self._front_end:
                self._reap()
            return self._on_the_way == 0 or self._front_end is None

    def close(self):
        with self.lock:
            if self._front_end:
                self._front_end.close()
                self._front_end = None


class InterfaceEnd(End):
    """The host end of a host vnic, or the far end of a NIC's cable."""

    def __init__(self, port, netns, interface, set_up=False):
        super().__init__(port)
        self.interface = interface
        self._netns = netns
        self._set_up = set_up
        self._raw = None
        self.open()

    def open(self):
        """Also after the interface was made anew: what was in the old one is gone."""
        with self.lock:
            self.close()
            if self._set_up:
                self._netns.run("ip", "link", "set", self.interface, "up")
            self._raw = RawPort(self._netns, self.interface)

    def _send(self, frame, _):
        if self._raw is None or len(frame) < SHORTEST_OF_KERNEL:
            return False
        try:
            self._raw.send(frame)
        except OSError:  # too long for the interface, or it is on its way out: the kernel took nothing
            return False
        return True

    def _poll(self):
        with contextlib.suppress(OSError):  # the interface is on its way out
            return self._raw.pending() if self._raw else []
        return []

    def close(self):
        with self.lock:
            if self._raw:
                self._raw.close()
                self._raw = None


class MachineEnd(End):
    """A QEMU guest with tools/lab/guest_frames.c inside. What it is told to send goes with the next visit, and what it
    got comes with it: a visit each half second, and at once when somebody waits for it."""

    LONGEST = 1514
    VISIT_S = 0.5
    OUTBOX_MAX = 6

    def __init__(self, port, vm):
        super().__init__(port)
        self.error = None
        self._vm = vm
        self._outbox = []
        self._inbox = []
        self._ending = False
        self._hurry = threading.Event()
        self._file = 1
        vm.run("ip link set eth0 up && mkdir /tmp/frames && mkfifo /tmp/frames.in")
        vm.run("guest_frames eth0 /tmp/frames 0<>/tmp/frames.in >/tmp/frames.log 2>&1 & echo $! >/tmp/frames.pid; "
               "until [ -e /tmp/frames/1 ]; do sleep 0.1; done")
        self._thread = threading.Thread(target=self._visits, daemon=True)
        self._thread.start()

    def _send(self, frame, _):
        longest = self.LONGEST + (4 if frame[12:14] == b"\x81\x00" else 0)
        if not SHORTEST_OF_KERNEL <= len(frame) <= longest or len(self._outbox) == self.OUTBOX_MAX:
            return False
        self._outbox.append(frame)
        return True

    def _poll(self):
        assert self.error is None, f"the guest behind {self.port}: {self.error!r}"
        frames, self._inbox = self._inbox, []
        return frames

    def at_rest(self):
        with self.lock:
            if not self._outbox:
                return True
        self.hurry()
        return False

    def hurry(self):
        self._hurry.set()

    def _visits(self):
        try:
            while not self._ending:
                self._hurry.wait(self.VISIT_S)
                self._hurry.clear()
                self._visit()
        except Exception as error:  # pylint: disable=broad-except  # the next poll() tells of it
            self.error = error

    def _visit(self):
        with self.lock:
            frames, self._outbox = self._outbox, []
        send = f"printf '%s\\n' {' '.join(frame.hex() for frame in frames)} >/tmp/frames.in; " if frames else ""
        _, text = self._vm.run(f"{send}kill -USR1 $(cat /tmp/frames.pid) || cat /tmp/frames.log; "
                               f"until [ -e /tmp/frames/{self._file + 1} ]; do usleep 1000; done; "
                               f"gzip -c /tmp/frames/{self._file} | base64 -w 0; rm /tmp/frames/{self._file}")
        self._file += 1
        arrived = gzip.decompress(base64.b64decode(text)).decode().split()
        with self.lock:
            self._inbox += [bytes.fromhex(line) for line in arrived]

    def close(self):
        self._ending = True
        self._hurry.set()
        self._thread.join()
