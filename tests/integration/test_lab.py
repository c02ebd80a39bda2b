"""The promises of the lab and of quickstart: what is shown is true, and nothing is left behind, not even by kill -9."""

import os
import signal
import subprocess
import sys

import pytest
from lab import daemon, lab
from lab.image import HERE, REPOSITORY
from lab.proc import Record, run, same_process, wait_until

QUICKSTART = os.path.join(REPOSITORY, "quickstart")
KILLED = """
import os, sys
from lab.lab import Lab
made = Lab.create(sys.argv[1])
made.add_physical()
made.add_guest("vm", "02:00:00:00:05:01").start([])
print("up", flush=True)
os.read(0, 1)
"""


def leftovers(name, entries):
    """What still exists of lab `name`, by its record."""
    present = {line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines()}
    found = [entry["name"] for entry in entries if entry["kind"] == "netns" and entry["name"] in present]
    found += [entry["what"] for entry in entries
              if entry["kind"] == "process" and same_process(entry["pid"], entry["started"])]
    return found + ([lab.directory(name)] if os.path.exists(lab.directory(name)) else [])


def test_a_killed_owner_leaves_nothing():
    name = f"t{os.getpid()}-killed"
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(HERE))
    with subprocess.Popen([sys.executable, "-c", KILLED, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=environment, text=True) as owner:
        assert owner.stdout.readline() == "up\n"
        entries = Record(lab.directory(name)).read()
        assert len([entry for entry in entries if entry["kind"] == "process"]) == 3
        assert leftovers(name, entries)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_until(lambda: not leftovers(name, entries), "the reaper to clean up", 20.0)


class Quickstart:
    """./quickstart, beside one that the user may have running."""

    def __init__(self, name):
        self.name = name
        self._environment = dict(os.environ, PATCHBAY_LAB_NAME=name, PATCHBAY_BUILD=daemon.build_dir())

    def __call__(self, *words):
        return subprocess.run([QUICKSTART, *words], env=self._environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=180, check=False)


@pytest.fixture
def quickstart():
    made = Quickstart(f"t{os.getpid()}-quick")
    yield made
    made("stop")


def test_quickstart_stays_up_until_stopped(quickstart):
    up = quickstart()
    assert up.returncode == 0, up.stdout + up.stderr
    assert "As expected" in up.stdout and "attach-args" in up.stdout
    status = quickstart("status")
    assert status.returncode == 0 and "As expected" in status.stdout, status.stdout + status.stderr

    again = quickstart("--wiring", "1")
    assert again.returncode == 0 and "As expected" in again.stdout, again.stdout + again.stderr

    entries = Record(lab.directory(quickstart.name)).read()
    stop = quickstart("stop")
    assert stop.returncode == 0, stop.stdout + stop.stderr
    assert not leftovers(quickstart.name, entries)
    assert quickstart("stop").returncode == 0
    assert quickstart("status").returncode == 1
