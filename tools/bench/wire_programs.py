"""The programs of tests/performance that speak through packet sockets: at the far end of a cable, or at a host vnic."""

import itertools
import json
import os
import subprocess
import time

from lab.daemon import build_dir
from lab.proc import LabError, tail, wait_until


_NUMBERS = itertools.count(1)  # each has a log of its own


class _Program:
    """One of them in a namespace, until its input ends; what it says is a JSON object a line."""

    def __init__(self, netns, what, name, *words):
        path = os.path.join(build_dir(), "tests", "performance", name)
        if not os.access(path, os.X_OK):
            raise LabError(f"{path} is not built: ninja -C {build_dir()} bench_programs")
        self._process = netns.start(f"{what}-{next(_NUMBERS)}", path, *words, stdin=subprocess.PIPE)

    def said(self):
        with open(self._process.log, encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith("\n")]

    def say(self, count, what="an answer"):
        """What it says as number `count`, from 1."""
        def there():
            self._process.check()
            return self.said()[count - 1:count]
        return wait_until(there, what, 30.0)[0]

    def ask(self):
        known = len(self.said())
        self._process.popen.stdin.write(b"?\n")
        self._process.popen.stdin.flush()
        return self.say(known + 1)

    def end(self):
        """The last thing it says."""
        if not self._process.popen.stdin.closed:
            self._process.popen.stdin.close()
            self._process.wait()
        if self._process.popen.returncode != 0:
            raise LabError(f"{self._process.what} ended with {self._process.popen.returncode}: {tail(self._process.log)}")
        return self.said()[-1]


class Flood(_Program):
    """Frames for one address, as fast as they go."""

    def __init__(self, netns, interface, mac, frame_bytes):
        super().__init__(netns, "wire-flood", "patchbay_wire_flood", interface, mac, frame_bytes, 0)


class WireStream:
    """Numbered frames between two interfaces at a steady rate, in several flows. An end: (namespace, interface)."""

    def __init__(self, source, target, frames_per_s, flows):
        self._source, self._target = source, target
        self._rate, self._flows = frames_per_s, flows
        self.sent = self.seconds = 0
        self.total = {}  # of the hearer, at the end

    def __enter__(self):
        netns, interface = self._target
        self._hearer = _Program(netns, "stream-hear", "patchbay_wire_stream", "hear", interface,
                                self._source[0].mac(self._source[1]), self._flows)
        self._hearer.say(1, "the hearer to be ready")
        netns, interface = self._source
        self._sender = _Program(netns, "stream-send", "patchbay_wire_stream", "send", interface,
                                self._target[0].mac(self._target[1]), self._rate, self._flows)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            return  # that error is the one to be told; the lab ends both programs
        ended = self._sender.end()
        self.sent, self.seconds = ended["sent"], ended["seconds"]
        known = -1
        while (heard := self.ask()["heard"]) != known:  # what is on its way arrives
            known = heard
            time.sleep(0.5)
        self.total = self._hearer.end()
        if self.total["lost_by_socket"]:
            raise LabError(f"the hearer itself lost {self.total['lost_by_socket']} frames")

    def ask(self):
        """{"heard", "doubled", "reordered", "lost_by_socket", "gap_ms", "flow_gap_ms"}; the gaps since the last question."""
        return self._hearer.ask()

    def goes_on(self, frames):
        goal = self.ask()["heard"] + frames
        wait_until(lambda: self.ask()["heard"] >= goal, "numbered frames to arrive", 30.0)
