"""The machine that is measured on: what it is, huge pages for the peers, and how much others disturb.

A busy machine makes every figure worse, and not equally: a thread that polls and is put aside for 4 ms in the middle of
a frame counts all of that as work. So what is measured runs before everything else (nice -20), and how long it had to
wait for its CPU all the same is written down beside each figure.
"""

import contextlib
import os
import platform
import re
import time

from lab.proc import LabError

HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
HUGE_PAGES_NEEDED = 700  # of 2 MB: testpmd asks for 512 MB, Open vSwitch takes as it grows
NICENESS = -20


def describe():
    """{"cpu", "cpus", "memory_mb", "kernel", "system", "hypervisor"}"""
    cpu, flags = "unknown", []
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                cpu = value.strip()
            elif name.strip() == "flags":
                flags = value.split()
    system = "unknown"
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                system = line.split("=", 1)[1].strip().strip('"')
    return {"cpu": cpu, "cpus": len(os.sched_getaffinity(0)),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
            "kernel": re.match(r"[\d.]*\d", platform.release())[0], "system": system, "virtual": "hypervisor" in flags, "constant_tsc": "constant_tsc" in flags}


def cpus():
    """(CPU of the generator, CPU of the switch)"""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise LabError("one CPU is too few: the switch needs one for itself, the load generator another")
    return usable[0], usable[1]


@contextlib.contextmanager
def huge_pages(needed=HUGE_PAGES_NEEDED):
    """While inside, the host has so many huge pages for whoever wants them; afterwards it has as many as before."""
    with open(HUGE_PAGES, encoding="ascii") as file:
        before = int(file.read())
    try:
        if before < needed:
            _set_huge_pages(needed)
        yield
    finally:
        if before < needed:
            _set_huge_pages(before)


def _set_huge_pages(count):
    with open(HUGE_PAGES, "w", encoding="ascii") as file:
        file.write(str(count))


def favour(pid):
    """All threads of a process come before those of others. Nice values count within a session only, where the kernel
    groups by session (autogroup): then the session is favoured, too."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(task), NICENESS)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as file:
        file.write(str(NICENESS))


class Watch:
    """What the threads of some processes used and waited for, since it was made."""

    def __init__(self, *pids):
        self._pids = pids
        self._begin = time.monotonic()
        self._before = self._threads()

    def _threads(self):
        """{thread: (nanoseconds on a CPU, nanoseconds ready and waiting for one)}"""
        threads = {}
        for pid in self._pids:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                        ran, waited, _ = map(int, file.read().split())
                    threads[pid, task] = (ran, waited)
        return threads

    def read(self):
        """{"cpu": {pid: CPUs used}, "waited": the worst thread's share of the time that it waited for a CPU}"""
        seconds = time.monotonic() - self._begin
        cpu, waited = dict.fromkeys(self._pids, 0.0), 0.0
        for thread, (ran, waiting) in self._threads().items():
            ran_before, waiting_before = self._before.get(thread, (0, 0))
            cpu[thread[0]] += (ran - ran_before) / 1e9 / seconds
            waited = max(waited, (waiting - waiting_before) / 1e9 / seconds)
        return {"cpu": cpu, "waited": waited, "seconds": seconds}


def context_switches(pid):
    """Of all threads of a process, since it began."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total
