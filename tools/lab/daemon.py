"""patchbayd of a lab, and its CLI."""

import json
import os
import subprocess

from . import image
from .proc import LabError, wait_until


def build_dir():
    return os.environ.get("PATCHBAY_BUILD", os.path.join(image.REPOSITORY, "build"))


def sanitizer():
    """What the programs of the build directory were built with: "address" (and undefined), "thread", or "" for nothing."""
    return os.environ.get("PATCHBAY_SANITIZER", "")


def program(name):
    """Path of patchbayd or patchbay in the build directory."""
    for folder in ("src", "clients/cli", "bin", "."):
        path = os.path.join(build_dir(), folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise LabError(f"{name} is not built in {build_dir()}; run ./quickstart or ./test --quick first")


class Commands:
    """What one does with a `cli(*words)`, wherever it runs."""

    def cli(self, *words):
        raise NotImplementedError

    def do(self, *words):
        """Runs `patchbay WORDS…`, which must work; its output."""
        done = self.cli(*words)
        if done.returncode != 0:
            raise LabError(f"patchbay {' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *words):
        """What `patchbay --json WORDS…` prints, parsed."""
        return json.loads(self.do("--json", *words))


class Daemon(Commands):
    """Starts, ends and restarts patchbayd with state and sockets of the lab's own, in the lab's host namespace."""

    def __init__(self, lab_dir, netns, arguments=()):
        self.netns = netns
        self.state_dir = os.path.join(lab_dir, "state")
        self.run_dir = os.path.join(lab_dir, "run")
        self.api_socket = os.path.join(self.run_dir, "api.sock")
        self.log = os.path.join(lab_dir, "patchbayd.log")
        self.arguments = list(arguments)
        self.process = None

    def launch(self):
        """Starts its process and waits for nothing; the process."""
        os.makedirs(self.state_dir, exist_ok=True)
        os.makedirs(self.run_dir, exist_ok=True)
        self.process = self.netns.start("patchbayd", program("patchbayd"), "--state-dir", self.state_dir,
                                        "--run-dir", self.run_dir, *self.arguments)
        return self.process

    def start(self, limit_s=20.0):
        self.launch()
        wait_until(self.answers, f"patchbayd to answer on {self.api_socket} (log: {self.log})", limit_s)
        return self

    def answers(self):
        self.process.check()
        return os.path.exists(self.api_socket) and self.cli("worker", "list").returncode == 0

    def stop(self):
        """Ends it as systemd would; returns its exit status."""
        return self.process.stop(limit_s=10.0)

    def kill9(self):
        self.process.kill()

    def restart(self):
        self.stop()
        return self.start()

    def cli(self, *words, limit_s=20.0):
        """Runs `patchbay WORDS…`; the result has returncode, stdout and stderr."""
        command = [program("patchbay"), "--api", self.api_socket, *map(str, words)]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"patchbay {' '.join(map(str, words))}: no answer after {limit_s:g} s") from error
