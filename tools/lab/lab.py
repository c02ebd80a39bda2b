"""A whole lab: its directory, its namespaces, and the promise that nothing of it is left behind.

Theory  Everything a lab makes is in its record (proc.py). cleanup() reads the record, so it works from any program,
        at any time. A lab that was not detached has a reaper: a process of its own session that waits for the end of
        its owner and then cleans up; not even kill -9 of the owner leaves anything. If owner and reaper are both
        killed, the next lab that starts cleans up after them.
Life    create() -> … -> close(); or create() -> … -> detach(), and later, from elsewhere, cleanup(name).
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time

from . import image
from .daemon import Daemon
from .guest import Guest
from .netns import Netns
from .physical import PhysicalSwitch
from .proc import LabError, Record, end_recorded, run, same_process, start_time

ROOT = os.environ.get("PATCHBAY_LAB_ROOT", "/run/patchbay-lab")  # short: socket paths have at most 107 bytes
TRUNK = "trunk0"  # name of the physical NIC in the host namespace, where the lab makes one


def directory(name):
    return os.path.join(ROOT, name)


class Lab:
    """The host namespace runs Patchbay and holds its NICs; the others are the world behind them."""

    def __init__(self, name):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
            raise LabError(f"lab name {name!r}: 1 to 20 letters, digits or dashes")
        self.name = name
        self.dir = directory(name)
        self.record = Record(self.dir)
        self.host = None
        self.daemon = None
        self.physical = None
        self.guests = {}
        self._reaper = None
        self._detached = False

    @classmethod
    def create(cls, name, own_host=True):
        """A lab with an empty host namespace, or, without `own_host`, in the network that this program runs in."""
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root")
        lab = cls(name)
        cleanup_abandoned()
        os.makedirs(ROOT, exist_ok=True)
        try:
            os.mkdir(lab.dir)
        except FileExistsError as error:
            raise LabError(f"lab {name} is up already ({lab.dir})") from error
        lab.record.add("owner", pid=os.getpid(), started=start_time(os.getpid()))
        lab._start_reaper()
        try:
            lab.host = Netns(lab.record, lab.dir, None)
            if own_host:
                lab.host = lab.add_netns("host")
            lab.daemon = Daemon(lab.dir, lab.host)
        except BaseException:
            lab.close()
            raise
        return lab

    def _start_reaper(self):
        environment = dict(os.environ, PYTHONPATH=os.path.dirname(image.HERE))
        self._reaper = subprocess.Popen([sys.executable, "-m", "lab.reaper", self.dir], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
                                        start_new_session=True)

    def _end_reaper(self):
        if self._reaper:
            try:
                self._reaper.stdin.write(b"done")
                self._reaper.stdin.close()
            except BrokenPipeError:
                pass
            self._reaper.wait()
            self._reaper = None

    # ---- Pieces -----------------------------------------------------------------------------------------------------

    def add_netns(self, role):
        return Netns(self.record, self.dir, f"pb-{self.name}-{role}").create()

    def add_physical(self):
        """The physical switch, without ports yet."""
        self.physical = PhysicalSwitch(self.dir, self.add_netns("wire")).start()
        return self.physical

    def add_wire_host(self, role, vid, address):
        """A namespace with one interface, eth0, on an access port of the physical switch."""
        netns = self.add_netns(role)
        self.physical.add_access(netns, "eth0", vid)
        netns.set_ip("eth0", address)
        return netns

    def add_guest(self, name, mac=None):
        guest = Guest(self.record, self.dir, name, mac)
        self.guests[name] = guest
        return guest

    def capture(self, netns, interface, what=None):
        """Writes what passes `interface` to a file of the lab, at most 2 x 16 MB, until the lab ends."""
        what = what or f"capture-{interface}"
        netns.start(what, "tcpdump", "-i", interface, "-w", os.path.join(self.dir, f"{what}.pcap"), "-U",
                    "-s", "192", "-C", "16", "-W", "2", "-Z", "root")

    # ---- The end ----------------------------------------------------------------------------------------------------

    def close(self):
        """Takes everything away. LabError if something stays."""
        for guest in self.guests.values():
            guest.stop()
        problems = clean(self.dir)
        self._end_reaper()
        if problems:
            raise LabError("; ".join(problems))

    def detach(self, facts):
        """Leaves the lab up after this program; `facts` (a dict) are for whoever asks later."""
        with open(os.path.join(self.dir, "facts.json"), "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=2)
        self.record.add("detached")
        self._detached = True
        self._end_reaper()

    def keep_logs(self, title):
        """Copies logs, captures and Patchbay's own view to build/lab-logs; returns the folder."""
        return keep_logs(self.dir, f"{self.name}-{title}", self.daemon)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            place = self.keep_logs("failed")
            print(f"lab {self.name}: logs are in {place}", file=sys.stderr)
        if kind is not None or not self._detached:
            self.close()


def keep_logs(lab_dir, title, daemon=None):
    title = re.sub(r"[^A-Za-z0-9.-]+", "-", title)[:80]
    place = os.path.join(image.REPOSITORY, "build", "lab-logs", f"{time.strftime('%Y%m%d-%H%M%S')}-{title}")
    os.makedirs(place, exist_ok=True)
    for folder, _, files in os.walk(lab_dir):
        for name in files:
            if re.search(r"\.(log|pcap\d*|jsonl)$", name):
                shutil.copy(os.path.join(folder, name), place)
    if daemon and daemon.process and daemon.process.running():
        for words in (["show"], ["--json", "vnic", "list"], ["--json", "switch", "list"], ["--json", "worker", "list"]):
            try:
                done = daemon.cli(*words, limit_s=5.0)
            except LabError as error:
                print(error, file=sys.stderr)
                continue
            with open(os.path.join(place, f"patchbay-{words[-2] if len(words) > 1 else 'show'}.txt"), "w",
                      encoding="utf-8") as file:
                file.write(done.stdout + done.stderr)
    return place


def clean(lab_dir):
    """Ends and removes everything in the record of `lab_dir`, then the directory. Gives a list of what stays."""
    try:
        lock = os.open(lab_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the owner and its reaper may both be at it
        entries = Record(lab_dir).read()
        problems = end_recorded(entries)
        present = {line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines()}
        for entry in reversed(entries):
            if entry["kind"] == "netns" and entry["name"] in present:
                done = run("ip", "netns", "del", entry["name"], check=False)
                if done.returncode != 0:
                    problems.append(f"namespace {entry['name']} stays: {done.stderr.strip()}")
            elif entry["kind"] == "link" and os.path.exists(f"/sys/class/net/{entry['name']}"):
                run("ip", "link", "del", entry["name"], check=False)
        if not problems:
            shutil.rmtree(lab_dir, ignore_errors=True)
        return problems
    finally:
        os.close(lock)


def cleanup(name):
    """Takes lab `name` away, whoever made it. LabError if something stays. False if there was none."""
    if not os.path.isdir(directory(name)):
        return False
    problems = clean(directory(name))
    if problems:
        raise LabError("; ".join(problems))
    return True


def cleanup_abandoned():
    """Takes away the labs whose owner is gone without having detached them."""
    if not os.path.isdir(ROOT):
        return
    for name in os.listdir(ROOT):
        entries = Record(directory(name)).read()
        owners = [e for e in entries if e["kind"] == "owner"]
        if any(e["kind"] == "detached" for e in entries):
            continue
        if not owners and time.time() - os.stat(directory(name)).st_mtime < 60:
            continue  # its owner has not come to writing its name down yet
        if not any(same_process(e["pid"], e["started"]) for e in owners):
            clean(directory(name))
