"""The load generator as a process: attaches vnics to a switch, then obeys one command at a time."""

import json
import os
import subprocess
import time

from lab.daemon import build_dir
from lab.proc import LabError, wait_until


def program():
    path = os.path.join(build_dir(), "tests", "performance", "patchbay_loadgen")
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not built; ./bench and ./test build it: ninja -C {build_dir()} bench_programs")
    return path


def mac_of(number):
    """Of the vnic with that number."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


class Generator:
    """start(), attached(), then link(), run() and so on; end() at last."""

    def __init__(self, netns, directory, sockets, role="connect", cpu=None, name="loadgen", first=0, **shape):
        """`sockets`: one a vnic, in pairs that send to each other; `name`: tells it from others in the same directory;
        `first`: number of its first vnic; `shape`: layout, ring_entries, receive_bytes, frame_bytes_max, huge_pages,
        mirror, peer and so on as in tests/performance/config.h."""
        self._netns = netns
        self._name = name
        self._config = os.path.join(directory, f"{name}.json")
        vnics = [{"socket": socket, "mac": mac_of(number)} for number, socket in enumerate(sockets, first)]
        config = {"vnics": vnics, "role": role, **shape}
        if cpu is not None:
            config["cpu"] = cpu
        with open(self._config, "w", encoding="utf-8") as file:
            json.dump(config, file)
        self._process = None
        self._answers = None
        self._line = ""

    def start(self):
        """Its process; where it listens, it does so when this returns."""
        log = os.path.join(os.path.dirname(self._config), f"{self._name}.log")
        with open(log, "wb"):
            pass
        self._process = self._netns.start(self._name, program(), self._config, stdin=subprocess.PIPE)
        self._answers = open(log, encoding="utf-8")  # noqa: SIM115 - closed by end()
        with open(self._config, encoding="utf-8") as file:
            if json.load(file)["role"] == "listen":
                self.answer("listening", 30.0)
        return self

    def attached(self, limit_s=60.0):
        """Waits until all vnics have a back-end: {"attached", "features", "tsc_mhz"}."""
        return self.answer("attached", limit_s)

    def answer(self, what, limit_s):
        """Of the command of that name, when it comes; commands to several are given by tell() before."""
        def line():
            self._line += self._answers.readline()
            if self._line.endswith("\n"):
                return True
            self._process.check()
            return False
        wait_until(line, f"the load generator {self._name} ({what})", limit_s, every_s=0.01)
        answer, self._line = json.loads(self._line), ""
        if "error" in answer:
            raise LabError(f"load generator: {answer['error']}")
        return answer

    def tell(self, name, values):
        self._process.popen.stdin.write(json.dumps({name: values}).encode() + b"\n")
        self._process.popen.stdin.flush()

    def command(self, name, wait_s=60.0, **values):
        self.tell(name, values)
        return self.answer(name, wait_s)

    @property
    def pid(self):
        return self._process.pid

    def link(self, limit_s=20.0):
        """Each vnic has heard from its peer when this returns."""
        silent = self.command("link", wait_s=limit_s + 10.0, limit_s=limit_s)["silent"]
        if silent:
            raise LabError(f"{silent} vnics heard nothing from their peers within {limit_s:g} s")

    def run(self, seconds=1.0, **values):
        """One measurement; keys of `values` and of the answer as in tests/performance/main.cpp."""
        return self.command("run", wait_s=seconds + 60.0, seconds=seconds, **values)

    def endure(self, **values):
        """Starts a run, keys as of run(), over which the switch may die and come back; it goes on until enough()."""
        self.tell("endure", values)

    def enough(self, limit_s=60.0):
        """What became of endure(), as in tests/performance/main.cpp."""
        return self.command("enough", wait_s=limit_s)

    def wake(self, count, sleep_limit_s=1.0):
        """Latency of single frames, each after a silence and once the switch sleeps, if it does within the limit."""
        return self.command("wake", wait_s=120.0, count=count, sleep_limit_s=sleep_limit_s)

    def bare_ping(self, count, cpu):
        return self.command("bare_ping", wait_s=120.0, count=count, cpu=cpu)

    def end(self):
        """Its input ends, so it does; whoever has connections with it sees them close."""
        if self._process:
            if self._process.running():
                self._process.popen.stdin.close()
                limit = time.monotonic() + 10.0
                while self._process.running() and time.monotonic() < limit:
                    time.sleep(0.02)
            self._process.stop()
            self._answers.close()
            self._process = None
